"""What the suite has to be told of a bus, and how its cases take events from it."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from investbus.errors import TransportDown
from investbus.transport import Delivery, Message, Transport
from tests.transports.conformance_guarantees import Guarantees
from tests.transports.reading import ack, bodies, until

PLENTY = 1000
MARKER = b"nothing is left before this"


class Bus(Protocol):
    """One destination, empty at first and this case's own, on a real bus; its times as short as it allows."""

    guarantees: Guarantees

    def transport(self, *, bound: int = PLENTY, drain_cap: float = 0.3) -> Transport:
        """A new one, as another process would have it. `bound`: how much may be unacked at a time, by whatever means it has."""

    async def end_lease(self, transport: Transport, taken: Sequence[Delivery]) -> None:
        """Have the bus take away what this transport was handed out, all of it; afterwards it is open."""

    async def crash(self) -> None:
        """SIGKILL whatever keeps the messages, and bring it back."""

    async def expire(self) -> None:
        """Have the bus do now what it would do in time with what is held by nobody who is still there."""


class Shared(Bus, Protocol):
    """A bus that another process can find, too."""

    def astray(self) -> tuple[Transport, str]:
        """One whose destination does not exist, and its name."""


class Remote(Shared, Protocol):
    """A broker: somebody who may be gone, who asks who we are, and who wants to hear from us."""

    silence: float  # seconds: longer than its patience with a consumer that gives no sign of life

    def intruder(self) -> tuple[Transport, str]:
        """One with wrong credentials, and the secret among them."""

    async def stop(self) -> None:
        """As its operator does it."""

    async def start(self) -> None: ...


def numbered(start: int, end: int) -> list[Message]:
    return [Message(b"%d" % number, key="key") for number in range(start, end)]


def numbers(deliveries: Iterable[Delivery]) -> list[int]:
    return [int(delivery.body) for delivery in deliveries]


@asynccontextmanager
async def opened(transport: Transport) -> AsyncIterator[Transport]:
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close(5.0)


@asynccontextmanager
async def consuming(transport: Transport) -> AsyncIterator[list[Delivery]]:
    """All that it hands out, unacked, taken as a worker does: opened whenever it is not, or no longer."""
    received: list[Delivery] = []
    taking = asyncio.create_task(_take(transport, received))
    try:
        yield received
    finally:
        taking.cancel()
        with suppress(asyncio.CancelledError):
            await taking
        await transport.close(5.0)


async def _take(transport: Transport, received: list[Delivery]) -> None:
    while True:
        try:
            while True:
                received += await transport.receive(PLENTY)
        except TransportDown:
            await close(transport)
        try:
            await transport.open()
        except TransportDown:
            await asyncio.sleep(0.2)


async def close(transport: Transport) -> None:
    with suppress(TransportDown):
        await transport.close(1.0)


async def reopen(transport: Transport, within: float = 15.0) -> None:
    """What a worker does about a connection that was cut."""
    async with asyncio.timeout(within):
        with suppress(TransportDown):
            while True:
                await transport.receive(PLENTY)  # what was in its buffers is no longer ours
        await close(transport)
        await transport.open()


async def published(transport: Transport, messages: list[Message], within: float = 20.0) -> None:
    """Publish to a bus that may not be there yet."""
    async with asyncio.timeout(within):
        while True:
            try:
                return await transport.publish(messages)
            except TransportDown:
                await asyncio.sleep(0.2)


async def left(bus: Bus, transport: Transport) -> list[bytes]:
    """What is still on the bus once everybody has left it, in the order in which it comes; taken from it by this."""
    await transport.close(5.0)
    await bus.expire()
    await transport.publish([Message(MARKER, key="key")])
    async with consuming(transport) as received:
        await until(lambda: MARKER in bodies(received))
        if not bus.guarantees.in_order:
            await asyncio.sleep(0.3)
        ack(received)
        await until(lambda: not any(delivery.lease.unsettled for delivery in received))
    return [body for body in bodies(received) if body != MARKER]


def decided(transport: Transport) -> int:
    counts = transport.counts
    return counts.ok + counts.lost + counts.error


async def nothing_is_left_behind() -> None:
    await until(lambda: len(asyncio.all_tasks()) == 1, within=5.0)
    gc.collect()  # a connection that was left open complains now, and not in somebody else's test
