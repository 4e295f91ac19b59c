"""The platform's event stream: the stories of a world's portfolios, interleaved, and as much mischief as was asked for.

Bad messages are put between the good ones and never replace one, so that what should have happened stays known:
`Stream.made` says how many there were of each kind.
"""

from collections import Counter, deque
from datetime import datetime
from random import Random
from typing import Any, Self
from uuid import UUID

import msgspec

from investbus.sandbox.answers import encode
from investbus.sandbox.mischief import BODIES, KINDS
from investbus.sandbox.story import Fact, Story, life
from investbus.sandbox.world import MOST_PORTFOLIOS, World
from investbus.transport import Message

SMALLEST_INSTANT = "-1000000000-01-01T00:00:00Z"  # Java's, and what the platform's own examples carry
OTHER_NAMES = {  # documented under another name than the examples carry; either may come
    "divest-amount-update": ("portfolios", "withdrawal"),
    "assessment-status-update": ("profiles", "assessment-status-update"),
}
NEWCOMERS = 0.02  # so many of the good messages are the first about somebody new
REMEMBERED = 100  # a duplicate is of one of so many latest good messages


class Made(msgspec.Struct):
    """What a stream has made: good events by their name on the wire, bad messages by kind (`mischief.KINDS`)."""

    names: Counter[str] = msgspec.field(default_factory=Counter)
    mischief: Counter[str] = msgspec.field(default_factory=Counter)

    @property
    def messages(self) -> int:
        return self.names.total() + self.mischief.total()


class Stream:
    """An iterator of messages; `made` is right after each of them."""

    def __init__(self, world: World, rng: Random, count: int | None, mischief: float) -> None:
        self.made = Made()
        self._world = world
        self._rng = rng
        self._count = count
        self._mischief = mischief
        self._stories: list[Story] = [life(world, portfolio, rng) for portfolio in world.portfolios.values()]
        self._recent: deque[Message] = deque(maxlen=REMEMBERED)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        if self._count is not None and self.made.messages >= self._count:
            raise StopIteration
        if self._recent and self._rng.random() < self._mischief:  # the first message is always a good one
            return self._bad()
        return self._good()

    def _good(self) -> Message:
        fact = self._next_fact()
        envelope = self._envelope(fact)
        message = Message(encode(envelope), key=fact.key)
        self.made.names[f"{envelope['subject']}.{envelope['action']}"] += 1
        self._recent.append(message)
        return message

    def _bad(self) -> Message:
        rng = self._rng
        kind = rng.choice(KINDS)
        self.made.mischief[kind] += 1
        if kind == "duplicate":
            return rng.choice(self._recent)
        portfolio = rng.choice(list(self._world.portfolios.values()))
        data = {"id": portfolio["id"], "external_id": portfolio["external_id"], "value": portfolio["status"]}
        envelope = self._envelope(Fact("portfolios", "status-update", portfolio["id"], data))
        return Message(BODIES[kind](envelope, rng), key=portfolio["id"])

    def _next_fact(self) -> Fact:
        world, rng = self._world, self._rng
        if not self._stories or (rng.random() < NEWCOMERS and len(world.portfolios) < MOST_PORTFOLIOS):
            self._stories.append(life(world, world.open_portfolio(), rng))
            return next(self._stories[-1])
        return next(rng.choice(self._stories))

    def _envelope(self, fact: Fact) -> dict[str, Any]:
        subject, action = fact.subject, fact.action
        if action in OTHER_NAMES and self._rng.random() < 0.25:
            subject, action = OTHER_NAMES[action]
        return {
            "id": str(UUID(int=self._rng.getrandbits(128), version=4)),
            "created": created(self._world.clock(), self._rng),
            "version": "1.0.0",
            "subject": subject,
            "action": action,
            "data": fact.data,
        }


def created(moment: datetime, rng: Random) -> str:
    """`moment` (UTC) with micro- or nanoseconds; one time in ten an instant that no `datetime` can hold."""
    if rng.random() < 0.1:
        return SMALLEST_INSTANT
    nanoseconds = f"{rng.randrange(1000):03}" if rng.random() < 0.5 else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}{nanoseconds}Z"


def events(world: World, rng: Random, count: int | None = None, *, mischief: float = 0.0) -> Stream:
    """`count` messages (None: without end), of which a share of `mischief` (0 to 1) is bad in one way or another."""
    return Stream(world, rng, count, mischief)
