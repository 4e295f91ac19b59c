"""What must outlive the process: dead letters, and what was done.

The two fail in opposite ways, on purpose. A dead letter that cannot be stored keeps its delivery unacked (else the event would be
gone); a done record that cannot be stored does not (the effect has happened; at worst a redelivery repeats it under the same
idempotency key).
"""

from base64 import b32encode
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Literal, Protocol

import msgspec

State = Literal["open", "replayed", "discarded", "parked", "superseded"]
STATES: tuple[State, ...] = ("open", "replayed", "discarded", "parked", "superseded")


class Identity(msgspec.Struct, frozen=True):
    """What makes a delivery a repetition. `created` before the id keeps rows in arrival order, which keeps the index local."""

    source: str
    route: str
    created: str
    event_id: str


class Try(msgspec.Struct, frozen=True):
    """One attempt that failed: when it began (UTC), for how many seconds it ran, and the class of its error."""

    at: datetime
    seconds: float
    error: str


class DeadLetter(msgspec.Struct, frozen=True):
    """Everything needed to understand a failed event and to run it again: the original bytes above all.

    `id` is derived from what failed (source, route, event id, body; or the origin where the bytes have no id), so writing the
    same failure twice changes nothing. `error` is a class name with an HTTP status, never a message; `message` and `stack` are
    for `dlq show`. `place` is file:line of the handler's innermost frame. `entity` is what the event is about (`data.id`) on a
    route where a later success makes this failure obsolete; else "".
    """

    id: str
    source: str
    origin: str
    event_id: str
    created: str
    route: str
    name: str
    key: str
    reason: str
    error: str
    message: str
    stack: str
    place: str
    attempts: int
    tries: tuple[Try, ...]
    first_at: datetime
    last_at: datetime
    headers: Mapping[str, str]
    body: bytes
    handler: str
    handler_version: str
    state: State = "open"
    entity: str = ""


class Done(msgspec.Struct, frozen=True):
    """That an event needs nothing more. `outcome` is done or dead; `body_hash` tells a repetition from a re-used id.

    Where `supersedes` names an entity, open dead letters of it on the same route become `superseded`, but for those whose
    `created` is later than this event's.
    """

    identity: Identity
    body_hash: bytes
    outcome: Literal["done", "dead"]
    supersedes: str = ""


class Filter(msgspec.Struct, frozen=True):
    """Which dead letters; every field that is set narrows. `since <= last_at < until`."""

    route: str | None = None
    reason: str | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    event_id: str | None = None
    key: str | None = None
    state: State | None = None


class Group(msgspec.Struct, frozen=True):
    """Failures with one cause: same route, same error, same place in the handler. `sample` is a dead letter's id."""

    route: str
    error: str
    place: str
    count: int
    first_at: datetime
    last_at: datetime
    sample: str


class OpenLetters(msgspec.Struct, frozen=True):
    """How many dead letters of a route are open, and since when the oldest is."""

    count: int
    oldest: datetime


class Store(Protocol):
    """Every method raises `StoreError` and nothing else when the store cannot do what was asked."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def find_done(self, identities: Sequence[Identity], since: datetime | None = None) -> dict[Identity, bytes]:
        """Which of these are done or dead already, with the hash of the body that was. Records from before `since` do not count."""
        ...

    async def put_done(self, done: Sequence[Done]) -> None: ...

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
        """Drop done records and closed dead letters that are older; returns how many. Open dead letters stay for ever."""
        ...


def body_hash(body: bytes) -> bytes:
    """Tells a repetition from a re-used id."""
    return blake2b(body, digest_size=16).digest()


def letter_id(source: str, route: str, event_id: str, body: bytes, origin: str) -> str:
    """The dead letter's id, the same whenever this failure is met again: short enough to type, safe in a URL.

    Bytes that hold no id are known by their origin alone: the same broken body that arrives twice is two letters.
    """
    texts = (source, route, event_id) if event_id else (source, origin)
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]  # total: an id may hold what UTF-8 does not
    if event_id:
        parts.append(body)
    digest = blake2b(digest_size=20)
    for part in parts:
        digest.update(b"%d:" % len(part))  # else ("ab", "c") and ("a", "bc") would be one
        digest.update(part)
    return b32encode(digest.digest()).decode("ascii")[:20].lower()
