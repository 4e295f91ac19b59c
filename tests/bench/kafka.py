"""CPU per event on a real Kafka, side by side with a bare aiokafka loop and with FastStream, in one run.

Rates swing by a factor of three on a shared machine and CPU time by a half, so every case runs several times, interleaved, and
what counts is the ratio of the medians.
"""

import json
import random
import statistics
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from tests.brokers.kafka import Kafka

PARTITIONS = 6
KEYS = 1_000


class Case(NamedTuple):
    name: str
    title: str
    events: int


class Row(NamedTuple):
    title: str
    events: int
    us: float
    least: float
    rate: float
    peak_mb: float
    ratio: float


def cases(events: int) -> list[Case]:
    return [
        Case("bare", "bare aiokafka: getmany(500), pydantic, commit each second", events),
        Case("investbus", "investbus, dedup off", events),
        Case("investbus-dedup", "investbus, dedup on (SQLite done table)", events),
        Case("faststream-batch", "FastStream, batches of 500, at least once", events),
        Case("faststream-default", "FastStream, default (acks first: not at least once)", max(events // 4, 1)),
        Case("faststream-safe", "FastStream, per message, at least once", min(events, 3_000)),
    ]


def fill(kafka: Kafka, events: int) -> str:
    """A topic with so many events of about 300 bytes."""
    topic, chance = f"bench-{uuid.uuid4().hex[:8]}", random.Random(7)
    keys = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(KEYS)]
    kafka.create_topic(topic, partitions=PARTITIONS)
    made = list(_events(keys, chance, events))
    for start in range(0, events, 20_000):
        kafka.produce(topic, [(key, body, None) for key, body in made[start : start + 20_000]], timeout=120.0)
    print(f"{events} events of {sum(len(body) for _, body in made) / events:.0f} bytes, {PARTITIONS} partitions", file=sys.stderr)
    return topic


def _events(keys: list[str], chance: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    for number in range(count):
        key = chance.choice(keys)
        data = {"id": key, "external_id": f"x{number:06d}", "value": "ACTIVE"}
        data |= {"owned_by_user_id": f"U{number:08d}", "owned_by_external_user_id": "none"}
        created = f"2026-11-21T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}.{number % 1_000_000:06d}Z"
        head = {"id": str(uuid.UUID(int=chance.getrandbits(128), version=4)), "created": created, "version": "1.0.0"}
        yield key, msgspec.json.encode({**head, "subject": "portfolios", "action": "status-update", "data": data})


def measure(kafka: Kafka, events: int, rounds: int) -> list[Row]:
    """Every case, `rounds` times, interleaved."""
    topic, found = fill(kafka, events), {case.name: list[dict[str, float]]() for case in cases(events)}
    for number in range(rounds):
        for case in cases(events):
            figures = _run(case, kafka.bootstrap, topic)
            found[case.name].append(figures)
            said = f"{case.name}: {figures['us']:.1f} us, {figures['rate']:,.0f}/s"
            print(f"  round {number + 1}: {said}", file=sys.stderr, flush=True)
    base = statistics.median(one["us"] for one in found["bare"])
    return [_row(case, found[case.name], base) for case in cases(events)]


def _run(case: Case, bootstrap: str, topic: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.kafka_cases", case.name, bootstrap, topic, str(case.events)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{case.name}: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def _row(case: Case, rounds: list[dict[str, float]], base: float) -> Row:
    us = [one["us"] for one in rounds]
    median = statistics.median(us)
    rate, peak = statistics.median(one["rate"] for one in rounds), max(one["peak_mb"] for one in rounds)
    return Row(case.title, case.events, median, min(us), rate, peak, median / base)


def markdown(rows: list[Row]) -> str:
    lines = ["| case | events | CPU µs/event | least | ratio | events/s | peak RSS MiB |", "|---|---:|---:|---:|---:|---:|---:|"]
    lines += [
        f"| {row.title} | {row.events:,} | {row.us:.1f} | {row.least:.1f} | {row.ratio:.2f} | {row.rate:,.0f} | {row.peak_mb:.0f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"
