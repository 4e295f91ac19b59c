"""Reads along between workers and RabbitMQ, which tells nobody which messages it still waits for.

AMQP 0-9-1 by pika's decoder, which shares no code with the client of the product. Bytes are passed on as they are. A message counts
as settled when the ack has come by here; whoever was killed before that has not acked, whatever its last words were meant to be.
Nor has one whose last acks RabbitMQ threw away: a quorum queue forgets acks that it has not applied when their channel ends
(rabbitmq-server#10327). Such a message comes again, and only that tells.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from pika import frame, spec  # type: ignore[import-untyped]  # it carries no type information

from tests.brokers.process import LOOPBACK, free_port
from tests.chaos.checks import NEVER
from tests.chaos.history import Head

APPLIED_WITHIN = 1.0  # seconds for a busy quorum queue; what was acked so long before its connection ended is settled


class Coming(msgspec.Struct):
    """A delivery whose body is not whole yet."""

    tag: int
    size: int = 0
    returned: int = 0
    body: bytes = b""


class Acks:
    """What all connections have settled. `returned`: the highest x-delivery-count that each event was seen with."""

    def __init__(self) -> None:
        self.settled: dict[str, float] = {}
        self.returned: dict[str, int] = {}
        self._by: dict[str, Wire] = {}

    def settle(self, event_id: str, by: "Wire") -> None:
        if event_id not in self.settled:
            self.settled[event_id], self._by[event_id] = time.monotonic(), by

    def delivered(self, event_id: str, returned: int) -> None:
        self.returned[event_id] = max(returned, self.returned.get(event_id, 0))
        if event_id in self.settled and self._by[event_id].ended - self.settled[event_id] < APPLIED_WITHIN:
            del self.settled[event_id]


class Wire:
    """One connection: which events are in the client's hands, by channel and delivery tag."""

    def __init__(self, acks: Acks) -> None:
        self.ended = NEVER
        self._acks = acks
        self._held: dict[int, dict[int, str]] = {}
        self._coming: dict[int, Coming] = {}

    def from_broker(self, part: Any) -> None:
        match part:
            case frame.Method(method=spec.Basic.Deliver() as deliver):
                self._coming[part.channel_number] = Coming(deliver.delivery_tag)
            case frame.Header() if (coming := self._coming.get(part.channel_number)) is not None:
                coming.size = part.body_size
                coming.returned = int((part.properties.headers or {}).get("x-delivery-count", 0))
            case frame.Body() if (coming := self._coming.get(part.channel_number)) is not None:
                coming.body += part.fragment
                if len(coming.body) == coming.size:
                    self._delivered(part.channel_number, self._coming.pop(part.channel_number))

    def _delivered(self, channel: int, whole: Coming) -> None:
        event_id = msgspec.json.decode(whole.body, type=Head).id
        self._held.setdefault(channel, {})[whole.tag] = event_id
        self._acks.delivered(event_id, whole.returned)

    def from_client(self, part: Any) -> None:
        match part:
            case frame.Method(method=spec.Basic.Ack() as ack):
                for event_id in self._taken(part.channel_number, ack.delivery_tag, ack.multiple):
                    self._acks.settle(event_id, self)
            case frame.Method(method=spec.Basic.Nack() as nack):
                self._taken(part.channel_number, nack.delivery_tag, nack.multiple)
            case frame.Method(method=spec.Basic.Reject() as reject):
                self._taken(part.channel_number, reject.delivery_tag, False)

    def end(self) -> None:
        self.ended = min(self.ended, time.monotonic())

    def _taken(self, channel: int, tag: int, multiple: bool) -> list[str]:
        """Out of the client's hands; with `multiple` every tag up to this one, where 0 is the last."""
        held = self._held.get(channel, {})
        tags = [each for each in held if each <= tag or not tag] if multiple else [tag]
        return [held.pop(each) for each in tags if each in held]


class Side(asyncio.Protocol):
    """One end of a connection through the tap. What comes in goes out at the other end at once: a stream in between would forget
    what came just before a reset. How much can be under way is bounded by the prefetch.
    """

    other: "Side"
    transport: asyncio.Transport

    def __init__(self, see: Callable[[Any], None], end: Callable[[], None]) -> None:
        self._see, self._end = see, end
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._rest = _read(self._rest + data, self._see)
        self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end hears of it, and is listened to until it ends too: closing on unread bytes would tear what is under way."""
        self._end()
        if not self.other.transport.is_closing():
            self.other.transport.write_eof()


class Tap:
    """Listens on loopback in a `with` block, and connects each client on to `address`."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.port = free_port()
        self.acks = Acks()
        self._address = address
        self._sides: list[Side] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        with socket.create_server((LOOPBACK, self.port)) as server:
            server.setblocking(False)
            accepting = asyncio.create_task(self._accept(server))
            try:
                yield
            finally:
                accepting.cancel()
                for side in self._sides:
                    side.transport.abort()
                with suppress(asyncio.CancelledError):
                    await accepting

    async def _accept(self, server: socket.socket) -> None:
        while True:
            client, _ = await asyncio.get_running_loop().sock_accept(server)
            await self._connect(client)

    async def _connect(self, client: socket.socket) -> None:
        loop, wire = asyncio.get_running_loop(), Wire(self.acks)
        near, far = Side(wire.from_client, wire.end), Side(wire.from_broker, wire.end)
        near.other, far.other = far, near
        await loop.create_connection(lambda: far, *self._address)  # first, since the broker waits for the client's word
        await loop.connect_accepted_socket(lambda: near, client)
        self._sides += [near, far]


def _read(data: bytes, see: Callable[[Any], None]) -> bytes:
    """Show the whole frames; what is left over."""
    at = 0
    while True:
        used, part = frame.decode_frame(data[at:])
        if part is None:
            return data[at:]
        see(part)
        at += used
