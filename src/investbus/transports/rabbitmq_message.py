"""Headers of RabbitMQ, which may be of many types, as the texts that the worker knows."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from aiormq import spec
from pamqp.common import FieldTable, FieldValue

from investbus.transport import Message

PERSISTENT = 2
LONGEST_NAME = 128  # bytes; pamqp would cut a longer one
DELIVERIES = "x-delivery-count"  # how often a quorum queue has delivered it before

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def headers(given: FieldTable | None) -> Mapping[str, str]:
    """As they were sent: how often the queue has delivered the message is told elsewhere."""
    if not given:
        return NO_HEADERS
    return {name: _text(value) for name, value in given.items() if name != DELIVERIES}


def count(given: FieldTable | None) -> int:
    """The how-manieth delivery this is, as far as the queue says."""
    before = given.get(DELIVERIES) if given else None
    return before + 1 if isinstance(before, int) and before > 0 else 1


def properties(message: Message) -> spec.Basic.Properties:
    """Raises ValueError where a header has too long a name."""
    for name in message.headers:
        if len(name.encode()) > LONGEST_NAME:
            raise ValueError(f"a header has a name of more than {LONGEST_NAME} bytes")
    return spec.Basic.Properties(delivery_mode=PERSISTENT, headers=dict(message.headers) or None)


def _text(value: FieldValue) -> str:
    """Total: what a producer sends must not be able to stop a consumer."""
    match value:
        case str():
            return value
        case bytes() | bytearray():
            return value.decode("utf-8", "backslashreplace")
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
    try:
        text = msgspec.json.encode(value).decode()
    except (RecursionError, msgspec.MsgspecError, TypeError, ValueError):
        return "unreadable"
    return text.strip('"')  # a time or a decimal is a text there; a table or an array is not
