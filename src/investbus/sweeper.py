"""A slot's attempt, and the one sweeper that ends attempts which run too long.

`asyncio.timeout` per attempt costs 5 µs, `wait_for` 15; one task that looks at all slots every 0.1 s costs nothing per event, and
an expiry is at most that much late (measured). Only the sweeper and the end of the worker cancel an attempt; any other
`CancelledError` is the handler's own doing, and a failure like any other.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from investbus.work import Lane

SWEEP_EVERY = 0.1
HUNG_AFTER = 5.0  # seconds that a cancelled handler may take to end


class Slot:
    """One attempt at a time, in one task. `deadline` is set while an attempt runs, `expired` once it was cancelled for it."""

    __slots__ = ("deadline", "expired", "lane", "surplus", "task", "unheard")

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self.deadline: float | None = None
        self.expired = False
        self.lane: Lane | None = None
        self.unheard = False  # a cancellation may be left over that the task has yet to hear of
        self.surplus = False  # replaced while its handler hung: ends when that does

    def ended(self) -> bool:
        """The attempt is over; True if it had expired. Nothing may be awaited between the handler's end and this call.

        Cancellations that are left over, the sweeper's or a handler's own, must not count against the next attempt.
        """
        self.deadline = None
        expired, self.expired = self.expired, False
        while self.task.cancelling():
            self.unheard = True  # `uncancel` takes back the count alone
            self.task.uncancel()
        return expired


class Sweeper:
    """Cancels expired attempts, and says which ones do not end even so."""

    def __init__(self, clock: Callable[[], float], hung: Callable[[Slot], None]) -> None:
        self._clock = clock
        self._hung = hung
        self._slots: set[Slot] = set()
        self._task: asyncio.Task[None] | None = None
        self.beat = clock()

    def start(self) -> None:
        self._task = asyncio.create_task(self._sweep())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    @contextmanager
    def watching(self, slot: Slot) -> Iterator[None]:
        """Look after `slot` for as long as the block runs."""
        self._slots.add(slot)
        try:
            yield
        finally:
            self._slots.discard(slot)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            self.beat = now = self._clock()
            for slot in tuple(self._slots):
                if slot.deadline is None or slot.deadline > now:
                    continue
                if not slot.expired:
                    slot.expired = True
                    slot.task.cancel()
                elif now > slot.deadline + HUNG_AFTER and not slot.surplus:
                    self._hung(slot)
