"""The `kafka` transport on a real broker: where a group begins, and what it does when its place in the log is gone."""

import asyncio

import pytest
from aiokafka.structs import TopicPartition

from investbus import config_bus
from investbus.transports.kafka_partition import Epoch
from tests.brokers.kafka import Kafka as Broker
from tests.brokers.kafka_records import Sent
from tests.transports.kafka_workers import opened, settings
from tests.transports.reading import ack, bodies, nothing, take, until

pytestmark = pytest.mark.broker


@pytest.fixture
def pair(kafka: Broker, topic: str) -> str:
    """A topic with two partitions and ten records in each, numbered alike."""
    name = f"{topic}-pair"
    kafka.create_topic(name, partitions=2)
    for partition in (0, 1):
        kafka.produce(name, records(0, 10), partition=partition)
    return name


def records(start: int, end: int) -> list[Sent]:
    return [(None, str(n), None) for n in range(start, end)]


async def consumed(kafka: Broker, chosen: config_bus.Kafka, count: int) -> list[str]:
    """What a worker of this group would get now: `partition/offset`, sorted."""
    async with opened(chosen) as bus:
        taken = await take(bus, count) if count else []
        assert await nothing(bus)
        ack(taken)
    return sorted(f"{delivery.source[-1]}/{delivery.position}" for delivery in taken)


async def test_a_new_group_begins_at_the_beginning(kafka: Broker, pair: str) -> None:
    assert len(await consumed(kafka, settings(kafka, pair), 20)) == 20


async def test_a_new_group_may_begin_at_the_end_and_a_restart_before_its_first_event_skips_none(kafka: Broker, pair: str) -> None:
    chosen = settings(kafka, pair, start_from="latest")
    async with opened(chosen) as bus:
        await until(lambda: bus.state().joined)
        assert kafka.committed(chosen.group, pair) == {0: 10, 1: 10}
        assert await nothing(bus)
    kafka.produce(pair, records(10, 12), partition=0)
    assert await consumed(kafka, chosen, 2) == ["0/10", "0/11"]


