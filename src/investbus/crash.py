"""Finds the event that kills the process: an out-of-memory, a segmentation fault in a library, `os._exit` in a handler.

Such an event comes again with the next start, kills again, and nothing behind it is ever done. So the starts of handlers are
written down before they run, but only where a crash can have happened before: at the head of a new lease of a log, and for what
the bus calls redelivered. The steady state writes nothing.

An entry goes when the attempt ends, however it ends; what is still there at the next start was running when a process died. Those
that were so twice are suspects: they run one at a time, so that a third crash adds to the count of one event alone. After the
third start that did not end, an event is a dead letter, `crashed`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from investbus.errors import InvestbusError, StoreError
from investbus.mailbox import Mailbox
from investbus.outcome import Dead
from investbus.settle import STORE_AGAIN
from investbus.store import letter_id
from investbus.work import Lane, Work

log = structlog.get_logger("investbus.crash")
ERASE_AFTER = 0.05  # seconds in which ended attempts gather
STARTS = 3  # that did not end, after which an event is given up


class Crashed(InvestbusError):
    """The process died each time that a handler of this event ran."""


def count_starts(works: Sequence[Work], begun: Mapping[str, int]) -> None:
    """Tell works how often they were begun, and give up those that were so too often.

    Only what is written down counts: that a bus has delivered it before says nothing of a start.
    """
    for work in works:
        work.starts = begun.get(work.journal, 0)
        if work.starts >= STARTS:
            said = f"the process died {work.starts} times while its handler ran"
            work.verdict = Dead("crashed", Crashed(said))
            log.error("an event kills the process; it becomes a dead letter", event_id=work.event.id, route=work.route.name)


class CrashJournal:
    """Starts that have not ended. One per worker; `head` is how many starts are written down at the beginning of a log's lease:
    some more than can have been running, or unfinished before one that ran, in the process that died.
    """

    def __init__(self, store: Mailbox, source: str, head: int) -> None:
        self._store = store
        self._source = source
        self._head = head
        self._begun: set[str] = set()
        self._running: set[str] = set()
        self._beginning: list[str] = []  # about to be written down, all those of one turn of the loop at once
        self._writing: asyncio.Task[None] | None = None
        self._ending: dict[str, bool] = {}  # ended, and still written down; in order
        self._erasing: asyncio.Task[None] | None = None
        self._suspect: Work | None = None  # the one that runs
        self._waiting: deque[tuple[Lane, Work]] = deque()
        self.resumed: Callable[[Lane, Work], None] = lambda lane, work: None  # what to do with a lane that may go on

    def notice(self, work: Work) -> None:
        """Decide whether this work's starts are written down."""
        delivery = work.delivery
        past = delivery.lease.journaled >= self._head if delivery.lease.is_log else not delivery.redelivered
        if past:
            return
        work.journal = letter_id(self._source, work.route.name, work.event, delivery.origin)

    async def look(self, works: Sequence[Work]) -> None:
        """Ask for the starts of works that are written down. Raises StoreError."""
        noticed = [work for work in works if work.journal and work.verdict is None]
        if not noticed:
            return
        count_starts(noticed, await self._store.begun([work.journal for work in noticed]))

    def may_pass(self, lane: Lane, work: Work) -> bool:
        """Whether a suspect may run now; else it waits here."""
        if self._suspect is not None and self._suspect is not work:
            self._waiting.append((lane, work))
            return False
        self._suspect = work
        return True

    async def begin(self, work: Work) -> None:
        """Its handler is about to run. Raises StoreError, and then it must not."""
        if work.delivery.lease.is_log and not work.starts:
            if work.delivery.lease.journaled >= self._head:
                work.journal = ""  # the head has passed while it was queued
                return
            work.delivery.lease.journaled += 1
        if self._ending.pop(work.journal, None) is not None:
            self._running.add(work.journal)
            return  # its last start still stands there, and may stand for this one
        self._running.add(work.journal)
        self._begun.add(work.journal)
        self._beginning.append(work.journal)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
            self._writing.add_done_callback(lambda task: task.cancelled() or task.exception())  # also where nobody waits any more
        await asyncio.shield(self._writing)

    def end(self, work: Work) -> None:
        """The attempt ended, and the process lives. That it is erased a little later costs at worst a start too many."""
        self._running.discard(work.journal)
        self._ending[work.journal] = True
        if self._erasing is None:
            self._erasing = asyncio.create_task(self._erase())

    async def close(self) -> None:
        """The worker ends as it should; what it had to cancel has not killed it."""
        if self._erasing is not None:
            self._erasing.cancel()
        if self._begun:
            with suppress(StoreError):
                await self._store.ended(sorted(self._begun))
            self._begun.clear()

    async def _write(self) -> None:
        await asyncio.sleep(0)
        self._writing = None
        beginning, self._beginning = self._beginning, []
        await self._store.begin(beginning)

    async def _erase(self) -> None:
        while self._ending:
            await asyncio.sleep(ERASE_AFTER)
            ending, self._ending = self._ending, {}
            try:
                await self._store.ended(list(ending))
            except StoreError:
                self._ending |= {start: True for start in ending if start not in self._running}  # not one that runs again
                await asyncio.sleep(STORE_AGAIN)
            else:
                self._begun.difference_update(ending.keys() - self._running)
        self._erasing = None

    def step_aside(self, work: Work) -> None:
        """It does not run, or no longer: the others ask again whose turn it is."""
        if self._suspect is not work:
            return
        self._suspect = None
        waiting, self._waiting = self._waiting, deque()
        for lane, suspect in waiting:
            self.resumed(lane, suspect)
