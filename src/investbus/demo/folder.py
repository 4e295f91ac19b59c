"""The folder in which a demo leaves its configuration, log, store and secrets.

They are real files, so that every other command works on them when the demo is over. A new demo replaces them, and for that it has
to be certain that they are a demo's: a bank's own `events.ndjson` and `state.db` may have the same names.
"""

import json
import os
import socket
from pathlib import Path
from string import Template

import msgspec

from investbus.config import Settings
from investbus.config_load import load
from investbus.errors import ConfigError
from investbus.sandbox import CREDENTIALS
from investbus.transports.file_position import Position

MARK = '# Written by "investbus demo". The next demo in this folder replaces it, and all that lies beside it.'
CONFIG, LOG, STORE, WORKER_LOG = "investbus.yaml", "events.ndjson", "state.db", "worker.log"
SECRETS = ("api_id", "api_key")
POSITION = (f"{LOG}.position", f"{LOG}.position.tmp")
LOCK = f"{LOG}.position.lock"
NAMES = {CONFIG, LOG, LOCK, *POSITION, STORE, f"{STORE}-wal", f"{STORE}-shm", WORKER_LOG, *SECRETS}

CONTENT = Template(
    MARK
    + """
handlers: ["investbus.sandbox.handlers:router"]
transport: file
file: {path: $log}
api:
  base_url: $url   # the pretend platform; it is there as long as the demo runs
  access_key_id_file: $id_file
  secret_access_key_file: $key_file
gate: {failures: 3, probe_every: 0.5}
retry: {attempts: 4, first: 0.2, factor: 2.0, jitter: 0.0}   # short: what fails on purpose is a dead letter within two seconds
store: {url: $store}
ops: {host: 127.0.0.1, port: $port}
"""
)


class Folder(msgspec.Struct, frozen=True):
    path: Path

    @property
    def config(self) -> Path:
        return self.path / CONFIG

    @property
    def worker_log(self) -> Path:
        return self.path / WORKER_LOG

    def furnish(self, url: str) -> Settings:
        """Write secrets and configuration of a worker for the platform at `url`, and load it as `run` would."""
        home = self.path.absolute()
        for name, secret in zip(SECRETS, CREDENTIALS, strict=True):
            with open(home / name, "w", encoding="utf-8", opener=_for_the_owner) as file:
                file.write(f"{secret}\n")
        texts = {"log": home / LOG, "store": f"sqlite:///{home / STORE}", "url": url}
        texts |= {"id_file": home / SECRETS[0], "key_file": home / SECRETS[1]}
        quoted = {name: json.dumps(str(text)) for name, text in texts.items()}  # a JSON string is one in YAML too
        self.config.write_text(CONTENT.substitute(quoted, port=_free_port()), encoding="utf-8")
        return load(self.config, (), {}).settings  # no environment: it could point this stream at a real bus


def claim(path: Path) -> Folder:
    """Make `path` the empty folder of a demo.

    Raises ConfigError where it holds anything that no demo has left there, UnsafeStart while another demo runs in it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if (foreign := _foreign(path)) is not None:
            raise ConfigError([f"--dir {path}: holds {foreign}, which is no demo's; name a new or an empty folder"])
        if not (path / CONFIG).exists():  # marked before anything else, so that a demo that is killed leaves no stranger
            (path / CONFIG).write_text(f"{MARK}\n", encoding="utf-8")
        with Position(path / LOG).lock():
            for name in NAMES - {CONFIG, LOCK}:
                (path / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError([f"--dir {path}: {error.strerror}; name another folder"]) from None
    return Folder(path)


def _foreign(path: Path) -> str | None:
    """A name in the folder that is not a demo's. Without a marked configuration all are."""
    config = path / CONFIG
    marked = config.is_file() and config.read_bytes().startswith(MARK.encode())
    return next((name for name in sorted(os.listdir(path)) if not marked or name not in NAMES or not (path / name).is_file()), None)


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _free_port() -> int:
    """One that is free now, and then stands in the configuration, so that it can be looked up there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
