"""The `rabbitmq` transport on a node that dies, freezes, runs out of memory and loses patience: it says so and loses nothing."""

import asyncio
import gc
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

import pytest

from investbus.errors import TransportDown, TransportRefused
from investbus.transport import Message
from tests.brokers.rabbitmq import RabbitMq as Broker
from tests.brokers.rabbitmq_settings import Options
from tests.transports.rabbitmq_workers import leftovers, made, opened, settings
from tests.transports.reading import ack, bodies, take, until

pytestmark = pytest.mark.broker
NOTICED = 15.0  # a lost broker shows within this


def numbered(start: int, end: int) -> list[Message]:
    return [Message(b"%d" % number) for number in range(start, end)]


@pytest.fixture
def own_queue(own_rabbitmq: Broker) -> str:
    name = f"queue-{uuid.uuid4().hex[:12]}"
    own_rabbitmq.declare_queue(name)
    return name


async def test_a_node_that_is_killed_ends_the_lease_at_once_and_gives_back_what_was_not_acked(
    own_rabbitmq: Broker, own_queue: str
) -> None:
    bus = made(settings(own_rabbitmq, own_queue))
    await bus.open()
    await bus.publish(numbered(0, 6))
    taken = await take(bus, 6)
    ack(taken[:3])
    await until(lambda: bus.counts.ok == 3)
    waiting = asyncio.create_task(bus.receive(1))
    own_rabbitmq.kill()
    with pytest.raises(TransportDown, match="the connection was lost"):
        await asyncio.wait_for(waiting, 2.0)
    assert not bus.state().connected
    assert taken[0].lease.lost
    ack(taken[3:])
    assert (bus.counts.ok, bus.counts.lost) == (3, 3)
    await bus.close(1.0)
    with pytest.raises(TransportDown, match=r"^RabbitMQ 127\.0\.0\.1:\d+ cannot be reached: Connection refused$"):
        await bus.open()
    with pytest.raises(TransportDown, match="cannot be reached"):
        await bus.check()
    own_rabbitmq.start()
    async with asyncio.timeout(20.0):
        while True:
            with suppress(TransportDown):  # the queue may have no leader yet
                await bus.open()
                break
    again = await take(bus, 3)
    assert [(delivery.body, delivery.redelivered) for delivery in again] == [(b"3", True), (b"4", True), (b"5", True)]
    ack(again)
    await bus.close(3.0)
    assert leftovers() == []


