"""Locks, the window, and what is given back: the part of the transport that other buses do not have."""

import asyncio
from collections.abc import Iterator

import pytest

from investbus.transport import Delivery, Lease
from investbus.transports import servicebus_receiver
from investbus.transports.servicebus import ServiceBus
from tests.brokers.servicebus.faults import What
from tests.brokers.servicebus.lab import ServiceBus as Namespace
from tests.transports.reading import ack, bodies, nothing, take, until
from tests.transports.servicebus_workers import leftovers, made, new_queue, numbered, opened, strict_namespace

pytestmark = pytest.mark.broker
LOCK = 1.0  # seconds
LOST = "com.microsoft:message-lock-lost"


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    yield from strict_namespace(tmp_path_factory.mktemp("servicebus"))


@pytest.fixture
def namespace(_shared: Namespace) -> Namespace:
    _shared.heal()
    return _shared


def counted(bus: ServiceBus) -> tuple[int, int, int]:
    return bus.counts.ok, bus.counts.lost, bus.counts.error


# ---- locks


async def test_what_takes_three_lock_durations_is_settled_once(namespace: Namespace) -> None:
    queue = new_queue(namespace, lock=LOCK)
    bus, other = made(namespace, queue=queue), made(namespace, queue=queue)
    await bus.publish(numbered(0, 3))
    async with opened(bus):
        taken = await take(bus, 3)
        async with opened(other):
            assert await nothing(other, during=3 * LOCK)
        ack(taken)
        await until(lambda: bus.counts.ok == 3)
    assert namespace.contents(queue).active == []
    assert (counted(bus), bus.counts.leases_lost) == ((3, 0, 0), 0)


async def test_locks_are_renewed_from_receipt_on_although_nobody_asks_for_the_events(namespace: Namespace) -> None:
    queue = new_queue(namespace, lock=LOCK)
    bus = made(namespace, queue=queue)
    await bus.publish(numbered(0, 20))
    async with opened(bus):
        ack(await take(bus, 1))
        await until(lambda: len(namespace.contents(queue).locked) == 19)
        await asyncio.sleep(3 * LOCK)
        taken = await take(bus, 19)
        assert not any(delivery.redelivered for delivery in taken)
        ack(taken)
        await until(lambda: bus.counts.ok == 20)


