"""Worker processes: started, killed, stopped, each with a configuration and a store of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.brokers.process import GUARD
from tests.chaos.handlers import FOLDER

ROOT = Path(__file__).parents[2]
INVESTBUS = Path(sys.executable).with_name("investbus")


class WorkerProcess:
    """One worker; `start` again after it was killed is the same worker with the same store, as a restarted container."""

    def __init__(self, name: str, folder: Path, settings: dict[str, Any]) -> None:
        self.name = name
        self._folder = folder
        self._path = folder / f"{name}.yaml"
        self._path.write_text(yaml.safe_dump(settings | {"store": {"url": f"sqlite:///{folder / f'{name}.db'}"}}))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.running
        environment = {**os.environ, FOLDER: str(self._folder)}
        with (self._folder / f"{self.name}.log").open("ab") as log:
            argv = [sys.executable, str(GUARD), str(os.getpid()), str(INVESTBUS), "run", "-c", str(self._path)]  # dies with us
            self._process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self, grace: float = 40.0) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(grace)
