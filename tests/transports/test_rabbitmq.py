"""The `rabbitmq` transport on a real node: what is RabbitMQ's own about acks, leases, holding and queues."""

import asyncio
import random
import time
from typing import Any

import pytest

from investbus.errors import TransportDown, TransportHeld, TransportRefused
from investbus.transport import Message
from tests.brokers.rabbitmq import RabbitMq as Broker
from tests.transports.rabbitmq_workers import leftovers, made, opened, settings
from tests.transports.reading import ack, bodies, nothing, take, until

pytestmark = pytest.mark.broker


def numbered(count: int) -> list[Message]:
    return [Message(b"%d" % number) for number in range(count)]


# ---- acks


async def test_handlers_that_finish_in_any_order_never_ack_a_tag_twice(rabbitmq: Broker, queue: str) -> None:
    held: list[Any] = []
    async with opened(settings(rabbitmq, queue)) as bus:
        await bus.publish(numbered(2000))
        for taken in range(2000):
            while not held or len(held) < min(64, 2000 - taken):
                held += await bus.receive(64)
            held.pop(random.randrange(len(held))).ack()
            if taken % 7 == 0:
                await asyncio.sleep(0)
        await until(lambda: bus.counts.ok == 2000)
        assert bus.state().connected
    assert (bus.counts.lost, bus.counts.error, bus.counts.leases_lost) == (0, 0, 0)
    assert rabbitmq.take(queue) == []


async def test_what_is_finished_above_a_hole_is_acked_at_once_and_the_hole_stays(rabbitmq: Broker, queue: str) -> None:
    async with opened(settings(rabbitmq, queue)) as bus:
        await bus.publish(numbered(10))
        taken = await take(bus, 10)
        ack([*taken[:3], *taken[4:]])
        await until(lambda: bus.counts.ok == 9)
        assert bus.state().partitions["0"].gap == 1
    assert [message.body for message in rabbitmq.take(queue)] == [b"3"]


async def test_an_ack_goes_out_in_milliseconds(rabbitmq: Broker, queue: str) -> None:
    async with opened(settings(rabbitmq, queue, prefetch=1)) as bus:
        await bus.publish(numbered(20))
        start = time.monotonic()
        for _ in range(20):
            ack(await take(bus, 1))  # each comes only when the ack of the one before has arrived
        assert time.monotonic() - start < 2.0


@pytest.mark.parametrize("behind", [0, 100])
async def test_no_ack_is_forgotten_however_many_are_written_right_before_the_end(rabbitmq: Broker, queue: str, behind: int) -> None:
    """A hole at the front makes each of them a frame of its own; a channel passes on 33 of these, and keeps the others back."""
    forgotten = 0
    for _ in range(8):
        async with opened(settings(rabbitmq, queue, prefetch=300)) as bus:
            await bus.publish(numbered(300 + behind))
            taken = await take(bus, 300)
            ack(taken[1:])
            taken[0].release()
        left = [message.body for message in rabbitmq.take(queue)]
        forgotten += len(left) - 1 - behind
        assert b"0" in left
        assert bus.counts.ok == 299
    assert forgotten == 0


# ---- the end of a lease


async def test_a_queue_that_is_deleted_ends_the_lease_and_is_consumed_again_once_it_is_back(rabbitmq: Broker) -> None:
    rabbitmq.declare_queue("fleeting")
    bus = made(settings(rabbitmq, "fleeting"))
    await bus.open()
    await bus.publish(numbered(1))
    (taken,) = await take(bus, 1)
    waiting = asyncio.create_task(bus.receive(1))
    rabbitmq.delete_queue("fleeting")
    with pytest.raises(TransportDown, match='cancelled the consumer: queue "fleeting" was deleted'):
        await asyncio.wait_for(waiting, 2.0)
    assert taken.lease.lost
    assert "cancelled the consumer" in bus.state().reason
    await bus.close(1.0)
    with pytest.raises(TransportRefused, match='queue "fleeting" does not exist in virtual host "/"; create it, or set'):
        await bus.open()
    with pytest.raises(TransportRefused, match='queue "fleeting" does not exist'):
        await bus.publish(numbered(1))
    rabbitmq.declare_queue("fleeting")
    await bus.open()
    await bus.publish(numbered(1))
    ack(await take(bus, 1))
    await bus.close(3.0)
    assert bus.counts.ok == 1
    assert leftovers() == []


