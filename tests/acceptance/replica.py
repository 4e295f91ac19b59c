"""Worker processes, and the command line as an operator types it: each with the configuration in one folder."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import yaml

from tests.acceptance.handlers import FOLDER, LEDGER
from tests.brokers.kafka import Kafka
from tests.brokers.process import GUARD, LOOPBACK, free_port

ROOT = Path(__file__).parents[2]
INVESTBUS = Path(sys.executable).with_name("investbus")


def on_kafka(kafka: Kafka, topic: str, handlers: str, store: str, **changes: Any) -> dict[str, Any]:
    """Settings of worker processes that share a topic: a killed one is given up after three seconds."""
    section = {"bootstrap_servers": [kafka.bootstrap], "topic": topic, "group": topic, "session_timeout": 3.0}
    usual = {"handlers": [f"tests.acceptance.handlers:{handlers}"], "transport": "kafka", "kafka": section}
    return usual | {"store": {"url": store}, "log": {"format": "json"}} | changes


class Noted(NamedTuple):
    """One line of the ledger."""

    what: str
    event_id: str
    pid: int
    at: float


class Replica:
    """`with Replica(...)` it is ended with the block, whatever happens; `start` it again as often as wanted."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, Any], user: str | None = None) -> None:
        """`user`: whom it runs as, if not us."""
        self.name, self._folder, self._user = name, folder, user
        self._path = folder / f"{name}.yaml"
        self._port = free_port()
        self._path.write_text(yaml.safe_dump({**settings, "ops": {"port": self._port}}))
        self._path.chmod(0o644)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *flags: str) -> None:
        assert self._process is None or self._process.poll() is not None
        guard = [sys.executable, str(GUARD), str(os.getpid())]  # dies with us
        guard += [] if self._user is None else ["--user", self._user]
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*guard, str(INVESTBUS), "run", "-c", str(self._path), *flags],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self, grace: float = 60.0) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(grace)

    def ended(self, limit: float = 90.0) -> int:
        """The exit code of one that ends by itself."""
        assert self._process is not None
        return self._process.wait(limit)

    def page(self, name: str) -> dict[str, Any]:
        """A page as JSON, whatever its status; empty while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self._port}/{name}", timeout=5.0) as answer:
                text = answer.read()
        except urllib.error.HTTPError as refused:
            text = refused.read()
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return {}
        found: dict[str, Any] = json.loads(text)
        return found

    def failing(self) -> list[str] | None:
        """The checks of /readyz that fail; None while nobody answers."""
        checks = self.page("readyz").get("checks")
        return None if checks is None else [name for name, check in checks.items() if not check["ok"]]

    def ask(self, *words: str) -> tuple[int, Any]:
        """Exit code and answer of the command line with this configuration."""
        argv = [str(INVESTBUS), *words, "-c", str(self._path), "--format", "json"]
        said = subprocess.run(argv, cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=120, check=False)
        assert said.returncode in (0, 1, 4), said.stderr
        return said.returncode, json.loads(said.stdout) if said.stdout else None

    def noted(self, what: str) -> list[Noted]:
        """What handlers of all processes in this folder have written down, in whole lines: one may just be being written."""
        path = self._folder / LEDGER
        lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
        fields = (line.split() for line in lines if line.startswith(f"{what} "))
        return [Noted(what, event_id, int(pid), float(at)) for _, event_id, pid, at in fields]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, FOLDER: str(self._folder)}


def wait(holds: Callable[[], bool], limit: float = 60.0) -> None:
    """Until something holds; fails when it does not within `limit` seconds."""
    ends = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < ends, f"it did not hold within {limit:g} s"
        time.sleep(0.05)
