"""One client's connection: bytes to the engine and back, and what the engine says to whoever has to know.

Qpid Proton does the protocol, without its own event loop. It has no types, so it is `Any` here and in the modules of the links
(`attach`, `outgoing`, `incoming`, `requests`), and nowhere behind them.
"""

import asyncio
import socket
import struct
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from proton import Collector, Condition, Endpoint, Event, ProtonException, Transport, symbol
from proton import Connection as Engine

from tests.brokers.servicebus.attach import Refused, attach
from tests.brokers.servicebus.claims import Claims
from tests.brokers.servicebus.faults import DETACH_FORCED
from tests.brokers.servicebus.frames import LARGEST_FRAME, FrameWalker

if TYPE_CHECKING:
    from tests.brokers.servicebus.server import Server

HEARTBEAT = 240.0  # seconds of silence after which a client is taken for dead


class Port(Protocol):
    """What stands behind one link. `path` is the entity; None for requests, which nothing detaches."""

    path: str | None

    def on_flow(self) -> None: ...
    def on_delivery(self, delivery: Any) -> None: ...
    def close(self) -> None:
        """The link has ended, or its connection."""


class Connection(asyncio.Protocol):
    def __init__(self, server: "Server") -> None:
        self.server = server
        self.claims = Claims()
        self.replies: dict[str, Any] = {}  # links for answers, by address
        self.message_format: int | None = None  # of the transfer that the engine is being given
        self._walker = FrameWalker(strict=server.strict)
        self._ports: dict[Any, Port] = {}  # by link
        self._active: dict[Any, float] = {}  # when a link was last used
        self._late: deque[bytes] = deque()
        self._wire: asyncio.Transport | None = None
        self._transport, self._engine, self._events = Transport(Transport.SERVER), Engine(), Collector()
        self._on = {
            Event.CONNECTION_REMOTE_OPEN: self._on_open,
            Event.CONNECTION_REMOTE_CLOSE: lambda event: event.connection.close(),
            Event.SESSION_REMOTE_OPEN: lambda event: event.session.open(),
            Event.SESSION_REMOTE_CLOSE: lambda event: event.session.close(),
            Event.LINK_REMOTE_OPEN: self._on_link_open,
            Event.LINK_REMOTE_CLOSE: self._on_link_close,
            Event.LINK_REMOTE_DETACH: self._on_link_close,
            Event.LINK_FLOW: self._on_flow,
            Event.DELIVERY: self._on_delivery,
            Event.TRANSPORT_ERROR: self._on_error,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._wire = transport
        self._engine.collect(self._events)
        self._transport.max_frame_size, self._transport.idle_timeout = LARGEST_FRAME, HEARTBEAT
        self._transport.sasl().allowed_mechs("ANONYMOUS PLAIN EXTERNAL")
        self._transport.require_auth(False)
        self._transport.bind(self._engine)
        self.server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        for piece in self._walker.feed(data):
            self.message_format = piece.message_format
            self._push(piece.data)
        self.touch()
        self.server.run()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire = None
        self.server.connections.discard(self)
        for port in self._ports.values():
            port.close()
        self._ports.clear()
        self.replies.clear()
        self.server.run()

    def touch(self) -> None:
        """There is something to be written; `server.run()` does it."""
        self.server.unwritten.add(self)

    def write(self) -> None:
        """Send what the engine has to say, unless a fault keeps it."""
        if self._wire is None or self.server.faults.silent:
            return
        self._handle_events()
        try:
            size = self._transport.pending()
            while size > 0:
                self._send(self._wire, self._transport.peek(size))
                self._transport.pop(size)
                size = self._transport.pending()
        except ProtonException:  # the client has closed
            size = -1
        if size < 0 or self._transport.closed:
            self._wire.close()

    def cut(self) -> None:
        """End the connection with a reset: no farewell, and what was not sent is lost."""
        if self._wire is not None:
            self._wire.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._wire.abort()

    def tick(self, idle_limit: float) -> None:
        """Once in a while: heartbeats, and links that nobody uses."""
        self._transport.tick(time.time())
        oldest = time.monotonic() - idle_limit
        for link, port in list(self._ports.items()):
            if idle_limit and port.path is not None and self._active[link] < oldest:
                self.detach(link, DETACH_FORCED, f"The link is force detached: idle timeout {idle_limit:g} s.")
        self.touch()

    def detach_all(self, path: str | None, condition: str, description: str) -> int:
        """End the links of an entity, or of all; how many."""
        doomed = [link for link, port in self._ports.items() if port.path is not None and path in (None, port.path.lower())]
        for link in doomed:
            self.detach(link, condition, description)
        return len(doomed)

    def detach(self, link: Any, condition: str, description: str) -> None:
        """End a link, or refuse one that is not open yet: with an attach that names neither source nor target."""
        port = self._ports.pop(link, None)
        if port is not None:
            port.close()
        if link.state & Endpoint.LOCAL_UNINIT:
            link.source.type = link.target.type = 0
            link.open()
        link.condition = Condition(condition, description)
        link.close()
        self.touch()

    def _push(self, data: bytes) -> None:
        while data:
            room = self._transport.capacity()
            if room <= 0:
                return
            self._transport.push(data[:room])
            data = data[room:]
            self._handle_events()

    def _handle_events(self) -> None:
        event = self._events.peek()
        while event is not None:
            handle = self._on.get(event.type)
            if handle is not None:
                handle(event)
            self._events.pop()
            event = self._events.peek()

    def _send(self, wire: asyncio.Transport, data: bytes) -> None:
        if not self.server.faults.latency and not self._late:
            wire.write(data)
            return
        self._late.append(bytes(data))
        asyncio.get_running_loop().call_later(self.server.faults.latency, self._send_late)

    def _send_late(self) -> None:
        """The oldest: two that are due at once may be called in any order."""
        data = self._late.popleft()
        if self._wire is not None:
            self._wire.write(data)

    def _on_open(self, event: Any) -> None:
        event.connection.container = "emulator"
        event.connection.properties = {symbol("product"): "Azure Service Bus emulator of a test suite"}
        event.connection.open()

    def _on_link_open(self, event: Any) -> None:
        link = event.link
        if not link.state & Endpoint.LOCAL_UNINIT:
            return
        self._active[link] = time.monotonic()
        try:
            self._ports[link] = attach(self, link)
        except Refused as refused:
            self.detach(link, refused.condition, refused.description)

    def _on_link_close(self, event: Any) -> None:
        port = self._ports.pop(event.link, None)
        self._active.pop(event.link, None)
        if port is not None:
            port.close()
        event.link.close()

    def _on_flow(self, event: Any) -> None:
        port = self._ports.get(event.link)
        if port is not None:
            self._active[event.link] = time.monotonic()
            port.on_flow()

    def _on_delivery(self, event: Any) -> None:
        link = event.link
        port = self._ports.get(link)
        if port is not None:
            self._active[link] = time.monotonic()
            port.on_delivery(event.delivery)

    def _on_error(self, event: Any) -> None:
        print(f"connection closed: {event.transport.condition}", file=sys.stderr, flush=True)