async def test_a_connection_that_the_broker_closes_cancels_nobody_and_says_why(rabbitmq: Broker, queue: str) -> None:
    async with opened(settings(rabbitmq, queue)) as bus:
        await bus.publish(numbered(2))
        taken = await take(bus, 2)
        handler = asyncio.create_task(asyncio.sleep(1.0, "finished"))
        waiting = asyncio.create_task(bus.receive(1))
        await asyncio.sleep(0)
        await asyncio.to_thread(rabbitmq.close_all_connections)
        with pytest.raises(TransportDown, match="closed the connection: CONNECTION_FORCED - closed by a test"):
            await waiting
        assert all(delivery.lease.lost for delivery in taken)
        ack(taken)
        assert bus.counts.lost == 2
        assert await handler == "finished"
        await bus.close(1.0)
        await bus.open()
        again = await take(bus, 2)
        assert [(delivery.body, delivery.redelivered, delivery.count) for delivery in again] == [(b"0", True, 2), (b"1", True, 2)]
        assert not {delivery.origin for delivery in again} & {delivery.origin for delivery in taken}


async def test_acks_that_were_not_written_when_the_connection_went_count_as_lost(rabbitmq: Broker, queue: str) -> None:
    async with opened(settings(rabbitmq, queue)) as bus:
        await bus.publish(numbered(3))
        taken = await take(bus, 3)
        assert bus._consumer is not None
        ack(taken[:2])
        bus._consumer._link._socket.cut()
        with pytest.raises(TransportDown, match="the connection was lost"):
            await asyncio.wait_for(bus.receive(1), 2.0)
        ack(taken[2:])
        assert (bus.counts.ok, bus.counts.lost, bus.counts.leases_lost) == (0, 3, 1)


