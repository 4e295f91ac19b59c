"""Carries out one replay: takes the letters of its frozen list at their turn and runs them in the lanes of the worker.

They are ordinary works on a lease of their own, so a live event of the same key and a replayed one never overlap, retries and
gates are the same, and nothing goes back to the bus. The first letter that runs does so alone: if it dies again, nothing has been
mended and the replay stops. Then the speed doubles each second, up to what was asked for. Starts are written down, so that a letter
which kills the process is found, and does not kill one worker after the other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from investbus.ambient import Ambient
from investbus.crash import count_starts
from investbus.dispatcher import Dispatcher
from investbus.errors import StoreError
from investbus.event import Envelope
from investbus.mailbox import Item, ItemOutcome, Mailbox, Replay
from investbus.redispatch import Redispatch, Refused
from investbus.replay_record import ReplayRecord
from investbus.settle import STORE_AGAIN
from investbus.store import DeadLetter
from investbus.transport import Delivery, Lease, SettleCounts
from investbus.work import Replaying, Work

log = structlog.get_logger("investbus.replay")
T = TypeVar("T")
Rework = Callable[[Envelope, DeadLetter, Delivery, Replaying], Work]
CLAIM = 15.0  # seconds that a replay stays ours after the last look at it
LOOK = 1.0  # seconds between looks while letters are under way
TICK = 0.05  # seconds between letters at the least; a faster replay takes several at once
MOST_AT_ONCE = 128  # letters under way


class Run:
    """How far one replay is in this process."""

    def __init__(self, replay: Replay) -> None:
        self.id = replay.id
        self.again = replay.again
        self.taken = 0  # the place in the list up to which letters were taken
        self.under_way = 0
        self.died = replay.dead
        self.ran = replay.done + replay.dead  # in other workers too
        self.alone = True  # until a first letter has run here
        self.looked = 0.0  # monotonic time of the last look at it, from which the claim counts
        self.changed = asyncio.Event()
        self.lease = Lease(lambda seq: None, SettleCounts(), self._given_back)

    def ended(self, outcome: ItemOutcome) -> None:
        """The outcome of one letter is stored."""
        self.died += outcome == "dead"
        if outcome != "skipped":
            self.ran += 1
            self.alone = False
        self._given_back(0)

    def _given_back(self, seq: int) -> None:
        self.under_way -= 1
        self.changed.set()

    def stopped(self, stop_after: int) -> str:
        """Why nothing more of it should run; "" if it should."""
        if self.died and self.ran == 1:
            return "the first letter died again"
        return f"{self.died} of its letters died again" if self.died >= stop_after else ""


class Replayer:
    """One per worker; one replay at a time."""

    def __init__(
        self,
        store: Mailbox,
        worker: str,
        redispatch: Redispatch,
        rework: Rework,
        record: ReplayRecord,
        dispatcher: Dispatcher,
        ambient: Ambient,
    ) -> None:
        self._store = store
        self._worker = worker
        self._redispatch = redispatch
        self._rework = rework
        self._record = record
        self._dispatcher = dispatcher
        self._ambient = ambient

    async def run(self, replay: Replay) -> None:
        """Until the list has ended, too many have died, or it is no longer ours. A cancelled one is given back to the mailbox."""
        run = Run(replay)
        run.lease.on_closing(self._dispatcher.drop)
        log.info("replay begins", replay=replay.id, letters=replay.planned, note=replay.note)
        try:
            ours = await self._carry_out(run, replay)
        except asyncio.CancelledError:
            await self._leave(run)  # else somebody would take it, and run once more what still runs here
            with suppress(StoreError):
                await self._store.end_replay(replay.id, self._worker, "pending", "")
            raise
        if not ours:
            log.info("replay left", replay=replay.id)  # cancelled, or taken over by another worker
            await self._leave(run)
            return
        stopped = run.stopped(replay.stop_after)
        await self._patiently(
            lambda: self._store.end_replay(replay.id, self._worker, "stopped" if stopped else "done", stopped)
        )
        log.info("replay ended", replay=replay.id, stopped=stopped)

    async def _leave(self, run: Run) -> None:
        """Begin nothing more of it; what of it runs may end."""
        run.lease.close()
        while run.under_way > 0 and self._dispatcher.backlog.unfinished:  # what the end of the worker cancels does not say so
            await self._change(run)
            await self._ours(run)

    async def _carry_out(self, run: Run, replay: Replay) -> bool:
        """False once it is no longer ours."""
        more: bool | None = True
        while more and run.alone:
            more = await self._take(run, 1)
            if more is None or not await self._until(run, 0):
                return False
        began = before = self._ambient.monotonic()
        credit, speed = 0.0, min(1.0, replay.rate)
        while more and not run.stopped(replay.stop_after):
            await asyncio.sleep(max(TICK, min(LOOK, 1.0 / speed)))
            now = self._ambient.monotonic()
            # No more than a second's worth is saved up: after an outage the others do not come all at once.
            credit, before = min(credit + speed * (now - before), max(speed, 1.0)), now
            speed = min(replay.rate, 2.0 ** min(now - began, 30.0))
            if credit < 1.0:
                if not await self._ours(run):
                    return False
                continue
            limit = min(int(credit), MOST_AT_ONCE)
            credit -= limit
            more = await self._take(run, limit) if await self._until(run, MOST_AT_ONCE - limit) else None
            if more is None:
                return False
        if run.stopped(replay.stop_after):
            run.lease.close()  # what of it waits in its lanes is not begun either
        return await self._until(run, 0)

    async def _take(self, run: Run, limit: int) -> bool | None:
        """Put the next letters into their lanes. False at the end of the list, None if it is no longer ours."""
        items = await self._items(run, limit)
        if not items:
            return None if items is None else False
        run.taken = items[-1].seq
        done = set() if run.again else await self._patiently(lambda: self._store.done_among([item.letter for item in items]))
        asked = [(item, self._redispatch.event(item.letter, done=item.letter.id in done, again=run.again)) for item in items]
        begun = await self._patiently(lambda: self._store.begun([_start(run, item) for item in items]))
        run.under_way += len(items)
        for item, found in asked:
            if isinstance(found, Refused):
                self._record.skip(run, item, found)
            else:
                self._submit(run, item, found, begun)
        return True

    def _submit(self, run: Run, item: Item, envelope: Envelope, begun: Mapping[str, int]) -> None:
        letter = item.letter
        delivery = Delivery(letter.body, letter.headers, f"replay:{run.id}", item.seq, run.lease, redelivered=True)
        run.lease.unsettled += 1
        work = self._rework(envelope, letter, delivery, run)
        work.journal = _start(run, item)
        if work.verdict is None:
            count_starts([work], begun)
        self._dispatcher.submit([work])

    async def _until(self, run: Run, under_way: int) -> bool:
        """Wait until no more letters than that are under way, and the backlog has room; False once it is no longer ours."""
        while run.under_way > under_way or self._dispatcher.backlog.full:
            await self._change(run)
            if not await self._ours(run):
                return False
        return True

    async def _change(self, run: Run) -> None:
        """Wait for a letter to end, and no longer than until the next look."""
        run.changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK):
                await run.changed.wait()

    async def _ours(self, run: Run) -> bool:
        """Whether it still is; looked up once in a while, however many letters end."""
        return self._ambient.monotonic() - run.looked < LOOK or await self._items(run, 0) is not None

    async def _items(self, run: Run, limit: int) -> list[Item] | None:
        """The next letters; the claim begins anew with each call."""
        run.looked = self._ambient.monotonic()

        def ask() -> Awaitable[list[Item] | None]:
            until = datetime.fromtimestamp(self._ambient.wall() + CLAIM, UTC)  # of this try: the store may have been away for long
            return self._store.next_items(run.id, self._worker, run.taken, limit, until)

        return await self._patiently(ask)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The store's answer, however long it takes: letters are under way that only this run knows of."""
        while True:
            try:
                return await ask()
            except StoreError:
                await asyncio.sleep(STORE_AGAIN)


def _start(run: Run, item: Item) -> str:
    """Under which the starts of a letter are counted: those in this replay, and not those of which it has died."""
    return f"{run.id}/{item.seq}"
