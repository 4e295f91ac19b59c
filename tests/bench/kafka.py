"""Kafka: one topic for all runs, since reading takes nothing away from it; each run is a group of its own."""

import uuid
from contextlib import nullcontext

from tests.bench.events import made
from tests.bench.rounds import Bench, Case, Target
from tests.brokers.kafka import Kafka

EVENTS = 200_000
PARTITIONS = 6


def bench(kafka: Kafka, events: int = EVENTS) -> Bench:
    topic = _filled(kafka, events)
    cases = (
        Case("bare", "bare aiokafka: getmany(500), pydantic, commit each second", events),
        Case("investbus", "investbus, dedup off", events),
        Case("investbus-dedup", "investbus, dedup on (SQLite done table)", events),
        Case("faststream-batch", "FastStream, batches of 500, at least once", events),
        Case("faststream-default", "FastStream, default (acks first: not at least once)", max(events // 4, 1)),
        Case("faststream-safe", "FastStream, per message, at least once", min(events, 3_000)),
    )
    targets = (Target("cpu", "investbus", "bare", at_most=2.0),)
    heading = f"Kafka, {PARTITIONS} partitions"
    return Bench("kafka", heading, cases, targets, kafka.bootstrap, lambda events: nullcontext(topic))


def _filled(kafka: Kafka, events: int) -> str:
    topic, bodies = f"bench-{uuid.uuid4().hex[:8]}", made(events)
    kafka.create_topic(topic, partitions=PARTITIONS)
    for start in range(0, events, 20_000):
        kafka.produce(topic, [(key, body, None) for key, body in bodies[start : start + 20_000]], timeout=120.0)
    return topic
