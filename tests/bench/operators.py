"""What operators buy: outages, poison and replays at full size, on real brokers. Prints the figures; asserts nothing.

`python -m tests.bench.operators outage --bus kafka|rabbitmq --seconds 60`, `... poison --minutes 10 --out FOLDER`,
`... replay --letters 10000`. The same machines stand, smaller, in tests/acceptance, where their promises are asserted.
"""

import argparse
import asyncio
import csv
import statistics
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from investbus.config import Retries
from tests.acceptance.load import Bus, kafka_bus, rabbitmq_bus
from tests.acceptance.outage import Outage
from tests.acceptance.plot import Line, svg
from tests.acceptance.poison import Poison
from tests.acceptance.poison import Report as Poisoned
from tests.acceptance.rehearsal import Rehearsal
from tests.brokers.kafka import Kafka
from tests.brokers.missing import Missing
from tests.brokers.sources import open_kafka, open_postgresql, open_rabbitmq

PROBE_EVERY = 5.0
PREFETCH = 4000  # of RabbitMQ: what waits at a gate is unacked, and at this many nothing more comes


def main() -> int:
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="investbus-operators-") as folder:
        try:
            match given.what:
                case "outage": rows = outage(Path(folder), given.bus, given.seconds, given.rate)
                case "poison": rows = poison(Path(folder), given.minutes * 60, given.rate, given.keys, given.out)
                case _: rows = replay(Path(folder), given.letters, given.rate, given.store)
        except Missing as missing:
            print(missing, file=sys.stderr)
            return 3
    print(f"\n| {given.what} | |\n|---|---:|")
    for name, value in rows:
        print(f"| {name} | {value} |")
    return 0


Rows = Sequence[tuple[str, str]]


def outage(folder: Path, name: str, seconds: float, rate: float) -> Rows:
    """The platform is down for so long, after a third of that without a fault."""
    with _on_kafka(folder) if name == "kafka" else _on_rabbitmq(folder) as bus:
        found = asyncio.run(Outage(bus, folder, rate=rate, probe_every=PROBE_EVERY).run(max(seconds / 3, 5.0), seconds))
    return [
        ("bus", name),
        ("events published, half of them ask the platform", f"{found.published:,}"),
        ("done", f"{found.done:,}"),
        ("dead letters", f"{found.dead}"),
        ("highest attempt that a handler saw", f"{found.attempts}"),
        ("gate closed, after the outage began", f"{found.closed_after:.2f} s"),
        ("gate closed, for", f"{found.closed_for:.1f} s, {found.closed_for / PROBE_EVERY:.1f} intervals"),
        ("probes in that time", f"{found.probes}"),
        ("requests at the platform from 2 s after it closed", f"{found.requests}"),
        ("p95 of the other route before", f"{found.p95_before * 1000:.1f} ms"),
        ("p95 of the other route in the outage", f"{found.p95_in_outage * 1000:.1f} ms"),
        ("ratio", f"{found.p95_in_outage / found.p95_before:.2f}"),
        ("gate opened, after the platform was back", f"{found.opened_after:.2f} s"),
        (f"gate wide open, after it opened (interval: {PROBE_EVERY:g} s)", f"{found.wide_after:.2f} s"),
        ("everything that had waited is done, after it opened", f"{found.caught_up_after:.2f} s"),
    ]


