"""`python -m tests.chaos`: the crash test at full size, with its seed, and exit 1 if a promise was broken."""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.brokers.sources import open_kafka
from tests.chaos.kafka import PARTITIONS, Chaos


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill workers and check the promises.")
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="investbus-chaos-"))
    (folder / "kafka").mkdir()
    kafka = open_kafka(folder / "kafka")
    try:
        kafka.create_topic("chaos", partitions=PARTITIONS)
        chaos = Chaos(kafka, "chaos", folder, events=given.events, keys=given.keys, kills=given.kills, seed=given.seed)
        report = asyncio.run(chaos.run())
    finally:
        kafka.close()
    print(msgspec.json.format(msgspec.json.encode(report)).decode())
    print(f"ledgers and logs: {folder}")
    print("every promise held" if not report.violations else "PROMISES BROKEN")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
