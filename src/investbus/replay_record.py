"""What becomes of replayed letters: written in groups, the first outcome of each for good, before their keys go on."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import structlog

from investbus.ambient import Ambient
from investbus.errors import StoreError
from investbus.letter import dead_letter
from investbus.mailbox import Item, ItemEnd, Mailbox
from investbus.metrics import UNKNOWN, Metrics
from investbus.outcome import Dead, Done, Ending, Outcome, Skipped
from investbus.redispatch import Refused
from investbus.settle import STORE_AGAIN, record_of
from investbus.work import Replaying, Work

log = structlog.get_logger("investbus.replay")


class _Ended(msgspec.Struct, frozen=True):
    run: Replaying
    end: ItemEnd
    work: Work | None  # None: it never began


class ReplayRecord:
    """One per worker."""

    def __init__(self, store: Mailbox, metrics: Metrics, ambient: Ambient) -> None:
        self._store = store
        self._metrics = metrics
        self._ambient = ambient
        self._ended: list[_Ended] = []
        self._more = asyncio.Event()
        self.settle: Callable[[Work, Ending], None] = lambda work, ending: None  # the settler's
        self.stored: Callable[[Work, bool], None] = lambda work, ended: None  # the dispatcher's: the key goes on
        self.failing = ""  # why outcomes cannot be stored now

    def finish(self, work: Work, outcome: Outcome) -> None:
        """Take over a replayed event that has ended."""
        letter, seq = work.letter, work.delivery.position
        assert letter is not None
        assert work.replay is not None
        match outcome:
            case Done():
                end = ItemEnd(seq, letter, "done", record=record_of(work, "done"))
            case Dead():
                again = dead_letter(work, outcome, letter.source, self._ambient.wall())
                again = msgspec.structs.replace(again, id=letter.id, origin=letter.origin, first_at=letter.first_at)
                end = ItemEnd(seq, again, "dead", again.error)
            case Skipped():
                end = ItemEnd(seq, letter, "skipped", outcome.reason)
            case _:
                end = ItemEnd(seq, letter, "skipped", "another receipt of the same event has just ended")
        self._add(_Ended(work.replay, end, work))

    def skip(self, run: Replaying, item: Item, refused: Refused) -> None:
        """A letter that does not run now."""
        self._add(_Ended(run, ItemEnd(item.seq, item.letter, "skipped", refused.reason, becomes=refused.becomes), None))

    def _add(self, ended: _Ended) -> None:
        self._ended.append(ended)
        self._more.set()

    async def write(self) -> None:
        """Write what has ended, for ever; what cannot be written is tried again, beside what ends meanwhile."""
        while True:
            await self._more.wait()
            self._more.clear()
            ended, self._ended = self._ended, []
            left: list[_Ended] = []
            for run_id in dict.fromkeys(one.run.id for one in ended):
                left += await self._write([one for one in ended if one.run.id == run_id])
            if left:
                self._ended[:0] = left
                self._more.set()
                await asyncio.sleep(STORE_AGAIN)
            else:
                self.failing = ""

    async def _write(self, group: list[_Ended]) -> list[_Ended]:
        """Write and tell; returns what could not be written. One outcome that the store refuses does not hold up the others."""
        try:
            with self._metrics.stored("control"):
                now = datetime.fromtimestamp(self._ambient.wall(), UTC)
                await self._store.end_items(group[0].run.id, [one.end for one in group], now)
        except StoreError as error:
            if not self.failing:
                log.error("outcomes of a replay cannot be stored; their keys wait", error=str(error), again_in=STORE_AGAIN)
            self.failing = str(error)
            if len(group) == 1:
                return group
            left = []
            for one in group:
                left += await self._write([one])
            return left
        for one in group:
            self._tell(one)
        return []

    def _tell(self, ended: _Ended) -> None:
        work, outcome = ended.work, ended.end.outcome
        route = ended.end.letter.route if work is None else work.route.name
        self._metrics.route(route if route in self._metrics.routes else UNKNOWN).replays[outcome] += 1
        if work is not None:
            self.stored(work, outcome != "skipped")
            self.settle(work, "duplicate" if outcome == "skipped" else outcome)
        ended.run.ended(outcome)
