"""Sessions: one worker at a time for each key, in order, and a turn for everybody."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from investbus.errors import TransportRefused
from investbus.transport import Delivery, Message
from investbus.transports import servicebus_sessions
from investbus.transports.servicebus import ServiceBus
from tests.brokers.servicebus.lab import ServiceBus as Namespace
from tests.transports.reading import ack, bodies, nothing, take, until
from tests.transports.servicebus_workers import leftovers, made, new_queue, numbered, opened, strict_namespace

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def _own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    yield from strict_namespace(tmp_path_factory.mktemp("servicebus"))


@pytest.fixture
def namespace(_own: Namespace) -> Namespace:
    _own.heal()
    return _own


@pytest.fixture
def queue(namespace: Namespace) -> str:
    return new_queue(namespace, sessions=True, lock=5.0)


async def test_each_key_is_handled_in_order_and_by_one_worker_at_a_time(namespace: Namespace, queue: str) -> None:
    workers = [made(namespace, queue=queue, sessions=3, window=12) for _ in range(2)]
    await workers[0].publish([Message(b"%d" % number, key=f"key-{number % 6}") for number in range(120)])
    handled: list[tuple[ServiceBus, int]] = []

    async def work(bus: ServiceBus) -> None:
        while True:
            for delivery in await bus.receive(4):
                await asyncio.sleep(0.002)
                handled.append((bus, int(delivery.body)))
                delivery.ack()

    async with opened(*workers):
        tasks = [asyncio.create_task(work(bus)) for bus in workers]
        await until(lambda: sum(bus.counts.ok for bus in workers) == 120, within=30.0)
        for task in tasks:
            task.cancel()
    for key in range(6):
        of_key = [(bus, number) for bus, number in handled if number % 6 == key]
        assert [number for _, number in of_key] == list(range(key, 120, 6))
        assert len({bus for bus, _ in of_key}) == 1
    assert {bus for bus, _ in handled} == set(workers)


async def test_an_idle_session_makes_room_for_the_next(namespace: Namespace, queue: str) -> None:
    bus = made(namespace, queue=queue, sessions=1)
    for key in ("a", "b", "c"):
        await bus.publish(numbered(0, 2, key))
    async with opened(bus):
        taken: list[Delivery] = []
        while len(taken) < 6:
            some = await take(bus, 2, within=10.0)
            ack(some)
            taken += some
        await until(lambda: bus.counts.ok == 6)
    assert bodies(taken) == [b"0", b"1"] * 3
    assert (bus.counts.lost, bus.counts.leases_lost) == (0, 0)


async def test_a_message_without_a_key_is_a_session_of_its_own(namespace: Namespace, queue: str) -> None:
    bus = made(namespace, queue=queue, sessions=2)
    await bus.publish(numbered(0, 2))
    await bus.close(1.0)
    assert len({copy.session for copy in namespace.contents(queue).active}) == 2


async def test_a_sessions_lock_is_renewed_as_long_as_its_events_run(namespace: Namespace) -> None:
    queue = new_queue(namespace, sessions=True, lock=1.0)
    bus = made(namespace, queue=queue, sessions=1)
    await bus.publish(numbered(0, 2, "a"))
    async with opened(bus):
        taken = await take(bus, 2)
        await asyncio.sleep(3.2)
        assert not taken[0].lease.lost
        ack(taken)
        await until(lambda: bus.counts.ok == 2)
    assert taken[0].lease is taken[1].lease


async def test_a_session_that_is_lost_takes_its_lease_with_it_and_its_events_come_again_in_order(
    namespace: Namespace, queue: str
) -> None:
    bus = made(namespace, queue=queue, sessions=1)
    await bus.publish(numbered(0, 4, "a"))
    async with opened(bus):
        taken = await take(bus, 4)
        taken[0].ack()
        await until(lambda: bus.counts.ok == 1)
        namespace.expire_locks(queue)
        await until(lambda: taken[1].lease.lost)
        ack(taken)
        again = await take(bus, 3)
        assert bodies(again) == [b"1", b"2", b"3"]
        assert [(one.redelivered, one.lease.lost) for one in again] == [(True, False)] * 3
        ack(again)
        await until(lambda: bus.counts.ok == 4)
    assert (bus.counts.lost, bus.counts.leases_lost) == (3, 1)


async def test_a_connection_that_is_cut_costs_its_session_and_nothing_else(namespace: Namespace, queue: str) -> None:
    bus = made(namespace, queue=queue, sessions=2)
    await bus.publish(numbered(0, 2, "a"))
    async with opened(bus):
        (late, _) = await take(bus, 2)
        namespace.cut()
        await until(lambda: late.lease.lost)
        again = await take(bus, 2)
        assert bodies(again) == [b"0", b"1"]
        assert bus.state().connected
        ack(again)
        await until(lambda: bus.counts.ok == 2)


async def test_no_more_is_held_than_a_window_however_many_sessions_there_are(namespace: Namespace, queue: str) -> None:
    bus = made(namespace, queue=queue, sessions=8, window=4)
    for key in "abcdef":
        await bus.publish(numbered(0, 3, key))
    async with opened(bus):
        await take(bus, 4)
        assert await nothing(bus, during=1.5)
        assert len(namespace.contents(queue).locked) == bus.state().partitions["0"].gap == 4


async def test_closing_gives_a_session_to_another_worker_without_waiting_for_its_lock(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicebus_sessions, "ACCEPT_FOR", 1.0)
    queue = new_queue(namespace, sessions=True, lock=30.0)
    first, second = made(namespace, queue=queue, sessions=1), made(namespace, queue=queue, sessions=1)
    await first.publish(numbered(0, 3, "a"))
    async with opened(second):
        held = await take(second, 3)
        async with opened(first):
            assert await nothing(first)
            held[0].ack()
            await second.close(2.0)
            again = await take(first, 2, within=3.0)
            assert bodies(again) == [b"1", b"2"]
            assert [delivery.count for delivery in again] == [1, 1]
            ack(again)
            await until(lambda: first.counts.ok == 2)


async def test_waiting_for_sessions_is_well_and_ends_at_once(
    namespace: Namespace, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicebus_sessions, "ACCEPT_FOR", 1.0)
    bus = made(namespace, queue=queue, sessions=8)
    await bus.open()
    assert await nothing(bus, during=2.5)
    assert (bus.state().connected, bus.state().joined, bus.state().reason) == (True, True, "")
    began = time.monotonic()
    await bus.close(3.0)
    assert time.monotonic() - began < 1.5
    await until(lambda: not leftovers(), within=5.0)


async def test_sessions_that_are_configured_and_not_there_or_there_and_not_configured_are_told(
    namespace: Namespace, queue: str
) -> None:
    plain = new_queue(namespace)
    for bus, said in (
        (made(namespace, queue=queue), "requires sessions; set servicebus.sessions"),
        (made(namespace, queue=plain, sessions=2), "has no sessions; set servicebus.sessions: 0"),
    ):
        with pytest.raises(TransportRefused, match=said) as refused:
            await bus.open()
        assert "session mismatch" in str(refused.value)
        assert await bus.check() == [str(refused.value)]
