"""What a store keeps, and what is asked of it: the values, free of how they are kept."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

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

    `id` is derived from what failed (source, route, event, body; or the origin where the bytes have no id), so writing the
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

    Where `supersedes` names an entity, open dead letters of it become `superseded`: which ones, `store.obsolete` says.
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
