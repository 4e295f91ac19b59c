"""Every metric in one table, and how each is counted.

What happens per event is a plain integer or a bucket array that only the event loop writes, rendered when somebody scrapes:
prometheus children with their locks would cost ten times as much (5.6 against 0.44 µs per event, measured). What is rare (API
calls, store batches, reconnects) are ordinary prometheus_client objects. Gauges are looked up at scrape time, so nothing has to
be kept in step with them.
"""

import platform as python_platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Literal

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from investbus.errors import StoreError
from investbus.mailbox import REPLAYED
from investbus.outcome import ATTEMPT_RESULTS, DEAD_REASONS, ENDINGS
from investbus.store import OpenLetters
from investbus.transport import SettleCounts, TransportState
from investbus.version import __version__

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
AGES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
UNKNOWN = "unknown"
OTHERS = "others"
MOST_OPERATIONS = 200  # labels; handlers name them, and may write ids into their templates
UNDECODABLE = ("json", "envelope", "version", "size", "encoding")
LANE_STATES = ("running", "queued", "retrying", "gated", "hung")
PAUSE_REASONS = ("backlog", "gap", "operator", "store", "flood", "hold")


class Row(msgspec.Struct, frozen=True):
    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


TABLE = (
    Row("build_info", "gauge", ("version", "python"), "Always 1; which build runs."),
    Row("loop_lag_seconds", "gauge", (), "How late the event loop was, at worst, over the last second."),
    Row("deliveries_total", "counter", ("transport",), "Messages received from the bus."),
    Row("settles_total", "counter", ("transport", "result"), "Decisions told to the bus: ok, lost with the lease, or failed."),
    Row("events_received_total", "counter", ("route",), "Events decoded and routed."),
    Row("events_total", "counter", ("route", "outcome"), "Events ended, by outcome."),
    Row("undecodable_total", "counter", ("transport", "reason"), "Messages that are no events."),
    Row("attempts_total", "counter", ("route", "result"), "Runs of handlers, by result."),
    Row("handler_seconds", "histogram", ("route",), "Duration of one attempt."),
    Row("event_age_seconds", "histogram", ("route",), "Age of an event when it was done, by its own created."),
    Row("in_flight", "gauge", (), "Handlers that run now."),
    Row("backlog_events", "gauge", (), "Events received, unfinished and not running."),
    Row("backlog_bytes", "gauge", (), "Memory that unfinished events take, as bounded by dispatch.backlog_bytes."),
    Row("oldest_unfinished_seconds", "gauge", (), "Since when the oldest unfinished event is here."),
    Row("lanes", "gauge", ("state",), "Keys with unfinished events, by what they do."),
    Row("paused", "gauge", ("reason",), "1 while nothing is taken from the bus for this reason, or a route waits for it."),
    Row("connected", "gauge", ("transport",), "1 while the bus answers."),
    Row("reconnects_total", "counter", ("transport",), "Times the bus was opened again."),
    Row("leases_lost_total", "counter", ("transport",), "Times deliveries went back to the bus with their lease."),
    Row("lag_events", "gauge", ("transport", "partition"), "Events on the bus that were not received yet."),
    Row("commit_gap", "gauge", ("transport", "partition"), "Positions between committed and highest received."),
    Row("last_received_timestamp_seconds", "gauge", (), "When the last message was received; 0: never."),
    Row("last_done_timestamp_seconds", "gauge", (), "When the last event was done; 0: never."),
    Row("gate_closed", "gauge", ("gate",), "1 while the dependency is taken to be down."),
    Row("gate_closures_total", "counter", ("gate",), "Times the gate closed."),
    Row("api_requests_total", "counter", ("operation", "status"), "Calls of the platform, by class of answer."),
    Row("api_request_seconds", "histogram", ("operation",), "Duration of one request to the platform."),
    Row("api_logins_total", "counter", ("result",), "Logins and renewals at the platform."),
    Row("dead_letters_total", "counter", ("route", "reason"), "Dead letters stored."),
    Row("dead_letters_open", "gauge", ("route",), "Dead letters that nobody has dealt with."),
    Row("dead_letter_oldest_timestamp_seconds", "gauge", (), "When the oldest open dead letter died; 0: none."),
    Row("replays_total", "counter", ("route", "outcome"), "Dead letters run again, by outcome."),
    Row("store_errors_total", "counter", ("operation",), "Store operations that failed."),
    Row("store_seconds", "histogram", ("operation",), "Duration of one store operation (a whole batch)."),
)
ROWS = {row.name: row for row in TABLE}


