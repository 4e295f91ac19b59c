"""The gates of one worker, and the lanes that wait at them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import structlog

from investbus.ambient import Ambient
from investbus.config import GateSettings
from investbus.errors import ApiError, ApiUnavailable
from investbus.gate import RAMP_STEPS, Gate
from investbus.metrics import OTHERS
from investbus.outcome import Again, Blocked, Dead, Outcome, error_name, error_text
from investbus.work import Lane, Work

log = structlog.get_logger("investbus.gate")
MOST_GATES = 100
CLEAN_AT = 1_000  # entries
SUSPICIOUS = (401, 403, 500)  # answers that are either about one entity or about all


async def _nobody() -> None:
    """There is no platform to ask."""


class Gatehouse:
    """Asked before an attempt whether it may go, told after it how the dependency was."""

    def __init__(self, settings: GateSettings, ambient: Ambient, *, hears_calls: bool = False) -> None:
        """`hears_calls`: a client tells of every call of the platform."""
        self._settings = settings
        self._ambient = ambient
        self._waiting: dict[str, deque[tuple[Lane, Work]]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.gates: dict[str, Gate] = {}
        self.any_narrow = False  # closed, or opening by and by
        self._hears_calls = hears_calls
        self._by_call = hears_calls  # it was such a call, and no handler by itself, that last said the platform is down
        self._clean_at = CLEAN_AT
        self.opened: Callable[[Lane, Work], None] = lambda lane, work: None  # what to do with a lane that may go on
        self.knock: Callable[[], Awaitable[None]] = _nobody  # ask the platform without an event; an answer opens its gate

    def gate(self, name: str) -> Gate:
        """The gate of a dependency; made, open, when first asked for. Handlers name them, so their number is bounded."""
        if name not in self.gates:
            name = name if len(self.gates) < MOST_GATES else OTHERS
        if name not in self.gates:
            settings = self._settings
            self.gates[name] = Gate(name, settings.failures, settings.probe_every, settings.retry_after_max)
            self._waiting[name] = deque()
        return self.gates[name]

    def may_pass(self, lane: Lane, work: Work) -> bool:
        """Whether the attempt may run: every gate that it needs is open, or it is the one that tries. Else it waits here."""
        now = self._ambient.monotonic()
        for gate in self._needed(work):
            if gate.narrow and not gate.admit(now):
                self._queue(gate, lane, work)
                return False
        return True

    def passed_over(self, work: Work) -> None:
        """It may not even try, since its route is paused: whoever waits behind it is asked at once."""
        for gate in self._needed(work):
            if gate.closed and (timer := self._timers.pop(gate.name, None)) is not None:
                timer.cancel()
                self._watch(gate)

    def wait(self, lane: Lane, work: Work) -> None:
        """The dependency did not answer and its gate is closed: the event waits behind the others."""
        assert work.behind is not None
        self._queue(work.behind, lane, work)

    def blocked(self, work: Work, outcome: Blocked) -> Outcome:
        """A dependency did not answer. It waits at the closed gate; while that is open, for a while, and not for ever."""
        gate = work.behind = self.gate(outcome.dependency)
        at_once = getattr(outcome.error, "refused", False)
        if gate.name == "api":
            self._by_call = self._hears_calls and isinstance(outcome.error, ApiUnavailable)
        if gate.failed(self._ambient.monotonic(), outcome.after, at_once=at_once):
            self._closed(gate, outcome.error)
        if gate.closed:
            work.blocked = 0
            return outcome
        work.blocked += 1
        if work.blocked >= work.route.policy.attempts:
            return Dead("exhausted", outcome.error)
        wait = work.route.policy.wait(work.blocked, self._ambient.chance())
        if outcome.after is not None:  # which may lengthen the wait: some proxies say 0, and that five times would be no time
            wait = max(wait, min(outcome.after, self._settings.retry_after_max))
        return Again(wait, outcome.error, spent=False)

    def suspected(self, work: Work, error: ApiError, outcome: Outcome) -> Outcome:
        """The platform refused or failed one entity. Where it does so to many, the key is revoked or the platform is down: then the
        gate closes and the event waits, instead of dying with all the others."""
        gate, self._by_call = self.gate("api"), self._hears_calls
        if gate.suspected(self._ambient.monotonic(), work.event.key):
            self._closed(gate, error)
        if not gate.closed:
            return outcome
        work.blocked, work.behind = 0, gate
        return Blocked("api", None, error)

    def passed(self, work: Work) -> None:
        """The attempt ended in something else than a dependency that does not answer.

        A gate that calls of the client have closed hears of every call: a handler that happens not to call says nothing of it.
        """
        gates = work.route.gates if work.behind is None else (*work.route.gates, work.behind)
        work.behind = None
        for gate in gates:
            if gate.name != "api" or not self._by_call:
                self.answered(gate.name)

    def answered(self, name: str) -> None:
        """The dependency answered."""
        gate = self.gate(name)
        if not gate.answered():
            return
        log.info("gate opened", gate=name, waiting=len(self._waiting[name]))
        self._ramp(gate)

    def _ramp(self, gate: Gate) -> None:
        """Let as many of those who wait go on as the step has places for, and look again at the next step."""
        if (timer := self._timers.pop(gate.name, None)) is not None:
            timer.cancel()
        waiting = self._waiting[gate.name]
        places = gate.places if gate.step else len(waiting)
        while waiting and places > 0:
            lane, work = waiting.popleft()
            if _waits(lane, work):
                places -= 1
                self.opened(lane, work)
        if gate.step:
            later = self._settings.probe_every / RAMP_STEPS
            self._timers[gate.name] = asyncio.get_running_loop().call_later(later, self._widen, gate)
        self.any_narrow = any(other.narrow for other in self.gates.values())

    def _widen(self, gate: Gate) -> None:
        gate.widen()
        self._ramp(gate)

    def _closed(self, gate: Gate, error: Exception) -> None:
        self.any_narrow = True
        if (timer := self._timers.pop(gate.name, None)) is not None:
            timer.cancel()
        if self._waiting[gate.name]:
            self._watch(gate)
        last = error_text(error) if isinstance(error, ApiUnavailable | ApiError) else error_name(error)  # ours; others say anything
        log.warning("gate closed", gate=gate.name, last=last, probe_in=round(gate.probe_at - self._ambient.monotonic(), 3))

    def _queue(self, gate: Gate, lane: Lane, work: Work) -> None:
        waiting = self._waiting[gate.name]
        waiting.append((lane, work))
        if len(waiting) >= self._clean_at:
            # Leases that close leave entries behind; a long outage must not let them pile up.
            live = [entry for entry in waiting if _waits(*entry)]
            waiting.clear()
            waiting.extend(live)
            self._clean_at = max(CLEAN_AT, 2 * len(live))
        if gate.closed:
            self._watch(gate)

    def _needed(self, work: Work) -> Iterable[Gate]:
        if work.behind is None or work.behind in work.route.gates:
            return work.route.gates
        return (*work.route.gates, work.behind)

    def _watch(self, gate: Gate) -> None:
        if gate.name not in self._timers:
            self._timers[gate.name] = asyncio.get_running_loop().call_at(gate.probe_at, self._probe, gate)

    def _probe(self, gate: Gate) -> None:
        """Let the lane that has waited longest try. A probe that has failed meanwhile may have put off the next one."""
        del self._timers[gate.name]
        waiting = self._waiting[gate.name]
        while waiting and self._ambient.monotonic() >= gate.probe_at:
            lane, work = waiting.popleft()
            if _waits(lane, work):
                self.opened(lane, work)
                break
        if waiting:
            next_one = gate.probe_at
            if self._ambient.monotonic() >= next_one:  # the lane above takes its probe only when a slot gets to it
                next_one = self._ambient.monotonic() + self._settings.probe_every
            self._timers[gate.name] = asyncio.get_running_loop().call_at(next_one, self._probe, gate)


def _waits(lane: Lane, work: Work) -> bool:
    return lane.state == "gated" and bool(lane.queue) and lane.queue[0] is work