async def test_a_consumer_that_gets_nothing_although_there_is_something_gives_up(
    rabbitmq: Broker, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("investbus.transports.rabbitmq_consumer.PROBE_EVERY", 0.1)
    monkeypatch.setattr("investbus.transports.rabbitmq_consumer.STALLED_AFTER", 0.5)
    async with opened(settings(rabbitmq, queue)) as bus:
        assert await nothing(bus, during=1.0)  # an empty queue is no reason
        assert bus._consumer is not None
        await bus._consumer._channel.basic_cancel(bus._consumer._consumer_tag)
        await bus.publish(numbered(3))
        with pytest.raises(TransportDown, match=r"has 3 events, and has delivered none for 0\.5 s"):
            await asyncio.wait_for(bus.receive(1), 5.0)


async def test_a_consumer_that_gets_nothing_beside_others_queues_up_once_more(
    rabbitmq: Broker, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be its turn to wait, so it does not give up; but it may have been forgotten, too."""
    monkeypatch.setattr("investbus.transports.rabbitmq_consumer.PROBE_EVERY", 0.1)
    monkeypatch.setattr("investbus.transports.rabbitmq_consumer.STALLED_AFTER", 0.5)
    one = settings(rabbitmq, queue, prefetch=1)
    async with opened(one) as first, opened(one) as second, opened(settings(rabbitmq, queue)) as bus:
        assert bus._consumer is not None
        await bus._consumer._channel.basic_cancel(bus._consumer._consumer_tag)
        await bus.publish(numbered(5))
        held = await take(first, 1) + await take(second, 1)
        assert bodies(await take(bus, 3, within=5.0)) == [b"2", b"3", b"4"]
        assert bus.counts.leases_lost == 0
        ack(held)


# ---- holding


async def test_an_event_held_for_too_long_brings_all_back_and_then_one_comes_at_a_time(rabbitmq: Broker, queue: str) -> None:
    async with opened(settings(rabbitmq, queue, prefetch=20, hold_max=1.0)) as bus:
        await bus.publish(numbered(50))
        taken = await take(bus, 20)
        ack(taken[1:])
        start = time.monotonic()
        await take(bus, 19)
        with pytest.raises(TransportHeld, match=r"an event was held for 1 s \(rabbitmq\.hold_max\)"):
            await asyncio.wait_for(bus.receive(1), 3.0)
        assert time.monotonic() - start < 2.0
        lease = taken[0].lease
        assert (lease.closing, lease.lost) == (True, False)
        assert (bus.state().connected, bus.state().joined) == (True, True)
        await bus.close(0.5)
        assert lease.lost
        await bus.open()
        (first,) = await take(bus, 1)
        assert (first.body, first.redelivered) == (b"0", True)
        assert await nothing(bus, during=0.3)
        first.ack()
        assert bodies(await take(bus, 20)) == [b"%d" % number for number in range(20, 40)]
        assert bus.counts.ok == 20


async def test_the_one_event_after_a_hold_is_still_the_only_one_when_the_connection_is_lost(rabbitmq: Broker, queue: str) -> None:
    bus = made(settings(rabbitmq, queue, hold_max=0.5), drain_cap=0.0)
    await bus.open()
    await bus.publish(numbered(5))
    await take(bus, 5)
    for _ in range(2):
        with pytest.raises(TransportHeld):
            await bus.receive(1)
        await bus.close(1.0)
        await bus.open()
        assert len(await bus.receive(5)) == 1
    await bus.close(1.0)  # no ack was written meanwhile
    await bus.open()
    assert len(await bus.receive(5)) == 1
    await bus.close(1.0)


async def test_time_in_the_buffer_counts_as_holding(rabbitmq: Broker, queue: str) -> None:
    async with opened(settings(rabbitmq, queue, hold_max=0.5)) as bus:
        await bus.publish(numbered(1))
        await asyncio.sleep(1.0)
        with pytest.raises(TransportHeld):
            await bus.receive(1)


# ---- declaring


async def test_declare_makes_a_queue_that_drops_nothing_and_a_place_for_what_dies(rabbitmq: Broker) -> None:
    chosen = settings(rabbitmq, "declared", declare=True)
    for _ in range(2):  # the second finds it
        async with opened(chosen) as bus:
            await bus.publish(numbered(1))
            ack(await take(bus, 1))
    rabbitmq.publish("declared", [b"dies"])
    with rabbitmq.channel() as channel:
        method, _, _ = channel.basic_get("declared")
        channel.basic_reject(method.delivery_tag, requeue=False)
    dead: list[Any] = []

    def died() -> bool:
        dead.extend(rabbitmq.take("declared.dead"))
        return bool(dead)

    await until(died)
    assert dead[0].body == b"dies"


async def test_a_queue_that_is_different_is_not_taken_for_the_declared_one(rabbitmq: Broker) -> None:
    rabbitmq.declare_queue("different", quorum=False)
    bus = made(settings(rabbitmq, "different", declare=True))
    with pytest.raises(TransportRefused, match=r"something of that name is there and is different.*inequivalent arg"):
        await bus.open()
    await bus.close(1.0)
    assert leftovers() == []


async def test_lag_is_what_waits_on_the_queue(rabbitmq: Broker, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("investbus.transports.rabbitmq_consumer.PROBE_EVERY", 0.1)
    async with opened(settings(rabbitmq, queue, prefetch=2)) as bus:
        await bus.publish(numbered(5))
        await until(lambda: bus.state().partitions["0"].lag == 3)
        assert bus.state().partitions["0"].gap == 2


@pytest.mark.broker
async def test_as_many_unacked_events_as_prefetch_allows_are_a_pause_after_a_while(
    rabbitmq: Broker, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("investbus.transports.rabbitmq_consumer.FULL_FOR", 0.5)
    rabbitmq.publish(queue, [b"1", b"2", b"3"])
    async with opened(settings(rabbitmq, queue, prefetch=2)) as bus:
        held = await take(bus, 2)
        assert not bus.state().gap_paused, "a busy moment"
        await until(lambda: bus.state().gap_paused)
        ack(held)
        await until(lambda: not bus.state().gap_paused)
