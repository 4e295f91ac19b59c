"""The Service Bus emulator, asked by the SDK: what is sent, received, locked and settled."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
import pytest_asyncio
from azure.servicebus import ServiceBusMessage, ServiceBusReceiveMode, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender
from azure.servicebus.amqp import AmqpAnnotatedMessage, AmqpMessageBodyType
from azure.servicebus.exceptions import MessageLockLostError, MessageSizeExceededError

from tests.brokers.servicebus.clients import QUICK, body_of, new_client, opened, received
from tests.brokers.servicebus.lab import ServiceBus

pytestmark = [pytest.mark.broker, pytest.mark.asyncio(loop_scope="module")]
on_module_loop = pytest_asyncio.fixture(scope="module", loop_scope="module")


class Line(NamedTuple):
    """A queue with a sender, a receiver and one for its dead letters; each test leaves it empty."""

    name: str
    sender: ServiceBusSender
    receiver: ServiceBusReceiver
    dead: ServiceBusReceiver


@on_module_loop
async def client(servicebus: ServiceBus) -> AsyncIterator[ServiceBusClient]:
    async with new_client(servicebus.connection_string) as client:
        yield client


@on_module_loop
async def line(servicebus: ServiceBus, client: ServiceBusClient) -> AsyncIterator[Line]:
    """Three deliveries of one second each."""
    name = new_queue(servicebus, lock=1.0, max_delivery=3)
    sender, receiver = client.get_queue_sender(name), client.get_queue_receiver(name, socket_timeout=QUICK)
    dead = client.get_queue_receiver(name, sub_queue=ServiceBusSubQueue.DEAD_LETTER, socket_timeout=QUICK)
    async with opened(sender), opened(receiver, dead):
        yield Line(name, sender, receiver, dead)


def new_queue(servicebus: ServiceBus, *, lock: float = 30.0, max_delivery: int = 10, lifetime: float | None = None) -> str:
    name = f"queue-{uuid.uuid4().hex[:12]}"
    servicebus.create_queue(name, lock=lock, max_delivery=max_delivery, lifetime=lifetime)
    return name


async def test_a_message_comes_back_as_it_was_sent(line: Line) -> None:
    sent = ServiceBusMessage(
        b"\x00body",
        message_id="id-1",
        subject="a subject",
        content_type="application/json",
        correlation_id="c",
        application_properties={"text": "t", "number": 7, "flag": True},
    )
    await line.sender.send_messages(sent)
    [message] = await received(line.receiver, 1)
    locked_until = message.locked_until_utc
    await line.receiver.complete_message(message)
    assert body_of(message) == b"\x00body"
    assert (message.message_id, message.subject, message.content_type) == ("id-1", "a subject", "application/json")
    assert (message.correlation_id, message.delivery_count) == ("c", 0)
    assert message.application_properties == {b"text": b"t", b"number": 7, b"flag": True}
    assert locked_until is not None
    assert message.enqueued_time_utc is not None
    assert (locked_until - message.enqueued_time_utc).total_seconds() == pytest.approx(1.0, abs=0.5)


async def test_a_list_and_a_batch_become_single_messages_in_order(line: Line) -> None:
    batch = await line.sender.create_message_batch()
    for number in range(3):
        batch.add_message(ServiceBusMessage(f"batch-{number}"))
    await line.sender.send_messages([ServiceBusMessage(f"list-{number}") for number in range(3)])
    await line.sender.send_messages(batch)
    messages = await received(line.receiver, 6)
    await asyncio.gather(*map(line.receiver.complete_message, messages))
    assert [str(message) for message in messages] == [f"{kind}-{number}" for kind in ("list", "batch") for number in range(3)]
    numbers = [message.sequence_number or 0 for message in messages]
    assert numbers == list(range(numbers[0], numbers[0] + 6))


async def test_large_messages_and_bodies_of_other_kinds_are_kept(line: Line) -> None:
    large = bytes(range(256)) * 800
    value = AmqpAnnotatedMessage(value_body={"a": 1})
    several = AmqpAnnotatedMessage(data_body=[b"one", b"two"])
    for sent in (ServiceBusMessage(large), value, several):
        await line.sender.send_messages(sent)
    first, second, third = await received(line.receiver, 3)
    for message in (first, second, third):
        await line.receiver.complete_message(message)
    assert body_of(first) == large
    assert second.body_type == AmqpMessageBodyType.VALUE
    assert second.body == {b"a": 1}
    assert list(third.body) == [b"one", b"two"]


async def test_what_is_too_large_is_refused_before_it_is_sent(servicebus: ServiceBus, line: Line) -> None:
    with pytest.raises(MessageSizeExceededError):
        await line.sender.send_messages(ServiceBusMessage(b"x" * 262_144))
    assert servicebus.contents(line.name).active == []


async def test_what_is_abandoned_comes_again_until_it_is_a_dead_letter(servicebus: ServiceBus, line: Line) -> None:
    await line.sender.send_messages(ServiceBusMessage("poison", application_properties={"kept": "yes"}))
    counts = []
    for _ in range(3):
        [message] = await received(line.receiver, 1)
        counts.append(message.delivery_count)
        await line.receiver.abandon_message(message)
    assert counts == [0, 1, 2]
    assert servicebus.contents(line.name).active == []
    [dead] = await received(line.dead, 1)
    await line.dead.complete_message(dead)
    assert str(dead) == "poison"
    assert dead.dead_letter_reason == "MaxDeliveryCountExceeded"
    assert dead.application_properties is not None
    assert dead.application_properties[b"kept"] == b"yes"
    assert servicebus.contents(line.name).dead == []


async def test_a_dead_letter_says_why_and_is_kept_until_it_is_completed(servicebus: ServiceBus, line: Line) -> None:
    await line.sender.send_messages(ServiceBusMessage("bad", message_id="m", application_properties={"DeadLetterReason": "forged"}))
    [message] = await received(line.receiver, 1)
    await line.receiver.dead_letter_message(message, reason="no such handler", error_description="line 3")
    [kept] = servicebus.contents(line.name).dead
    assert (kept.message_id, kept.body, kept.properties["DeadLetterReason"]) == ("m", b"bad", "no such handler")
    for _ in range(4):  # more often than the queue itself would try
        [dead] = await received(line.dead, 1)
        await line.dead.abandon_message(dead)
    [dead] = await received(line.dead, 1)
    await line.dead.complete_message(dead)
    assert (dead.dead_letter_reason, dead.dead_letter_error_description) == ("no such handler", "line 3")
    assert dead.delivery_count == 4


async def test_a_lock_that_is_over_counts_as_a_failed_delivery(servicebus: ServiceBus, line: Line) -> None:
    await line.sender.send_messages(ServiceBusMessage("slow"))
    [first] = await received(line.receiver, 1)
    [again] = await received(line.receiver, 1)
    assert again.enqueued_time_utc == first.enqueued_time_utc
    assert (first.delivery_count, again.delivery_count) == (0, 1)
    assert first.lock_token != again.lock_token
    with pytest.raises(MessageLockLostError):
        await line.receiver.complete_message(first)
    await line.receiver.complete_message(again)
    assert servicebus.contents(line.name).counts["expired"] >= 1


async def test_the_namespace_itself_refuses_a_lost_lock(servicebus: ServiceBus, client: ServiceBusClient) -> None:
    name = new_queue(servicebus)
    sender, receiver = client.get_queue_sender(name), client.get_queue_receiver(name, socket_timeout=QUICK)
    async with opened(sender), opened(receiver):
        await sender.send_messages([ServiceBusMessage("one"), ServiceBusMessage("two")])
        messages = await received(receiver, 2)
        assert servicebus.expire_locks(name) == 2
        with pytest.raises(MessageLockLostError):  # the client's own clock says that it is still locked
            await receiver.complete_message(messages[0])
        with pytest.raises(MessageLockLostError):
            await receiver.renew_message_lock(messages[1])
    counts = servicebus.contents(name).counts
    assert (counts["expired"], counts["lost"], counts.get("completed")) == (2, 2, None)
    assert [copy.count for copy in servicebus.contents(name).active] == [1, 1]


async def test_a_renewed_lock_lasts_longer(servicebus: ServiceBus, line: Line) -> None:
    await line.sender.send_messages(ServiceBusMessage("long"))
    [message] = await received(line.receiver, 1)
    before = message.locked_until_utc
    await asyncio.sleep(0.6)
    until = await line.receiver.renew_message_lock(message)
    await asyncio.sleep(0.6)
    assert before is not None
    assert (until - before).total_seconds() == pytest.approx(0.6, abs=0.2)
    assert [copy.count for copy in servicebus.contents(line.name).locked] == [0]
    await line.receiver.complete_message(message)
    assert servicebus.contents(line.name).locked == []


async def test_looking_at_messages_does_not_take_them(servicebus: ServiceBus, line: Line) -> None:
    await line.sender.send_messages([ServiceBusMessage("first"), ServiceBusMessage("second")])
    seen = await line.receiver.peek_messages(10, sequence_number=1)
    assert [str(message) for message in seen] == ["first", "second"]
    assert len(servicebus.contents(line.name).active) == 2
    [second] = await line.receiver.peek_messages(1, sequence_number=seen[1].sequence_number or 0)
    assert str(second) == "second"
    for message in await received(line.receiver, 2):
        await line.receiver.complete_message(message)
    assert await line.receiver.peek_messages(10, sequence_number=1) == []


async def test_every_subscription_gets_every_message(servicebus: ServiceBus, client: ServiceBusClient) -> None:
    topic = f"topic-{uuid.uuid4().hex[:12]}"
    servicebus.create_topic(topic, ["a", "b"])
    sender = client.get_topic_sender(topic)
    a, b = (client.get_subscription_receiver(topic, name, socket_timeout=QUICK) for name in ("a", "b"))
    async with opened(sender), opened(a, b):
        await sender.send_messages([ServiceBusMessage("one"), ServiceBusMessage("two")])
        for message in await received(a, 2):
            await a.complete_message(message)
        first, second = await received(b, 2)
        await b.dead_letter_message(first, reason="only here")
        assert (str(first), str(second)) == ("one", "two")
    assert servicebus.contents(f"{topic}/Subscriptions/a").active == []
    of_b = servicebus.contents(f"{topic}/subscriptions/B")
    assert [copy.body for copy in of_b.locked + of_b.active] == [b"two"]
    assert [copy.properties["DeadLetterReason"] for copy in of_b.dead] == ["only here"]


async def test_what_has_lived_too_long_is_a_dead_letter(servicebus: ServiceBus, client: ServiceBusClient) -> None:
    name = new_queue(servicebus, lifetime=0.3)
    async with opened(sender := client.get_queue_sender(name)):
        await sender.send_messages(ServiceBusMessage("old"))
        await asyncio.sleep(0.5)
    contents = servicebus.contents(name)
    assert contents.active == []
    assert [copy.properties["DeadLetterReason"] for copy in contents.dead] == ["TTLExpiredException"]


async def test_what_is_received_and_deleted_is_gone_at_once(servicebus: ServiceBus, client: ServiceBusClient) -> None:
    name = new_queue(servicebus)
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    sender, receiver = client.get_queue_sender(name), client.get_queue_receiver(name, receive_mode=mode, socket_timeout=QUICK)
    async with opened(sender), opened(receiver):
        await sender.send_messages([ServiceBusMessage("one"), ServiceBusMessage("two")])
        assert [str(message) for message in await received(receiver, 1)] == ["one"]
        assert [copy.body for copy in servicebus.contents(name).active] == [b"two"]


async def test_a_receiver_gets_no_more_than_it_has_credit_for_and_gives_back_the_rest(
    servicebus: ServiceBus, client: ServiceBusClient
) -> None:
    name = new_queue(servicebus)
    sender = client.get_queue_sender(name)
    receiver = client.get_queue_receiver(name, prefetch_count=4, socket_timeout=QUICK)
    async with opened(sender):
        await sender.send_messages([ServiceBusMessage(str(number)) for number in range(9)])
        async with opened(receiver):
            [message] = await received(receiver, 1)
            assert len(servicebus.contents(name).locked) == 5
            await receiver.complete_message(message)
    contents = servicebus.contents(name)
    assert contents.locked == []
    assert [copy.count for copy in contents.active] == [0] * 8
    assert (contents.counts["completed"], contents.counts["released"]) == (1, 4)


async def test_two_receivers_take_turns(servicebus: ServiceBus, client: ServiceBusClient) -> None:
    name = new_queue(servicebus)
    sender = client.get_queue_sender(name)
    receivers = [client.get_queue_receiver(name, prefetch_count=10, socket_timeout=QUICK) for _ in range(2)]
    async with opened(sender), opened(*receivers):
        waiting = [asyncio.create_task(received(receiver, 4)) for receiver in receivers]
        await asyncio.sleep(0.3)  # both have given credit
        await sender.send_messages([ServiceBusMessage(str(number)) for number in range(8)])
        taken = await asyncio.gather(*waiting)
    assert [[str(message) for message in messages] for messages in taken] in (
        [list("0246"), list("1357")],
        [list("1357"), list("0246")],
    )
