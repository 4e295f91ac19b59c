"""An event on its way through the worker, and the lane in which it waits for its turn."""

from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Literal

import msgspec

from investbus.event import Event
from investbus.gate import Gate
from investbus.metrics import RouteCounts
from investbus.outcome import Dead
from investbus.retry import RetryPolicy
from investbus.router import Handler
from investbus.store import Identity, Try
from investbus.transport import Delivery, Lease

OVERHEAD = 2560  # bytes that a queued event takes beside its body (measured: 2.3 kB)


class Route(msgspec.Struct, eq=False):
    """A route as dispatch needs it: everything looked up, nothing left to decide."""

    name: str
    call: Handler  # with its middleware
    handler: str  # module:name
    place: str
    counts: RouteCounts
    timeout: float
    policy: RetryPolicy
    gates: tuple[Gate, ...] = ()
    dedup: bool = True
    state: Any = None
    validate: Callable[[Any], Any] | None = None  # data -> model; None where data stays a dict
    key: Callable[[Event[Any]], str | None] | None = None  # None: the catalogue's rule


class Work(msgspec.Struct, eq=False):
    """One event of one delivery. `verdict` is set where it is known at receipt that no handler will run."""

    event: Event[Any]
    delivery: Delivery
    route: Route
    received: float  # unix time
    arrived: float  # monotonic
    identity: Identity | None = None
    verdict: Dead | None = None
    copies: "list[Work] | None" = None  # every unsettled receipt of the same event, this one included, in order
    ended: bool = False  # done or dead, so that a copy behind it need not run
    repeated: bool = False  # an earlier copy ended and was settled
    attempt: int = 1
    blocked: int = 0  # times in a row that a dependency was not there while its gate was open
    behind: Gate | None = None  # a gate that the handler named, beside those of its route
    tries: tuple[Try, ...] = ()
    size: int = 0  # bytes that it is counted with

    def __post_init__(self) -> None:
        self.size = len(self.delivery.body) + OVERHEAD

    @property
    def done_before(self) -> bool:
        """Whether another receipt of the same bytes has ended since this one was received."""
        if self.repeated:
            return True
        return any(one.ended and one.event.raw == self.event.raw for one in self.copies or ())


LaneState = Literal["queued", "running", "retrying", "gated", "storing", "hung"]


class Lane:
    """Everything unfinished of one key, in arrival order. The head is the one that runs or waits."""

    __slots__ = ("key", "queue", "state")

    def __init__(self, key: str, work: Work) -> None:
        self.key = key
        self.queue = deque((work,))
        self.state: LaneState = "queued"


WAITING = ("retrying", "gated", "hung")  # lanes whose head will not end soon


def prefix_needs(lanes: Collection[Lane]) -> set[Work]:
    """The queued works without which something that has begun behind them in a log could not be committed.

    A log commits a prefix: what ran behind a queued event would come again because of it. Behind an event that waits longer than a
    lease lives nothing can be saved, so nothing there is needed.
    """
    walls: dict[Lease, int] = {}
    for work in (work for lane in lanes if lane.state in WAITING for work in lane.queue):
        lease, position = work.delivery.lease, work.delivery.position
        walls[lease] = min(position, walls.get(lease, position))
    return {
        work
        for lane in lanes
        if lane.state not in WAITING
        for work in lane.queue
        if (lease := work.delivery.lease).is_log
        and not lease.lost
        and work.delivery.position < min(lease.begun, walls.get(lease, lease.begun))
    }
