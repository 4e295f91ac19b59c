"""The gates of one worker, and the lanes that wait at them."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

import structlog

from investbus.ambient import Ambient
from investbus.config import GateSettings
from investbus.gate import Gate
from investbus.outcome import Again, Blocked, Dead, Outcome
from investbus.work import Lane, Work

log = structlog.get_logger("investbus.gate")


class Gatehouse:
    """Asked before an attempt whether it may go, told after it how the dependency was."""

    def __init__(self, settings: GateSettings, ambient: Ambient) -> None:
        self._settings = settings
        self._ambient = ambient
        self._waiting: dict[str, deque[tuple[Lane, Work]]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.gates: dict[str, Gate] = {}
        self.any_closed = False
        self.opened: Callable[[Lane, Work], None] = lambda lane, work: None  # what to do with a lane that may go on

    def gate(self, name: str) -> Gate:
        """The gate of a dependency; made, open, when first asked for."""
        if name not in self.gates:
            settings = self._settings
            self.gates[name] = Gate(name, settings.failures, settings.probe_every, settings.retry_after_max)
            self._waiting[name] = deque()
        return self.gates[name]

    def may_pass(self, lane: Lane, work: Work) -> bool:
        """Whether the attempt may run: every gate that it needs is open, or it is the one that tries. Else it waits here."""
        now = self._ambient.monotonic()
        for gate in self._needed(work):
            if gate.closed and not gate.take_probe(now):
                self._waiting[gate.name].append((lane, work))
                self._watch(gate)
                return False
        return True

    def wait(self, lane: Lane, work: Work) -> None:
        """The dependency did not answer and its gate is closed: the event waits behind the others."""
        assert work.behind is not None
        self._waiting[work.behind.name].append((lane, work))
        self._watch(work.behind)

    def blocked(self, work: Work, outcome: Blocked) -> Outcome:
        """A dependency did not answer. It waits at the closed gate; while that is open, for a while, and not for ever."""
        gate, now = self.gate(outcome.dependency), self._ambient.monotonic()
        at_once = getattr(outcome.error, "refused", False)
        if gate.failed(now, outcome.after, at_once=at_once):
            self.any_closed = True
            log.warning("gate closed", gate=gate.name, failures=gate.streak, last=str(outcome.error), probe_in=gate.probe_at - now)
        if gate.closed:
            work.blocked, work.behind = 0, gate
            return outcome
        work.blocked += 1
        if work.blocked >= work.route.policy.attempts:
            return Dead("exhausted", outcome.error)
        wait = work.route.policy.wait(work.blocked, self._ambient.chance())
        if outcome.after is not None:
            wait = max(0.0, min(outcome.after, self._settings.retry_after_max))
        return Again(wait, outcome.error, spent=False)

    def passed(self, work: Work) -> None:
        """The attempt ended in something else than a dependency that does not answer.

        The platform's own gate hears of every call, so for `api` this opens it but does not reset its count: a handler that
        happens not to call says nothing of the platform.
        """
        work.behind = None
        for gate in work.route.gates:
            if gate.closed or gate.name != "api":
                self.answered(gate.name)

    def answered(self, name: str) -> None:
        """The dependency answered."""
        gate = self.gate(name)
        if not gate.answered():
            return
        log.info("gate opened", gate=name, waiting=len(self._waiting[name]))
        self.any_closed = any(other.closed for other in self.gates.values())
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()
        waiting, self._waiting[name] = self._waiting[name], deque()
        for lane, work in waiting:
            self.opened(lane, work)

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
            if lane.state == "gated" and lane.queue and lane.queue[0] is work:
                self.opened(lane, work)
                break
        if waiting:
            next_one = gate.probe_at
            if self._ambient.monotonic() >= next_one:  # the lane above takes its probe only when a slot gets to it
                next_one = self._ambient.monotonic() + self._settings.probe_every
            self._timers[gate.name] = asyncio.get_running_loop().call_at(next_one, self._probe, gate)
