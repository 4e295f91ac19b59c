"""The file below the SQLite store: made, guarded, opened, and its failures told in words that say what to do.

The file holds original event bodies, so it and its companions `-wal` and `-shm` are for the owner alone. It is never
opened by anything but SQLite once it exists: closing any other descriptor of it would drop the locks that SQLite
holds for this process.
"""

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from investbus.errors import StoreError, UnsafeStart
from investbus.stores.mounts import network_mount
from investbus.stores.sqlite_schema import migrate

PATIENCE = 5.0  # seconds to wait for the lock of another process; theirs are held for milliseconds

MEANING = {
    sqlite3.SQLITE_FULL: "no space left on the disk",
    sqlite3.SQLITE_READONLY: "cannot be written; this user must be able to write the file and its folder",
    sqlite3.SQLITE_BUSY: "locked by another process; end what holds it, or try again",
    sqlite3.SQLITE_NOTADB: "not a store; move the file away, or name another one in store.url",
    sqlite3.SQLITE_CORRUPT: "damaged; restore it from a backup, or move it away",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; this user must be able to read and write the file and its folder",
    sqlite3.SQLITE_IOERR: "the disk failed; see the system's log, its quota and limits",
}


class StoreFile:
    """One store's file. Used by one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._opened: tuple[int, int] | None = None  # device and inode of what the connection has open

    def connect(self) -> sqlite3.Connection:
        """A connection whose commits are on the disk when they return. Raises UnsafeStart rather than risk data."""
        if (mount := network_mount(self.path)) is not None:
            raise UnsafeStart(
                f"store {self.path}: lies on a network file system ({mount.kind} at {mount.point}), "
                "where SQLite loses data; use a local disk"
            )
        self._create_for_owner()
        db = sqlite3.connect(f"{self.path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=PATIENCE)
        try:
            _use_wal(db)
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA temp_store = MEMORY")  # else each savepoint makes, writes and deletes a file
            # Several partitions write at as many places of the done table: those pages stay in memory, and go to the file seldom.
            db.execute("PRAGMA cache_size = -8000")  # KiB
            db.execute("PRAGMA wal_autocheckpoint = 4000")  # pages: 16 MiB
            migrate(db, self.path)
        except Exception:
            db.close()
            raise
        self._opened = self._inode()
        return db

    def check_in_place(self) -> None:
        """A file that was moved away still takes writes, which nobody will ever find.

        Another file in its place is never opened: SQLite would mix into it what `-wal` still holds of the old one.
        """
        if self._opened is None or (found := self._inode()) == self._opened:
            return
        if found is None:
            self._opened = None
            raise StoreError(f"store {self.path}: was moved or deleted while in use; the next call begins a new one")
        raise StoreError(f"store {self.path}: was replaced while in use; stop, put the right file there without -wal, start")

    def let_go(self) -> None:
        """Not in use any more: another file may take its place."""
        self._opened = None

    def explained(self, error: Exception) -> StoreError | UnsafeStart:
        """`error` as one line for people."""
        if isinstance(error, StoreError | UnsafeStart):
            return type(error)(*error.args)
        if isinstance(error, sqlite3.Error) and (code := getattr(error, "sqlite_errorcode", None)) is not None:
            text = f"{MEANING.get(code & 0xFF, 'SQLite refused')} ({error})"  # the low byte is the kind of failure
        elif isinstance(error, OSError):
            text = error.strerror or str(error)
        else:
            text = f"{type(error).__name__}: {error}"
        explained = StoreError(f"store {self.path}: {text}")
        explained.__cause__ = error
        return explained

    def _create_for_owner(self) -> None:
        if not self.path.parent.is_dir():
            raise StoreError(f"store {self.path}: folder {self.path.parent} does not exist; create it, on a local disk")
        if self.path.is_dir():
            raise StoreError(f"store {self.path}: is a folder; name a file in store.url")
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        mode = stat.S_IMODE(os.stat(self.path).st_mode) & 0o700
        for companion in ("", "-wal", "-shm"):  # made by SQLite with the mode that the file had at that time
            with suppress(FileNotFoundError):
                path = f"{self.path}{companion}"
                if stat.S_IMODE(os.stat(path).st_mode) != mode:
                    os.chmod(path, mode)

    def _inode(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


@retry(retry=retry_if_exception(_is_busy), stop=stop_after_delay(PATIENCE), wait=wait_fixed(0.02), reraise=True)
def _use_wal(db: sqlite3.Connection) -> None:
    """SQLite does not wait here when another process turns the same new file to WAL at this moment; so we do."""
    db.execute("PRAGMA journal_mode = WAL")
