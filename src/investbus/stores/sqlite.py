"""The store of one replica: a file on a local disk, without a server.

SQLite in WAL mode with `synchronous=FULL`: what a call has put is on the disk when it returns, and other processes
(the command line) read and write beside the worker. Done records and dead letters share the file because they must
change together.
"""

import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path

from investbus.store import DeadLetter, Done, Filter, Group, Identity, OpenLetters
from investbus.stores import sqlite_dead, sqlite_done
from investbus.stores.sqlite_file import StoreFile
from investbus.stores.sqlite_text import micros
from investbus.stores.sqlite_thread import StoreThread


class SqliteStore:
    """A `Store`. May be opened again after it was closed; calls while it is closed raise StoreError."""

    def __init__(self, path: str | Path) -> None:
        self._thread = StoreThread(StoreFile(Path(path)))

    async def open(self) -> None:
        """Raises UnsafeStart on a network file system, or where a newer version has written the file."""
        await self._thread.start()

    async def close(self) -> None:
        await self._thread.stop()

    async def find_done(self, identities: Sequence[Identity], since: datetime | None = None) -> dict[Identity, bytes]:
        oldest = 0 if since is None else micros(since)
        return await self._thread.read(lambda db: sqlite_done.find(db, identities, oldest))

    async def put_done(self, done: Sequence[Done]) -> None:
        await self._thread.write(lambda db: sqlite_done.put(db, done, _now()))

    async def put_dead(self, letters: Sequence[DeadLetter], done: Sequence[Done]) -> None:
        def both(db: sqlite3.Connection) -> None:
            sqlite_dead.put(db, letters)
            sqlite_done.put(db, done, _now())

        await self._thread.write(both)

    async def list_dead(self, wanted: Filter, limit: int) -> list[DeadLetter]:
        return await self._thread.read(lambda db: sqlite_dead.newest(db, wanted, limit))

    async def group_dead(self, wanted: Filter) -> list[Group]:
        return await self._thread.read(lambda db: sqlite_dead.groups(db, wanted))

    async def export_dead(self, wanted: Filter) -> AsyncIterator[DeadLetter]:
        page = await self._page(wanted, None)
        while page:
            for letter in page:
                yield letter
            page = await self._page(wanted, page[-1])

    async def get_dead(self, letter_id: str) -> DeadLetter | None:
        return await self._thread.read(lambda db: sqlite_dead.get(db, letter_id))

    async def open_dead(self) -> dict[str, OpenLetters]:
        return await self._thread.read(sqlite_dead.still_open)

    async def forget(self, done_before: datetime, dead_before: datetime) -> int:
        """In slices, so that events do not wait behind it."""
        forgotten = 0
        after: sqlite_done.Key | None = sqlite_done.FIRST
        while after is not None:
            dropped, after = await self._forget_done(after, done_before)
            forgotten += dropped
        while dropped := await self._thread.write(lambda db: sqlite_dead.forget(db, micros(dead_before))):
            forgotten += dropped
        return forgotten

    async def _page(self, wanted: Filter, after: DeadLetter | None) -> list[DeadLetter]:
        return await self._thread.read(lambda db: sqlite_dead.page(db, wanted, after))

    async def _forget_done(self, after: sqlite_done.Key, before: datetime) -> tuple[int, sqlite_done.Key | None]:
        return await self._thread.write(lambda db: sqlite_done.forget(db, after, micros(before)))


def _now() -> int:
    return time.time_ns() // 1000
