"""What happened in a run, as plain values: what was sent, what ran, what the bus gave up, and who was killed.

Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from tests.chaos.ledger import Run

NEVER = float("inf")
CRASHES = 3  # of a process while it runs, after which an event is given up


class Sent(NamedTuple):
    """An event that was published: its number within its key, and whether its handler is to reject it. `at` is just before."""

    event_id: str
    key: str
    seq: int
    doomed: bool
    at: float

    @property
    def body(self) -> bytes:
        envelope = {"id": self.event_id, "created": "2026-11-21T10:00:00Z", "version": "1.0.0"}
        data = {"id": self.key, "value": "ACTIVE", "seq": self.seq, "doomed": self.doomed}
        return msgspec.json.encode({**envelope, "subject": "portfolios", "action": "status-update", "data": data})


class Head(msgspec.Struct):
    """What a witness reads of a body."""

    id: str


class Departure(NamedTuple):
    """A process that left what it had received and not settled to others: killed at `begin`, or told to stop then."""

    pid: int
    killed: bool
    begin: float
    end: float  # when the bus knows it for sure


class Letter(NamedTuple):
    """A dead letter: which event, and why."""

    event_id: str
    reason: str


class History(NamedTuple):
    """`settled`: when the bus was first seen to need each event no more; `returned`: how often it says to have got one back."""

    sent: Sequence[Sent]
    runs: Sequence[Run]
    departures: Sequence[Departure]
    settled: Mapping[str, float]
    returned: Mapping[str, int]
    dead: Sequence[Letter]
    keyed: bool  # the bus keeps a key with one consumer at a time


def crashed(history: History) -> set[str]:
    """Events that have killed the process, as far as it can know: so many kills came while they ran. They may be dead letters."""
    killed = {departure.pid for departure in history.departures if departure.killed}
    cut_off = Counter(run.event_id for run in history.runs if run.end is None and run.pid in killed)
    return {event_id for event_id, count in cut_off.items() if count >= CRASHES}


def in_flight(history: History) -> list[tuple[Departure, set[str]]]:
    """The kills, and of each the events that the process had begun and the bus still held: those may run again, others not."""
    begun: dict[int, set[str]] = {}
    for run in history.runs:
        begun.setdefault(run.pid, set()).add(run.event_id)
    return [
        (kill, {event_id for event_id in begun.get(kill.pid, ()) if history.settled.get(event_id, NEVER) > kill.begin})
        for kill in history.departures
        if kill.killed
    ]
