"""How much the worker holds that has not ended, in events and in bytes, and whether there is room for more.

Both limits, because a backlog of a thousand events is nothing at 300 bytes each and a gigabyte at the largest size. Once full, it
has room again at three quarters: taking single events as single ones end would make every batch one event long.
"""

import asyncio

from investbus.config import Dispatch
from investbus.work import Work

LARGEST_BATCH = 500


class Backlog:
    """Counts what is between its receipt and its settlement."""

    def __init__(self, settings: Dispatch) -> None:
        self._events = settings.backlog
        self._bytes = settings.backlog_bytes
        self._room = asyncio.Event()
        self._room.set()
        self._largest = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self.unfinished = 0
        self.uncounted = 0  # of these, bytes that were no event, and what is replayed: no events received
        self.bytes = 0

    @property
    def full(self) -> bool:
        """Whether intake waits for room."""
        return not self._room.is_set()

    async def room(self) -> int:
        """Wait until there is room; for how many events, counted with the largest seen so far."""
        if self.unfinished >= self._events or self.bytes >= self._bytes:
            self._room.clear()
        await self._room.wait()
        by_bytes = (self._bytes - self.bytes) // max(self._largest, 1)
        return max(1, min(LARGEST_BATCH, self._events - self.unfinished, by_bytes))

    async def empty(self) -> None:
        """Wait until nothing is unfinished."""
        if self.unfinished:
            self._empty.clear()
        await self._empty.wait()

    def add(self, work: Work) -> None:
        """Count a work that was taken, over the limits or not: whoever takes asks for room first."""
        size = work.size
        self.unfinished += 1
        self.uncounted += not work.event.id or work.replay is not None
        self.bytes += size
        if size > self._largest:
            self._largest = size

    def forget(self, work: Work) -> None:
        """A work was settled: its room is free."""
        self.unfinished -= 1
        self.uncounted -= not work.event.id or work.replay is not None
        self.bytes -= work.size
        if not self._room.is_set() and self.unfinished <= self._events * 3 // 4 and self.bytes <= self._bytes * 3 // 4:
            self._room.set()
        if not self.unfinished:
            self._empty.set()
