"""A connection that breaks, a service that refuses, is busy, or says nothing."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from investbus.errors import TransportDown, TransportRefused
from investbus.transports import servicebus_silence
from investbus.transports.servicebus_link import Link
from tests.brokers.servicebus.faults import What
from tests.brokers.servicebus.lab import ServiceBus as Namespace
from tests.transports.reading import ack, bodies, take, until
from tests.transports.servicebus_workers import down, leftovers, made, new_queue, numbered, opened, strict_namespace

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def _own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    yield from strict_namespace(tmp_path_factory.mktemp("servicebus"))


@pytest.fixture
def namespace(_own: Namespace) -> Namespace:
    if not _own.running:
        _own.start()
    _own.resume()
    _own.heal()
    return _own


async def test_a_connection_that_is_cut_costs_no_lock(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    bus = made(namespace, queue=queue, window=5)
    await bus.publish(numbered(0, 8))
    async with opened(bus):
        taken = await take(bus, 5)
        namespace.cut()
        ack(taken[:4])
        more = await take(bus, 3)
        ack([taken[4], *more])
        await until(lambda: bus.counts.ok == 8)
        assert bus.state().connected
        assert (bus.counts.lost, bus.counts.leases_lost) == (0, 0)
        assert not any(delivery.redelivered for delivery in taken + more)
    assert namespace.contents(queue).active == []


@pytest.mark.parametrize("condition", ["amqp:link:detach-forced", "com.microsoft:server-busy"])
async def test_a_link_that_is_detached_is_attached_again_without_losing_what_runs(namespace: Namespace, condition: str) -> None:
    queue = new_queue(namespace)
    bus = made(namespace, queue=queue)
    await bus.publish(numbered(0, 3))
    async with opened(bus):
        taken = await take(bus, 3)
        namespace.detach(queue, condition)
        await bus.publish(numbered(3, 5))
        more = await take(bus, 2)
        ack(taken + more)
        await until(lambda: bus.counts.ok == 5)
    assert (bus.counts.lost, bus.counts.leases_lost) == (0, 0)


async def test_a_link_that_is_detached_for_being_idle_is_attached_again(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    bus = made(namespace, queue=queue)
    async with opened(bus):
        namespace.detach_idle(0.3)
        await asyncio.sleep(1.0)
        namespace.heal()
        await bus.publish(numbered(0, 1))
        ack(await take(bus, 1))
        await until(lambda: bus.counts.ok == 1)


async def test_a_sender_that_was_detached_while_idle_sends_the_next_message_all_the_same(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    bus = made(namespace, queue=queue)
    await bus.publish(numbered(0, 1))
    namespace.detach(queue)
    await asyncio.sleep(0.1)
    await bus.publish(numbered(1, 2))
    namespace.cut()
    await bus.publish(numbered(2, 3))
    await bus.close(2.0)
    assert [copy.body for copy in namespace.contents(queue).active] == [b"0", b"1", b"2"]


async def test_a_connection_that_breaks_again_at_once_is_the_workers_affair(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    bus = made(namespace, queue=queue)
    await bus.publish(numbered(0, 2))
    async with opened(bus):
        taken = await take(bus, 2)
        ending = asyncio.create_task(down(bus))
        for _ in range(2):
            namespace.cut()
            await asyncio.sleep(2.0)
        assert "Service Bus" in str(await ending)
        assert not bus.state().connected
        assert all(delivery.lease.lost for delivery in taken)
        ack(taken)
        assert (bus.counts.ok, bus.counts.lost) == (0, 2)
        await bus.close(2.0)
        await bus.open()
        namespace.expire_locks(queue)
        again = await take(bus, 2)
        assert sorted(bodies(again)) == [b"0", b"1"]
        ack(again)
        await until(lambda: bus.counts.ok == 2)


async def test_a_service_that_is_gone_ends_in_its_words_and_every_ack_is_counted_once(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    bus = made(namespace, queue=queue)
    await bus.publish(numbered(0, 3))
    await bus.open()
    taken = await take(bus, 3)
    namespace.kill()
    ack(taken[:2])
    error = await down(bus)
    assert not isinstance(error, TransportRefused)
    assert queue in str(error)
    assert "\n" not in str(error)
    ack(taken)
    assert (bus.counts.ok, bus.counts.lost, bus.counts.error) == (0, 3, 0)
    with pytest.raises(TransportDown):
        await bus.publish(numbered(3, 4))
    began = time.monotonic()
    await bus.close(2.0)
    assert time.monotonic() - began < 2.5
    await asyncio.sleep(0.5)
    assert leftovers() == []


@pytest.mark.parametrize("mute", [True, False])
async def test_a_service_that_says_nothing_is_seen_and_given_up(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch, mute: bool
) -> None:
    monkeypatch.setattr(servicebus_silence, "ASK_AFTER", 1.0)
    monkeypatch.setattr(servicebus_silence, "GIVE_UP_AFTER", 3.0)
    queue = new_queue(namespace)
    bus = made(namespace, queue=queue)
    await bus.publish(numbered(0, 3))
    await bus.open()
    taken = await take(bus, 3)
    if mute:
        namespace.mute()
    else:
        namespace.pause()
    ack(taken[:1])  # a settlement that hangs
    assert await until(lambda: not bus.state().connected, within=15.0) > 1.0
    assert "has not answered for" in bus.state().reason
    assert not bus.state().joined
    assert "has not answered" in str(await down(bus, within=15.0))
    assert all(delivery.lease.lost for delivery in taken)
    began = time.monotonic()
    await bus.close(2.0)
    assert time.monotonic() - began < 3.0
    ack(taken)
    assert (bus.counts.ok, bus.counts.lost) == (0, 3)
    namespace.resume()
    namespace.heal()
    await until(lambda: not leftovers(), within=10.0)


async def test_a_busy_service_is_no_reason_to_call_it_gone(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    bus = made(namespace, queue=queue)
    namespace.refuse(What.ATTACHES)
    with pytest.raises(TransportDown, match="server-busy") as error:
        await bus.open()
    assert not isinstance(error.value, TransportRefused)
    namespace.refuse(What.SENDS)
    with pytest.raises(TransportDown, match="server-busy"):
        await bus.publish(numbered(0, 1))


async def test_a_token_that_is_refused_when_the_connection_is_opened_again_is_told_as_such(namespace: Namespace) -> None:
    bus = made(namespace, queue=new_queue(namespace))
    async with opened(bus):
        namespace.refuse(What.TOKENS, "amqp:unauthorized-access")
        namespace.cut()
        error = await down(bus)
        assert isinstance(error, TransportRefused)
        assert "credentials" in str(error)


async def test_receiving_that_fails_for_another_reason_is_told_and_not_tried_for_ever(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(link: Link, credit: int) -> None:
        raise AttributeError("the SDK has changed")

    bus = made(namespace, queue=new_queue(namespace))
    monkeypatch.setattr(Link, "allow", gone)
    async with opened(bus):
        assert "the SDK has changed" in str(await down(bus))


async def test_open_that_is_cancelled_leaves_nothing_behind(namespace: Namespace) -> None:
    bus = made(namespace, queue=new_queue(namespace))
    namespace.mute()
    opening = asyncio.create_task(bus.open())
    await asyncio.sleep(0.3)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await until(lambda: not leftovers(), within=10.0)
