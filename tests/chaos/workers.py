"""Worker processes: started, killed, stopped, each with a configuration and a store of its own."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from investbus.store import Filter
from investbus.stores import open_store
from tests.brokers.process import GUARD, LOOPBACK, free_port
from tests.chaos.handlers import FOLDER
from tests.chaos.history import Letter

ROOT = Path(__file__).parents[2]
INVESTBUS = Path(sys.executable).with_name("investbus")


class WorkerProcess:
    """One worker; `start` again after it was killed is the same worker with the same store, as a restarted container."""

    def __init__(self, name: str, folder: Path, settings: dict[str, Any]) -> None:
        self.name = name
        self._folder = folder
        self._path = folder / f"{name}.yaml"
        self._port = free_port()
        self._store = folder / f"{name}.db"
        own = {"ops": {"port": self._port}, "store": {"url": f"sqlite:///{self._store}"}}
        self._path.write_text(yaml.safe_dump(settings | own))
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def fallen(self) -> int | None:
        """The exit code of one that nobody told to leave."""
        return self._process.poll() if self._process is not None and self._wanted else None

    def ready(self) -> bool:
        """Whether it is connected and takes part."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self._port}/readyz", timeout=5.0):
                return True
        except (urllib.error.URLError, TimeoutError):
            return False

    def start(self) -> None:
        assert not self.running
        environment = {**os.environ, FOLDER: str(self._folder)}
        with (self._folder / f"{self.name}.log").open("ab") as log:
            argv = [sys.executable, str(GUARD), str(os.getpid()), str(INVESTBUS), "run", "-c", str(self._path)]  # dies with us
            self._process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=log, stderr=log)
        self._wanted = True

    def kill(self) -> None:
        assert self._process is not None
        self._wanted = False
        self._process.kill()
        self._process.wait()

    def stop(self, grace: float = 40.0) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._wanted = False
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(grace)

    async def dead_letters(self) -> list[Letter]:
        """What its store holds; it must not run."""
        if not self._store.exists():
            return []
        store = open_store(f"sqlite:///{self._store}")
        await store.open()
        try:
            return [Letter(letter.event_id, letter.reason) async for letter in store.export_dead(Filter())]
        finally:
            await store.close()
