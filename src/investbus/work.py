"""An event on its way through the worker, and the lane in which it waits for its turn."""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, Protocol

import msgspec

from investbus.event import Event
from investbus.gate import Gate
from investbus.mailbox import ItemOutcome
from investbus.metrics import RouteCounts
from investbus.outcome import Dead
from investbus.records import DeadLetter, Identity, Try
from investbus.retry import RetryPolicy
from investbus.router import Handler
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
    collapse: bool = False
    park: bool = False
    supersede: bool = False


class Replaying(Protocol):
    """The run of a replay that a work belongs to; the work's delivery has the place in its list as position."""

    id: str
    again: bool

    def ended(self, outcome: ItemOutcome) -> None:
        """The outcome of one of its items is stored."""
        ...


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
    group: "list[Work] | None" = None  # the head of its lane and those that are handled with it, by the last of them
    journal: str = ""  # under which its starts are counted, where it may have killed a process; else ""
    starts: int = 0  # times that it was begun before, in processes that died of it or beside it
    replay: "Replaying | None" = None  # set where it does not come from the bus
    letter: DeadLetter | None = None  # the one that is replayed

    def __post_init__(self) -> None:
        self.size = len(self.delivery.body) + OVERHEAD

    @property
    def together(self) -> "Sequence[Work]":
        """Itself, or its whole group."""
        return (self,) if self.group is None else self.group

    @property
    def lead(self) -> "Work":
        """The work whose event the handler gets: the newest of its group."""
        return self if self.group is None else self.group[-1]

    @property
    def entity(self) -> str:
        """What the event is about, on a route where a later success makes an earlier failure obsolete."""
        if not self.route.supersede:
            return ""
        data = self.event.data
        named = data.get("id") if isinstance(data, dict) else getattr(data, "id", None)
        return named if isinstance(named, str) else ""

    @property
    def done_before(self) -> bool:
        """Whether another receipt of the same bytes has ended since this one was received."""
        if self.repeated:
            return True
        return any(one.ended and one.event.raw == self.event.raw for one in self.copies or ())


# "in turn": one of those that may kill the process, and another one runs.
LaneState = Literal["queued", "running", "retrying", "gated", "in turn", "storing", "hung"]


class Lane:
    """Everything unfinished of one key, in arrival order. The head is the one that runs or waits."""

    __slots__ = ("key", "queue", "state", "storing")

    def __init__(self, key: str, work: Work) -> None:
        self.key = key
        self.queue = deque((work,))
        self.state: LaneState = "queued"
        self.storing = 0  # dead letters of its head that are not durable yet

    @property
    def head(self) -> int:
        """How many works at its front run, or wait, as one."""
        return len(self.queue[0].group or "1") if self.queue else 0

    def drop(self, gone: Callable[[Work], bool]) -> list[Work]:
        """Take out what is gone, and return it; a head that runs or is being stored stays."""
        busy = self.head if self.state in ("running", "hung", "storing") else 0
        kept = deque(work for at, work in enumerate(self.queue) if at < busy or not gone(work))
        dropped = [work for at, work in enumerate(self.queue) if at >= busy and gone(work)]
        if dropped and kept and kept[0] is self.queue[0] and kept[0].group is not None:
            kept[0].group = [work for work in kept[0].group if work in kept]
        self.queue = kept
        return dropped


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
