"""The `kafka` transport on a real broker: what it hands out, what it commits, and where it begins."""

import asyncio
import time
from typing import get_args

import pytest

from investbus.transport import Message, Transport
from tests.brokers.kafka import Kafka as Broker
from tests.brokers.kafka_records import Compression, Sent
from tests.transports.kafka_workers import leftovers, made, opened, settings
from tests.transports.reading import ack, bodies, nothing, take, until

pytestmark = pytest.mark.broker


def numbered(count: int, start: int = 0) -> list[Sent]:
    return [(f"key-{n % 17}", f"event-{n}", None) for n in range(start, start + count)]


def single(broker: Broker, topic: str) -> str:
    """A topic with one partition."""
    name = f"{topic}-single"
    broker.create_topic(name)
    return name


async def test_every_record_comes_once_in_the_order_of_its_partition(kafka: Broker, topic: str) -> None:
    places = await asyncio.to_thread(kafka.produce, topic, numbered(1500))
    async with opened(settings(kafka, topic)) as bus:
        transport: Transport = bus
        taken = await take(transport, 1500)
        ack(taken)
    where = {
        body: f"kafka:{topic}/{partition}@{offset}"
        for (_, body, _), (partition, offset) in zip(numbered(1500), places, strict=True)
    }
    assert {delivery.body.decode(): delivery.origin for delivery in taken} == where
    for source in {delivery.source for delivery in taken}:
        offsets = [delivery.position for delivery in taken if delivery.source == source]
        assert offsets == sorted(offsets)
    assert transport.source == f"kafka:{topic}"


@pytest.mark.parametrize("compression", get_args(Compression))
async def test_every_codec_is_read(kafka: Broker, topic: str, compression: Compression) -> None:
    await asyncio.to_thread(kafka.produce, topic, numbered(50), compression)
    async with opened(settings(kafka, topic)) as bus:
        assert sorted(bodies(await take(bus, 50))) == sorted(f"event-{n}".encode() for n in range(50))


async def test_published_means_on_the_broker_with_key_and_headers(kafka: Broker, topic: str) -> None:
    async with opened(settings(kafka, topic)) as bus:
        await bus.publish([Message(b"one", {"trace": "ü"}, "k"), Message(b"two", key="k"), Message(b"", key="k")])
        assert [(delivery.body, delivery.headers) for delivery in await take(bus, 3)] == [
            (b"one", {"trace": "ü"}),
            (b"two", {}),
            (b"", {}),
        ]
        stored = await asyncio.to_thread(kafka.read, topic)
        assert [(record.key, record.value) for record in stored] == [(b"k", b"one"), (b"k", b"two"), (b"k", b"")]


async def test_odd_headers_and_a_missing_body_are_no_obstacle(kafka: Broker, topic: str) -> None:
    await asyncio.to_thread(kafka.produce, topic, [("k", None, [("bytes", b"\xff\x00a"), ("none", None)])])
    async with opened(settings(kafka, topic)) as bus:
        (tombstone,) = await take(bus, 1)
        assert (tombstone.body, tombstone.headers) == (b"", {"bytes": "\\xff\x00a", "none": ""})


async def test_nothing_is_committed_past_an_unfinished_event(kafka: Broker, topic: str) -> None:
    one = single(kafka, topic)
    await asyncio.to_thread(kafka.produce, one, numbered(10))
    chosen = settings(kafka, one)
    async with opened(chosen) as bus:
        taken = await take(bus, 10)
        ack(taken[:3] + taken[4:])
        await until(lambda: kafka.committed(chosen.group, one) == {0: 3}, within=3.0)
        await asyncio.sleep(1.2)  # once more than the committer waits
        assert kafka.committed(chosen.group, one) == {0: 3}
        assert bus.state().partitions["0"].gap == 7
        taken[3].ack()
        await until(lambda: kafka.committed(chosen.group, one) == {0: 10}, within=0.5)
        await until(lambda: bus.counts.ok == 10, within=0.5)
        assert bus.state().partitions["0"].gap == 0
    assert (bus.counts.lost, bus.counts.error) == (0, 0)