def poison(folder: Path, seconds: float, rate: float, keys: int, out: Path) -> Rows:
    """One key in a hundred always fails, after a tenth of that time (at most a minute) without a fault."""
    with _on_kafka(folder) as bus:
        machine = Poison(bus, folder, rate=rate, keys=keys, retry=Retries().model_dump())
        found = asyncio.run(machine.run(min(max(seconds / 10, 5.0), 60.0), seconds))
    _artefacts(found, out)
    before, later = found.samples[: found.poisoned_at], found.samples[found.poisoned_at :]
    calm, bad = found.rate(poisoned=False), found.rate(poisoned=True)
    quarter = max(len(later) // 4, 1)
    return [
        ("events published", f"{found.published:,}"),
        ("of healthy keys", f"{found.good:,}"),
        ("of these done", f"{found.done:,}"),
        ("dead letters", f"{found.dead:,}, of healthy keys {found.dead_good}"),
        ("healthy keys, events/s before", f"{calm:.1f}"),
        ("healthy keys, events/s with poison", f"{bad:.1f}"),
        ("ratio", f"{bad / calm:.3f}"),
        ("slowest ten seconds with poison", f"{_slowest(found):.1f} events/s"),
        ("RSS at the end of the calm", f"{before[-1].rss_mb:.1f} MiB"),
        ("RSS, median of the second quarter", f"{_median([one.rss_mb for one in later[quarter : 2 * quarter]]):.1f} MiB"),
        ("RSS, median of the last quarter", f"{_median([one.rss_mb for one in later[-quarter:]]):.1f} MiB"),
        ("widest gap (max_gap: 20,000)", f"{max(one.gap for one in later):,}"),
        ("largest backlog (2,000)", f"{max(one.backlog for one in later):,}"),
        ("plot and samples", f"{out / 'poison.svg'}, {out / 'poison.csv'}"),
    ]


def replay(folder: Path, letters: int, rate: float, kind: str) -> Rows:
    """So many dead letters, replayed at so many a second; the worker is killed half-way."""
    broker = open_kafka(folder / "broker")
    server = open_postgresql(folder / "server") if kind == "postgresql" else None
    try:
        url = f"sqlite:///{folder / 'state.db'}" if server is None else server.new_database()
        topic = _topic(broker)
        found = Rehearsal(broker, topic, folder, url, letters).run(rate)
    finally:
        broker.close()
        if server is not None:
            server.close()
    one = found.replay
    return [
        ("store", kind),
        ("letters", f"{letters:,}, from the first event to the last letter {found.died_in:.1f} s"),
        ("groups", "; ".join(f"{route} {error} {count:,}" for route, error, count in found.groups)),
        ("dlq list --group, process and all", f"{found.listed_in:.2f} s"),
        ("still broken", f"{found.canary.state}: {found.canary.reason}; handler runs {found.canary_runs}"),
        ("had come to something at the kill", f"{found.half:,}"),
        ("done + dead + skipped", f"{one.done:,} + {one.dead:,} + {one.skipped:,} of {one.planned:,}, {one.state}"),
        ("from the request to the end, kill and restart included", f"{found.replayed_in:.1f} s"),
        ("letters with an effect", f"{len(found.effects):,}"),
        ("effects twice", f"{found.effects.total() - len(found.effects)}"),
        ("messages published to the topic", f"{sum(found.ends[1].values()) - sum(found.ends[0].values())}"),
    ]


@contextmanager
def _on_kafka(folder: Path) -> Iterator[Bus]:
    broker = open_kafka(folder / "broker")
    try:
        yield kafka_bus(broker, _topic(broker))
    finally:
        broker.close()


def _topic(kafka: Kafka) -> str:
    topic = f"operators-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic, partitions=6)
    return topic


@contextmanager
def _on_rabbitmq(folder: Path) -> Iterator[Bus]:
    broker = open_rabbitmq(folder / "broker")
    try:
        queue = f"operators-{uuid.uuid4().hex[:8]}"
        broker.declare_queue(f"{queue}.dead")
        to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{queue}.dead"}
        at_least_once = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
        broker.declare_queue(queue, arguments=to_dead | at_least_once)
        yield rabbitmq_bus(broker, queue, PREFETCH)
    finally:
        broker.close()


def _artefacts(found: Poisoned, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with (out / "poison.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(type(found.samples[0])._fields)
        writer.writerows([f"{one.second:.1f}", f"{one.rss_mb:.1f}", one.gap, one.backlog, one.good] for one in found.samples)
    titles = {"rss_mb": "RSS, MiB", "gap": "widest gap, positions", "backlog": "backlog, events", "good": "healthy keys, events/s"}
    lines = [Line(title, [getattr(one, name) for one in found.samples]) for name, title in titles.items()]
    (out / "poison.svg").write_text(svg(lines, [(found.poisoned_at, "poison")]))


def _slowest(found: Poisoned) -> float:
    good = [one.good for one in found.samples[found.poisoned_at :]]
    return min(sum(good[at : at + 10]) / 10 for at in range(max(len(good) - 9, 1)))


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.operators", description="Outages, poison, replays at full size.")
    kinds = parser.add_subparsers(dest="what", required=True)
    down = kinds.add_parser("outage", help="the platform is down under load")
    down.add_argument("--bus", choices=["kafka", "rabbitmq"], default="kafka")
    down.add_argument("--seconds", type=float, default=60.0)
    down.add_argument("--rate", type=float, default=20.0, help="events a second on each of two routes")
    bad = kinds.add_parser("poison", help="one key in a hundred always fails")
    bad.add_argument("--minutes", type=float, default=10.0)
    bad.add_argument("--rate", type=float, default=200.0, help="events a second")
    bad.add_argument("--keys", type=int, default=20_000, help="an event of a poison key takes about 45 s until it is dead")
    bad.add_argument("--out", type=Path, default=Path("operators"), help="folder for poison.csv and poison.svg")
    again = kinds.add_parser("replay", help="many dead letters, and a kill in the middle")
    again.add_argument("--letters", type=int, default=10_000)
    again.add_argument("--rate", type=float, default=2000.0)
    again.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
