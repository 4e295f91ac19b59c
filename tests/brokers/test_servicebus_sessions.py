"""Sessions of the Service Bus emulator, asked by the SDK."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver
from azure.servicebus.exceptions import (
    OperationTimeoutError,
    ServiceBusError,
    SessionCannotBeLockedError,
    SessionLockLostError,
)

from tests.brokers.servicebus.clients import QUICK, new_client, opened, received
from tests.brokers.servicebus.lab import ServiceBus
from tests.brokers.servicebus.orders import Put

pytestmark = [pytest.mark.broker, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(servicebus: ServiceBus) -> AsyncIterator[ServiceBusClient]:
    async with new_client(servicebus.connection_string) as client:
        yield client


@pytest.fixture
def queue(servicebus: ServiceBus) -> str:
    """A new one whose messages are in sessions."""
    name = f"queue-{uuid.uuid4().hex[:12]}"
    servicebus.create_queue(name, sessions=True)
    return name


def fill(servicebus: ServiceBus, queue: str, *sessions: str) -> None:
    """Three messages in each."""
    messages = [Put(f"{name}{number}".encode(), session=name) for number in range(3) for name in sessions]
    servicebus.send(queue, messages)


def of(client: ServiceBusClient, queue: str, session: str) -> ServiceBusReceiver:
    return client.get_queue_receiver(queue, session_id=session, socket_timeout=QUICK)


def next_of(client: ServiceBusClient, queue: str, wait: float) -> ServiceBusReceiver:
    return client.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=wait, socket_timeout=QUICK)


async def test_a_receiver_of_a_session_gets_its_messages_in_order_and_no_others(
    servicebus: ServiceBus, client: ServiceBusClient, queue: str
) -> None:
    fill(servicebus, queue, "a", "b")
    async with opened(a := of(client, queue, "a")):
        messages = await received(a, 3)
        assert [(str(message), message.session_id) for message in messages] == [(f"a{number}", "a") for number in range(3)]
        await a.complete_message(messages[0])
        await a.abandon_message(messages[1])
        [again] = await received(a, 1)
        assert (str(again), again.delivery_count) == ("a1", 1)


async def test_a_session_that_is_left_is_free_with_its_counts_unchanged(
    servicebus: ServiceBus, client: ServiceBusClient, queue: str
) -> None:
    fill(servicebus, queue, "a")
    async with opened(first := of(client, queue, "a")):
        assert len(await received(first, 2)) == 2
        assert [copy.session for copy in servicebus.contents(queue).locked] == ["a", "a"]
    assert [copy.count for copy in servicebus.contents(queue).active] == [0, 0, 0]
    async with opened(second := of(client, queue, "a")):
        assert [str(message) for message in await received(second, 3)] == ["a0", "a1", "a2"]


async def test_a_session_is_held_by_one_receiver_and_the_next_one_gets_another(
    servicebus: ServiceBus, client: ServiceBusClient, queue: str
) -> None:
    fill(servicebus, queue, "a", "b")
    async with opened(of(client, queue, "a")):
        with pytest.raises(SessionCannotBeLockedError):
            await of(client, queue, "a").__aenter__()
        async with opened(other := next_of(client, queue, 5.0)):
            assert other.session.session_id == "b"
            assert [str(message) for message in await received(other, 3)] == ["b0", "b1", "b2"]


async def test_waiting_for_a_session_has_an_end(client: ServiceBusClient, queue: str) -> None:
    with pytest.raises(OperationTimeoutError):
        await next_of(client, queue, 0.5).__aenter__()


async def test_a_session_that_comes_while_somebody_waits_is_granted(
    servicebus: ServiceBus, client: ServiceBusClient, queue: str
) -> None:
    waiting = next_of(client, queue, 5.0)
    opening = asyncio.create_task(waiting.__aenter__())
    await asyncio.sleep(0.3)
    servicebus.send(queue, [Put(b"late", session="new")])
    await opening
    assert waiting.session.session_id == "new"
    assert [str(message) for message in await received(waiting, 1)] == ["late"]
    await waiting.close()


async def test_a_renewed_session_lasts_and_one_that_is_not_renewed_is_lost(
    servicebus: ServiceBus, client: ServiceBusClient
) -> None:
    queue = f"queue-{uuid.uuid4().hex[:12]}"
    servicebus.create_queue(queue, sessions=True, lock=1.0)
    fill(servicebus, queue, "a")
    receiver = of(client, queue, "a")
    await receiver.__aenter__()
    messages = await received(receiver, 2)
    for _ in range(2):
        await asyncio.sleep(0.6)
        await receiver.session.renew_lock()
    await receiver.complete_message(messages[0])
    assert [copy.count for copy in servicebus.contents(queue).locked] == [0]
    servicebus.expire_locks(queue)
    with pytest.raises(SessionLockLostError):
        await receiver.complete_message(messages[1])
    with pytest.raises(SessionLockLostError):
        await receiver.receive_messages(1, max_wait_time=1)
    await receiver.close()
    assert [copy.count for copy in servicebus.contents(queue).active] == [1, 0]


async def test_a_session_has_a_state(client: ServiceBusClient, queue: str) -> None:
    async with opened(first := of(client, queue, "a")):
        assert await first.session.get_state() is None
        await first.session.set_state("page 3")
    async with opened(second := of(client, queue, "a")):
        assert await second.session.get_state() == b"page 3"


async def test_a_message_without_a_session_is_refused_where_sessions_are_required(
    servicebus: ServiceBus, client: ServiceBusClient, queue: str
) -> None:
    async with opened(sender := client.get_queue_sender(queue)):
        with pytest.raises(ServiceBusError, match="SessionId was not set"):
            await sender.send_messages(ServiceBusMessage("alone"))
    assert servicebus.contents(queue).active == []


async def test_a_queue_is_opened_with_sessions_if_and_only_if_it_has_them(
    servicebus: ServiceBus, client: ServiceBusClient, queue: str
) -> None:
    servicebus.create_queue(f"{queue}-plain")
    with pytest.raises(ServiceBusError, match="requires sessions"):
        await client.get_queue_receiver(queue).__aenter__()
    with pytest.raises(ServiceBusError, match="does not require sessions"):
        await of(client, f"{queue}-plain", "a").__aenter__()
