"""Messages of the SDK: what of one becomes a delivery, and how ours become theirs."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage
from azure.servicebus.amqp import AmqpMessageBodyType

from investbus.transport import Message

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def body_of(message: ServiceBusReceivedMessage) -> tuple[bytes, str]:
    """The bytes, and the fault of a message that has none. Other clients send texts as AMQP values; anything may be sent."""
    body: Any = message.body
    if message.body_type is AmqpMessageBodyType.DATA:
        return b"".join(body), ""
    if message.body_type is AmqpMessageBodyType.VALUE and isinstance(body, bytes | str | None):
        return (body.encode() if isinstance(body, str) else body or b""), ""
    return b"", "encoding"


def headers_of(message: ServiceBusReceivedMessage) -> Mapping[str, str]:
    """The application properties. Theirs may be numbers, times and UUIDs; ours are texts."""
    properties = message.application_properties
    if not properties:
        return NO_HEADERS
    return {_text(name): _text(value) for name, value in properties.items()}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def outgoing(messages: Sequence[Message], *, sessions: bool) -> Iterator[list[ServiceBusMessage]]:
    """What may go into one batch: anything, or what is of one session. A message without a key is a session of its own."""
    if not sessions:
        yield [_outgoing(message, None) for message in messages]
        return
    keyed = [(uuid.uuid4().hex if message.key is None else message.key, message) for message in messages]
    keyed.sort(key=lambda pair: pair[0])  # stable: within a key they stay in order
    for key, group in groupby(keyed, key=lambda pair: pair[0]):
        yield [_outgoing(message, key) for _, message in group]


def _outgoing(message: Message, session: str | None) -> ServiceBusMessage:
    properties: Any = dict(message.headers)
    return ServiceBusMessage(message.body, application_properties=properties, session_id=session)
