"""What goes over the control port: orders there, and what lies in an entity back."""

import msgspec

from tests.brokers.servicebus.faults import DETACH_FORCED, SERVER_BUSY, What


class Refuse(msgspec.Struct, forbid_unknown_fields=True):
    what: What
    condition: str = SERVER_BUSY
    seconds: float = 3600.0


class Disturb(msgspec.Struct, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    latency: float | None = None
    silent: bool | None = None
    idle_limit: float | None = None


class Detach(msgspec.Struct, forbid_unknown_fields=True):
    entity: str | None = None
    condition: str = DETACH_FORCED


class Put(msgspec.Struct, forbid_unknown_fields=True):
    """A message to be sent without a client."""

    body: bytes
    message_id: str | None = None
    session: str | None = None
    subject: str | None = None
    properties: dict[str, str] = {}


class Copy(msgspec.Struct):
    """One message as it lies in an entity; `count` is how often its delivery has failed."""

    sequence: int
    count: int
    locked: bool
    message_id: str
    session: str | None
    subject: str | None
    properties: dict[str, str]
    body: bytes


class Contents(msgspec.Struct):
    active: list[Copy]
    locked: list[Copy]
    dead: list[Copy]
    counts: dict[str, int]
