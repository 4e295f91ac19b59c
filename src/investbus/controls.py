"""Looks into the mailbox once a second, and does what it says: pauses, replays, parked events whose turn has come."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b

import structlog

from investbus.ambient import Ambient
from investbus.errors import StoreError
from investbus.mailbox import EVERYTHING, Mailbox, Pause, Replay
from investbus.metrics import Metrics
from investbus.pauses import Pauses
from investbus.replayer import CLAIM, Replayer

log = structlog.get_logger("investbus.controls")
LOOK_EVERY = 1.0  # seconds
MOST_AT_ONCE = 8  # replays under way
OURSELVES = "investbus"
UNPARK_AT_ONCE = 500
UNPARK_RATE = 1000.0  # per second; they are late already
UNPARK_REST = 20  # times as long as it took to look for them: with very many parked, events need the store more


class Controls:
    """One per worker. `parking`: the routes that park."""

    def __init__(
        self,
        store: Mailbox,
        worker: str,
        parking: Sequence[str],
        flood_after: int,
        pauses: Pauses,
        replayer: Replayer,
        metrics: Metrics,
        ambient: Ambient,
    ) -> None:
        self._store = store
        self._worker = worker
        self._parking = parking
        self._flood_after = flood_after
        self._pauses = pauses
        self._replayer = replayer
        self._metrics = metrics
        self._ambient = ambient
        self._flood: Pause | None = None  # one that is not stored yet
        self._urgent = asyncio.Event()
        self.failing = ""  # why the mailbox cannot be read now
        self._carried: dict[asyncio.Task[None], str] = {}
        self._unpark_at = 0.0

    def flooded(self) -> None:
        """So many dead letters in a row: pause at once, and write it down."""
        note = f"{self._flood_after} dead letters in a row, of as many keys; mend the cause, then: investbus resume --note TEXT"
        self._flood = Pause(EVERYTHING, "flood", note, OURSELVES, self._now())
        self._pauses.set((*self._pauses.now, self._flood))
        self._urgent.set()

    async def look(self) -> None:
        """Which pauses hold now. Raises StoreError."""
        with self._metrics.stored("control"):
            await self._write_flood()
            pauses = await self._store.pauses()
        if self._flood is None:  # else the next look stores it first
            self._pauses.set(pauses)

    async def close(self) -> None:
        """A flood outlives the process, also where it came with the last event."""
        with suppress(StoreError):
            await self._write_flood()

    async def _write_flood(self) -> None:
        if (flood := self._flood) is not None:
            await self._store.pause(flood)
            self._flood = None

    async def watch(self) -> None:
        """Follow the pauses, for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._urgent.wait()
            self._urgent.clear()
            try:
                await self.look()
                self.failing = ""
            except StoreError as error:
                self.failing = str(error)

    async def carry_out(self) -> None:
        """Take replays, for ever. A few at once: one that waits at a closed gate must not hold up the others."""
        try:
            while True:
                replay = None
                if not self._pauses.everything and len(self._carried) < MOST_AT_ONCE:
                    try:
                        replay = await self._next()
                    except StoreError as error:
                        self.failing = str(error)
                if replay is None:
                    await asyncio.sleep(LOOK_EVERY)
                else:
                    self._carry(replay)
                for task in [task for task in self._carried if task.done()]:
                    self._carried.pop(task)
                    task.result()
        finally:
            for task in self._carried:
                task.cancel()
            if self._carried:
                await asyncio.wait(self._carried)  # each gives its replay back

    def _carry(self, replay: Replay) -> None:
        self._carried[asyncio.create_task(self._replayer.run(replay))] = replay.id

    @property
    def carrying(self) -> bool:
        """Whether a replay is under way."""
        return any(not task.done() for task in self._carried)

    async def _next(self) -> Replay | None:
        now = self._ambient.wall()
        with self._metrics.stored("control"):
            if self._ambient.monotonic() >= self._unpark_at:
                await self._unpark()
            until = datetime.fromtimestamp(now + CLAIM, UTC)
            besides = list(self._carried.values())
            return await self._store.take_replay(self._worker, datetime.fromtimestamp(now, UTC), until, besides)

    async def _unpark(self) -> None:
        """Parked events come back, in order: once nothing of their key stands before them, or their route parks no more."""
        began = self._ambient.monotonic()
        ids = await self._store.unblocked(self._parking, UNPARK_AT_ONCE)
        self._unpark_at = began + UNPARK_REST * (self._ambient.monotonic() - began)
        if not ids:
            return
        # Workers that see the same events at the same time ask for the same replay.
        told = blake2b(f"{ids}{self._ambient.wall() // 60}".encode(), digest_size=5).hexdigest()
        replay = Replay(
            id=f"parked-{told}",
            note="parked events whose turn has come",
            who=OURSELVES,
            at=self._now(),
            wanted="parked",
            rate=UNPARK_RATE,
            stop_after=len(ids) + 1,
            again=False,
        )
        if await self._store.get_replay(replay.id) is not None:
            return  # it could not run them: a little later again
        log.info("parked events come back", events=len(ids), replay=replay.id)
        await self._store.ask_replay(replay, ids)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._ambient.wall(), UTC)