class Buckets:
    """A histogram as two fields; 0.15 µs to observe."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """As Prometheus wants it: label `le` and how many are at most that."""
        seen, rows = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            rows.append(("+Inf" if bound == float("inf") else str(bound), float(seen)))
        return rows


class RouteCounts:
    """What one route has counted. Written by the event loop alone; every series stands at 0 from the start."""

    __slots__ = ("age", "attempts", "dead", "outcomes", "received", "replays", "seconds")

    def __init__(self) -> None:
        self.received = 0
        self.outcomes: dict[str, int] = dict.fromkeys(ENDINGS, 0)
        self.attempts: dict[str, int] = dict.fromkeys(ATTEMPT_RESULTS, 0)
        self.dead: dict[str, int] = dict.fromkeys(DEAD_REASONS, 0)
        self.replays: dict[str, int] = dict.fromkeys(REPLAYED, 0)
        self.seconds = Buckets(SECONDS)
        self.age = Buckets(AGES)


class GateLook(msgspec.Struct, frozen=True):
    name: str
    closed: bool
    closures: int


class Look(msgspec.Struct, frozen=True):
    """The worker at the moment of a scrape."""

    transport: TransportState
    settles: SettleCounts
    gates: tuple[GateLook, ...] = ()
    lanes: Mapping[str, int] = {}
    paused: frozenset[str] = frozenset()
    in_flight: int = 0
    backlog_events: int = 0
    backlog_bytes: int = 0
    oldest_unfinished: float = 0.0
    last_received: float = 0.0
    last_done: float = 0.0
    loop_lag: float = 0.0
    dead_open: Mapping[str, OpenLetters] = {}


class Metrics(Collector):
    """Counts, and the registry that renders them. One per worker."""

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self.routes: dict[str, RouteCounts] = {UNKNOWN: RouteCounts()}
        self.deliveries = 0
        self.undecodable: dict[str, int] = dict.fromkeys(UNDECODABLE, 0)
        self.look: Callable[[], Look] | None = None
        self.registry = CollectorRegistry(auto_describe=False)
        self.reconnects = self._counter("reconnects_total")
        self.reconnects.labels(transport)
        self._api_requests = self._counter("api_requests_total")
        self._api_seconds = self._histogram("api_request_seconds")
        self._operations: set[str] = set()
        self.api_logins = self._counter("api_logins_total")
        self._store_errors = self._counter("store_errors_total")
        self._store_seconds = self._histogram("store_seconds")
        for result in ("ok", "refused", "error"):
            self.api_logins.labels(result)
        for operation in ("done", "dead", "lookup", "control"):
            self._store_errors.labels(operation)
            self._store_seconds.labels(operation)
        self.registry.register(self)

    def route(self, name: str) -> RouteCounts:
        """The counts of a registered route; made, and thereby shown at 0, when first asked for."""
        return self.routes.setdefault(name, RouteCounts())

    def called(self, operation: str, status: str, seconds: float) -> None:
        """Count one request to the platform."""
        if operation not in self._operations and len(self._operations) >= MOST_OPERATIONS:
            operation = OTHERS
        else:
            self._operations.add(operation)
        self._api_requests.labels(operation, status).inc()
        self._api_seconds.labels(operation).observe(seconds)

    @contextmanager
    def stored(self, operation: Literal["done", "dead", "lookup", "control"]) -> Iterator[None]:
        """Time one store operation and count its failure, which goes on to the caller."""
        started = monotonic()
        try:
            yield
        except StoreError:
            self._store_errors.labels(operation).inc()
            raise
        finally:
            self._store_seconds.labels(operation).observe(monotonic() - started)

    def collect(self) -> Iterable[Metric]:
        """Render what is counted here; called by the registry at a scrape."""
        yield _gauge("build_info", [((__version__, python_platform.python_version()), 1)])
        yield _counter("deliveries_total", [((self.transport,), self.deliveries)])
        yield _counter("undecodable_total", [((self.transport, why), n) for why, n in self.undecodable.items()])
        yield from self._of_routes()
        if self.look is not None:
            yield from _of_look(self.transport, self.look(), self.routes)

    def _of_routes(self) -> Iterator[Metric]:
        routes = list(self.routes.items())
        yield _counter("events_received_total", [((name,), c.received) for name, c in routes])
        yield _counter("events_total", [((name, end), n) for name, c in routes for end, n in c.outcomes.items()])
        yield _counter("attempts_total", [((name, end), n) for name, c in routes for end, n in c.attempts.items()])
        yield _counter("dead_letters_total", [((name, why), n) for name, c in routes for why, n in c.dead.items()])
        yield _counter("replays_total", [((name, end), n) for name, c in routes for end, n in c.replays.items()])
        yield _histogram("handler_seconds", [((name,), c.seconds) for name, c in routes])
        yield _histogram("event_age_seconds", [((name,), c.age) for name, c in routes])

    def _counter(self, name: str) -> Counter:
        return Counter(f"investbus_{name}", ROWS[name].help, ROWS[name].labels, registry=self.registry)

    def _histogram(self, name: str) -> Histogram:
        return Histogram(f"investbus_{name}", ROWS[name].help, ROWS[name].labels, registry=self.registry, buckets=SECONDS)


def _of_look(transport: str, look: Look, routes: Mapping[str, RouteCounts]) -> Iterator[Metric]:
    settles, partitions = look.settles, look.transport.partitions
    results = (("ok", settles.ok), ("lost", settles.lost), ("error", settles.error))
    yield _counter("settles_total", [((transport, result), n) for result, n in results])
    yield _counter("leases_lost_total", [((transport,), settles.leases_lost)])
    yield _gauge("connected", [((transport,), look.transport.connected)])
    yield _gauge("lag_events", [((transport, part), one.lag) for part, one in partitions.items()])
    yield _gauge("commit_gap", [((transport, part), one.gap) for part, one in partitions.items()])
    yield _gauge("gate_closed", [((gate.name,), gate.closed) for gate in look.gates])
    yield _counter("gate_closures_total", [((gate.name,), gate.closures) for gate in look.gates])
    yield _gauge("lanes", [((state,), look.lanes.get(state, 0)) for state in LANE_STATES])
    yield _gauge("paused", [((reason,), reason in look.paused) for reason in PAUSE_REASONS])
    yield _gauge("in_flight", [((), look.in_flight)])
    yield _gauge("backlog_events", [((), look.backlog_events)])
    yield _gauge("backlog_bytes", [((), look.backlog_bytes)])
    yield _gauge("oldest_unfinished_seconds", [((), look.oldest_unfinished)])
    yield _gauge("last_received_timestamp_seconds", [((), look.last_received)])
    yield _gauge("last_done_timestamp_seconds", [((), look.last_done)])
    yield _gauge("loop_lag_seconds", [((), look.loop_lag)])
    open_letters = [(name, look.dead_open.get(name)) for name in dict.fromkeys((*routes, *look.dead_open))]
    yield _gauge("dead_letters_open", [((name,), one.count if one else 0) for name, one in open_letters])
    oldest = min((one.oldest.timestamp() for one in look.dead_open.values()), default=0.0)
    yield _gauge("dead_letter_oldest_timestamp_seconds", [((), oldest)])


Samples = Iterable[tuple[tuple[str, ...], float]]


def _counter(name: str, samples: Samples) -> Metric:
    family = CounterMetricFamily(f"investbus_{name}", ROWS[name].help, labels=ROWS[name].labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _gauge(name: str, samples: Samples) -> Metric:
    family = GaugeMetricFamily(f"investbus_{name}", ROWS[name].help, labels=ROWS[name].labels)
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family


def _histogram(name: str, samples: Iterable[tuple[tuple[str, ...], Buckets]]) -> Metric:
    family = HistogramMetricFamily(f"investbus_{name}", ROWS[name].help, labels=ROWS[name].labels)
    for labels, buckets in samples:
        family.add_metric(labels, buckets.cumulative(), buckets.total)
    return family