async def test_a_node_that_freezes_is_noticed_and_close_takes_no_longer_than_it_may(
    own_rabbitmq: Broker, own_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("investbus.transports.rabbitmq_connection.LET_IN_WITHIN", 1.0)
    bus = made(settings(own_rabbitmq, own_queue, heartbeat=60.0))
    await bus.open()
    await bus.publish(numbered(0, 2))
    taken = await take(bus, 2)
    own_rabbitmq.pause()
    await until(lambda: not bus.state().connected, within=NOTICED)
    assert bus.state().reason.endswith("does not answer")
    assert bus.counts.leases_lost == 0  # an answer that is late is no end of the lease
    taken[0].ack()
    start = time.monotonic()
    await bus.close(2.0)
    assert time.monotonic() - start < 3.0
    assert taken[0].lease.lost
    assert bus.counts.leases_lost == 1
    await until(lambda: not leftovers(), within=2.0)
    with pytest.raises(TransportDown, match="does not answer"):
        await bus.check()
    await until(lambda: not leftovers(), within=2.0)
    own_rabbitmq.resume()


async def test_a_node_that_freezes_while_it_is_left_forgets_no_ack(own_rabbitmq: Broker, own_queue: str) -> None:
    """It reads the acks and what comes behind them at once; each ack is a frame of its own, since the first event is unfinished."""
    bus = made(settings(own_rabbitmq, own_queue, prefetch=300))
    await bus.open()
    await bus.publish(numbered(0, 300))
    taken = await take(bus, 300)
    ack(taken[1:])
    taken[0].release()
    own_rabbitmq.pause()
    asyncio.get_running_loop().call_later(0.8, own_rabbitmq.resume)
    await bus.close(5.0)
    assert [message.body for message in own_rabbitmq.take(own_queue)] == [b"0"]


async def test_a_node_that_thaws_is_connected_again_on_the_same_lease(
    own_rabbitmq: Broker, own_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("investbus.transports.rabbitmq_consumer.PROBE_EVERY", 0.5)
    async with opened(settings(own_rabbitmq, own_queue, heartbeat=60.0)) as bus:
        await bus.publish(numbered(0, 2))
        taken = await take(bus, 2)
        own_rabbitmq.pause()
        await until(lambda: not bus.state().connected, within=NOTICED)
        own_rabbitmq.resume()
        await until(lambda: bus.state().connected, within=10.0)
        ack(taken)
        await until(lambda: bus.counts.ok == 2)
    assert own_rabbitmq.ready(own_queue) == 0


async def test_heartbeats_that_stop_end_the_lease_and_cancel_nobody(own_rabbitmq: Broker, own_queue: str) -> None:
    bus = made(settings(own_rabbitmq, own_queue, heartbeat=1.0))
    await bus.open()
    await bus.publish(numbered(0, 1))
    (taken,) = await take(bus, 1)
    waiting = asyncio.create_task(bus.receive(1))
    own_rabbitmq.pause()
    with pytest.raises(TransportDown, match="has been silent for three heartbeats"):
        await asyncio.wait_for(waiting, 12.0)
    assert waiting.cancelling() == 0
    assert taken.lease.lost
    own_rabbitmq.resume()
    await bus.close(1.0)
    await until(lambda: not leftovers(), within=5.0)


async def test_an_alarm_blocks_who_publishes_and_nobody_else(
    own_rabbitmq: Broker, own_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("investbus.transports.rabbitmq.PUBLISH_WITHIN", 1.5)
    async with opened(settings(own_rabbitmq, own_queue)) as bus:
        await bus.publish(numbered(0, 10))
        taken = await take(bus, 10)
        await asyncio.to_thread(own_rabbitmq.set_memory_alarm, True)
        try:
            with pytest.raises(TransportDown, match=r"did not confirm within 1\.5 s: an alarm of its memory or disk blocks"):
                await bus.publish(numbered(10, 11))
            ack(taken)
            await until(lambda: bus.counts.ok == 10)
            assert bus.state().connected
        finally:
            await asyncio.to_thread(own_rabbitmq.set_memory_alarm, False)
        await bus.publish(numbered(11, 12))
        after = [body for body in bodies(await take(bus, 1)) if body != b"10"]
        assert after in ([b"11"], [])  # whether the one before arrived after all is nobody's promise
    assert b"0" not in [message.body for message in own_rabbitmq.take(own_queue)]


async def test_a_full_queue_is_a_failure_and_an_event_that_cannot_be_sent_is_refused(own_rabbitmq: Broker) -> None:
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    own_rabbitmq.declare_queue("full", quorum=False, arguments=full)  # a quorum queue notices a little later
    bus = made(settings(own_rabbitmq, "full"))
    with pytest.raises(TransportDown, match='queue "full" did not take an event: it is full'):
        await bus.publish(numbered(0, 20))
    with pytest.raises(TransportRefused, match="an event cannot be published: a header has a name of more than 128 bytes"):
        await bus.publish([Message(b"1"), Message(b"2", {"h" * 300: "long"})])
    with pytest.raises(TransportRefused, match="an event cannot be published: surrogates not allowed"):
        await bus.publish([Message(b"1", {"h": "\udcff"})])
    await bus.close(1.0)
    assert leftovers() == []


async def test_a_channel_that_is_closed_for_want_of_acks_says_so(rabbitmq_with: Callable[[Options], Broker]) -> None:
    broker = rabbitmq_with(Options(consumer_timeout=2.0))
    broker.declare_queue("slow")
    async with opened(settings(broker, "slow")) as bus:
        await bus.publish(numbered(0, 3))
        taken = await take(bus, 3)
        with pytest.raises(TransportDown, match="closed the channel: PRECONDITION_FAILED - delivery acknowledgement on channel"):
            await asyncio.wait_for(bus.receive(1), 10.0)
        assert taken[0].lease.lost
        ack(taken)
        assert bus.counts.lost == 3
        await bus.close(1.0)
        await bus.open()
        again = await take(bus, 3)
        assert [(delivery.body, delivery.count) for delivery in again] == [(b"0", 2), (b"1", 2), (b"2", 2)]
        ack(again)


async def test_an_open_or_a_publish_that_is_cancelled_leaves_nothing_behind(own_rabbitmq: Broker, own_queue: str) -> None:
    for milliseconds in range(0, 40, 2):
        bus = made(settings(own_rabbitmq, own_queue))
        for started in (bus.open(), bus.publish(numbered(0, 1))):
            trying = asyncio.create_task(started)
            await asyncio.sleep(milliseconds / 1000)
            trying.cancel()
            with suppress(asyncio.CancelledError):
                await trying
        await bus.close(1.0)
        await until(lambda: not leftovers(), within=3.0)
    gc.collect()  # whatever was left open complains now


async def test_reconnecting_again_and_again_leaves_nothing_behind(own_rabbitmq: Broker, own_queue: str) -> None:
    bus = made(settings(own_rabbitmq, own_queue))
    for number in range(30):
        await bus.open()
        await bus.publish(numbered(number, number + 1))
        ack(await take(bus, 1))
        await bus.close(3.0)
        assert leftovers() == []
    assert (bus.counts.ok, bus.counts.lost, bus.counts.leases_lost) == (30, 0, 0)
