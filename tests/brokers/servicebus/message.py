"""What a sender wrote, and the copies of it that lie in queues."""

import struct
from typing import TYPE_CHECKING

from tests.brokers.servicebus.codec import (
    ANNOTATIONS,
    APPLICATION,
    FALSE,
    HEADER,
    NULL,
    PROPERTIES,
    TRUE,
    Section,
    entries,
    fields,
    mapping,
    sections,
    string,
    symbol,
    unsigned,
)

if TYPE_CHECKING:
    from tests.brokers.servicebus.locks import Lock

SEQUENCE = symbol(b"x-opt-sequence-number") + b"\x81"
ENQUEUED = symbol(b"x-opt-enqueued-time") + b"\x83"
LOCKED_UNTIL = symbol(b"x-opt-locked-until") + b"\x83"
STATE_ACTIVE = symbol(b"x-opt-message-state") + b"\x54\x00"
OF_THE_SERVICE = frozenset((b"x-opt-sequence-number", b"x-opt-enqueued-time", b"x-opt-locked-until", b"x-opt-message-state"))
SCHEDULED = b"x-opt-scheduled-enqueue-time"
GROUP_ID = 10  # which field of the properties is the id of the session
LARGEST_COUNT = 255  # that fits where this encoder writes the count


class Content:
    """A message as its sender wrote it, without what the service says of a copy. Never changed: copies share it."""

    __slots__ = ("annotations", "bare", "header", "session", "ttl")

    def __init__(self, wire: bytes) -> None:
        """ValueError if it is no message, or asks for something that is not emulated."""
        durable, priority = FALSE, NULL
        self.ttl: float | None = None
        self.session: str | None = None
        self.annotations: tuple[bytes, ...] = ()
        self.bare = b""  # from the properties on
        for section in sections(wire):
            if section.code == HEADER:
                is_durable, level, ttl = fields(wire, section.value, 3)
                durable = TRUE if is_durable else FALSE
                priority = b"\x50" + bytes((level,)) if isinstance(level, int) else NULL
                self.ttl = ttl / 1000 if isinstance(ttl, int) else None
            elif section.code == ANNOTATIONS:
                self.annotations = _of_the_sender(wire, section)
            elif section.code >= PROPERTIES:
                self.bare = wire[section.start :]
                break
        if self.bare[1:3] == b"\x53\x73":
            group = fields(self.bare, 3, GROUP_ID + 1)[GROUP_ID]
            self.session = group.decode() if isinstance(group, bytes) else None
        lifetime = NULL if self.ttl is None else unsigned(int(self.ttl * 1000))
        self.header = durable + priority + lifetime + NULL + b"\x52"

    def dead(self, reason: str | None, description: str | None) -> "Content":
        """The same for a dead-letter queue: it says why it is there, and does not expire."""
        said = {"DeadLetterReason": reason, "DeadLetterErrorDescription": description}
        new = {name.encode(): string(name) + string(text) for name, text in said.items() if text}
        copy = object.__new__(Content)
        copy.session, copy.annotations, copy.ttl = None, self.annotations, None
        copy.header = self.header[:1] + NULL * 3 + b"\x52"
        before = [section for section in sections(self.bare) if section.code <= APPLICATION]
        old = next((section for section in before if section.code == APPLICATION), None)
        at = old.start if old else (before[-1].end if before else 0)
        kept = [] if old is None else [pair for key, pair in entries(self.bare, old.value) if key not in new]
        pairs = [*kept, *new.values()]
        written = b"\x00\x53\x74" + mapping(pairs, 2 * len(pairs))
        copy.bare = self.bare[:at] + written + self.bare[old.end if old else at :]
        return copy


class Message:
    """One copy in one queue."""

    __slots__ = ("_said", "content", "count", "enqueued", "expires", "lock", "sequence")

    def __init__(self, content: Content, sequence: int, enqueued: float, count: int = 0) -> None:
        self.content = content
        self.sequence = sequence
        self.enqueued = enqueued
        self.count = count  # deliveries that failed
        self.expires: float | None = None
        self.lock: Lock | None = None
        self._said = (
            *content.annotations,
            SEQUENCE + struct.pack(">q", sequence),
            ENQUEUED + struct.pack(">q", int(enqueued * 1000)),
        )

    def __lt__(self, other: "Message") -> bool:
        return self.sequence < other.sequence

    def wire(self, locked_until: float | None = None) -> bytes:
        """As it is sent to a receiver; without `locked_until` as one that is only looked at, or deleted by being received."""
        last = STATE_ACTIVE if locked_until is None else LOCKED_UNTIL + struct.pack(">q", int(locked_until * 1000))
        header = self.content.header
        return b"".join(
            (
                b"\x00\x53\x70\xc0",
                bytes((len(header) + 2, 5)),
                header,
                bytes((min(self.count, LARGEST_COUNT),)),
                b"\x00\x53\x72",
                mapping((*self._said, last), 2 * len(self._said) + 2),
                self.content.bare,
            )
        )


def _of_the_sender(wire: bytes, section: Section) -> tuple[bytes, ...]:
    said = entries(wire, section.value)
    if any(key == SCHEDULED for key, _ in said):
        raise ValueError("scheduled messages are not emulated")
    return tuple(pair for key, pair in said if key not in OF_THE_SERVICE)