async def test_a_lock_that_was_lost_while_the_handler_ran_is_not_settled_and_comes_again(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    bus = made(namespace, queue=queue, window=1)
    await bus.publish(numbered(0, 1))
    async with opened(bus):
        (late,) = await take(bus, 1)
        namespace.expire_locks(queue)
        late.ack()
        await until(lambda: bus.counts.lost)
        assert late.lease.lost
        (again,) = await take(bus, 1)
        assert (again.redelivered, again.count, again.lease.lost, again.origin) == (True, 2, False, late.origin)
        again.ack()
        await until(lambda: bus.counts.ok)
    assert counted(bus) == (1, 1, 0)


async def test_a_renewal_that_is_refused_ends_the_lease_of_that_event(namespace: Namespace) -> None:
    queue = new_queue(namespace, lock=LOCK)
    bus = made(namespace, queue=queue)
    await bus.publish(numbered(0, 1))
    closing: list[Lease] = []
    async with opened(bus):
        (delivery,) = await take(bus, 1)
        delivery.lease.on_closing(closing.append)
        namespace.refuse(What.RENEWALS, LOST)
        await until(lambda: delivery.lease.lost, within=LOCK)
        namespace.heal()
        assert closing == [delivery.lease]
        delivery.ack()
    assert (counted(bus), bus.counts.leases_lost) == ((0, 1, 0), 1)


async def test_one_lost_lock_costs_no_other_event(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    bus = made(namespace, queue=queue)
    await bus.publish(numbered(0, 1))
    async with opened(bus):
        (late,) = await take(bus, 1)
        namespace.expire_locks(queue)  # the service gives it to the same receiver again
        await bus.publish(numbered(1, 3))
        taken = await take(bus, 3)
        assert sorted(bodies(taken)) == [b"0", b"1", b"2"]
        assert late.lease.lost
        assert not any(delivery.lease.lost for delivery in taken)
        late.ack()
        ack(taken)
        await until(lambda: bus.counts.ok == 3)
    assert (counted(bus), bus.counts.leases_lost) == ((3, 1, 0), 1)


async def test_leases_are_used_again_so_that_whoever_watches_them_watches_no_more_than_a_window(namespace: Namespace) -> None:
    bus = made(namespace, queue=new_queue(namespace), window=4)
    await bus.publish(numbered(0, 60))
    seen: set[Lease] = set()
    async with opened(bus):
        for _ in range(60):
            (delivery,) = await take(bus, 1)
            seen.add(delivery.lease)
            delivery.ack()
    assert len(seen) <= 4
    assert all(lease.lost for lease in seen)


async def test_a_receiver_is_never_used_by_two_coroutines(namespace: Namespace) -> None:
    """The namespace would break the connection, and the events in it would come again."""
    queue = new_queue(namespace, lock=LOCK)
    bus = made(namespace, queue=queue, window=100)
    await bus.publish(numbered(0, 400))
    async with opened(bus):
        slow: list[Delivery] = await take(bus, 60)
        fast: list[Delivery] = []
        while len(fast) < 340:
            some = await take(bus, 1)
            ack(some)
            fast += some
            await asyncio.sleep(0.005)
        ack(slow)
        await until(lambda: bus.counts.ok == 400)
    assert not any(delivery.redelivered for delivery in slow + fast)
    assert (counted(bus), bus.counts.leases_lost) == ((400, 0, 0), 0)


# ---- the window


async def test_no_more_than_a_window_is_locked_whoever_is_slow(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    bus = made(namespace, queue=queue, window=7)
    await bus.publish(numbered(0, 60))
    most = 0
    async with opened(bus):
        for turn in range(20):
            taken = await take(bus, 3)
            await asyncio.sleep(0.02 * (turn % 3))
            contents = await asyncio.to_thread(namespace.contents, queue)
            most = max(most, len(contents.locked))
            assert bus.state().partitions["0"].gap <= 7
            ack(taken)
        await until(lambda: bus.counts.ok == 60)
    assert most == 7


async def test_a_lone_event_comes_and_goes_within_milliseconds(namespace: Namespace) -> None:
    bus = made(namespace, queue=new_queue(namespace))
    loop = asyncio.get_running_loop()
    async with opened(bus):
        await bus.publish(numbered(0, 1))
        ack(await take(bus, 1))
        took = []
        for number in range(1, 8):
            await asyncio.sleep(0.1)
            waiting = asyncio.create_task(bus.receive(1))
            await bus.publish(numbered(number, number + 1))
            began = loop.time()
            ack(await waiting)
            took.append(loop.time() - began)
    assert sorted(took)[3] < 0.05


# ---- giving back


async def test_what_is_given_back_goes_to_another_worker_at_once_and_counts_as_no_failure(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    first, second = made(namespace, queue=queue), made(namespace, queue=queue)
    await first.publish(numbered(0, 10))
    async with opened(first):
        taken = await take(first, 4)
        await until(lambda: len(namespace.contents(queue).locked) == 10)
        async with opened(second):
            taken[0].release()
            again = await take(second, 7, within=2.0)  # and the six that nobody had asked for
            assert not any(delivery.redelivered for delivery in again)
            assert sorted(bodies(again)) == sorted([taken[0].body, *(b"%d" % number for number in range(4, 10))])
            ack(again)
            ack(taken)
            await until(lambda: (first.counts.ok, second.counts.ok) == (3, 7))
    assert namespace.contents(queue).active == []


async def test_it_takes_events_again_when_it_is_asked_again(namespace: Namespace) -> None:
    bus = made(namespace, queue=new_queue(namespace))
    await bus.publish(numbered(0, 2))
    async with opened(bus):
        for delivery in await take(bus, 2):
            delivery.release()
        await asyncio.sleep(0.3)
        assert bus.state().partitions["0"].gap == 0
        assert sorted(bodies(await take(bus, 2))) == [b"0", b"1"]


async def test_close_gives_back_what_still_runs_without_waiting_for_its_lock(namespace: Namespace) -> None:
    queue = new_queue(namespace, lock=30.0)
    bus = made(namespace, queue=queue)
    await bus.publish(numbered(0, 5))
    async with opened(bus):
        runs = await take(bus, 3)
        runs[0].ack()
    contents = namespace.contents(queue)
    assert ([copy.body for copy in contents.active], contents.locked) == ([b"1", b"2", b"3", b"4"], [])
    assert {copy.count for copy in contents.active} == {0}
    runs[1].ack()
    assert counted(bus) == (1, 1, 0)
    await asyncio.sleep(0.1)
    assert leftovers() == []


# ---- settling


async def test_a_busy_service_is_asked_again_until_it_has_confirmed(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    bus = made(namespace, queue=queue)
    await bus.publish(numbered(0, 5))
    async with opened(bus):
        taken = await take(bus, 5)
        namespace.refuse(What.SETTLES, seconds=0.4)
        ack(taken)
        await asyncio.sleep(0.2)
        assert bus.counts.ok == 0
        await until(lambda: bus.counts.ok == 5)
    assert counted(bus) == (5, 0, 0)


async def test_a_service_that_is_busy_for_longer_costs_no_lock_and_no_delivery(namespace: Namespace) -> None:
    queue = new_queue(namespace, lock=LOCK)
    bus = made(namespace, queue=queue, window=40)
    await bus.publish(numbered(0, 100))
    async with opened(bus):
        taken = await take(bus, 40)
        namespace.refuse(What.SETTLES, seconds=4 * LOCK)
        ack(taken)
        while len(taken) < 100:
            more = await take(bus, 1)
            ack(more)
            taken += more
        await until(lambda: bus.counts.ok == 100)
    assert not any(delivery.redelivered for delivery in taken)
    assert (counted(bus), bus.counts.leases_lost) == ((100, 0, 0), 0)


async def test_what_the_service_never_confirms_is_never_counted_as_settled(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicebus_receiver, "SETTLE_FOR", 1.0)
    queue = new_queue(namespace, lock=2.0)
    bus = made(namespace, queue=queue, window=3)
    await bus.publish(numbered(0, 3))
    async with opened(bus):
        taken = await take(bus, 3)
        namespace.refuse(What.SETTLES)
        ack(taken)
        await until(lambda: bus.counts.error == 3)
        assert all(delivery.lease.lost for delivery in taken)
        namespace.heal()
        again = await take(bus, 3)
        ack(again)
        await until(lambda: bus.counts.ok == 3)
    assert counted(bus) == (3, 0, 3)
