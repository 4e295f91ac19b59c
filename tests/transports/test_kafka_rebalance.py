"""The `kafka` transport on a real broker: several workers in a group, and unfinished work when partitions move."""

import asyncio
import time
from contextlib import suppress

import pytest

from investbus.transport import Delivery, Message
from investbus.transports.kafka import Kafka
from tests.brokers.kafka import Kafka as Broker
from tests.transports.kafka_workers import made, opened, settings
from tests.transports.reading import ack, bodies, nothing, take, until

pytestmark = pytest.mark.broker


@pytest.fixture
def single(kafka: Broker, topic: str) -> str:
    """A topic with one partition and ten records: of two workers one has everything."""
    name = f"{topic}-single"
    kafka.create_topic(name)
    kafka.produce(name, [(None, str(n), None) for n in range(10)])
    return name


def owned(bus: Kafka) -> int:
    return len(bus.state().partitions)


async def handle(bus: Kafka, seconds: float, handled: list[Delivery]) -> None:
    """A worker whose handlers take so long, all at once, and are never cancelled."""

    async def finish(delivery: Delivery) -> None:
        await asyncio.sleep(seconds)
        handled.append(delivery)
        delivery.ack()

    running: set[asyncio.Task[None]] = set()
    try:
        while True:
            running |= {asyncio.create_task(finish(delivery)) for delivery in await bus.receive(10)}
    finally:
        await asyncio.gather(*running)


async def stop(working: asyncio.Task[None]) -> None:
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working


async def test_workers_share_the_partitions_and_no_event_comes_twice(kafka: Broker, topic: str) -> None:
    chosen = settings(kafka, topic)
    handled: list[Delivery] = []
    async with opened(chosen) as one, opened(chosen) as other:
        await until(lambda: owned(one) == owned(other) == 3)
        working = [asyncio.create_task(handle(bus, 0.0, handled)) for bus in (one, other)]
        await asyncio.to_thread(kafka.produce, topic, [(f"key-{n}", str(n), None) for n in range(600)])
        await until(lambda: len(handled) >= 600)
        for task in working:
            await stop(task)
    assert sorted(bodies(handled)) == sorted(str(n).encode() for n in range(600))
    assert sum(kafka.committed(chosen.group, topic).values()) == one.counts.ok + other.counts.ok == 600
    assert one.counts.ok
    assert other.counts.ok


async def test_more_workers_than_partitions_are_joined_and_wait(kafka: Broker, single: str) -> None:
    chosen = settings(kafka, single)
    async with opened(chosen) as one, opened(chosen) as other:
        await until(lambda: one.state().joined and other.state().joined and owned(one) + owned(other) == 1)
        idle = other if owned(one) else one
        assert (idle.state().connected, idle.state().reason, idle.state().partitions) == (True, "", {})


async def test_opening_and_checking_wait_for_no_rebalance(kafka: Broker, single: str) -> None:
    chosen = settings(kafka, single)
    async with opened(chosen, drain_cap=9.0) as one:
        (held, *_) = taken = await take(one, 10)
        async with opened(chosen) as other:
            await until(lambda: held.lease.closing)  # `one` drains, and `other` waits for it
            start = time.monotonic()
            assert await made(chosen).check() == []
            async with opened(chosen):
                assert time.monotonic() - start < 4.0
                assert not held.lease.lost
                assert not other.state().joined
            ack(taken)
    assert kafka.committed(chosen.group, single) == {0: 10}


async def test_work_that_ends_within_the_drain_is_committed_and_does_not_come_again(kafka: Broker, topic: str) -> None:
    await asyncio.to_thread(kafka.produce, topic, [(f"key-{n}", str(n), None) for n in range(60)])
    chosen = settings(kafka, topic)
    async with opened(chosen, drain_cap=4.0) as one:
        taken = await take(one, 60)
        leases = {delivery.lease for delivery in taken}
        closed: list[float] = []
        for lease in leases:
            lease.on_closing(lambda _: closed.append(time.monotonic()))
        async with opened(chosen) as other:
            await until(lambda: len(closed) == len(leases))
            assert not any(lease.lost for lease in leases)
            await asyncio.sleep(1.0)
            ack(taken)
            took = await until(lambda: owned(one) == owned(other) == 3)
            assert took < 3.0  # the drain ended with the last ack, not at its cap
            assert sum(kafka.committed(chosen.group, topic).values()) == 60
            assert await nothing(one)
            assert await nothing(other)
    assert all(lease.lost for lease in leases)
    assert (one.counts.ok, one.counts.lost, one.counts.error) == (60, 0, 0)


