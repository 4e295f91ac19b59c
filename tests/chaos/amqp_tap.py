"""Stands between workers and RabbitMQ, which tells nobody which messages it still waits for, and passes on bytes as they are.

A message counts as settled when its ack has come by here; whoever was killed before that has not acked, whatever its last words
were meant to be.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.brokers.process import LOOPBACK, free_port
from tests.chaos.amqp_wire import Acks, Wire, frames


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
        parts, self._rest = frames(self._rest + data)
        for part in parts:
            self._see(part)
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