async def test_workers_that_begin_a_group_together_at_the_end_read_no_history(
    kafka: Broker, pair: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower one finds a group that has committed already, which must not make its own partition a new one."""
    chosen = settings(kafka, pair, start_from="latest")
    quick = asyncio.Event()
    async with opened(chosen) as slow:
        assert slow._membership is not None
        positions = slow._membership._positions
        place = positions.place

        async def later(epoch: Epoch) -> None:
            await quick.wait()
            await place(epoch)

        monkeypatch.setattr(positions, "place", later)
        async with opened(chosen) as other:
            await until(lambda: len(other.state().partitions) == len(slow.state().partitions) == 1 and other.state().joined)
            assert kafka.committed(chosen.group, pair) == {0: 10, 1: 10}
            assert not slow.state().joined
            quick.set()
            await until(lambda: slow.state().joined)
            assert await nothing(slow)
            assert await nothing(other)


async def test_a_partition_that_is_new_to_the_group_is_read_from_its_start(kafka: Broker, pair: str) -> None:
    chosen = settings(kafka, pair, start_from="latest")
    kafka.commit(chosen.group, pair, {0: 8})
    assert await consumed(kafka, chosen, 12) == ["0/8", "0/9", *(f"1/{n}" for n in range(10))]


@pytest.mark.parametrize(("policy", "read"), [("earliest", ["0/6", "0/7", "0/8", "0/9"]), ("latest", [])])
async def test_a_position_that_retention_took_is_left_as_configured(
    kafka: Broker, pair: str, policy: str, read: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = settings(kafka, pair, on_lost_position=policy)
    kafka.commit(chosen.group, pair, {0: 3, 1: 10})
    kafka.delete_records(pair, {0: 6})
    assert await consumed(kafka, chosen, len(read)) == read
    assert capsys.readouterr().out.count("position lost") == 1
    assert kafka.committed(chosen.group, pair) == {0: 10, 1: 10}


async def test_a_position_that_retention_took_stops_its_partition_and_says_so(kafka: Broker, pair: str) -> None:
    chosen = settings(kafka, pair)
    kafka.commit(chosen.group, pair, {0: 3, 1: 8})
    kafka.delete_records(pair, {0: 6})
    async with opened(chosen) as bus:
        await until(lambda: "gone" in bus.state().reason)
        state = bus.state()
        assert (state.connected, state.joined) == (True, False)
        assert state.reason == (
            f"committed offset 3 of {pair}/0 is gone (the log has 6 to 10); set kafka.on_lost_position or reset the group"
        )
        ack(await take(bus, 2))  # of the other partition
        assert await nothing(bus)
    assert kafka.committed(chosen.group, pair) == {0: 3, 1: 10}
    kafka.commit(chosen.group, pair, {0: 6})  # what the operator does
    assert await consumed(kafka, chosen, 4) == ["0/6", "0/7", "0/8", "0/9"]


async def test_a_position_behind_the_end_of_the_log_is_a_lost_one_too(kafka: Broker, pair: str) -> None:
    chosen = settings(kafka, pair)
    kafka.commit(chosen.group, pair, {0: 50, 1: 10})
    async with opened(chosen) as bus:
        await until(lambda: "committed offset 50" in bus.state().reason)
        assert await nothing(bus)
    from_start = chosen.model_copy(update={"on_lost_position": "earliest"})
    assert await consumed(kafka, from_start, 10) == [f"0/{n}" for n in range(10)]
    assert kafka.committed(chosen.group, pair) == {0: 10, 1: 10}


async def test_retention_that_overtakes_a_running_worker_is_not_skipped_unseen(kafka: Broker, pair: str) -> None:
    chosen = settings(kafka, pair)
    kafka.commit(chosen.group, pair, {1: 10})
    kafka.produce(pair, records(10, 100), partition=0)
    async with opened(chosen, max_gap=10) as bus:
        taken = await take(bus, 10)
        assert await nothing(bus)  # paused, and what was fetched beyond is thrown away
        kafka.delete_records(pair, {0: 60})
        ack(taken)
        await until(lambda: "is gone (the log has 60 to 100)" in bus.state().reason)
        assert await nothing(bus)
        assert kafka.committed(chosen.group, pair) == {0: 10, 1: 10}


async def test_events_in_flight_when_retention_overtakes_are_still_settled(kafka: Broker, pair: str) -> None:
    chosen = settings(kafka, pair, on_lost_position="earliest")
    kafka.commit(chosen.group, pair, {1: 10})
    kafka.produce(pair, records(10, 100), partition=0)
    async with opened(chosen, max_gap=10) as bus:
        taken = await take(bus, 10)
        assert await nothing(bus)  # paused, and what was fetched beyond is thrown away
        kafka.delete_records(pair, {0: 95})
        ack(taken[:-2])
        later = await take(bus, 5)
        assert bodies(later) == [b"95", b"96", b"97", b"98", b"99"]
        ack(taken + later)
        await until(lambda: kafka.committed(chosen.group, pair) == {0: 100, 1: 10}, within=3.0)
        assert (bus.counts.ok, bus.counts.lost) == (15, 0)


async def test_a_log_that_became_shorter_under_a_running_worker_is_read_again(kafka: Broker, pair: str) -> None:
    """As after the election of a leader that had fallen behind. What was finished of the longer log proves nothing."""
    chosen = settings(kafka, pair, on_lost_position="earliest")
    kafka.commit(chosen.group, pair, {1: 10})
    async with opened(chosen) as bus:
        taken = await take(bus, 10)
        ack(taken[:-1])
        await until(lambda: kafka.committed(chosen.group, pair) == {0: 9, 1: 10})
        assert bus._membership is not None
        await bus._membership._reposition({TopicPartition(pair, 0): 50})
        again = await take(bus, 10)
        taken[-1].ack()
        await asyncio.sleep(1.2)
        assert kafka.committed(chosen.group, pair) == {0: 0, 1: 10}
        assert bodies(again) == bodies(taken)
        ack(again)
        await until(lambda: kafka.committed(chosen.group, pair) == {0: 10, 1: 10}, within=3.0)
        assert (bus.counts.ok, bus.counts.lost) == (19, 1)
