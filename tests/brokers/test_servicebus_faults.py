"""What goes wrong on order in the Service Bus emulator, as the SDK feels it, and what is left afterwards."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender
from azure.servicebus.exceptions import (
    OperationTimeoutError,
    ServiceBusAuthenticationError,
    ServiceBusConnectionError,
    ServiceBusServerBusyError,
)

from tests.brokers.missing import Missing, refuse
from tests.brokers.servicebus.clients import QUICK, new_client, opened, received
from tests.brokers.servicebus.faults import What
from tests.brokers.servicebus.lab import ServiceBus
from tests.brokers.servicebus.orders import Put
from tests.brokers.servicebus.sources import open_servicebus

pytestmark = [
    pytest.mark.broker,
    pytest.mark.usefixtures("careless_sdk"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture
def queue(own_servicebus: ServiceBus) -> str:
    """A new one with two messages."""
    name = f"queue-{uuid.uuid4().hex[:12]}"
    own_servicebus.create_queue(name)
    own_servicebus.send(name, [Put(b"one"), Put(b"two")])
    return name


class Pair(NamedTuple):
    client: ServiceBusClient
    sender: ServiceBusSender
    receiver: ServiceBusReceiver


@asynccontextmanager
async def pair(servicebus: ServiceBus, queue: str, *, retries: int = 0) -> AsyncIterator[Pair]:
    async with new_client(servicebus.connection_string, retries=retries) as client:
        sender, receiver = client.get_queue_sender(queue), client.get_queue_receiver(queue, socket_timeout=QUICK)
        async with opened(sender), opened(receiver):
            yield Pair(client, sender, receiver)


async def test_after_a_cut_what_was_locked_can_still_be_settled(own_servicebus: ServiceBus, queue: str) -> None:
    async with pair(own_servicebus, queue, retries=2) as (_, sender, receiver):
        messages = await received(receiver, 2)
        assert own_servicebus.cut() == 2
        await receiver.complete_message(messages[0])  # by its lock token, on a new connection
        await sender.send_messages(ServiceBusMessage("three"))
        contents = own_servicebus.contents(queue)
    assert [copy.body for copy in contents.locked] == [b"two"]
    assert [copy.body for copy in contents.active] == [b"three"]


async def test_a_link_can_be_detached_alone(own_servicebus: ServiceBus, queue: str) -> None:
    own_servicebus.create_queue(f"{queue}-other")
    async with pair(own_servicebus, queue) as (client, _, receiver), opened(other := client.get_queue_sender(f"{queue}-other")):
        assert own_servicebus.detach(queue) == 2
        with pytest.raises(ServiceBusConnectionError, match="detach-forced"):
            await receiver.receive_messages(1, max_wait_time=3)
        await other.send_messages(ServiceBusMessage("not concerned"))
        assert [str(message) for message in await received(receiver, 2)] == ["one", "two"]


async def test_sends_and_settles_are_refused_while_the_namespace_is_busy(own_servicebus: ServiceBus, queue: str) -> None:
    async with pair(own_servicebus, queue) as (_, sender, receiver):
        own_servicebus.refuse(What.SENDS, seconds=0.5)
        with pytest.raises(ServiceBusServerBusyError):
            await sender.send_messages(ServiceBusMessage("three"))
        [message, _] = await received(receiver, 2)
        own_servicebus.refuse(What.SETTLES)
        with pytest.raises(ServiceBusServerBusyError):
            await receiver.complete_message(message)
        assert len(own_servicebus.contents(queue).locked) == 2
        await asyncio.sleep(0.5)
        await sender.send_messages(ServiceBusMessage("three"))
    assert [copy.body for copy in own_servicebus.contents(queue).active] == [b"three"]


async def test_renewals_can_be_refused(own_servicebus: ServiceBus, queue: str) -> None:
    async with pair(own_servicebus, queue) as (_, _, receiver):
        [message] = await received(receiver, 1)
        own_servicebus.refuse(What.RENEWALS)
        with pytest.raises(ServiceBusServerBusyError):
            await receiver.renew_message_lock(message)
        own_servicebus.heal()
        await receiver.renew_message_lock(message)
    assert own_servicebus.contents(queue).counts["renewed"] == 1


async def test_tokens_and_links_can_be_refused(own_servicebus: ServiceBus, queue: str) -> None:
    async with new_client(own_servicebus.connection_string) as client:
        own_servicebus.refuse(What.TOKENS)
        with pytest.raises(ServiceBusAuthenticationError):
            await client.get_queue_sender(queue).__aenter__()
        own_servicebus.heal()
        own_servicebus.refuse(What.ATTACHES)
        with pytest.raises(ServiceBusServerBusyError):
            await client.get_queue_sender(queue).__aenter__()


async def test_answers_can_be_late(own_servicebus: ServiceBus, queue: str) -> None:
    async with pair(own_servicebus, queue) as (_, sender, _):
        own_servicebus.delay(0.3)
        begun = time.monotonic()
        await sender.send_messages([ServiceBusMessage(f"late {number}") for number in range(3)])
        took = time.monotonic() - begun
        own_servicebus.heal()
    assert 0.3 <= took < 1.0
    assert len(own_servicebus.contents(queue).active) == 5


async def test_a_mute_namespace_does_what_it_does_not_confirm(own_servicebus: ServiceBus, queue: str) -> None:
    async with pair(own_servicebus, queue) as (_, sender, receiver):
        [message] = await received(receiver, 1)
        own_servicebus.mute()
        with pytest.raises(OperationTimeoutError):
            await sender.send_messages(ServiceBusMessage("three"), timeout=0.5)
        completing = asyncio.create_task(receiver.complete_message(message))
        await asyncio.sleep(0.3)
        contents = own_servicebus.contents(queue)
        assert not completing.done()
        own_servicebus.heal()
        await completing
    assert contents.counts["completed"] == 1
    assert [copy.body for copy in contents.active] == [b"two", b"three"]


async def test_idle_links_are_detached_and_used_ones_are_not(own_servicebus: ServiceBus, queue: str) -> None:
    async with pair(own_servicebus, queue) as (_, sender, receiver):
        own_servicebus.detach_idle(0.8)
        for number in range(10):
            await sender.send_messages(ServiceBusMessage(f"{number}"))
            await asyncio.sleep(0.2)
        with pytest.raises(ServiceBusConnectionError, match="idle timeout"):
            await receiver.receive_messages(1, max_wait_time=3)
    assert own_servicebus.contents(queue).counts["sent"] == 12


async def test_a_paused_namespace_goes_on_where_it_stopped(own_servicebus: ServiceBus, queue: str) -> None:
    async with pair(own_servicebus, queue) as (_, sender, receiver):
        own_servicebus.pause()
        sending = asyncio.create_task(sender.send_messages(ServiceBusMessage("three")))
        await asyncio.sleep(0.3)
        assert not sending.done()
        own_servicebus.resume()
        await sending
        assert [str(message) for message in await received(receiver, 3)] == ["one", "two", "three"]


async def test_a_kill_loses_nothing_that_was_confirmed(own_servicebus: ServiceBus, queue: str) -> None:
    own_servicebus.create_topic(f"{queue}-topic", ["a"], max_delivery=5)
    subscription = f"{queue}-topic/Subscriptions/a"
    own_servicebus.send(f"{queue}-topic", [Put(b"in a topic", properties={"kept": "yes"})])
    async with pair(own_servicebus, queue) as (_, sender, receiver):
        for number in range(50):
            await sender.send_messages(ServiceBusMessage(str(number), message_id=f"id-{number}"))
        first, second, third = await received(receiver, 3)
        await receiver.complete_message(first)
        await receiver.dead_letter_message(second, reason="broken")
        await receiver.abandon_message(third)
        own_servicebus.kill()
    assert not own_servicebus.running
    own_servicebus.start()
    contents = own_servicebus.contents(queue)
    assert [copy.body for copy in contents.active] == [b"%d" % number for number in range(50)]
    assert [(copy.sequence, copy.count, copy.message_id) for copy in contents.active[:2]] == [(3, 1, "id-0"), (4, 0, "id-1")]
    assert [(copy.body, copy.properties["DeadLetterReason"]) for copy in contents.dead] == [(b"two", "broken")]
    [kept] = own_servicebus.contents(subscription).active
    assert (kept.body, kept.properties) == (b"in a topic", {"kept": "yes"})
    own_servicebus.send(queue, [Put(b"after")])
    assert own_servicebus.contents(queue).active[-1].sequence == 53


async def test_a_strict_namespace_closes_on_a_client_that_writes_from_two_coroutines(tmp_path: Path) -> None:
    try:
        strict = open_servicebus(tmp_path, own=True, strict=True)
    except Missing as missing:
        refuse(missing)
    try:
        strict.create_queue("q")
        async with new_client(strict.connection_string) as client, opened(sender := client.get_queue_sender("q")):
            await sender.send_messages(ServiceBusMessage("alone"))
            strict.send("q", [Put(b"")] * 4)
            async with opened(receiver := client.get_queue_receiver("q", socket_timeout=QUICK)):
                messages = await received(receiver, 5)
                ended = []
                for _ in range(20):
                    ended += await asyncio.gather(*map(receiver.renew_message_lock, messages), return_exceptions=True)
        assert any(isinstance(each, Exception) for each in ended)
        assert "sequencing error" in (tmp_path / "output.log").read_text()
    finally:
        strict.close()
