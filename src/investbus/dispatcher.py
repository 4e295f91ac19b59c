"""When a handler runs: a lane per key, and a fixed number of slots that pull lanes which are ready.

A slot takes a lane, runs the event at its head, and puts the lane back or lets it wait; a lane that waits (for its next attempt,
for a gate, for the store) holds no slot.

The dispatcher knows nothing of offsets, tags or locks: it hands every ended event to `finish`, and gives queued ones back when
their lease closes.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from investbus.ambient import Ambient
from investbus.attempt import Attempts
from investbus.backlog import Backlog
from investbus.collapse import collapse
from investbus.config import Dispatch
from investbus.context import Resources
from investbus.gatehouse import Gatehouse
from investbus.outcome import DUPLICATE, Again, Blocked, Dead, Done, Duplicate, Outcome, Skipped
from investbus.pauses import Pauses
from investbus.preflight import Preflight
from investbus.slots import Slots
from investbus.sweeper import Slot
from investbus.transport import Lease
from investbus.waits import Waits
from investbus.work import Lane, Work, prefix_needs

SUSPECT = 2  # starts that ended with the process: from there on it is not the first time


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
        self._finish = finish  # takes over a work that has ended; the backlog forgets it when it is settled
        self._release = release  # gives a work back to the bus, and the backlog forgets it
        self.lanes: dict[str, Lane] = {}
        self._waits = Waits(self._clock, self._through)
        self.slots = Slots(self._clock, self._run)
        self.backlog = Backlog(settings)
        self._draining = False
        gatehouse.opened = pauses.resumed = self._through
        if preflight is not None:
            preflight.journal.resumed = self._through

    # ---- in

    def start(self) -> None:
        """Start the slots; inside the event loop."""
        self.slots.start(self._settings.slots)

    def submit(self, works: Iterable[Work]) -> None:
        """Take works, in order. Those whose lease has closed meanwhile go straight back."""
        for work in works:
            self.backlog.add(work)
            if work.delivery.lease.closing or self._draining:
                self._release(work)
                continue
            key = work.event.key
            lane = self.lanes.get(key)
            if lane is None:
                self.lanes[key] = lane = Lane(key, work)
                self.slots.put(lane)
            else:
                lane.queue.append(work)
        self.slots.wake()

    def drop(self, lease: Lease) -> None:
        """Give back what is queued of a closing lease. What runs may finish, and what stands before it in a log."""
        self._give_back(lambda other: other is lease)

    async def drain(self, grace: float) -> bool:
        """Give back what is queued, let what runs finish for `grace` seconds, then stop. True if nothing had to be cancelled."""
        self._draining = True
        self._give_back(lambda _: True)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.backlog.empty(), grace)
        clean = not self.backlog.unfinished
        for lane in list(self.lanes.values()):
            self._drop_queued(lane, lambda _: True)
        self.leave()
        await self.slots.left()
        return clean

    def leave(self) -> None:
        """Stop the slots at once, whatever they run."""
        self._attempts.leaving = True
        self.slots.leave()

    # ---- out

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
        return self.backlog.unfinished - self.running - self.backlog.uncounted

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

    # ---- the turn of a lane

    async def _run(self, slot: Slot, lane: Lane) -> None:
        if not lane.queue:
            self._advance(lane)
            return
        work = lane.queue[0]
        if work.copies is not None and work.done_before:
            work.group = None  # those that would have run with it have a run of their own
            self._conclude(lane, work, DUPLICATE)
        elif work.verdict is not None:
            self._conclude(lane, work, work.verdict)
        elif self._gated(lane, work):
            lane.state = "gated"
            if work.delivery.lease.closing or self._draining:
                self._drop_queued(lane, lambda other: self._draining or other.delivery.lease.closing)
        elif work.starts >= SUSPECT and self._in_turn(lane, work):
            lane.state = "in turn"
        else:
            lane.state = "running"
            slot.lane = lane
            if work.route.collapse:
                collapse(lane)
            for one in work.together:
                delivery = one.delivery
                if delivery.position > delivery.lease.begun:
                    delivery.lease.begun = delivery.position
            prepare = self._preflight is not None and (work.journal or work.group or work.route.park)
            attempt = self._prepared if prepare else self._attempts.run
            try:
                outcome = await attempt(slot, work)
            except asyncio.CancelledError:
                if not self._attempts.leaving:  # by a handler that ran in this task before, and too late for its own attempt
                    self._conclude(lane, work, Again(0.0, RuntimeError("cancelled by another event's handler"), spent=False))
                    raise
                for one in work.together:
                    if one.replay is None:
                        one.route.counts.outcomes["released"] += 1
                    self.backlog.forget(one)
                raise
            self._conclude(lane, work, outcome)

    def _in_turn(self, lane: Lane, work: Work) -> bool:
        """Whether a suspect waits for another one; not where its lease ends, since what ran behind it in a log would come again."""
        if self._preflight is None or self._draining or work.delivery.lease.closing:
            return False
        return not self._preflight.journal.may_pass(lane, work)

    def _gated(self, lane: Lane, work: Work) -> bool:
        """Whether it has to wait for something that is not a slot: then its lane waits there, and comes back by `_through`."""
        if self._pauses.any and not self._pauses.may_pass(lane, work):
            self._gatehouse.passed_over(work)
            return True
        return self._gatehouse.any_narrow and not self._gatehouse.may_pass(lane, work)

    async def _prepared(self, slot: Slot, work: Work) -> Outcome:
        assert self._preflight is not None
        if (outcome := await self._preflight.before(work)) is None:
            outcome = await self._attempts.run(slot, work)
            self._preflight.after(work)
        return outcome

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
        if queue and (group := queue.popleft().group) is not None:
            for _ in group[1:]:
                queue.popleft()
        if queue:
            self._requeue(lane)
        elif self.lanes.get(lane.key) is lane:
            del self.lanes[lane.key]

    def _requeue(self, lane: Lane) -> None:
        if lane.queue:
            lane.state = "queued"
            self.slots.put(lane)
            self.slots.wake()
        elif self.lanes.get(lane.key) is lane:
            del self.lanes[lane.key]

    def _give_back(self, ends: Callable[[Lease], bool]) -> None:
        """Release what is queued on leases that end, but for what may still be finished and has to be."""
        needed = prefix_needs(self.lanes.values())
        for lane in list(self.lanes.values()):
            self._drop_queued(lane, lambda work: ends(work.delivery.lease) and work not in needed)

    def _drop_queued(self, lane: Lane, gone: Callable[[Work], bool]) -> None:
        """Release what is gone of a lane, but for a head that runs or is being stored."""
        head = lane.queue[0] if lane.queue else None
        dropped = lane.drop(gone)
        if not dropped:
            return
        for work in dropped:
            self._release(work)
        if lane.state == "queued":
            return  # it stands among the ready ones, and a slot finds it, or finds it empty
        if not lane.queue or lane.queue[0] is not head:
            self._requeue(lane)

    # ---- waits

    def _through(self, lane: Lane, work: Work) -> None:
        """The wait of `work` is over, if it still stands at the head of its lane and waits."""
        if lane.state in ("retrying", "gated", "in turn") and lane.queue and lane.queue[0] is work:
            self._requeue(lane)
