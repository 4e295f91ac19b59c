"""Every exception of investbus, as a tree.

Two audiences: what a handler may raise to say what should become of its event (`Retry`, `Reject`, `Unavailable`), and what the
worker itself meets (configuration, transport, store). Inside the worker exceptions end where a handler ends: from there on
outcomes are values.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite


class InvestbusError(Exception):
    """Root of everything that investbus raises on purpose."""


# ---- raised by handlers


def seconds(after: object) -> float | None:
    """`after` if it is a number of seconds. A mistake here is the handler's, so it is told where the handler can see it."""
    if after is None:
        return None
    if isinstance(after, bool) or not isinstance(after, int | float) or not isfinite(after):
        raise TypeError(f"after must be a finite number of seconds, and is {type(after).__name__} {after!r}")
    return float(after)


def named(dependency: object) -> str:
    """`dependency` if it is a name."""
    if not isinstance(dependency, str) or not dependency:
        raise TypeError(f"a dependency is named by a string, and not by {type(dependency).__name__}")
    return dependency


class Retry(InvestbusError):
    """Again later, in order. It is an attempt like any failure; only the wait (`after`, seconds) is the handler's own."""

    after: float | None = None
    reason: str = ""

    def __init__(self, after: float | None = None, reason: str = "") -> None:
        super().__init__(reason or "retry asked for")
        self.after = seconds(after)
        self.reason = reason


class Reject(InvestbusError):
    """Dead letter now; no further attempt."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unavailable(InvestbusError):
    """A dependency is down: its gate is told, the event waits and spends no attempt. `after` is in seconds."""

    dependency: str = "unnamed"  # where a subclass does not say
    after: float | None = None

    def __init__(self, dependency: str, after: float | None = None) -> None:
        super().__init__(f"{dependency} is not available")
        self.dependency = named(dependency)
        self.after = seconds(after)


# ---- raised by the platform's REST client


class ApiUnavailable(Unavailable):
    """The platform cannot answer now: no connection, time-out, 429, 502, 503, 504.

    `refused`: the login itself was refused, as it will be for every other event.
    """

    def __init__(self, reason: str, after: float | None = None, *, status: int | None = None, refused: bool = False) -> None:
        super().__init__("api", after)
        self.args = (f"api is not available: {reason}",)
        self.status = status
        self.refused = refused


class ApiNotReady(InvestbusError):
    """The platform says "not yet": 202, or 404 so soon after the event that the entity may not be readable yet."""

    def __init__(self, operation: str, status: int) -> None:
        super().__init__(f"{operation}: {status}, not ready yet")
        self.operation = operation
        self.status = status


class ApiError(InvestbusError):
    """The platform answered with an error. `status` is the HTTP status, `request_id` what its support asks for."""

    def __init__(self, operation: str, status: int, request_id: str | None = None, detail: str = "") -> None:
        parts = [f"{operation}: HTTP {status}", detail, f"request id {request_id}" if request_id else ""]
        super().__init__(", ".join(part for part in parts if part))
        self.operation = operation
        self.status = status
        self.request_id = request_id


# ---- met by the worker


class DecodeError(InvestbusError):
    """A message is no event. `reason` is the metric label: json, envelope, version, size or encoding."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class DataInvalid(InvestbusError):
    """`data` does not fit the model of the handler. The text names fields and rules, never values."""


class TransportDown(InvestbusError):
    """The bus cannot be reached or has dropped us; the worker closes the transport and opens it again."""


class TransportRefused(TransportDown):
    """The bus answered and said no: wrong credentials, missing destination, missing permission."""


class TransportHeld(TransportDown):
    """An event was held unacked for as long as this bus allows: all of them go back to it, once. The worker opens the bus again
    when its gates are open.
    """


class UnsafeStart(InvestbusError):
    """Going on could lose or repeat events without anybody noticing: exit code 4, one line."""


class StoreError(InvestbusError):
    """The store did not take or give what was asked; nothing may be acked on the strength of it."""


class StoreRefused(StoreError):
    """The store answered and said no: wrong credentials, missing database, missing right."""


class ConfigError(InvestbusError):
    """Mistakes that a user can mend: one line each, exit code 2."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


@contextmanager
def noting(mistakes: list[str]) -> Iterator[None]:
    """Add the lines of a ConfigError to `mistakes` and go on, so that one run names all of them."""
    try:
        yield
    except ConfigError as error:
        mistakes += error.lines
