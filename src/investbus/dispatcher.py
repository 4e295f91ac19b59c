"""When a handler runs: a lane per key, and a fixed number of slots that pull lanes which are ready.

A slot is a long-lived task. It takes a lane, runs the event at its head, and puts the lane back or lets it wait; a lane that
waits (for its next attempt, for a gate, for the store) holds no slot. A task per event or per lane costs 4 to 7 µs more, and
running a handler outside a task of its own lets `asyncio.timeout` inside it cancel the receive loop (both measured).

The dispatcher knows nothing of offsets, tags or locks: it hands every ended event to `finish`, and gives queued ones back when
their lease closes.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context as ContextVars
from contextvars import copy_context

from investbus.ambient import Ambient
from investbus.attempt import Attempts
from investbus.collapse import collapse
from investbus.config import Dispatch
from investbus.context import Resources
from investbus.gatehouse import Gatehouse
from investbus.outcome import DUPLICATE, Again, Blocked, Dead, Done, Duplicate, Outcome, Skipped
from investbus.pauses import Pauses
from investbus.preflight import Preflight
from investbus.slot import Slot, Sweeper
from investbus.transport import Lease
from investbus.waits import Waits
from investbus.work import Lane, Work, prefix_needs

TURN = 0.002  # seconds of work before the event loop gets its turn: a timer is then at most three turns late
LARGEST_BATCH = 500


class Dispatcher:
    """Runs handlers, at most `slots` at once, one at a time and in order per key."""

    def __init__(
        self,
        settings: Dispatch,
        gatehouse: Gatehouse,
        pauses: Pauses,
        preflight: Preflight | None,
        resources: Resources,
        ambient: Ambient,
        finish: Callable[[Work, Outcome], None],
        release: Callable[[Work], None],
    ) -> None:
        self._settings = settings
        self._gatehouse = gatehouse
        self._pauses = pauses
        self._preflight = preflight
        self._attempts = Attempts(gatehouse, resources, ambient)
        self._clock = ambient.monotonic
        self._finish = finish  # takes over a work that has ended; calls `forget` when it is settled
        self._release = release  # gives a work back to the bus; calls `forget`
        self.lanes: dict[str, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._waits = Waits(self._clock, self._through)
        self._idle: list[asyncio.Future[None]] = []
        self._waking = False
        self._turn_ends = 0.0
        self._breathing = False
        self._slots: set[asyncio.Task[None]] = set()
        self._sweeper = Sweeper(self._clock, self._replace_hung)
        self._room = asyncio.Event()
        self._room.set()
        self._largest = 0
        self._draining = False
        self._empty: asyncio.Future[None] | None = None
        self.crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.unfinished = 0  # submitted and not settled
        self.uncounted = 0  # of these, bytes that were no event, and what is replayed: no events received
        self.bytes = 0
        self.started = False
        gatehouse.opened = pauses.resumed = self._through
        if preflight is not None:
            preflight.journal.resumed = self._through

    # ---- in

    def start(self) -> None:
        """Start the slots; inside the event loop."""
        self._turn_ends = self._clock() + TURN
        for _ in range(self._settings.slots):
            self._add_slot()
        self._sweeper.start()
        self.started = True

    async def room(self) -> int:
        """Wait until the backlog has room; how many events it has room for, counted with the largest seen so far."""
        if self.unfinished >= self._settings.backlog or self.bytes >= self._settings.backlog_bytes:
            self._room.clear()
        await self._room.wait()
        by_bytes = (self._settings.backlog_bytes - self.bytes) // max(self._largest, 1)
        return max(1, min(LARGEST_BATCH, self._settings.backlog - self.unfinished, by_bytes))

    @property
    def full(self) -> bool:
        """Whether intake waits for room."""
        return not self._room.is_set()

    def submit(self, works: Iterable[Work]) -> None:
        """Take works, in order. Those whose lease has closed meanwhile go straight back."""
        for work in works:
            self.unfinished += 1
            self.uncounted += not work.event.id or work.replay is not None
            size = work.size
            self.bytes += size
            self._largest = max(size, self._largest)
            if work.delivery.lease.closing or self._draining:
                self._release(work)
                continue
            key = work.event.key
            lane = self.lanes.get(key)
            if lane is None:
                self.lanes[key] = lane = Lane(key, work)
                self._ready.append(lane)
            else:
                lane.queue.append(work)
        self._wake()

    def drop(self, lease: Lease) -> None:
        """Give back what is queued of a closing lease. What runs may finish, and what stands before it in a log."""
        self._give_back(lambda other: other is lease)

    async def drain(self, grace: float) -> bool:
        """Give back what is queued, let what runs finish for `grace` seconds, then stop. True if nothing had to be cancelled."""
        self._draining = True
        self._give_back(lambda _: True)
        if self.unfinished:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._empty,), timeout=grace)
        clean = not self.unfinished
        for lane in list(self.lanes.values()):
            self._drop_queued(lane, lambda _: True)
        self.leave()
        if self._slots:
            await asyncio.wait(self._slots, timeout=1.0)  # a handler that swallows its cancellation is left behind
        return clean

    def leave(self) -> None:
        """Stop the slots at once, whatever they run."""
        self._sweeper.stop()
        self._attempts.leaving = True
        for task in self._slots:
            task.cancel()

    # ---- out

    def forget(self, work: Work) -> None:
        """A work was settled: its room is free."""
        self.unfinished -= 1
        self.uncounted -= not work.event.id or work.replay is not None
        self.bytes -= work.size
        if (
            not self._room.is_set()
            and self.unfinished <= self._settings.backlog * 3 // 4
            and self.bytes <= self._settings.backlog_bytes * 3 // 4
        ):
            self._room.set()
        if self._empty is not None and not self.unfinished and not self._empty.done():
            self._empty.set_result(None)

    def stored(self, work: Work, ended: bool = True) -> None:
        """What became of the head of a lane is durable: a dead letter, or the outcome of a replay. With the last one of the head
        the key goes on. `ended`: a copy of it need not run."""
        work.ended = ended
        lane = self.lanes[work.event.key]
        lane.storing -= 1
        if not lane.storing:
            self._advance(lane)

    # ---- what an operator sees

    @property
    def running(self) -> int:
        """Events received whose handlers run now."""
        return self._attempts.running

    @property
    def waiting(self) -> int:
        """Events received, unfinished and not running."""
        return self.unfinished - self.running - self.uncounted

    def lane_states(self) -> Mapping[str, int]:
        """Lanes by state, with those that wait for the store, or for the end of another suspect, counted as queued."""
        states: dict[str, int] = {}
        for lane in self.lanes.values():
            state = "queued" if lane.state in ("storing", "in turn") else lane.state
            states[state] = states.get(state, 0) + 1
        return states

    def oldest(self) -> float:
        """Seconds since the oldest unfinished event arrived."""
        arrived = min((lane.queue[0].arrived for lane in self.lanes.values() if lane.queue), default=None)
        return 0.0 if arrived is None else self._clock() - arrived

    @property
    def hung(self) -> bool:
        """Whether a handler goes on although its attempt was cancelled."""
        return any(lane.state == "hung" for lane in self.lanes.values())

    @property
    def beat(self) -> float:
        """When (monotonic) the dispatcher last showed that it lives."""
        return self._sweeper.beat

    # ---- slots

    def _add_slot(self, context: ContextVars | None = None) -> None:
        task = asyncio.get_running_loop().create_task(self._slot(), context=context)
        self._slots.add(task)
        task.add_done_callback(self._slot_ended, context=context)

    def _slot_ended(self, task: asyncio.Task[None]) -> None:
        self._slots.discard(task)
        if self._attempts.leaving:
            return
        if task.cancelled():  # a handler has cancelled the task that it ran in, too late for its own attempt
            self._waking = False
            self._add_slot()
            self._wake()
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
                self._wake()
                if not lane.queue:
                    self._advance(lane)
                    continue
                await self._run(slot, lane, lane.queue[0])
                if copy_context() != clean:
                    # A handler left context variables behind: its successor must not see them.
                    if not slot.surplus:
                        self._add_slot(clean)
                    return

    def _wake(self) -> None:
        """Wake one idle slot, unless one is already on its way: it wakes the next before it runs its handler."""
        while self._ready and self._idle and not self._waking and not self._breathing:
            future = self._idle.pop()
            if not future.done():  # done: its slot was cancelled
                self._waking = True
                future.set_result(None)

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
            self._wake()

    async def _run(self, slot: Slot, lane: Lane, work: Work) -> None:
        if work.copies is not None and work.done_before:
            work.group = None  # those that would have run with it have a run of their own
            self._conclude(lane, work, DUPLICATE)
        elif work.verdict is not None:
            self._conclude(lane, work, work.verdict)
        elif self._gated(lane, work):
            lane.state = "gated"
            if work.delivery.lease.closing or self._draining:
                self._drop_queued(lane, lambda other: self._draining or other.delivery.lease.closing)
        elif self._in_turn(lane, work):
            lane.state = "in turn"
        else:
            lane.state = "running"
            slot.lane = lane
            if work.route.collapse:
                collapse(lane)
            for one in work.together:
                lease = one.delivery.lease
                lease.begun = max(lease.begun, one.delivery.position)
            try:
                outcome = await self._attempted(slot, work)
            except asyncio.CancelledError:
                if not self._attempts.leaving:  # by a handler that ran in this task before, and too late for its own attempt
                    self._conclude(lane, work, Again(0.0, RuntimeError("cancelled by another event's handler"), spent=False))
                    raise
                for one in work.together:
                    if one.replay is None:
                        one.route.counts.outcomes["released"] += 1
                    self.forget(one)
                raise
            self._conclude(lane, work, outcome)

    def _in_turn(self, lane: Lane, work: Work) -> bool:
        """Whether a suspect waits for another one; not where its lease ends, since what ran behind it in a log would come again."""
        if work.starts < 2 or self._preflight is None or self._draining or work.delivery.lease.closing:
            return False
        return not self._preflight.journal.may_pass(lane, work)

    def _gated(self, lane: Lane, work: Work) -> bool:
        """Whether it has to wait for something that is not a slot: then its lane waits there, and comes back by `_through`."""
        if self._pauses.any and not self._pauses.may_pass(lane, work):
            return True
        return self._gatehouse.any_narrow and not self._gatehouse.may_pass(lane, work)

    async def _attempted(self, slot: Slot, work: Work) -> Outcome:
        if self._preflight is None or not (work.route.park or work.lead.journal):
            return await self._attempts.run(slot, work)
        if (outcome := await self._preflight.before(work)) is None:
            outcome = await self._attempts.run(slot, work)
            self._preflight.after(work)
        return outcome

    def _replace_hung(self, slot: Slot) -> None:
        if slot.lane is not None:
            slot.lane.state = "hung"
        slot.surplus = True
        self._add_slot(copy_context())

    # ---- what follows

    def _conclude(self, lane: Lane, work: Work, outcome: Outcome) -> None:
        together = work.together
        match outcome:
            case Done() | Duplicate() if work.replay is None:
                for one in together:
                    one.ended = True
                self._advance(lane)
                for one in together:
                    self._finish(one, outcome)
            case Done() | Duplicate() | Skipped() | Dead():
                lane.state, lane.storing = "storing", len(together)
                for one in together:
                    one.tries = work.tries
                    self._finish(one, outcome)
            case Again() | Blocked() if self._draining or any(one.delivery.lease.closing for one in together):
                lane.state = "retrying"
                self._drop_queued(lane, lambda other: self._draining or other.delivery.lease.closing)
                if lane.queue and lane.queue[0] is work:  # only others of its group have gone
                    self._wait(lane, work, outcome)
            case Again() | Blocked():
                self._wait(lane, work, outcome)

    def _wait(self, lane: Lane, work: Work, outcome: Again | Blocked) -> None:
        """Let the head of a lane wait, without a slot, for its next attempt or at a gate."""
        if type(outcome) is Blocked:
            lane.state = "gated"
            self._gatehouse.wait(lane, work)
            return
        assert type(outcome) is Again
        if outcome.spent:
            work.attempt += 1
            work.blocked = 0
        lane.state = "retrying"
        self._waits.add(lane, work, outcome.wait)

    def _advance(self, lane: Lane) -> None:
        """The head has ended: the next one's turn, or the end of the lane."""
        queue = lane.queue
        for _ in range(lane.head):
            queue.popleft()
        if queue:
            self._requeue(lane)
        elif self.lanes.get(lane.key) is lane:
            del self.lanes[lane.key]

    def _requeue(self, lane: Lane) -> None:
        if lane.queue:
            lane.state = "queued"
            self._ready.append(lane)
            self._wake()
        elif self.lanes.get(lane.key) is lane:
            del self.lanes[lane.key]

    def _give_back(self, ends: Callable[[Lease], bool]) -> None:
        """Release what is queued on leases that end, but for what may still be finished and has to be."""
        needed = prefix_needs(self.lanes.values())
        for lane in list(self.lanes.values()):
            self._drop_queued(lane, lambda work: ends(work.delivery.lease) and work not in needed)

    def _drop_queued(self, lane: Lane, gone: Callable[[Work], bool]) -> None:
        """Release what is gone of a lane, but for a head that runs or is being stored."""
        busy = lane.head if lane.state in ("running", "hung", "storing") else 0
        kept = deque(work for at, work in enumerate(lane.queue) if at < busy or not gone(work))
        dropped = [work for at, work in enumerate(lane.queue) if at >= busy and gone(work)]
        if not dropped:
            return
        head_stays = bool(kept) and kept[0] is lane.queue[0]
        if head_stays and kept[0].group is not None:
            kept[0].group = [work for work in kept[0].group if work in kept]
        lane.queue = kept
        for work in dropped:
            self._release(work)
        if lane.state == "queued":
            return  # it stands among the ready ones, and a slot finds it, or finds it empty
        if not head_stays:
            self._requeue(lane)

    # ---- waits

    def _through(self, lane: Lane, work: Work) -> None:
        """The wait of `work` is over, if it still stands at the head of its lane and waits."""
        if lane.state in ("retrying", "gated", "in turn") and lane.queue and lane.queue[0] is work:
            self._requeue(lane)
