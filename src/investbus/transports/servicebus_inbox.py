"""Where the owners of receivers and the worker meet: what was received and is not yet asked for.

The SDK's calls must not be cancelled (Python before 3.12 swallows about half of such cancellations, and a message with
them), and calls of the worker may be. So owners put in, `take` hands out, and nothing is awaited between.
"""

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Protocol

from investbus.errors import TransportDown
from investbus.transport import Delivery


class Waiting(Protocol):
    """A delivery that can be handed out."""

    delivery: Delivery
    handed_out: bool


class Inbox:
    """One for all receivers of a transport; its size is bounded by what they may hold."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._changed = asyncio.Event()
        self.failure: TransportDown | None = None
        self.wanted = True  # False from when events are given back until somebody asks again

    def put(self, one: Waiting) -> None:
        self._waiting.append(one)
        self._changed.set()

    async def take(self, limit: int) -> list[Delivery]:
        self.wanted = True
        while self.failure is None and not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        if self.failure is not None:
            raise self.failure
        taken = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        for one in taken:
            one.handed_out = True
            one.delivery.lease.unsettled += 1
        return [one.delivery for one in taken]

    def withdraw(self, gone: Collection[Waiting]) -> None:
        """What is gone is not handed out any more."""
        self._waiting = deque(one for one in self._waiting if one not in gone)

    def fail(self, error: TransportDown) -> None:
        """Nothing more is handed out; whoever asks is told why."""
        self.failure = self.failure or error
        self._waiting.clear()
        self._changed.set()
