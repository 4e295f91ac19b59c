"""RabbitMQ: a quorum queue for each run, since a consumer empties it."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pika  # type: ignore[import-untyped]  # it carries no type information

from tests.bench.events import made
from tests.bench.rabbitmq_cases import BATCH, PREFETCH
from tests.bench.rounds import Bench, Case, Target
from tests.brokers.rabbitmq import RabbitMq

EVENTS = 40_000
TAKEN_WITHIN = 60.0  # seconds


def bench(rabbitmq: RabbitMq, events: int = EVENTS) -> Bench:
    cases = (
        Case("bare", f"bare aiormq: batches of {BATCH}, pydantic, one ack for each", events),
        Case("investbus", "investbus, dedup off", events),
        Case("investbus-dedup", "investbus, dedup on (SQLite done table)", events),
        Case("faststream", "FastStream, at least once", max(events // 4, 1)),
    )
    targets = (Target("cpu", "investbus", "bare", at_most=1.6), Target("cpu", "faststream", "investbus", at_least=2.0))
    heading = f"RabbitMQ, a quorum queue, prefetch {PREFETCH}"

    @contextmanager
    def preload(count: int) -> Iterator[str]:
        queue = f"bench-{uuid.uuid4().hex[:8]}"
        rabbitmq.declare_queue(queue)
        try:
            _fill(rabbitmq, queue, count)
            yield queue
            if left := rabbitmq.ready(queue):
                raise RuntimeError(f"{left} of {count} events were not acked")
        finally:
            rabbitmq.delete_queue(queue)

    return Bench("rabbitmq", heading, cases, targets, rabbitmq.url, preload)


def _fill(rabbitmq: RabbitMq, queue: str, count: int) -> None:
    """Without a confirm for each, which would take minutes: the queue tells how many it has."""
    persistent = pika.BasicProperties(delivery_mode=2, content_type="application/json")
    with rabbitmq.channel() as channel:
        for _, body in made(count):
            channel.basic_publish("", queue, body, persistent)
    until = time.monotonic() + TAKEN_WITHIN
    while (there := rabbitmq.ready(queue)) < count:
        if time.monotonic() > until:
            raise TimeoutError(f"RabbitMQ has taken {there} of {count} events within {TAKEN_WITHIN:g} s")
        time.sleep(0.1)
