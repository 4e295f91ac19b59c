"""The end of a demo: what the worker counted, held against what was planned.

Every number is one that a scrape of /metrics shows. What does not agree is a finding, and a demo with findings has failed.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec
from prometheus_client import CollectorRegistry

from investbus.assembly import Assembled
from investbus.store import Filter, Group

OUTCOMES = ("done", "dead", "ignored", "duplicate", "released")


class RouteRow(msgspec.Struct, frozen=True):
    """`route` is `undecodable` for messages that are no events: those have no route and are in no counter of events."""

    route: str
    received: int
    outcomes: Mapping[str, int]


class ApiRow(msgspec.Struct, frozen=True):
    operation: str
    status: str
    calls: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    events: int
    seconds: float
    events_per_second: float
    routes: list[RouteRow]
    dead_letters: dict[str, int]
    api_calls: list[ApiRow]
    logins: int
    gate_closures: int
    duplicates_skipped: int
    planned: dict[str, int]
    counted: dict[str, int]
    findings: list[str]
    sample: str | None  # the id of a dead letter


class Counts:
    """The counters of a worker at one moment."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._samples = [sample for family in registry.collect() for sample in family.samples]

    def of(self, name: str) -> Iterator[tuple[Mapping[str, str], int]]:
        """Labels and value of every series of this metric that has counted."""
        full = f"investbus_{name}"
        return ((one.labels, int(one.value)) for one in self._samples if one.name == full and one.value)

    def total(self, name: str, **labels: str) -> int:
        return sum(value for found, value in self.of(name) if labels.items() <= found.items())

    def by(self, label: str, name: str, **labels: str) -> dict[str, int]:
        sums: Counter[str] = Counter()
        for found, value in self.of(name):
            if labels.items() <= found.items():
                sums[found[label]] += value
        return dict(sums)


async def summed_up(parts: Assembled, planned: Mapping[str, int], events: int, seconds: float) -> Summary:
    """Count, compare, and look into the store. The worker is at rest and its store still open."""
    assert parts.worker.store is not None
    counts = Counts(parts.worker.metrics.registry)
    outcomes, dead = counts.by("outcome", "events_total"), counts.by("reason", "dead_letters_total")
    counted = {name: count for name, count in outcomes.items() if name != "dead"} | dead
    groups = await parts.worker.store.group_dead(Filter())
    calls = [ApiRow(found["operation"], found["status"], value) for found, value in counts.of("api_requests_total")]
    return Summary(
        events=events,
        seconds=round(seconds, 1),
        events_per_second=round(sum(counted.values()) / seconds, 1),
        routes=_routes(counts),
        dead_letters=dead,
        api_calls=sorted(calls, key=lambda row: (row.operation, row.status)),
        logins=counts.total("api_logins_total", result="ok"),
        gate_closures=counts.total("gate_closures_total"),
        duplicates_skipped=outcomes.get("duplicate", 0),
        planned=dict(sorted(planned.items())),
        counted=dict(sorted(counted.items())),
        findings=[*_compared(events, planned, counted), *_agreeing(counts, events, groups)],
        sample=next((group.sample for group in groups if group.place), groups[0].sample if groups else None),
    )


def _routes(counts: Counts) -> list[RouteRow]:
    received = counts.by("route", "events_received_total")
    rows = [RouteRow(name, count, counts.by("outcome", "events_total", route=name)) for name, count in sorted(received.items())]
    undecodable = counts.total("undecodable_total")
    stored = counts.total("dead_letters_total", reason="undecodable")
    return [*rows, RouteRow("undecodable", undecodable, {"dead": stored})] if undecodable else rows


def _compared(events: int, planned: Mapping[str, int], counted: Mapping[str, int]) -> Iterator[str]:
    if (total := sum(counted.values())) != events:
        yield f"{events} messages were due to end, {total} have ended"
    for name in sorted(planned.keys() | counted.keys()):
        due, seen = planned.get(name, 0), counted.get(name, 0)
        if due != seen:
            yield f"{name}: {due} were due, {seen} were counted"


def _agreeing(counts: Counts, events: int, groups: list[Group]) -> Iterator[str]:
    """What else has to be the same number, if the worker tells the truth."""
    dead, stored = counts.total("dead_letters_total"), sum(group.count for group in groups)
    pairs = (
        ("messages received", counts.total("deliveries_total"), events),
        ("messages settled with the bus", counts.total("settles_total", result="ok"), events),
        ("dead letters in the store", stored, dead),
        ("events that ended", counts.total("events_total"), counts.total("events_received_total")),
    )
    for what, seen, due in pairs:
        if seen != due:
            yield f"{what}: {due} were due, {seen} were counted"
