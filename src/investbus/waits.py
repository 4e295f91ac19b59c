"""Lanes that wait for their next attempt, in the order in which it is due: one timer for all of them."""

import asyncio
import heapq
from collections.abc import Callable

from investbus.work import Lane, Work


class Waits:
    """Calls `over(lane, work)` when a wait has passed; whether anybody still waits is for the callee to see."""

    def __init__(self, clock: Callable[[], float], over: Callable[[Lane, Work], None]) -> None:
        self._clock = clock
        self._over = over
        self._entries: list[tuple[float, int, Lane, Work]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._count = 0  # keeps entries of the same moment in order
        self._clean_at = 1_000

    def add(self, lane: Lane, work: Work, seconds: float) -> None:
        self._count += 1
        heapq.heappush(self._entries, (self._clock() + seconds, self._count, lane, work))
        if len(self._entries) >= self._clean_at:  # leases that closed have left entries behind
            self._entries = [entry for entry in self._entries if entry[2].queue and entry[2].queue[0] is entry[3]]
            heapq.heapify(self._entries)
            self._clean_at = max(1_000, 2 * len(self._entries))
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._entries:
            self._timer = asyncio.get_running_loop().call_at(self._entries[0][0], self._due)

    def _due(self) -> None:
        now = self._clock()
        while self._entries and self._entries[0][0] <= now:
            _, _, lane, work = heapq.heappop(self._entries)
            self._over(lane, work)
        self._set_timer()
