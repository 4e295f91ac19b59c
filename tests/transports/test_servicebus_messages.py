"""What a message is on this bus: bodies and properties of other clients, topics, sizes, callers at once."""

import asyncio
from collections.abc import Iterator

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.amqp import AmqpAnnotatedMessage

from investbus.errors import TransportRefused
from investbus.transport import Message
from tests.brokers.servicebus.clients import new_client
from tests.brokers.servicebus.lab import ServiceBus as Namespace
from tests.transports.reading import ack, take
from tests.transports.servicebus_workers import made, new_queue, numbered, opened, strict_namespace

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    yield from strict_namespace(tmp_path_factory.mktemp("servicebus"))


async def test_bodies_and_properties_of_other_clients_become_bytes_and_texts(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    sent: list[ServiceBusMessage | AmqpAnnotatedMessage] = [
        ServiceBusMessage(b"data", application_properties={"number": 7, "flag": True, "text": "Zürich"}),
        AmqpAnnotatedMessage(data_body=[b"in ", b"pieces"]),
        AmqpAnnotatedMessage(value_body="a text: \u20ac"),
        AmqpAnnotatedMessage(value_body=b"bytes"),
        AmqpAnnotatedMessage(value_body={"a": 1}),
        AmqpAnnotatedMessage(sequence_body=[[1, 2]]),
    ]
    async with new_client(namespace.connection_string) as client, client.get_queue_sender(queue) as sender:
        for message in sent:
            await sender.send_messages(message)
    bus = made(namespace, queue=queue)
    async with opened(bus):
        taken = await take(bus, len(sent))
        ack(taken)
    assert [(one.body, one.fault) for one in taken] == [
        (b"data", ""),
        (b"in pieces", ""),
        ("a text: \u20ac".encode(), ""),
        (b"bytes", ""),
        (b"", "encoding"),
        (b"", "encoding"),
    ]
    assert dict(taken[0].headers) == {"number": "7", "flag": "True", "text": "Zürich"}


async def test_a_topic_is_published_to_and_each_subscription_is_a_source_of_its_own(namespace: Namespace) -> None:
    namespace.create_topic("prices", ["mw", "audit"])
    bus, audit = (made(namespace, topic="prices", subscription=name) for name in ("mw", "audit"))
    await bus.publish([Message(b"1", {"trace": "t"})])
    async with opened(bus, audit):
        (ours,), (theirs,) = await take(bus, 1), await take(audit, 1)
        assert (ours.source, theirs.source) == ("servicebus:prices/mw", "servicebus:prices/audit")
        assert ours.origin == f"servicebus:prices/mw@{ours.position}"
        assert ours.headers == {"trace": "t"}


async def test_what_is_too_large_is_refused_and_the_rest_goes_in_as_many_batches_as_it_takes(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    bus = made(namespace, queue=queue)
    with pytest.raises(TransportRefused, match="too large") as refused:
        await bus.publish([Message(b"x" * 300_000)])
    assert "\n" not in str(refused.value)
    await bus.publish([Message(b"%d" % number + b"x" * 60_000) for number in range(20)])
    await bus.close(2.0)
    assert len(namespace.contents(queue).active) == 20


async def test_several_callers_may_publish_at_once(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    bus = made(namespace, queue=queue)
    await asyncio.gather(*(bus.publish(numbered(10 * turn, 10 * turn + 10)) for turn in range(20)))
    await bus.close(2.0)
    assert sorted(int(copy.body) for copy in namespace.contents(queue).active) == list(range(200))
