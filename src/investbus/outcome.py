"""What a handler did, as a value. Exceptions end here: everything after `outcome_of` is total.

A time-out of the attempt comes in as `TimeoutError` from the slot that ran it, never from the handler's own code: a
`TimeoutError` that a handler raises by itself is an ordinary failure.
"""

from typing import Literal

import msgspec

from investbus.errors import ApiError, ApiNotReady, DataInvalid, Reject, Retry, Unavailable, named, seconds
from investbus.retry import RetryPolicy

DeadReason = Literal["undecodable", "data_invalid", "rejected", "exhausted", "crashed", "unrouted"]
DEAD_REASONS: tuple[DeadReason, ...] = ("undecodable", "data_invalid", "rejected", "exhausted", "crashed", "unrouted")
AttemptResult = Literal["ok", "retry", "exhausted", "reject", "wait", "timeout", "cancelled"]
ATTEMPT_RESULTS: tuple[AttemptResult, ...] = ("ok", "retry", "exhausted", "reject", "wait", "timeout", "cancelled")
Ending = Literal["done", "dead", "ignored", "duplicate", "released"]
ENDINGS: tuple[Ending, ...] = ("done", "dead", "ignored", "duplicate", "released")

NOT_READY_WAIT = 1.0  # seconds between looks at an entity that is not readable yet
REJECTED_STATUSES = (400, 401, 403, 422)  # the platform will say the same again


class AttemptTimeout(TimeoutError):
    """The attempt ran into its time-out and was cancelled."""


class Done(msgspec.Struct, frozen=True):
    """The handler returned."""


class Duplicate(msgspec.Struct, frozen=True):
    """The same event was done or dead before."""


class Skipped(msgspec.Struct, frozen=True):
    """A replayed event that must not run now, and why; its dead letter stays as it is."""

    reason: str


class Dead(msgspec.Struct, frozen=True):
    """No further attempt: a dead letter. `parked`: nothing is wrong with it, it waits behind another one of its key."""

    reason: DeadReason
    error: Exception
    parked: bool = False


class Again(msgspec.Struct, frozen=True):
    """Another attempt after `wait` seconds. `spent` says whether this one counted."""

    wait: float
    error: Exception
    spent: bool


class Blocked(msgspec.Struct, frozen=True):
    """The dependency did not answer. The gate decides whether the event waits there or for `after` seconds."""

    dependency: str
    after: float | None
    error: Exception


Outcome = Done | Duplicate | Skipped | Dead | Again | Blocked
DONE = Done()
DUPLICATE = Duplicate()


def outcome_of(
    error: Exception, attempt: int, policy: RetryPolicy, chance: float, fresh: bool
) -> tuple[AttemptResult, Outcome]:
    """What follows from an attempt that ended in `error`, with its metric label.

    `attempt` counts from 1, `chance` is a random number in [0, 1), `fresh` says that the event is younger than `api.settle`.
    """
    match error:
        case Reject():
            return "reject", Dead("rejected", error)
        case DataInvalid():
            return "reject", Dead("data_invalid", error)
        case Unavailable():
            return "wait", Blocked(named(error.dependency), seconds(error.after), error)
        case ApiNotReady() if fresh:
            return "wait", Again(min(policy.first, NOT_READY_WAIT), error, spent=False)
        case ApiError() if error.status in REJECTED_STATUSES:
            return "reject", Dead("rejected", error)
    timeout = isinstance(error, AttemptTimeout)
    if policy.exhausted(attempt):
        return "timeout" if timeout else "exhausted", Dead("exhausted", error)
    wait = policy.wait(attempt, chance)
    if isinstance(error, Retry) and (after := seconds(error.after)) is not None:
        wait = max(after, 0.0)
    return "timeout" if timeout else "retry", Again(wait, error, spent=True)


def error_name(error: BaseException) -> str:
    """The class of an error, with its HTTP status: what lists and labels may show, since messages can hold anything."""
    try:
        status = getattr(error, "status", None)
    except Exception:  # a property of somebody's error can raise anything
        status = None
    name = type(error).__name__
    return f"{name} {status}" if isinstance(status, int) else name


def error_text(error: BaseException) -> str:
    """What an error says of itself, for `dlq show` alone."""
    try:
        return str(error)
    except Exception as broken:
        return f"(its text cannot be read: {type(broken).__name__})"