async def test_offsets_with_holes_are_committed_as_they_are(kafka: Broker, topic: str) -> None:
    one = single(kafka, topic)
    for fate in ("commit", "abort", "commit"):
        await asyncio.to_thread(kafka.produce, one, numbered(3), transaction=fate)
    await asyncio.to_thread(kafka.produce, one, numbered(1, start=99))
    chosen = settings(kafka, one)
    async with opened(chosen) as bus:
        taken = await take(bus, 7)
        assert [delivery.position for delivery in taken] == [0, 1, 2, 8, 9, 10, 12]  # 3, 4-6 with 7, and 11 are no events
        ack(taken[:4])
        await until(lambda: kafka.committed(chosen.group, one) == {0: 9}, within=3.0)
        ack(taken[4:])
        await until(lambda: kafka.committed(chosen.group, one) == {0: 13}, within=3.0)
        await until(lambda: bus.state().partitions["0"].lag == 0, within=5.0)


async def test_after_a_clean_close_nothing_comes_again(kafka: Broker, topic: str) -> None:
    await asyncio.to_thread(kafka.produce, topic, numbered(200))
    chosen = settings(kafka, topic)
    bus = made(chosen)
    await bus.open()
    taken = await take(bus, 200)
    ack(taken)
    await bus.close(5.0)
    assert sum(kafka.committed(chosen.group, topic).values()) == 200
    assert bus.counts.ok == 200
    assert bus.state().connected is False
    await bus.open()
    assert await nothing(bus)
    await bus.close(5.0)
    assert leftovers() == []


async def test_what_was_not_acked_comes_again_and_late_acks_are_lost(kafka: Broker, topic: str) -> None:
    one = single(kafka, topic)
    await asyncio.to_thread(kafka.produce, one, numbered(10))
    chosen = settings(kafka, one)
    bus = made(chosen)
    await bus.open()
    taken = await take(bus, 10)
    ack(taken[:5])
    taken[5].release()
    taken[6].ack()
    await bus.close(5.0)
    ack(taken[7:])
    assert (bus.counts.ok, bus.counts.lost) == (5, 4)
    assert kafka.committed(chosen.group, one) == {0: 5}
    async with opened(chosen) as again:
        assert [delivery.position for delivery in await take(again, 5)] == [5, 6, 7, 8, 9]


async def test_a_cancelled_receive_loses_nothing(kafka: Broker, topic: str) -> None:
    seen: list[bytes] = []
    async with opened(settings(kafka, topic)) as bus:
        await until(lambda: bus.state().joined)
        producing = asyncio.create_task(asyncio.to_thread(_drip, kafka, topic))
        while len(seen) < 100:
            waiting = asyncio.create_task(bus.receive(3))
            await asyncio.sleep(0.001 * (len(seen) % 5))
            waiting.cancel()
            try:
                seen += bodies(await waiting)
            except asyncio.CancelledError:
                assert len(seen) < 100
        await producing
    assert sorted(seen) == sorted(f"event-{n}".encode() for n in range(100))


def _drip(broker: Broker, topic: str) -> None:
    for start in range(0, 100, 25):
        broker.produce(topic, numbered(25, start))
        time.sleep(0.02)


async def test_not_being_asked_keeps_the_membership(kafka: Broker, topic: str) -> None:
    await asyncio.to_thread(kafka.produce, topic, numbered(3000))
    chosen = settings(kafka, topic, session_timeout=1.5)
    async with opened(chosen) as bus:
        first = await take(bus, 1)
        await asyncio.sleep(3.0)  # two sessions
        ack(first + await take(bus, 2999))
        await until(lambda: sum(kafka.committed(chosen.group, topic).values()) == 3000, within=3.0)
        assert bus.counts.leases_lost == 0


async def test_full_of_unfinished_events_a_partition_pauses_and_goes_on(kafka: Broker, topic: str) -> None:
    one = single(kafka, topic)
    await asyncio.to_thread(kafka.produce, one, numbered(200))
    async with opened(settings(kafka, one), max_gap=20) as bus:
        taken = await take(bus, 20)
        assert await nothing(bus)
        assert bus.state().gap_paused
        ack(taken[1:])
        assert await nothing(bus)  # one unfinished event holds them all
        taken[0].ack()
        assert not bus.state().gap_paused
        for _ in range(9):
            ack(await take(bus, 20))
        await until(lambda: bus.counts.ok == 200, within=3.0)
