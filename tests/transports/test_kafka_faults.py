"""The `kafka` transport on a broker that stops, dies and freezes: it says so, recovers by itself, and loses nothing."""

import asyncio
import gc
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from investbus.errors import TransportDown
from investbus.transport import Message
from investbus.transports.kafka import Kafka
from tests.brokers.kafka import Kafka as Broker
from tests.transports.kafka_workers import leftovers, made, opened, settings
from tests.transports.reading import ack, bodies, take, until

pytestmark = pytest.mark.broker
NOTICED = 15.0  # a lost broker shows within this


@pytest.fixture
async def worker(own_kafka: Broker) -> AsyncIterator[Kafka]:
    """A worker that has read and committed ten of its twenty events."""
    topic = f"topic-{time.monotonic_ns()}"
    own_kafka.create_topic(topic, partitions=2)
    async with opened(settings(own_kafka, topic)) as bus:
        await bus.publish([Message(b"%d" % n, key=f"key-{n}") for n in range(10)])
        ack(await take(bus, 10))
        await until(lambda: bus.counts.ok == 10)
        await bus.publish([Message(b"%d" % n, key=f"key-{n}") for n in range(10, 20)])
        yield bus


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_broker_that_goes_and_comes_back_is_noticed_and_costs_nothing(
    own_kafka: Broker, worker: Kafka, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("investbus.transports.kafka.PUBLISH_WITHIN", 3.0)
    taken = await take(worker, 10)
    await asyncio.to_thread(getattr(own_kafka, end))
    ack(taken)  # nobody is there to hear of it
    unheard = asyncio.create_task(worker.publish([Message(b"lost?")]))
    await until(lambda: not worker.state().connected, within=NOTICED)
    with pytest.raises(TransportDown, match="refuses connections"):
        await unheard
    await until(lambda: not any("aiokafka/producer" in task for task in leftovers()), within=5.0)
    own_kafka.start()
    await until(lambda: worker.state().connected and worker.state().joined, within=20.0)
    await worker.publish([Message(b"%d" % n) for n in range(20, 25)])
    after = [body for body in bodies(await take(worker, 5)) if body != b"lost?"]
    assert set(after) <= {b"%d" % n for n in range(20, 25)}
    await until(lambda: worker.counts.ok == 20)
    assert (worker.counts.lost, worker.counts.error) == (0, 0)


@pytest.mark.parametrize(
    ("away", "back", "cause"), [("kill", "start", "refuses connections"), ("pause", "resume", "does not answer")]
)
async def test_silence_is_told_once_with_its_cause_and_once_when_it_ends(
    own_kafka: Broker, worker: Kafka, away: str, back: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("investbus.transports.kafka_membership.PROBE_EVERY", 0.2)
    monkeypatch.setattr("investbus.transports.kafka_membership.PROBE_WITHIN", 0.8)
    monkeypatch.setattr("investbus.transports.kafka_security.KNOCK_WITHIN", 0.3)
    monkeypatch.setattr("investbus.transports.kafka.PUBLISH_WITHIN", 4.0)  # some probes long
    reason = f"Kafka broker {own_kafka.bootstrap} {cause}"
    with capture_logs() as lines:
        await asyncio.to_thread(getattr(own_kafka, away))
        await until(lambda: not worker.state().connected, within=NOTICED)
        assert re.match(re.escape(reason) + r" \(silent for \d+ s\)", worker.state().reason)
        with pytest.raises(TransportDown, match=f"^{re.escape(reason)}$"):
            await worker.publish([Message(b"late")])
        getattr(own_kafka, back)()  # by the thread that a new process lives and dies with
        await until(lambda: worker.state().connected, within=20.0)
    told = [line for line in lines if "brokers" in line["event"]]
    assert [(line["log_level"], line["event"]) for line in told] == [
        ("warning", "the brokers do not answer"),
        ("info", "the brokers answer again"),
    ]
    assert told[0]["reason"] == reason
    assert told[1]["silent_for"] > told[0]["silent_for"] + 3.0


async def test_a_broker_that_freezes_is_noticed(own_kafka: Broker, worker: Kafka) -> None:
    own_kafka.pause()
    took = await until(lambda: not worker.state().connected, within=NOTICED)
    assert took > 1.0  # it was not the pause of a moment
    own_kafka.resume()
    await until(lambda: worker.state().connected, within=15.0)
    assert sorted(bodies(await take(worker, 10))) == sorted(b"%d" % n for n in range(10, 20))


async def test_close_takes_no_longer_than_it_may_when_the_broker_is_gone(own_kafka: Broker, worker: Kafka) -> None:
    taken = await take(worker, 10)
    await asyncio.to_thread(own_kafka.kill)
    ack(taken)
    start = time.monotonic()
    await worker.close(2.0)
    assert time.monotonic() - start < 3.0
    await until(lambda: not leftovers(), within=20.0)


async def test_an_open_that_is_cancelled_leaves_nothing_behind(own_kafka: Broker) -> None:
    own_kafka.create_topic("cancelled")
    for milliseconds in range(0, 60, 3):
        bus = made(settings(own_kafka, "cancelled"))
        opening = asyncio.create_task(bus.open())
        await asyncio.sleep(milliseconds / 1000)
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await opening
            await bus.close(1.0)
        await until(lambda: not leftovers(), within=1.0)
    gc.collect()  # whatever was left open complains now


async def test_open_without_a_broker_says_where_it_knocked_and_leaves_nothing_behind(own_kafka: Broker) -> None:
    own_kafka.stop()
    bus = made(settings(own_kafka, "topic"))
    with pytest.raises(TransportDown, match=f"^Kafka broker {own_kafka.bootstrap} refuses connections$"):
        await bus.open()
    with pytest.raises(TransportDown, match="refuses connections"):
        await bus.check()
    with pytest.raises(TransportDown, match="refuses connections"):
        await bus.publish([Message(b"1")])
    with pytest.raises(TransportDown, match="not open"):
        await bus.receive(1)
    await bus.close(1.0)
    assert leftovers() == []
