"""What the core knows of a bus: a `Transport` hands out deliveries, each on a `Lease`, and a delivery can be acked or released.

How a decision reaches the broker (an offset, a tag, a lock token) is the transport's own affair, and so are batches: `ack()` and
`release()` are not awaited, they only record. There is no nack: retries happen in the worker, in order, the same on every bus.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec


class SettleCounts(msgspec.Struct):
    """What became of decisions, since the process started: confirmed to the bus, discarded on a lost lease, or failed."""

    ok: int = 0
    lost: int = 0
    error: int = 0
    leases_lost: int = 0


class Lease:
    """How long deliveries are ours: a Kafka partition's assignment epoch, a RabbitMQ channel, a Service Bus receiver.

    `closing`: what runs may still be settled, nothing new is begun. `lost`: acks are discarded, since the bus has given or will
    give the events to somebody. Both are set once and never cleared.
    """

    __slots__ = (
        "_acked", "_callbacks", "_counts", "_drained", "_released", "begun", "closing", "is_log", "journaled", "lost", "unsettled",
    )  # fmt: skip

    def __init__(
        self,
        acked: Callable[[int], None],
        counts: SettleCounts,
        released: Callable[[int], None] | None = None,
        *,
        is_log: bool = False,
    ) -> None:
        """`is_log`: only a prefix can be settled, so what is finished behind something unfinished comes again."""
        self._acked = acked
        self._released = released
        self._counts = counts
        self.is_log = is_log
        self.begun = -1  # the highest position whose handler has been started
        self.journaled = 0  # starts of handlers that the worker has written down for it
        self._callbacks: list[Callable[[Lease], None]] = []
        self._drained: asyncio.Future[None] | None = None
        self.closing = False
        self.lost = False
        self.unsettled = 0  # raised by the transport for each delivery that it hands out

    def on_closing(self, callback: Callable[["Lease"], None]) -> None:
        """Call `callback(lease)` when the lease closes, and again when it is lost after that."""
        self._callbacks.append(callback)

    def close(self) -> None:
        """Nothing new on this lease."""
        if not self.closing:
            self.closing = True
            self._tell()

    def lose(self) -> None:
        """From here on acks are discarded."""
        if not self.lost:
            self.lost = self.closing = True
            self._counts.leases_lost += self.unsettled > 0
            self._tell()
            self._callbacks.clear()
        self._wake()

    def _tell(self) -> None:
        for callback in tuple(self._callbacks):
            callback(self)

    async def drained(self, limit: float) -> bool:
        """Wait at most `limit` seconds until everything delivered is acked or released; True if it was."""
        if self.unsettled and not self.lost:
            self._drained = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._drained,), timeout=limit)
        return not self.unsettled

    def settled(self, position: int, ack: bool) -> None:
        """A delivery of this lease was decided. Called by `Delivery` alone."""
        self.unsettled -= 1
        if self.lost:
            self._counts.lost += ack
        elif ack:
            self._acked(position)
        elif self._released is not None:
            self._released(position)
        if not self.unsettled:
            self._wake()

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)


class Delivery(msgspec.Struct, eq=False):
    """One receipt of one message.

    `source` and `position` say where it lay on the bus; `redelivered` and `count` what the bus says about earlier deliveries;
    `fault` is set where the transport already knows that the body is no message (a `DecodeError` reason); `parts` is how many
    events of it are still unfinished.
    """

    body: bytes
    headers: Mapping[str, str]
    source: str
    position: int
    lease: Lease
    redelivered: bool = False
    count: int = 1
    fault: str = ""
    parts: int = 1
    settled: bool = False

    @property
    def origin(self) -> str:
        """Where it came from, unique on that bus: `kafka:investsuite.events/3@1042`."""
        return f"{self.source}@{self.position}"

    def ack(self) -> None:
        """Done or safely stored: the bus may forget it. The second decision on a delivery does nothing."""
        if not self.settled:
            self.settled = True
            self.lease.settled(self.position, True)

    def release(self) -> None:
        """Given back unhandled; the bus delivers it again."""
        if not self.settled:
            self.settled = True
            self.lease.settled(self.position, False)


class Message(msgspec.Struct, frozen=True):
    """What is published. `key` is the ordering key where the bus has one."""

    body: bytes
    headers: Mapping[str, str] = {}
    key: str | None = None


class PartitionState(msgspec.Struct, frozen=True):
    """`lag`: events on the bus that were not yet received. `gap`: positions between the committed and the highest received."""

    lag: int
    gap: int


class TransportState(msgspec.Struct, frozen=True):
    """A look at the connection. `joined` with no partition is joined; `reason` says why not, for people. `held`: `receive` will
    raise `TransportHeld`."""

    connected: bool
    joined: bool
    reason: str = ""
    partitions: Mapping[str, PartitionState] = {}
    gap_paused: bool = False
    held: bool = False


class Transport(Protocol):
    """One bus. Not shared between workers; `open` after `close` starts anew with new leases.

    Raises `TransportDown` (also from `receive` and `publish`) when the bus is not reachable, and `UnsafeStart` from `open` when
    going on could skip or repeat events unseen.
    """

    name: str  # as in the configuration, the extra and the metric label
    source: str  # which stream of which bus, without partitions: part of an event's identity in the store
    guarantees: Mapping[str, str]  # what this bus gives, for people: delivery, order, replicas
    counts: SettleCounts

    async def open(self) -> None: ...

    async def receive(self, limit: int) -> list[Delivery]:
        """1 to `limit` deliveries, waiting for the first. A cancelled call loses nothing."""
        ...

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when the bus has confirmed every message."""
        ...

    async def close(self, flush_timeout: float) -> None:
        """Settle what was decided, within `flush_timeout` seconds, and leave. Leases that are open become lost."""
        ...

    def state(self) -> TransportState: ...

    async def check(self) -> list[str]:
        """Look at the bus and say what is wrong, a line each. Connects by itself; raises `TransportDown`."""
        ...
