"""The promises, as functions of what happened. Each says what it found wrong, for people; nothing found is an empty list."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from tests.brokers.kafka_commits import Sample
from tests.chaos.ledger import Run

SHOWN = 5  # of a kind of violation


class Sent(NamedTuple):
    """An event that the broker has confirmed."""

    event_id: str
    key: str
    seq: int
    partition: int
    offset: int


class Kill(NamedTuple):
    """A SIGKILL, and which events the process had begun whose offsets were not committed then."""

    pid: int
    in_flight: int


class History(NamedTuple):
    sent: Sequence[Sent]
    runs: Sequence[Run]
    samples: Sequence[Sample]
    kills: Sequence[Kill]
    ends: Mapping[int, int]


def violations(history: History) -> list[str]:
    """Everything that broke a promise."""
    found: list[str] = []
    for check in (lost, invented, overlapping, out_of_order, committed_too_far, stepped_back, not_finished, repeated, vacuous):
        wrong = list(check(history))
        found += wrong[:SHOWN] + ([f"{check.__name__}: {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else [])
    return found


def lost(history: History) -> Iterable[str]:
    ended = {run.event_id for run in history.runs if run.end is not None}
    return (f"lost: {sent} was never handled" for sent in history.sent if sent.event_id not in ended)


def invented(history: History) -> Iterable[str]:
    known = {sent.event_id for sent in history.sent}
    return (f"invented: {run} was never sent" for run in history.runs if run.event_id not in known)


def overlapping(history: History) -> Iterable[str]:
    for runs in _by_process_and_key(history.runs):
        for earlier, later in pairwise(runs):
            if earlier.end is None or later.begin < earlier.end:
                yield f"overlap: {later} began while {earlier} ran"


def out_of_order(history: History) -> Iterable[str]:
    for runs in _by_process_and_key(history.runs):
        first: dict[str, Run] = {}
        for run in runs:
            first.setdefault(run.event_id, run)
        for earlier, later in pairwise(first.values()):
            if later.seq < earlier.seq:
                yield f"order: {later} was first run after {earlier}"


def committed_too_far(history: History) -> Iterable[str]:
    """No commit was ever seen that passes an event which had not ended by then."""
    ended: dict[str, float] = {}
    for run in history.runs:
        if run.end is not None:
            ended[run.event_id] = min(run.end, ended.get(run.event_id, run.end))
    safe: dict[int, list[tuple[int, float]]] = {}  # per partition: offset, and when everything up to it had ended
    for sent in sorted(history.sent, key=lambda sent: (sent.partition, sent.offset)):
        rows = safe.setdefault(sent.partition, [])
        rows.append((sent.offset, max(ended.get(sent.event_id, float("inf")), rows[-1][1] if rows else 0.0)))
    for sample in history.samples:
        for partition, committed in sample.offsets.items():
            before = [at for offset, at in safe.get(partition, []) if offset < committed][-1:]
            if before and before[0] > sample.at:
                yield f"commit: {partition} stood at {committed} at {sample.at:.3f}, before an event below had ended"


def stepped_back(history: History) -> Iterable[str]:
    highest: dict[int, int] = {}
    for sample in history.samples:
        for partition, committed in sample.offsets.items():
            if committed < highest.get(partition, 0):
                yield f"commit: {partition} went back from {highest[partition]} to {committed}"
            highest[partition] = max(committed, highest.get(partition, 0))


def not_finished(history: History) -> Iterable[str]:
    final = history.samples[-1].offsets if history.samples else {}
    wrong = {partition: end for partition, end in history.ends.items() if end and final.get(partition) != end}
    return (f"end: partition {partition} ends at {end}, committed is {final.get(partition)}" for partition, end in wrong.items())


def repeated(history: History) -> Iterable[str]:
    extra = repeats(history.runs)
    allowed = sum(kill.in_flight for kill in history.kills)
    if extra > allowed:
        yield f"repeats: {extra} runs too many, and only {allowed} events were in flight at kills"


def vacuous(history: History) -> Iterable[str]:
    """A run whose kills hit nothing proves nothing."""
    hits = sum(kill.in_flight > 0 for kill in history.kills)
    if history.kills and hits * 2 < len(history.kills):
        yield f"void: only {hits} of {len(history.kills)} kills hit work in flight"


def repeats(runs: Iterable[Run]) -> int:
    """How many runs there were beyond one per event."""
    return sum(count - 1 for count in Counter(run.event_id for run in runs).values())


def in_flight(runs: Iterable[Run], sent: Mapping[str, Sent], committed: Mapping[int, int]) -> int:
    """Of these runs' events, how many were not committed."""
    return len({run.event_id for run in runs if sent[run.event_id].offset >= committed.get(sent[run.event_id].partition, 0)})


def _by_process_and_key(runs: Iterable[Run]) -> Iterable[list[Run]]:
    rows: dict[tuple[int, str], list[Run]] = {}
    for run in runs:
        rows.setdefault((run.pid, run.key), []).append(run)
    return rows.values()
