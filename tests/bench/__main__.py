"""`python -m tests.bench`: investbus beside its peers on a real broker; prints a table and writes it as Markdown."""

import argparse
import platform
import sys
import tempfile
from pathlib import Path

from tests.bench.kafka import markdown, measure
from tests.brokers.sources import open_kafka


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="CPU per event, side by side with peers.")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("bench.md"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="investbus-bench-") as folder:
        kafka = open_kafka(Path(folder), heap_mb=1024)
        try:
            rows = measure(kafka, given.events, given.rounds)
        finally:
            kafka.close()
    title = f"No-op handler, one process, real Kafka, Python {platform.python_version()}; ratio to the bare loop in this run\n\n"
    text = title + markdown(rows)
    print(text)
    given.output.write_text(text)
    print(f"written to {given.output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
