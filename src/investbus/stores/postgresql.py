"""The store of any number of replicas: a PostgreSQL server.

What a call has put is committed when it returns, and other processes (replicas, the command line) read and write beside this one.
A call whose answer was lost raises StoreError; whether it has happened is not known then, and to repeat it does no harm.

Events have a line to the server of their own, so that no question of a person holds them up.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

from investbus.mailbox import Audit, Item, ItemEnd, Pause, Reason, Replay, ReplayState
from investbus.store import DeadLetter, Done, Filter, Group, Identity, OpenLetters
from investbus.stores import (
    postgresql_crash,
    postgresql_dead,
    postgresql_done,
    postgresql_pauses,
    postgresql_replays,
    postgresql_schema,
    postgresql_waiting,
)
from investbus.stores.postgresql_line import Job, Line
from investbus.stores.postgresql_schema import Connection
from investbus.stores.postgresql_url import address
from investbus.stores.values import micros

Result = TypeVar("Result")


class PostgresqlStore:
    """A `Store`. May be opened again after it was closed; calls while it is closed raise StoreError."""

    def __init__(self, url: str, current: Callable[[], str] | None = None) -> None:
        """`current` gives the URL at each login, where a password may have been rotated. Raises ConfigError where `url` is none."""
        place = address(url).place
        now = current or (lambda: url)
        self._events = Line(lambda: address(now()), place)
        self._questions = Line(lambda: address(now()), place)

    async def open(self) -> None:
        """Raises UnsafeStart where a newer version keeps the tables."""
        if self._events.started:
            return
        self._events.start()
        self._questions.start()
        try:
            await self._events.first_call(postgresql_schema.prove_writable)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await asyncio.gather(self._events.stop(), self._questions.stop())

    async def find_done(self, identities: Sequence[Identity], since: datetime | None = None) -> dict[Identity, bytes]:
        oldest = 0 if since is None else micros(since)
        return await self._events.call(lambda db: postgresql_done.find(db, identities, oldest))

    async def put_done(self, done: Sequence[Done]) -> None:
        def work(db: Connection) -> Awaitable[None]:
            return postgresql_done.put(db, done, _now())

        # A single statement is a transaction by itself, and two round trips less.
        await self._events.call(_together(work) if any(one.supersedes for one in done) else work)

    async def put_dead(self, letters: Sequence[DeadLetter], done: Sequence[Done]) -> None:
        async def both(db: Connection) -> None:
            await postgresql_dead.put(db, letters)
            await postgresql_done.put(db, done, _now())

        await self._events.call(_together(both))

    async def list_dead(self, wanted: Filter, limit: int) -> list[DeadLetter]:
        return await self._questions.call(lambda db: postgresql_dead.newest(db, wanted, limit))

    async def group_dead(self, wanted: Filter) -> list[Group]:
        return await self._questions.call(lambda db: postgresql_dead.groups(db, wanted))

    async def export_dead(self, wanted: Filter) -> AsyncIterator[DeadLetter]:
        page = await self._page(wanted, None)
        while page:
            for letter in page:
                yield letter
            page = await self._page(wanted, page[-1])

    async def get_dead(self, letter_id: str) -> DeadLetter | None:
        return await self._questions.call(lambda db: postgresql_dead.get(db, letter_id))

    async def open_dead(self) -> dict[str, OpenLetters]:
        return await self._questions.call(postgresql_dead.still_open)

    async def forget(self, done_before: datetime, dead_before: datetime) -> int:
        """In slices, so that no statement runs into its time-out."""
        forgotten = 0
        while dropped := await self._questions.call(lambda db: postgresql_done.forget(db, micros(done_before))):
            forgotten += dropped
        while dropped := await self._questions.call(lambda db: postgresql_dead.forget(db, micros(dead_before))):
            forgotten += dropped

        while await self._questions.call(lambda db: postgresql_replays.forget(db, micros(dead_before))):
            pass

        async def the_rest(db: Connection) -> None:
            await postgresql_pauses.forget(db, micros(dead_before))
            await postgresql_crash.forget(db, micros(done_before))

        await self._questions.call(_together(the_rest))
        return forgotten

    # ---- the mailbox

    async def pauses(self) -> list[Pause]:
        return await self._events.call(postgresql_pauses.standing)

    async def pause(self, pause: Pause) -> None:
        await self._questions.call(_together(lambda db: postgresql_pauses.pause(db, pause)))

    async def resume(self, route: str, who: str, note: str, at: datetime) -> list[Pause]:
        audit = Audit(at, who, "resume", note, route, 0)
        return await self._questions.call(_together(lambda db: postgresql_pauses.resume(db, audit)))

    async def select_dead(self, wanted: Filter, ids: Sequence[str] | None = None) -> list[str]:
        return await self._questions.call(lambda db: postgresql_dead.select(db, wanted, ids))

    async def discard(self, ids: Sequence[str], wanted: str, who: str, note: str, at: datetime) -> int:
        async def noted(db: Connection) -> int:
            if count := await postgresql_dead.discard(db, ids, micros(at)):
                await postgresql_pauses.note(db, Audit(at, who, "discard", note, wanted, count))
            return count

        return await self._questions.call(_together(noted))

    async def done_among(self, letters: Sequence[DeadLetter]) -> set[str]:
        return await self._events.call(lambda db: postgresql_done.done_among(db, letters))

    async def blocking(self, key: str, routes: Sequence[str]) -> str | None:
        return await self._events.call(lambda db: postgresql_waiting.blocking(db, key, routes))

    async def unblocked(self, routes: Sequence[str], limit: int) -> list[str]:
        return await self._events.call(lambda db: postgresql_waiting.unblocked(db, routes, limit))

    async def ask_replay(self, replay: Replay, letters: Sequence[str]) -> None:
        await self._questions.call(_together(lambda db: postgresql_replays.ask(db, replay, letters)))

    async def take_replay(self, worker: str, now: datetime, until: datetime, besides: Sequence[str] = ()) -> Replay | None:
        return await self._events.call(lambda db: postgresql_replays.take(db, worker, now, until, besides))

    async def next_items(self, replay_id: str, worker: str, after: int, limit: int, until: datetime) -> list[Item] | None:
        return await self._events.call(
            _together(lambda db: postgresql_replays.next_items(db, replay_id, worker, after, limit, until))
        )

    async def end_items(self, replay_id: str, ends: Sequence[ItemEnd], at: datetime) -> None:
        await self._events.call(_together(lambda db: postgresql_replays.end_items(db, replay_id, ends, at, _now())))

    async def end_replay(self, replay_id: str, worker: str, state: ReplayState, reason: str) -> None:
        await self._events.call(lambda db: postgresql_replays.end_replay(db, replay_id, worker, state, reason))

    async def cancel_replay(self, replay_id: str, who: str, at: datetime) -> bool:
        return await self._questions.call(_together(lambda db: postgresql_replays.cancel(db, replay_id, who, at)))

    async def list_replays(self, limit: int) -> list[Replay]:
        return await self._questions.call(lambda db: postgresql_replays.newest(db, limit))

    async def get_replay(self, replay_id: str) -> Replay | None:
        return await self._questions.call(lambda db: postgresql_replays.get(db, replay_id))

    async def reasons(self, replay_id: str) -> list[Reason]:
        return await self._questions.call(lambda db: postgresql_replays.reasons(db, replay_id))

    async def begin(self, starts: Sequence[str]) -> None:
        await self._events.call(lambda db: postgresql_crash.begin(db, starts, _now()))

    async def ended(self, starts: Sequence[str]) -> None:
        await self._events.call(lambda db: postgresql_crash.ended(db, starts))

    async def begun(self, starts: Sequence[str]) -> dict[str, int]:
        return await self._events.call(lambda db: postgresql_crash.begun(db, starts))

    async def audits(self, limit: int) -> list[Audit]:
        return await self._questions.call(lambda db: postgresql_pauses.audits(db, limit))

    async def _page(self, wanted: Filter, after: DeadLetter | None) -> list[DeadLetter]:
        return await self._questions.call(lambda db: postgresql_dead.page(db, wanted, after))


def _together(work: Job[Result]) -> Job[Result]:
    """Several statements as one transaction."""

    async def job(db: Connection) -> Result:
        async with db.transaction():
            return await work(db)

    return job


def _now() -> int:
    return time.time_ns() // 1000
