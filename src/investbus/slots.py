"""A fixed number of long-lived tasks that pull lanes which are ready, and share the event loop's time with everything else.

A task per event or per lane costs 4 to 7 µs more, and running a handler outside a task of its own lets `asyncio.timeout` inside it
cancel the receive loop (both measured).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context as ContextVars
from contextvars import copy_context

from investbus.sweeper import Slot, Sweeper
from investbus.work import Lane

TURN = 0.002  # seconds of work before the event loop gets its turn: a timer is then at most three turns late


class Slots:
    """Calls `run` with one ready lane at a time per slot."""

    def __init__(self, clock: Callable[[], float], run: Callable[[Slot, Lane], Awaitable[None]]) -> None:
        self._clock = clock
        self._run = run
        self._ready: deque[Lane] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._waking = False
        self._turn_ends = 0.0
        self._breathing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper = Sweeper(clock, self._replace_hung)
        self._leaving = False
        self.started = False
        self.crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, number: int) -> None:
        """Start them; inside the event loop."""
        self._turn_ends = self._clock() + TURN
        for _ in range(number):
            self._add()
        self._sweeper.start()
        self.started = True

    def put(self, lane: Lane) -> None:
        """A lane is ready; `wake` once all are put."""
        self._ready.append(lane)

    def wake(self) -> None:
        """Wake one idle slot, unless one is already on its way: it wakes the next before it runs its handler."""
        while self._ready and self._idle and not self._waking and not self._breathing:
            future = self._idle.pop()
            if not future.done():  # done: its slot was cancelled
                self._waking = True
                future.set_result(None)

    def leave(self) -> None:
        """Cancel them at once, whatever they run."""
        self._leaving = True
        self._sweeper.stop()
        for task in self._tasks:
            task.cancel()

    async def left(self) -> None:
        """Give them a second to end: a handler that swallows its cancellation is left behind."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    @property
    def beat(self) -> float:
        """When (monotonic) they last showed that the event loop lives."""
        return self._sweeper.beat

    async def breathe(self) -> None:
        """Give the event loop its turn if one is due. One does so for all: the other slots are idle meanwhile, and wait for it."""
        if self._clock() < self._turn_ends:
            return
        self._breathing = True
        try:
            await asyncio.sleep(0)
        finally:
            self._breathing = False
            self._turn_ends = self._clock() + TURN
            self.wake()

    def _add(self, context: ContextVars | None = None) -> None:
        task = asyncio.get_running_loop().create_task(self._slot(), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._ended, context=context)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._leaving:
            return
        if task.cancelled():  # a handler has cancelled the task that it ran in, too late for its own attempt
            self._waking = False
            self._add()
            self.wake()
        elif (error := task.exception()) is not None and not self.crashed.done():
            self.crashed.set_exception(error)  # a bug of ours: better to stop than to go on with fewer and fewer slots

    async def _slot(self) -> None:
        ready, idle, loop = self._ready, self._idle, asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        slot, clean = Slot(task), copy_context()
        with self._sweeper.watching(slot):
            while not slot.surplus:
                while not ready or self._breathing:
                    idle.append(future := loop.create_future())
                    await future
                    self._waking = False
                if self._clock() >= self._turn_ends:
                    await self.breathe()
                    continue
                lane = ready.popleft()
                self.wake()
                await self._run(slot, lane)
                if slot.unheard:
                    await self._hear(slot)
                if _left_behind(clean):
                    if not slot.surplus:
                        self._add(clean)
                    return

    async def _hear(self, slot: Slot) -> None:
        """Let a cancellation that a handler left behind end here, and not in its successor."""
        slot.unheard = False
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if self._leaving:
                raise

    def _replace_hung(self, slot: Slot) -> None:
        if slot.lane is not None:
            slot.lane.state = "hung"
        slot.surplus = True
        self._add(copy_context())


def _left_behind(clean: ContextVars) -> bool:
    """Whether a handler left context variables behind: its successor must not see them."""
    try:
        return copy_context() != clean
    except Exception:  # their values are the bank's, and may refuse to be compared
        return True
