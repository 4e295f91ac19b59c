"""What becomes of an event that has ended: it is recorded, and then its delivery is acked.

The order is the promise. A dead letter is durable before the ack; if it cannot be stored, the event stays in its lane and storing
is tried again. A done record that cannot be written does not hold back the ack: the effect has happened, and at worst a
redelivery repeats it under the same idempotency key.

`settle` is the only caller of `ack()` and `release()` outside the transports.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Literal

import structlog

from investbus.ambient import Ambient
from investbus.deaths import Deaths
from investbus.errors import StoreError
from investbus.flood import Flood
from investbus.letter import dead_letter
from investbus.metrics import Metrics, RouteCounts
from investbus.outcome import Dead, Done, Ending, Outcome
from investbus.store import DeadLetter, Store, body_hash
from investbus.store import Done as DoneRecord
from investbus.transport import Delivery
from investbus.work import Work

log = structlog.get_logger("investbus.store")
STORE_AGAIN = 1.0  # seconds between tries of a store that fails
# A commit costs as much for one record as for hundreds: where many come while one is written, the next waits for more.
BUSY = 100  # records in one commit
GATHER = 0.02  # seconds
TOLD_FOR = 60.0  # seconds


def settle(delivery: Delivery, counts: RouteCounts | None, ending: Ending) -> Ending:
    """Count how an event ended and tell its delivery; `counts` is None for bytes that were no event. Returns what was counted.

    A delivery of several events is acked with the last of them, and released with the first that is. What ended on a lost lease
    comes again, so it counts as released, whatever was done.
    """
    counted: Ending = "released" if delivery.lease.lost and ending in ("done", "dead") else ending
    if counts is not None:
        counts.outcomes[counted] += 1
    delivery.parts -= 1
    if ending == "released":
        delivery.release()
    elif not delivery.parts:
        delivery.ack()
    return counted


class Settler:
    """Records what ended, in groups, and settles it."""

    def __init__(self, store: Store | None, source: str, flood: Flood, metrics: Metrics, ambient: Ambient) -> None:
        self._store = store
        self._flood = flood
        self._deaths = Deaths()
        self._source = source
        self._metrics = metrics
        self._ambient = ambient
        self._done: deque[tuple[Work, DoneRecord]] = deque()
        self._dead: list[tuple[Work, DeadLetter]] = []
        self._more_done = asyncio.Event()
        self._more_dead = asyncio.Event()
        self.forget: Callable[[Work], None] = lambda work: None  # the dispatcher's: room is free
        self.stored: Callable[[Work], None] = lambda work: None  # the dispatcher's: the key goes on
        self.ended: Callable[[str, Ending], None] = lambda event_id, ending: None  # for who waits for single events
        self.replayed: Callable[[Work, Outcome], None] = lambda work, outcome: None  # takes over what a replay has run
        self.flooded: Callable[[], None] = lambda: None  # the worker's: pause
        self.failing = ""  # why dead letters cannot be stored now
        self._done_failure = ("", 0.0)  # why the last done records were not written, and until when that is told
        self.last_done = 0.0
        self.letters = 0  # dead letters stored by this process

    @property
    def done_failing(self) -> str:
        """Why done records are not written now; nobody writes them again, so without new ones it is told for a while only."""
        reason, until = self._done_failure
        return reason if self._ambient.monotonic() < until else ""

    def finish(self, work: Work, outcome: Outcome) -> None:
        """Take over an event that has ended; it is settled when what must be recorded is."""
        if work.replay is not None:
            self.replayed(work, outcome)
            return
        match outcome:
            case Done() if self._store is not None and (record := record_of(work, "done")) is not None:
                self._done.append((work, record))
                self._more_done.set()
            case Done():
                self.settle(work, "done")
            case Dead():
                self._dead.append((work, dead_letter(work, outcome, self._source, self._ambient.wall())))
                self._more_dead.set()
            case _:
                self.settle(work, "duplicate")

    def release(self, work: Work) -> None:
        """Give an event back to the bus."""
        self.settle(work, "released")

    async def record_done(self) -> None:
        """Write done records, a group at a time, for ever."""
        assert self._store is not None
        size = 0
        while True:
            await self._more_done.wait()
            if size >= BUSY:
                await asyncio.sleep(GATHER)
            self._more_done.clear()
            ended, self._done = self._done, deque()
            size = len(ended)
            try:
                with self._metrics.stored("done"):
                    await self._store.put_done([record for _, record in ended])
                self._done_failure = ("", 0.0)
            except StoreError as error:
                self._done_failure = (str(error), self._ambient.monotonic() + TOLD_FOR)
                log.error("done records were not written; redelivered events would run again", events=size, error=str(error))
            while ended:  # one by one: what is freed as it is settled is still in the processor's cache
                self.settle(ended.popleft()[0], "done")

    async def record_dead(self) -> None:
        """Write dead letters, a group at a time, for ever; what cannot be written is tried again."""
        while True:
            await self._more_dead.wait()
            letters, self._dead = self._dead, []
            self._more_dead.clear()
            left = await self._put_dead(letters)
            if left:
                self._dead[:0] = left
                self._more_dead.set()
                await asyncio.sleep(STORE_AGAIN)

    async def _put_dead(self, letters: list[tuple[Work, DeadLetter]]) -> list[tuple[Work, DeadLetter]]:
        """Store and settle; returns what could not be stored. One letter that the store refuses does not hold up the others."""
        try:
            await self._write(letters)
        except StoreError as error:
            self._fails(str(error))
            if len(letters) == 1:
                return letters
            left = []
            for one in letters:
                left += await self._put_dead([one])
            return left
        self.failing = ""
        self.letters += len(letters)
        for work, letter in letters:
            self._metrics.route(letter.route).dead[letter.reason] += 1
            self.stored(work)
            self.settle(work, "dead")
            if letter.state == "open":
                self._deaths.tell(letter)
                if self._flood.died(work.event.key):
                    self.flooded()
        return []

    async def _write(self, letters: list[tuple[Work, DeadLetter]]) -> None:
        if self._store is None:
            raise StoreError("no store is configured: set store.url")
        records = [record for work, _ in letters if (record := record_of(work, "dead"))]
        with self._metrics.stored("dead"):
            await self._store.put_dead([letter for _, letter in letters], records)

    def _fails(self, reason: str) -> None:
        if not self.failing:
            log.error("dead letters cannot be stored; their events wait", error=reason, again_in=STORE_AGAIN)
        self.failing = reason

    def settle(self, work: Work, ending: Ending) -> None:
        """Count an event as ended, tell its delivery, and make room. Replayed ones have counts of their own."""
        unknown = work.verdict is not None and work.verdict.reason == "undecodable"
        counts = None if unknown or work.replay is not None else work.route.counts
        ending = settle(work.delivery, counts, ending)
        if ending == "done" and work.replay is None:
            self._flood.done()
            self.last_done = now = self._ambient.wall()
            if work.event.created is not None:
                work.route.counts.age.observe(max(0.0, now - work.event.created.timestamp()))
        self.forget(work)
        self.ended(work.event.id, ending)


def record_of(work: Work, outcome: Literal["done", "dead"]) -> DoneRecord | None:
    """What is recorded of a work that ended; None where its route does not ask what was done before."""
    if work.identity is None:
        return None
    return DoneRecord(work.identity, body_hash(work.event.raw), outcome, work.entity if outcome == "done" else "")
