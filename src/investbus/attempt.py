"""One attempt: run the handler once, and say what follows from it.

Exceptions end here, and cancellation with them: an attempt is cancelled by the sweeper when it runs too long, and by the end of the
worker when grace runs out. Only the second leaves this file, as the `CancelledError` that it is; it is never an outcome.
"""

import asyncio
from datetime import UTC, datetime

from investbus.ambient import Ambient
from investbus.context import Context, Resources, fresh_until
from investbus.errors import ApiError
from investbus.gatehouse import SUSPICIOUS, Gatehouse
from investbus.outcome import DONE, Again, AttemptResult, AttemptTimeout, Blocked, Dead, Outcome, error_name, outcome_of
from investbus.store import Try
from investbus.sweeper import Slot
from investbus.work import Work


class Attempts:
    """Runs handlers, and counts how each run ended."""

    def __init__(self, gatehouse: Gatehouse, resources: Resources, ambient: Ambient) -> None:
        self._gatehouse = gatehouse
        self._resources = resources
        self._ambient = ambient
        self._clock = ambient.monotonic
        self.running = 0  # replayed ones not counted
        self.leaving = False  # the worker ends: what still runs is being cancelled

    async def run(self, slot: Slot, work: Work) -> Outcome:
        """Run the handler once; say what follows from it."""
        route, started, lead = work.route, self._clock(), work.lead
        counts = route.counts
        ctx = Context(lead.event, route.state, work.attempt, lead.delivery.redelivered, route.name, lead.received, self._resources)
        slot.deadline = started + route.timeout
        counted = work.replay is None
        self.running += counted
        error: Exception | None = None
        try:
            await route.call(lead.event, ctx)
        except asyncio.CancelledError as cancelled:
            if self.leaving:
                counts.attempts["cancelled"] += 1
                raise
            error = RuntimeError("the handler was cancelled, and not by investbus")
            error.__cause__ = cancelled
        except SystemExit as left:
            error = RuntimeError("the handler called sys.exit")
            error.__cause__ = left
        except Exception as raised:
            error = raised
        finally:
            self.running -= counted
            if slot.ended():
                error = _timed_out(route.timeout, error)
        seconds = self._clock() - started
        if counted:
            counts.seconds.observe(seconds)
        if error is not None:
            return self._failed(work, error, seconds)
        counts.attempts["ok"] += 1
        if route.gates or work.behind is not None:
            self._gatehouse.passed(work)
        return DONE

    def _failed(self, work: Work, error: Exception, seconds: float) -> Outcome:
        """What follows from an attempt that ended in `error`."""
        route = work.route
        try:
            result, outcome = self._judged(work, error)
        except Exception as broken:  # an error class of the bank's that cannot even be read
            error = broken
            result, outcome = self._judged(work, broken)
        route.counts.attempts[result] += 1
        if type(outcome) is Dead or (type(outcome) is Again and outcome.spent):
            began = datetime.fromtimestamp(self._ambient.wall() - seconds, UTC)
            work.tries += (Try(began, seconds, error_name(error)),)
        return outcome

    def _judged(self, work: Work, error: Exception) -> tuple[AttemptResult, Outcome]:
        result, outcome = outcome_of(error, work.attempt, work.route.policy, self._ambient.chance(), self._fresh(work))
        if type(outcome) is Blocked:
            outcome = self._gatehouse.blocked(work, outcome)
            return "exhausted" if type(outcome) is Dead else result, outcome
        if isinstance(error, ApiError) and error.status in SUSPICIOUS:
            outcome = self._gatehouse.suspected(work, error, outcome)
            return "wait" if type(outcome) is Blocked else result, outcome
        if result not in ("wait", "timeout"):
            self._gatehouse.passed(work)
        return result, outcome

    def _fresh(self, work: Work) -> bool:
        """By the wall's clock, which may be set back, and by the one that is not."""
        lead, settle = work.lead, self._resources.settle
        return self._clock() - lead.arrived < settle and self._ambient.wall() < fresh_until(lead.event, lead.received, settle)


def _timed_out(timeout: float, error: Exception | None) -> AttemptTimeout:
    expired = AttemptTimeout(f"the attempt did not end within {timeout:g} s")
    expired.__cause__ = error
    return expired