async def test_work_beyond_the_drain_comes_again_and_its_late_acks_count_for_nothing(kafka: Broker, topic: str) -> None:
    await asyncio.to_thread(kafka.produce, topic, [(f"key-{n}", str(n), None) for n in range(60)])
    chosen = settings(kafka, topic)
    async with opened(chosen, drain_cap=1.0) as one:
        taken = await take(one, 60)
        async with opened(chosen, drain_cap=1.0) as other:
            await until(lambda: owned(one) == owned(other) == 3)
            before = kafka.committed(chosen.group, topic)
            ack(taken)
            again = await take(one, sum(delivery.source[-1] in one.state().partitions for delivery in taken))
            again += await take(other, 60 - len(again))
            await asyncio.sleep(1.5)
            assert kafka.committed(chosen.group, topic) == before == {}
            assert sorted(bodies(again)) == sorted(bodies(taken))
            ack(again)
    assert sum(kafka.committed(chosen.group, topic).values()) == 60
    assert (one.counts.lost, one.counts.ok + other.counts.ok) == (60, 60)


async def test_commits_never_go_back_while_partitions_come_and_go(kafka: Broker, topic: str) -> None:
    """A third worker joins and leaves, and handlers outlast the drain: acks of one stay arrive in the next."""
    chosen = settings(kafka, topic, session_timeout=1.5)
    handled: list[Delivery] = []
    sent: list[Message] = []
    with kafka.sampler(chosen.group, topic) as sampler:
        async with opened(chosen, drain_cap=0.2) as one, opened(chosen, drain_cap=0.2) as other:
            working = [asyncio.create_task(handle(bus, 0.9, handled)) for bus in (one, other)]
            sending = asyncio.create_task(send(one, sent))
            for _ in range(4):
                async with opened(chosen, drain_cap=0.2) as third:
                    await until(lambda third=third: owned(third) == 2)  # type: ignore[misc]
                    also = asyncio.create_task(handle(third, 0.9, handled))
                    await asyncio.sleep(0.5)
                    await stop(also)
            await stop(sending)
            await until(lambda: sum(kafka.committed(chosen.group, topic).values()) == len(sent))
            for task in working:
                await stop(task)
    assert sampler.steps_back() == []
    assert {delivery.body for delivery in handled} == {message.body for message in sent}
    assert one.counts.lost + other.counts.lost > 10  # else no ack came too late, and nothing was tried here
    assert len(handled) > len(sent)


async def send(bus: Kafka, sent: list[Message]) -> None:
    while True:
        batch = [Message(b"%d" % n, key=f"key-{n}") for n in range(len(sent), len(sent) + 20)]
        sent += batch
        await asyncio.shield(bus.publish(batch))
        await asyncio.sleep(0.05)


async def test_a_partition_that_returns_is_paused_anew_by_its_unfinished_events(kafka: Broker, single: str) -> None:
    await asyncio.to_thread(kafka.produce, single, [(None, "more", None)] * 90)
    chosen = settings(kafka, single)
    async with opened(chosen, drain_cap=0.2, max_gap=20) as one:
        await take(one, 20)
        await until(lambda: one.state().gap_paused)
        async with opened(chosen, drain_cap=0.2, max_gap=20) as other:
            await until(lambda: owned(one) + owned(other) == 1 and one.state().joined and other.state().joined)
        await until(lambda: owned(one) == 1)
        again = await take(one, 20)
        assert again[0].position == 0
        assert await nothing(one)
        assert one.state().gap_paused
        ack(again)
        for _ in range(4):
            ack(await take(one, 20))
    assert kafka.committed(chosen.group, single) == {0: 100}


async def test_a_worker_that_the_group_has_put_out_joins_again_and_commits_nothing_for_the_time_before(
    kafka: Broker, single: str
) -> None:
    chosen = settings(kafka, single, session_timeout=1.5)
    async with opened(chosen) as bus:
        taken = await take(bus, 10)
        time.sleep(3.0)  # noqa: ASYNC251 - a handler that blocks the loop, for two sessions
        ack(taken[:5])
        again = await take(bus, 10)
        assert [delivery.position for delivery in again] == list(range(10))
        assert all(delivery.lease.lost for delivery in taken)
        ack(taken[5:])
        assert kafka.committed(chosen.group, single) == {}
        assert (bus.counts.ok, bus.counts.lost + bus.counts.error) == (0, 10)
        ack(again)
        await until(lambda: kafka.committed(chosen.group, single) == {0: 10}, within=3.0)


async def test_nothing_is_committed_for_a_generation_that_is_over(kafka: Broker, single: str) -> None:
    """The broker would take it: it knows the member and the group's present generation, and asks for nothing else."""
    chosen = settings(kafka, single)
    async with opened(chosen) as bus:
        taken = await take(bus, 10)
        assert bus._membership is not None
        assert bus._membership._epoch is not None
        bus._membership._epoch.generation -= 1
        ack(taken)
        await until(lambda: all(delivery.lease.lost for delivery in taken), within=3.0)
        await asyncio.sleep(1.2)
        assert (bus.counts.ok, bus.counts.error) == (0, 10)
    assert kafka.committed(chosen.group, single) == {}
