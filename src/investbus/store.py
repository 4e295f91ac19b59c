"""What must outlive the process: dead letters, and what was done.

The two fail in opposite ways, on purpose. A dead letter that cannot be stored keeps its delivery unacked (else the event would be
gone); a done record that cannot be stored does not (the effect has happened; at worst a redelivery repeats it under the same
idempotency key).
"""

from base64 import b32encode
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, Protocol

from investbus.catalogue import canonical
from investbus.event import Event, parse_created
from investbus.mailbox import Mailbox
from investbus.records import STATES, DeadLetter, Done, Filter, Group, Identity, OpenLetters, State, Try

__all__ = [
    "STATES",
    "DeadLetter",
    "Done",
    "Filter",
    "Group",
    "Identity",
    "OpenLetters",
    "State",
    "Store",
    "Try",
    "body_hash",
    "identity_of",
    "letter_id",
    "obsolete",
]

LONGEST_CREATED = 64  # characters; a date and a time with nanoseconds and a zone have 35


class Store(Mailbox, Protocol):
    """Every method raises `StoreError` and nothing else when the store cannot do what was asked."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def find_done(self, identities: Sequence[Identity], since: datetime | None = None) -> dict[Identity, bytes]:
        """Which of these are done or dead already, with the hash of the body that was. Records from before `since` do not count."""
        ...

    async def put_done(self, done: Sequence[Done]) -> None:
        """What the records supersede changes with them, in one transaction."""
        ...

    async def put_dead(self, letters: Sequence[DeadLetter], done: Sequence[Done]) -> None:
        """Durable on return, together with the records that these events need nothing more.

        A letter that stands there open or parked stays as it is; one that was closed is open again, with what has happened now.
        """
        ...

    async def list_dead(self, wanted: Filter, limit: int) -> list[DeadLetter]:
        """Newest first."""
        ...

    async def group_dead(self, wanted: Filter) -> list[Group]:
        """Largest first."""
        ...

    def export_dead(self, wanted: Filter) -> AsyncIterator[DeadLetter]:
        """Oldest first, without holding them all in memory."""
        ...

    async def get_dead(self, letter_id: str) -> DeadLetter | None: ...

    async def open_dead(self) -> dict[str, OpenLetters]:
        """Open dead letters by route."""
        ...

    async def forget(self, done_before: datetime, dead_before: datetime) -> int:
        """Drop done records and closed dead letters that are older; returns how many.

        Open and parked letters stay for ever, and so do those in a replay that is active. Ended replays and audits go with the
        letters, starts that never ended with the done records.
        """
        ...


def identity_of(source: str, name: str, created: str, event_id: str) -> Identity:
    """The identity of an event that came from `source` under `name`. A `created` of any length makes a key of bounded length."""
    if len(created) > LONGEST_CREATED:
        created = created[:LONGEST_CREATED] + body_hash(created.encode("utf-8", "surrogatepass")).hex()
    return Identity(source, canonical(name), created, event_id)


def obsolete(done: Done, route: str, name: str, created: str) -> bool:
    """Whether `done` supersedes an open letter of its entity that has this route, name and `created`.

    It does on the same route or under the same name (a wildcard's letters carry the pattern), unless the letter's event is known
    to be the later one.
    """
    if done.identity.route not in (route, canonical(name)):
        return False
    died, succeeded = parse_created(created), parse_created(done.identity.created)
    return died is None or succeeded is None or died <= succeeded


def body_hash(body: bytes) -> bytes:
    """Tells a repetition from a re-used id."""
    return blake2b(body, digest_size=16).digest()


def letter_id(source: str, route: str, event: Event[Any], origin: str) -> str:
    """The dead letter's id, the same whenever this failure is met again: short enough to type, safe in a URL.

    A body may hold several events, and some of them one id: name and `created` then tell them apart. Bytes that hold no id are
    known by their origin alone: the same broken body that arrives twice is two letters.
    """
    texts = (source, route, event.id, event.name, event.created_raw) if event.id else (source, origin)
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]  # total: an id may hold what UTF-8 does not
    if event.id:
        parts.append(event.raw)
    digest = blake2b(digest_size=20)
    for part in parts:
        digest.update(b"%d:" % len(part))  # else ("ab", "c") and ("a", "bc") would be one
        digest.update(part)
    return b32encode(digest.digest()).decode("ascii")[:20].lower()
