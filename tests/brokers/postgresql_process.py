"""PostgreSQL as a child process.

It refuses to run as root. Then it runs as the user that the Debian package made for it, in a folder directly in the
temporary one: those of pytest are closed to every other user.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.brokers.missing import Missing
from tests.brokers.process import LOOPBACK, Process, free_port

INSTALLED = Path("/usr/lib/postgresql")  # Debian keeps several versions side by side, none of them on the PATH
SERVICE_USER = "postgres"
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",  # files in its folder: after a kill nothing of it is left elsewhere
    "max_connections": "50",
    "logging_collector": "off",
}


class PostgreSqlProcess:
    """Started a second time it comes up on the same port with the same data, as after a crash of its machine."""

    controllable = True

    def __init__(self, folder: Path) -> None:
        self._programs = programs()
        self._user = _service_user() if os.geteuid() == 0 else None
        self._folder = folder if self._user is None else _folder_of(self._user)
        self._password = secrets.token_hex(8)
        port = free_port()
        self.url = f"postgresql://app:{self._password}@{LOOPBACK}:{port}/postgres"
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        server = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(port), *settings]
        # SIGTERM would wait until every client has gone
        self._process = Process("PostgreSQL", server, self._folder, user=self._user, stop_signal=signal.SIGINT)

    @property
    def running(self) -> bool:
        return self._process.running

    def start(self, ready: Callable[[], bool]) -> None:
        if not self._data.exists():
            self._make_cluster()
        self._process.start(ready)

    def stop(self) -> None:
        self._process.stop()

    def kill(self) -> None:
        self._process.kill()

    def pause(self) -> None:
        self._process.pause()

    def resume(self) -> None:
        self._process.resume()

    def close(self) -> None:
        self._process.stop()
        if self._user is not None:
            shutil.rmtree(self._folder)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _make_cluster(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        password = self._folder / "password"
        password.write_text(self._password)
        login = ["-U", "app", "--pwfile", str(password), "-A", "scram-sha-256"]
        initdb = [str(self._programs / "initdb"), "-D", str(self._data), *login, "-E", "UTF8", "--locale=C.UTF-8"]
        made = subprocess.run(
            [*initdb, "--no-sync", "--no-instructions"],  # the folder may be lost; what is committed there later may not
            cwd=self._folder,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if made.returncode != 0:
            raise RuntimeError(f"PostgreSQL: its data folder could not be made: {' '.join(made.stderr.split())}")


def programs() -> Path:
    """The folder with `postgres` and `initdb`, newest version first. Raises Missing."""
    installed = sorted(INSTALLED.glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]), reverse=True)
    found = installed[0] if installed else shutil.which("postgres")
    if found is None:
        raise Missing(f"PostgreSQL: there is no {INSTALLED}/*/bin/postgres")
    return Path(found).parent


def _service_user() -> str:
    try:
        return pwd.getpwnam(SERVICE_USER).pw_name
    except KeyError:
        raise Missing(f"PostgreSQL: does not run as root, and there is no user {SERVICE_USER}") from None


def _folder_of(user: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="investbus-postgresql-"))
    shutil.chown(folder, user, user)
    return folder
