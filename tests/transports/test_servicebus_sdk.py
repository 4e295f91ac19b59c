"""Where the SDK would cost events, memory or time, and what is done about it."""

import asyncio
import gc
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.servicebus import _servicebus_session
from azure.servicebus._common import message as sdk_message
from azure.servicebus.aio import ServiceBusReceiver, ServiceBusSender

from investbus.transports import servicebus_connection, servicebus_locks
from investbus.transports.servicebus_link import Link
from tests.brokers.servicebus.lab import ServiceBus as Namespace
from tests.transports.reading import ack, bodies, take, until
from tests.transports.servicebus_workers import leftovers, made, new_queue, numbered, opened, strict_namespace

pytestmark = pytest.mark.broker
LOCK = 1.0  # seconds


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    yield from strict_namespace(tmp_path_factory.mktemp("servicebus"))


@pytest.mark.parametrize("sessions", [0, 1])
@pytest.mark.parametrize("wrong", [timedelta(hours=1), timedelta(minutes=-4), timedelta(hours=-1)])
async def test_a_clock_that_is_wrong_costs_no_lock(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch, wrong: timedelta, sessions: int
) -> None:
    left = servicebus_locks._left
    monkeypatch.setattr(servicebus_locks, "_left", lambda until: left(until) - wrong.total_seconds())
    monkeypatch.setattr(servicebus_locks, "SHORTEST", LOCK)  # which are five seconds on the real service
    monkeypatch.setattr(servicebus_locks, "RENEW_WITHIN", LOCK / 2)
    for module in (_servicebus_session, sdk_message):
        monkeypatch.setattr(module, "utc_now", lambda: datetime.now(UTC) + wrong)
    queue = new_queue(namespace, lock=LOCK, sessions=bool(sessions))
    bus = made(namespace, queue=queue, sessions=sessions)
    await bus.publish(numbered(0, 5, key="key"))
    async with opened(bus):
        taken = await take(bus, 5)
        await asyncio.sleep(3 * LOCK)
        ack(taken)
        await until(lambda: bus.counts.ok == 5)
    assert bodies(taken) == [b"%d" % number for number in range(5)]
    assert not any(delivery.redelivered for delivery in taken)
    assert (bus.counts.ok, bus.counts.lost, bus.counts.leases_lost) == (5, 0, 0)


async def test_receivers_and_senders_that_were_closed_are_forgotten(namespace: Namespace) -> None:
    """With sessions there is a new one every few seconds."""
    bus = made(namespace, queue=new_queue(namespace))
    for _ in range(2):
        async with opened(bus):
            await bus.publish(numbered(0, 1))
            ack(await take(bus, 1))
    await until(lambda: not leftovers())
    gc.collect()
    assert [one for one in gc.get_objects() if isinstance(one, ServiceBusReceiver | ServiceBusSender)] == []


async def test_no_settlement_waits_for_the_socket_of_another(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reader for all answers: with a reader each, all but one waited until the socket's time was over."""
    took: list[tuple[int, float]] = []
    settle, now = Link.settle, asyncio.get_running_loop().time

    async def timed(link: Link, given: Sequence[Any]) -> Any:
        began = now()
        errors = await settle(link, given)
        took.append((len(given), now() - began))
        return errors

    monkeypatch.setattr(Link, "settle", timed)
    monkeypatch.setattr(servicebus_connection, "SOCKET_TIMEOUT", 1.0)
    bus = made(namespace, queue=new_queue(namespace))
    await bus.publish(numbered(0, 60))
    async with opened(bus):
        ack(await take(bus, 60))
        await until(lambda: bus.counts.ok == 60)
    assert max(count for count, _ in took) > 10
    assert max(seconds for _, seconds in took) < 0.5
