"""The store of one replica: a file on a local disk, without a server.

SQLite in WAL mode with `synchronous=FULL`: what a call has put is on the disk when it returns, and other processes
(the command line) read and write beside the worker. Done records, dead letters and replays share the file because they
must change together.
"""

import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path

from investbus.mailbox import Audit, Item, ItemEnd, Pause, Reason, Replay, ReplayState
from investbus.store import DeadLetter, Done, Filter, Group, Identity, OpenLetters
from investbus.stores import sqlite_crash, sqlite_dead, sqlite_done, sqlite_pauses, sqlite_replays, sqlite_waiting
from investbus.stores.sqlite_file import StoreFile
from investbus.stores.sqlite_thread import StoreThread
from investbus.stores.values import micros


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
        after: bytes | None = sqlite_done.FIRST
        while after is not None:
            dropped, after = await self._forget_done(after, done_before)
            forgotten += dropped
        while dropped := await self._thread.write(lambda db: sqlite_dead.forget(db, micros(dead_before))):
            forgotten += dropped

        while await self._thread.write(lambda db: sqlite_replays.forget(db, micros(dead_before))):
            pass

        def the_rest(db: sqlite3.Connection) -> None:
            sqlite_pauses.forget(db, micros(dead_before))
            sqlite_crash.forget(db, micros(done_before))

        await self._thread.write(the_rest)
        return forgotten

    # ---- the mailbox

    async def pauses(self) -> list[Pause]:
        return await self._thread.read(sqlite_pauses.standing)

    async def pause(self, pause: Pause) -> None:
        await self._thread.write(lambda db: sqlite_pauses.pause(db, pause))

    async def resume(self, route: str, who: str, note: str, at: datetime) -> list[Pause]:
        audit = Audit(at, who, "resume", note, route, 0)
        return await self._thread.write(lambda db: sqlite_pauses.resume(db, audit))

    async def select_dead(self, wanted: Filter, ids: Sequence[str] | None = None) -> list[str]:
        return await self._thread.read(lambda db: sqlite_dead.select(db, wanted, ids))

    async def discard(self, ids: Sequence[str], wanted: str, who: str, note: str, at: datetime) -> int:
        def noted(db: sqlite3.Connection) -> int:
            if count := sqlite_dead.discard(db, ids, micros(at)):
                sqlite_pauses.note(db, Audit(at, who, "discard", note, wanted, count))
            return count

        return await self._thread.write(noted)

    async def done_among(self, letters: Sequence[DeadLetter]) -> set[str]:
        return await self._thread.read(lambda db: sqlite_done.done_among(db, letters))

    async def blocking(self, key: str, routes: Sequence[str]) -> str | None:
        return await self._thread.read(lambda db: sqlite_waiting.blocking(db, key, routes))

    async def unblocked(self, routes: Sequence[str], limit: int) -> list[str]:
        return await self._thread.read(lambda db: sqlite_waiting.unblocked(db, routes, limit))

    async def ask_replay(self, replay: Replay, letters: Sequence[str]) -> None:
        await self._thread.write(lambda db: sqlite_replays.ask(db, replay, letters))

    async def take_replay(self, worker: str, now: datetime, until: datetime, besides: Sequence[str] = ()) -> Replay | None:
        return await self._thread.write(lambda db: sqlite_replays.take(db, worker, micros(now), micros(until), besides))

    async def next_items(self, replay_id: str, worker: str, after: int, limit: int, until: datetime) -> list[Item] | None:
        return await self._thread.write(lambda db: sqlite_replays.next_items(db, replay_id, worker, after, limit, micros(until)))

    async def end_items(self, replay_id: str, ends: Sequence[ItemEnd], at: datetime) -> None:
        await self._thread.write(lambda db: sqlite_replays.end_items(db, replay_id, ends, micros(at), _now()))

    async def end_replay(self, replay_id: str, worker: str, state: ReplayState, reason: str) -> None:
        await self._thread.write(lambda db: sqlite_replays.end_replay(db, replay_id, worker, state, reason))

    async def cancel_replay(self, replay_id: str, who: str, at: datetime) -> bool:
        return await self._thread.write(lambda db: sqlite_replays.cancel(db, replay_id, who, at))

    async def list_replays(self, limit: int) -> list[Replay]:
        return await self._thread.read(lambda db: sqlite_replays.newest(db, limit))

    async def get_replay(self, replay_id: str) -> Replay | None:
        return await self._thread.read(lambda db: sqlite_replays.get(db, replay_id))

    async def reasons(self, replay_id: str) -> list[Reason]:
        return await self._thread.read(lambda db: sqlite_replays.reasons(db, replay_id))

    async def begin(self, starts: Sequence[str]) -> None:
        await self._thread.write(lambda db: sqlite_crash.begin(db, starts, _now()))

    async def ended(self, starts: Sequence[str]) -> None:
        await self._thread.write(lambda db: sqlite_crash.ended(db, starts))

    async def begun(self, starts: Sequence[str]) -> dict[str, int]:
        return await self._thread.read(lambda db: sqlite_crash.begun(db, starts))

    async def audits(self, limit: int) -> list[Audit]:
        return await self._thread.read(lambda db: sqlite_pauses.audits(db, limit))

    async def _page(self, wanted: Filter, after: DeadLetter | None) -> list[DeadLetter]:
        return await self._thread.read(lambda db: sqlite_dead.page(db, wanted, after))

    async def _forget_done(self, after: bytes, before: datetime) -> tuple[int, bytes | None]:
        return await self._thread.write(lambda db: sqlite_done.forget(db, after, micros(before)))


def _now() -> int:
    return time.time_ns() // 1000
