"""Consumers of a preloaded topic on Kafka."""

import time
import uuid
from collections.abc import Mapping
from typing import Any

from tests.bench.consumer import Consume, Envelope, Meter, main, nothing, worker


async def bare(bootstrap: str, topic: str, meter: Meter) -> None:
    """getmany, decode whole by pydantic, await the handler, commit once a second."""
    from aiokafka import AIOKafkaConsumer

    decode, done, last = Envelope.model_validate_json, {}, 0.0
    meter.begin()
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=_group(), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    while meter.handled < meter.events:
        for partition, records in (await consumer.getmany(timeout_ms=1000, max_records=500)).items():
            for record in records:
                await nothing(decode(record.value))
            meter.count(len(records))
            done[partition] = records[-1].offset + 1
        if done and time.monotonic() - last >= 1.0:
            await consumer.commit(done)
            done, last = {}, time.monotonic()
    if done:
        await consumer.commit(done)
    await consumer.stop()
    meter.end()


async def investbus(bootstrap: str, topic: str, meter: Meter, *, dedup: bool) -> None:
    section = {"bootstrap_servers": [bootstrap], "topic": topic, "group": _group()}
    await worker({"transport": "kafka", "kafka": section}, meter, dedup=dedup)


async def faststream(bootstrap: str, topic: str, meter: Meter, *, batch: bool, ack: str) -> None:
    """FastStream without its logger, a pydantic model as the handler's argument."""
    from faststream import AckPolicy
    from faststream.kafka import KafkaBroker

    broker = KafkaBroker(bootstrap, logger=None)
    options: dict[str, Any] = {"group_id": _group(), "auto_offset_reset": "earliest", "ack_policy": AckPolicy[ack]}

    async def one(event: Envelope) -> None:
        meter.count()

    async def many(got: list[Envelope]) -> None:
        meter.count(len(got))

    if batch:
        broker.subscriber(topic, batch=True, max_records=500, **options)(many)
    else:
        broker.subscriber(topic, **options)(one)
    meter.begin()
    await broker.start()
    await meter.over.wait()
    await broker.stop()
    meter.end()


def _group() -> str:
    return f"bench-{uuid.uuid4().hex[:12]}"


CASES: Mapping[str, Consume] = {
    "bare": bare,
    "investbus": lambda *given: investbus(*given, dedup=False),
    "investbus-dedup": lambda *given: investbus(*given, dedup=True),
    "faststream-safe": lambda *given: faststream(*given, batch=False, ack="NACK_ON_ERROR"),
    "faststream-default": lambda *given: faststream(*given, batch=False, ack="ACK_FIRST"),
    "faststream-batch": lambda *given: faststream(*given, batch=True, ack="NACK_ON_ERROR"),
}

if __name__ == "__main__":
    main(CASES)
