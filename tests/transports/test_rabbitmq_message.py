"""Messages of RabbitMQ as other clients write and read them: headers of any type, bodies of any size, and what nobody can read."""

import asyncio
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pika  # type: ignore[import-untyped]  # it carries no type information
import pytest

from investbus.errors import TransportDown
from investbus.transport import Message
from investbus.transports.rabbitmq import RabbitMq
from tests.brokers.rabbitmq import RabbitMq as Broker
from tests.transports.rabbitmq_workers import leftovers, made, opened, settings
from tests.transports.reading import ack, bodies, take

pytestmark = pytest.mark.broker
FRAME_MAX = 131_072


async def test_headers_of_every_type_arrive_as_text(rabbitmq: Broker, queue: str) -> None:
    odd: dict[str, Any] = {
        "text": "ä",
        "number": 5,
        "large": 2**62,
        "yes": True,
        "bytes": b"\xff\x00",
        "nothing": None,
        "decimal": Decimal("1.25"),
        "time": datetime(2026, 11, 21, tzinfo=UTC),
        "list": ["a", 1, None],
        "table": {"a": {"b": 1}},
    }
    async with opened(settings(rabbitmq, queue)) as bus:
        rabbitmq.publish(queue, [b"1"], odd)
        (taken,) = await take(bus, 1)
        assert taken.headers == {
            "text": "ä",
            "number": "5",
            "large": str(2**62),
            "yes": "true",
            "bytes": "\\xff\x00",
            "nothing": "",
            "decimal": "1.25",
            "time": "2026-11-21T00:00:00Z",
            "list": '["a",1,null]',
            "table": '{"a":{"b":1}}',
        }
        assert taken.source.startswith(bus.source)
    assert bus.source == f"rabbitmq:%2F/{queue}"


async def test_another_client_reads_what_is_published_persistent_and_whole(rabbitmq: Broker, queue: str) -> None:
    large = random.randbytes(3 * FRAME_MAX + 7)
    view: Any = memoryview(b"view")
    bus = made(settings(rabbitmq, queue))
    await bus.publish([Message(large, {"a": "ä"}), Message(b""), Message(view)])
    await bus.close(3.0)
    read = rabbitmq.take(queue)
    assert [message.body for message in read] == [large, b"", b"view"]
    assert [message.headers.get("a") for message in read] == ["ä", None, None]
    assert {message.properties.delivery_mode for message in read} == {2}
    assert leftovers() == []


async def test_bodies_larger_than_a_frame_and_empty_ones_are_received(rabbitmq: Broker, queue: str) -> None:
    sizes = [FRAME_MAX - 8, FRAME_MAX - 7, 0, 5 * FRAME_MAX]
    given = [random.randbytes(size) for size in sizes]
    rabbitmq.publish(queue, given)
    async with opened(settings(rabbitmq, queue)) as bus:
        assert bodies(await take(bus, 4)) == given


def nanoseconds() -> pika.BasicProperties:
    return pika.BasicProperties(timestamp=time.time_ns(), headers={"a": "b"})


def not_utf8() -> pika.BasicProperties:
    return pika.BasicProperties(content_type=b"\xff\xfe")


def nested() -> pika.BasicProperties:
    table: dict[str, Any] = {}
    for _ in range(600):
        table = {"t": table}
    return pika.BasicProperties(headers=table)


@pytest.mark.parametrize("properties", [nanoseconds, not_utf8, nested])
async def test_properties_that_cannot_be_read_cost_the_headers_and_one_connection(
    rabbitmq: Broker, queue: str, properties: Callable[[], pika.BasicProperties]
) -> None:
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(5000)
    with rabbitmq.channel() as channel:
        channel.basic_publish("", queue, b"odd", properties())
        channel.basic_publish("", queue, b"next", pika.BasicProperties(headers={"a": "b"}))
    sys.setrecursionlimit(usual)
    bus = made(settings(rabbitmq, queue))
    taken = await take_in_spite_of_the_connection(bus, 2)
    assert bodies(taken) == [b"odd", b"next"]
    assert taken[1].headers == {"a": "b"}
    ack(taken)
    await bus.close(3.0)
    assert rabbitmq.take(queue) == []


async def test_a_routing_key_that_cannot_be_read_stops_nobody(rabbitmq: Broker, queue: str) -> None:
    rabbitmq.declare_exchange(f"{queue}.in", queue)
    with rabbitmq.channel() as channel:
        channel.basic_publish(f"{queue}.in", b"\xff\xfe", b"odd", pika.BasicProperties(headers={"a": "b"}))
    bus = made(settings(rabbitmq, queue))
    (taken,) = await take_in_spite_of_the_connection(bus, 1)
    assert (taken.body, taken.headers) == (b"odd", {"a": "b"})
    await bus.close(3.0)


async def take_in_spite_of_the_connection(bus: RabbitMq, count: int) -> list[Any]:
    await bus.open()
    with pytest.raises(TransportDown, match="a message has properties that cannot be read"):
        await take(bus, count, within=5.0)
    async with asyncio.timeout(60.0):
        while True:  # as the worker does: a consumer to which the node gives nothing is noticed, and ends its stay
            await bus.close(1.0)
            await bus.open()
            with suppress(TransportDown):
                return await take(bus, count, within=30.0)
