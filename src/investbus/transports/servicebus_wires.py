"""Sockets that the SDK forgets.

It closes its connection in good order or not at all: one that was lost, or interrupted while it was opened, is dropped with
its socket still open, until the garbage collector finds it. So every connection that it makes is remembered, and hung up
after the receiver or sender has been closed.
"""

from typing import Any
from weakref import WeakKeyDictionary

from azure.servicebus.aio import ServiceBusReceiver, ServiceBusSender

Handler = ServiceBusReceiver | ServiceBusSender


class _Wires:
    """Of one receiver or sender: its AMQP clients, and the transports of their connections."""

    def __init__(self) -> None:
        self.clients: list[Any] = []
        self.wires: list[Any] = []


_WIRES: WeakKeyDictionary[Handler, _Wires] = WeakKeyDictionary()


def watch(handler: Handler) -> None:
    """Remember from now on whatever it opens."""
    made = _WIRES[handler] = _Wires()
    create = handler._create_handler  # noqa: SLF001

    def remembered(auth: Any) -> None:
        create(auth)
        made.clients.append(handler._handler)  # noqa: SLF001

    handler._create_handler = remembered  # type: ignore[method-assign] # noqa: SLF001 - there is no other moment to see it


def note(handler: Handler) -> None:
    """It is open. Later, closing it makes the SDK forget its connection, and only before that the socket can be seen."""
    made = _WIRES[handler]
    connections = [client._connection for client in made.clients]  # noqa: SLF001
    seen = [connection._transport for connection in connections if connection is not None]  # noqa: SLF001
    made.clients = made.clients[-1:]  # the others are closed, as far as the SDK closes them
    made.wires = [wire for wire in {*made.wires, *seen} if wire.writer is not None]


def hang_up(handler: Handler) -> None:
    """It was closed: close what is still open."""
    note(handler)
    made = _WIRES[handler]
    for wire in made.wires:
        wire.writer.transport.abort()
    made.clients, made.wires = [], []  # they know their handler, which would never be forgotten
