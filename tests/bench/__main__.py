"""`python -m tests.bench`: investbus beside its peers on real brokers; prints a table for each bus and writes it as Markdown."""

import argparse
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from tests.bench import kafka, rabbitmq, servicebus
from tests.bench.rounds import markdown, measure
from tests.brokers.servicebus.sources import open_servicebus
from tests.brokers.sources import open_kafka, open_rabbitmq


def on_kafka(folder: Path, events: int | None, rounds: int) -> str:
    with closing(open_kafka(folder, heap_mb=1024)) as broker:
        bench = kafka.bench(broker, events or kafka.EVENTS)
        return markdown(bench, measure(bench, rounds))


def on_rabbitmq(folder: Path, events: int | None, rounds: int) -> str:
    with closing(open_rabbitmq(folder)) as broker:
        bench = rabbitmq.bench(broker, events or rabbitmq.EVENTS)
        return markdown(bench, measure(bench, rounds))


def on_servicebus(folder: Path, events: int | None, rounds: int) -> str:
    with closing(open_servicebus(folder)) as broker:
        bench = servicebus.bench(broker, events or servicebus.EVENTS)
        return markdown(bench, measure(bench, rounds))


BUSES: Mapping[str, Callable[[Path, int | None, int], str]] = {
    "kafka": on_kafka,
    "rabbitmq": on_rabbitmq,
    "servicebus": on_servicebus,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="CPU per event, side by side with peers.")
    parser.add_argument("--bus", choices=(*BUSES, "all"), default="all")
    parser.add_argument("--events", type=int, help="(as many as take some seconds on each bus)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("bench.md"))
    given = parser.parse_args()
    text = f"# No-op handler, one process, Python {platform.python_version()}; medians of {given.rounds} interleaved rounds\n"
    for bus in BUSES if given.bus == "all" else (given.bus,):
        with tempfile.TemporaryDirectory(prefix="investbus-bench-") as folder:
            text += f"\n{BUSES[bus](Path(folder), given.events, given.rounds)}"
    print(text)
    given.output.write_text(text)
    print(f"written to {given.output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
