"""A bus in a list, for tests of handlers and as the shortest reading of what a transport is.

It promises what a broker promises and no more: what is not acked when its lease ends is delivered again, in order,
before anything newer. Nothing of it outlives the process.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from investbus import config_bus
from investbus.errors import TransportDown
from investbus.transport import Delivery, Lease, Message, PartitionState, SettleCounts, TransportState


class _Entry(msgspec.Struct):
    """A message on the bus. `count` is how often it was delivered."""

    position: int
    message: Message
    count: int = 0


class Memory:
    """The `memory` transport. Messages may be published before it is opened, and stay while it is closed."""

    name: str = "memory"
    source: str = "memory:events"
    guarantees: Mapping[str, str] = {
        "delivery": "at least once while the process lives; nothing outlives it",
        "order": "as published, and per key in one process",
        "replicas": "one worker, in the process that publishes",
    }

    def __init__(self, settings: config_bus.Memory, *, drain_cap: float, max_gap: int) -> None:
        self.counts = SettleCounts()
        self._drain_cap = drain_cap
        self._max_gap = max_gap
        self._lease: Lease | None = None
        self._published = 0
        self._waiting: deque[_Entry] = deque()
        self._unacked: dict[int, _Entry] = {}  # delivered on the open lease, in the order of delivery
        self._news = asyncio.Event()  # what there is to deliver, or room, or the lease may have changed

    async def open(self) -> None:
        self._lease = Lease(self._acked, self.counts)

    async def receive(self, limit: int) -> list[Delivery]:
        while True:
            lease = self._lease
            if lease is None:
                raise TransportDown(f"{self.source} is not open")
            room = min(limit, len(self._waiting), self._max_gap - len(self._unacked))
            if room and not lease.closing:
                return [self._deliver(lease) for _ in range(room)]
            self._news.clear()
            await self._news.wait()

    async def publish(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._published += 1
            self._waiting.append(_Entry(self._published, message))
        self._news.set()

    async def lose_lease(self) -> None:
        """End the lease as a rebalance would: what runs may be acked for `drain_cap` seconds, the rest comes again."""
        lease = self._lease
        if lease is None:
            raise TransportDown(f"{self.source} is not open")
        lease.close()
        await lease.drained(self._drain_cap)
        self._end(lease)
        await self.open()

    async def close(self, flush_timeout: float) -> None:
        """Every ack has arrived already, so there is nothing to flush."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._end(lease)

    def state(self) -> TransportState:
        if self._lease is None:
            return TransportState(connected=False, joined=False, reason="not open")
        partition = PartitionState(lag=len(self._waiting), gap=len(self._unacked))
        return TransportState(True, True, partitions={"0": partition}, gap_paused=partition.gap >= self._max_gap)

    async def check(self) -> list[str]:
        return []

    def _deliver(self, lease: Lease) -> Delivery:
        entry = self._waiting.popleft()
        entry.count += 1
        self._unacked[entry.position] = entry
        lease.unsettled += 1
        message, again = entry.message, entry.count > 1
        return Delivery(message.body, message.headers, self.source, entry.position, lease, again, entry.count)

    def _acked(self, position: int) -> None:
        del self._unacked[position]
        self.counts.ok += 1
        self._news.set()

    def _end(self, lease: Lease) -> None:
        """All that is unacked goes back to the front: it is older than anything that waits."""
        lease.lose()
        self._waiting.extendleft(reversed(self._unacked.values()))
        self._unacked.clear()
        self._news.set()
