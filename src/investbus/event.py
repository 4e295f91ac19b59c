"""What flows: the envelope as a dialect reads it, and the event as a handler gets it.

Both are frozen `msgspec.Struct`s because one of each is built per delivery: a frozen dataclass of this size costs more than
decoding the envelope does. The platform documents the envelope as `{id, created, version, subject, action, data}`; its own
examples carry a `created` that no `datetime` can hold (`-1000000000-01-01T00:00:00Z`, Java's smallest instant), so the text
is kept beside the parsed time.
"""

from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


class Envelope(msgspec.Struct, frozen=True):
    """What a dialect found in one message. `data` is a plain dict whose numbers have kept every digit."""

    id: str
    version: str
    subject: str
    action: str
    data: dict[str, Any]
    created: str = ""

    @property
    def name(self) -> str:
        """The fully qualified name as it stood on the wire."""
        return f"{self.subject}.{self.action}"


class Event(msgspec.Struct, Generic[T], frozen=True):
    """One event, with `data` already validated into the model that the handler's annotation names.

    `created` is None where `created_raw` is missing or cannot be a datetime; without a zone it is taken as UTC.
    `name` is the name on the wire, `key` is what the event is ordered by, `raw` are the bytes as the bus delivered them.
    """

    id: str
    created: datetime | None
    created_raw: str
    version: str
    subject: str
    action: str
    name: str
    key: str
    data: T
    raw: bytes


def parse_created(text: str) -> datetime | None:
    """The time that `text` says, or None. Never raises: a bad clock at the producer must not dead-letter a good event."""
    try:
        created = datetime.fromisoformat(text)
    except ValueError:
        return None
    return created if created.tzinfo is not None else created.replace(tzinfo=UTC)
