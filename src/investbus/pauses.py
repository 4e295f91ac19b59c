"""What people, or a flood of dead letters, have paused: no handler of a paused route is started, and its lanes wait without a slot.

A pause of everything also stops taking from the bus. What runs may end.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from investbus.mailbox import EVERYTHING, Pause
from investbus.work import Lane, Work

log = structlog.get_logger("investbus.pauses")


class Pauses:
    """The pauses that hold now, and the lanes that wait for their end."""

    def __init__(self) -> None:
        self.now: tuple[Pause, ...] = ()
        self.any = False
        self._routes: frozenset[str] = frozenset()
        self._waiting: deque[tuple[Lane, Work]] = deque()
        self._running = asyncio.Event()
        self._running.set()
        self.resumed: Callable[[Lane, Work], None] = lambda lane, work: None  # what to do with a lane that may go on

    @property
    def everything(self) -> bool:
        """Whether the whole worker is paused."""
        return not self._running.is_set()

    async def over(self) -> None:
        """Wait until the whole worker is not, or no longer, paused."""
        await self._running.wait()

    def set(self, pauses: Sequence[Pause]) -> None:
        """These pauses hold, and no others."""
        self._tell(pauses)
        self.now, self.any = tuple(pauses), bool(pauses)
        self._routes = frozenset(pause.route for pause in pauses)
        if EVERYTHING in self._routes:
            self._running.clear()
        else:
            self._running.set()
        waiting, self._waiting = self._waiting, deque()
        for lane, work in waiting:
            if lane.state != "gated" or not lane.queue or lane.queue[0] is not work:
                continue  # its lease has closed meanwhile
            if self._holds(work):
                self._waiting.append((lane, work))
            else:
                self.resumed(lane, work)

    def may_pass(self, lane: Lane, work: Work) -> bool:
        """Whether the attempt may run; else it waits here."""
        if self._holds(work):
            self._waiting.append((lane, work))
            return False
        return True

    def _tell(self, pauses: Sequence[Pause]) -> None:
        """Which pauses begin and end. One that was asked for again, by another worker say, is still the same."""
        before, after = ({(pause.route, pause.reason) for pause in each} for each in (self.now, pauses))
        for pause in pauses:
            if (pause.route, pause.reason) not in before:
                log.warning("paused", route=pause.route or "everything", reason=pause.reason, note=pause.note, who=pause.who)
        for route, reason in sorted(before - after):
            log.warning("resumed", route=route or "everything", reason=reason)

    def _holds(self, work: Work) -> bool:
        return work.route.name in self._routes or EVERYTHING in self._routes
