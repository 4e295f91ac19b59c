"""A record that Kafka takes and aiokafka cannot read: a header name that is not UTF-8, as a client in Go or C can write it."""

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from investbus.errors import TransportDown
from tests.brokers.kafka import Kafka as Broker
from tests.transports.kafka_workers import opened, settings
from tests.transports.reading import ack, take

pytestmark = pytest.mark.broker


class Latin(str):
    """A name that goes over the wire in Latin-1."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("latin-1")


async def written(broker: Broker, topic: str, names: Sequence[str]) -> None:
    """One batch in partition 0, whose records have a header of each name."""
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
    await producer.start()
    try:
        batch = producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 65536)
        for number, name in enumerate(names):
            assert batch.append(key=b"k", value=f"{number}".encode(), timestamp=None, headers=[(name, b"v")])
        await (await producer.send_batch(batch, topic, partition=0))
    finally:
        await producer.stop()


async def test_the_bus_is_down_with_a_reason_and_nothing_is_passed_over(kafka: Broker, topic: str) -> None:
    await asyncio.to_thread(kafka.produce, topic, [(None, "before", None)], partition=0)
    chosen = settings(kafka, topic)
    async with opened(chosen) as bus:
        (before,) = await take(bus, 1)
        await written(kafka, topic, ["a", Latin("ü"), "b"])
        with pytest.raises(TransportDown, match=f'"{topic}" has a record with a header name that is not UTF-8.*--reset-offsets'):
            await take(bus, 3)
        ack([before])
    assert kafka.committed(chosen.group, topic) == {0: 1}
