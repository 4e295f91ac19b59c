"""A link from a client that sends: messages and batches in, confirmations out."""

import sys
from typing import TYPE_CHECKING, Any

from proton import Condition, Delivery

from tests.brokers.servicebus.codec import DATA, decode, sections
from tests.brokers.servicebus.faults import What
from tests.brokers.servicebus.message import Content
from tests.brokers.servicebus.namespace import Topic
from tests.brokers.servicebus.outgoing import NOTHING_ELSE
from tests.brokers.servicebus.queue import Queue

if TYPE_CHECKING:
    from tests.brokers.servicebus.connection import Connection

BATCH = 0x80013700  # message-format of data sections that are a message each
LARGEST_MESSAGE = 262_144  # of the standard tier
CREDIT = 1000


class Incoming:
    """A batch is stored whole or not at all: it is taken apart before the first message is stored."""

    def __init__(self, connection: "Connection", link: Any, path: str, target: Queue | Topic) -> None:
        self.path: str | None = path
        self._connection = connection
        self._link = link
        self._target = target
        link.max_message_size = LARGEST_MESSAGE
        link.open()
        link.flow(CREDIT)

    def on_flow(self) -> None:
        """Nothing follows from what a sender says of its credit."""

    def close(self) -> None:
        """Nothing is held for a sender."""

    def on_delivery(self, delivery: Any) -> None:
        if not delivery.readable or delivery.partial:
            return
        wire = bytes(self._link.recv(delivery.pending) or b"")
        self._link.advance()
        error = self._refusal(wire)
        if error is not None:
            delivery.local.condition = error
        delivery.update(Delivery.ACCEPTED if error is None else Delivery.REJECTED)
        delivery.settle()
        if self._link.credit < CREDIT // 2:
            self._link.flow(CREDIT)

    def _refusal(self, wire: bytes) -> Any:
        """Store what was sent; the condition if that is not possible."""
        ordered = self._connection.server.faults.refusal_of(What.SENDS)
        if ordered is not None:
            return Condition(ordered, "refused as the test ordered", NOTHING_ELSE)
        if len(wire) > LARGEST_MESSAGE:
            description = f"The message has {len(wire)} bytes, of {LARGEST_MESSAGE} that are allowed."
            return Condition("amqp:link:message-size-exceeded", description, NOTHING_ELSE)
        try:
            contents = [Content(each) for each in self._apart(wire)]
        except ValueError as error:
            print(f"message refused: {error}", file=sys.stderr, flush=True)
            return Condition("amqp:decode-error", str(error), NOTHING_ELSE)
        if isinstance(self._target, Queue) and self._target.sessions and any(each.session is None for each in contents):
            description = "The SessionId was not set on a message, and it cannot be sent to the entity."
            return Condition("amqp:not-allowed", description, NOTHING_ELSE)
        for content in contents:
            self._target.put(content)
        return None

    def _apart(self, wire: bytes) -> list[bytes]:
        if self._connection.message_format != BATCH:
            return [wire]
        parts = [decode(wire, section.value)[0] for section in sections(wire) if section.code == DATA]
        return [part for part in parts if isinstance(part, bytes)]
