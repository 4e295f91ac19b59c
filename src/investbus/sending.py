"""Events made by hand: what `investbus send` and the sandbox put on the configured bus."""

import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from investbus.assembly import make_transport
from investbus.catalogue import ordering_key
from investbus.config import Settings
from investbus.errors import ConfigError
from investbus.transport import Message

encode = msgspec.json.Encoder(decimal_format="number").encode
decode = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
PUBLISH_BATCH = 500


class Made(msgspec.Struct, frozen=True):
    """A message and the id of the event in it; "" for raw bytes."""

    id: str
    message: Message


def read_data(said: str) -> dict[str, Any]:
    """`--data`: JSON, `@FILE`, or `-` for standard input. Raises ConfigError."""
    try:
        if said == "-":
            said = sys.stdin.read()
        elif said.startswith("@"):
            said = Path(said[1:]).read_text(encoding="utf-8")
        return decode(said)
    except OSError as error:
        raise ConfigError([f"--data: {error.filename}: {error.strerror}"]) from None
    except (ValueError, ArithmeticError) as error:
        raise ConfigError([f"--data: no JSON object: {error}"]) from None


def raw_message(path: Path) -> Made:
    """The bytes of a file as one message. Raises ConfigError."""
    try:
        return Made("", Message(path.read_bytes()))
    except OSError as error:
        raise ConfigError([f"--raw: {error.filename}: {error.strerror}"]) from None


def envelope_message(name: str, data: dict[str, Any], event_id: str | None, created: str | None) -> Made:
    """One event in the platform's envelope. Raises ConfigError for a name that is none."""
    subject, dot, action = name.partition(".")
    if not dot or not subject or not action or "." in action:
        raise ConfigError([f'send: "{name}" is no name of an event; it is subject.action, such as portfolios.status-update'])
    event_id = event_id or uuid.uuid4().hex
    created = created or datetime.now(UTC).isoformat().replace("+00:00", "Z")
    envelope = {"id": event_id, "created": created, "version": "1.0.0", "subject": subject, "action": action, "data": data}
    return Made(event_id, Message(encode(envelope), key=ordering_key(data, event_id)))


async def publish(settings: Settings, made: Sequence[Made]) -> Sequence[Made]:
    """Publish to the configured bus; returns when it has confirmed everything. Raises TransportDown."""
    if settings.transport == "memory":
        raise ConfigError(["transport: memory is gone when this command ends; configure another bus to send to"])
    transport = make_transport(settings)
    try:
        for start in range(0, len(made), PUBLISH_BATCH):
            await transport.publish([one.message for one in made[start : start + PUBLISH_BATCH]])
    finally:
        await transport.close(5.0)
    return made
