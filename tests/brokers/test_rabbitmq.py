"""What tests rely on when they ask for RabbitMQ: that it forgets nothing, refuses what it should, and can be treated badly."""

import ssl
import time
from collections.abc import Callable
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import pytest
from pika.exceptions import (  # type: ignore[import-untyped]  # it carries no type information
    AMQPConnectionError,
    ChannelClosedByBroker,
    ConnectionBlockedTimeout,
    ConnectionClosedByBroker,
)
from yarl import URL

from tests.brokers.rabbitmq import Depth, RabbitMq
from tests.brokers.rabbitmq_amqp import connected, publish
from tests.brokers.rabbitmq_settings import Options

pytestmark = pytest.mark.broker

STRICT = Options(consumer_timeout=1.0, management=True, require_client_certificate=True)


def trusting(rabbitmq: RabbitMq, *, with_certificate: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=rabbitmq.ca)
    if with_certificate:
        context.load_cert_chain(rabbitmq.client_cert, rabbitmq.client_key)
    return context


def test_what_it_confirmed_is_there_after_a_kill(own_rabbitmq: RabbitMq) -> None:
    name = f"kept-{uuid4().hex}"
    own_rabbitmq.declare_queue(name)
    own_rabbitmq.publish(name, [b"%d" % number for number in range(50)], {"tenant": "bank"})
    own_rabbitmq.kill()
    assert not own_rabbitmq.running
    own_rabbitmq.start()
    there = own_rabbitmq.take(name)
    assert [message.body for message in there] == [b"%d" % number for number in range(50)]
    assert {message.headers["tenant"] for message in there} == {"bank"}
    assert own_rabbitmq.ready(name) == 0


def test_a_paused_node_takes_connections_and_does_not_answer(own_rabbitmq: RabbitMq) -> None:
    own_rabbitmq.pause()
    assert not own_rabbitmq.answers()
    own_rabbitmq.resume()
    assert own_rabbitmq.answers()


def test_a_message_that_is_returned_says_how_often_it_was_delivered(rabbitmq: RabbitMq, queue: str) -> None:
    rabbitmq.publish(queue, [b"again"])
    with rabbitmq.channel() as channel:
        method, _, _ = channel.basic_get(queue)
        channel.basic_nack(method.delivery_tag, requeue=True)
    (message,) = rabbitmq.take(queue)
    assert (message.body, message.redelivered, message.delivery_count) == (b"again", True, 1)


def test_what_is_rejected_goes_to_the_dead_letters_of_the_queue(rabbitmq: RabbitMq, queue: str) -> None:
    rabbitmq.publish(queue, [b"bad"])
    with rabbitmq.channel() as channel:
        method, _, _ = channel.basic_get(queue)
        channel.basic_reject(method.delivery_tag, requeue=False)
    end = time.monotonic() + 5.0
    while rabbitmq.ready(f"{queue}.dead") == 0 and time.monotonic() < end:
        time.sleep(0.05)
    (message,) = rabbitmq.take(f"{queue}.dead")
    assert (message.body, message.headers["x-death"][0]["reason"]) == (b"bad", "rejected")


def test_depth_tells_what_waits_from_what_is_held(own_rabbitmq: RabbitMq) -> None:
    own_rabbitmq.declare_queue("deep")
    own_rabbitmq.publish("deep", [b"1", b"2", b"3"])
    with own_rabbitmq.channel() as channel:
        channel.basic_get("deep")
        assert own_rabbitmq.depth("deep") == Depth(ready=2, unacked=1)
        assert own_rabbitmq.ready("deep") == 2
    own_rabbitmq.delete_queue("deep")
    with pytest.raises(LookupError, match="no queue deep"):
        own_rabbitmq.depth("deep")


def test_a_consumer_that_does_not_ack_in_time_loses_its_channel(rabbitmq_with: Callable[[Options], RabbitMq]) -> None:
    impatient = rabbitmq_with(STRICT)
    impatient.declare_queue("held")
    impatient.publish("held", [b"x"])
    with impatient.channel() as channel:
        channel.basic_consume("held", lambda *_: None)
        end = time.monotonic() + 10.0
        while channel.is_open and time.monotonic() < end:
            channel.connection.process_data_events(0.1)
        assert not channel.is_open
        assert channel.connection.is_open
    assert [message.body for message in impatient.take("held")] == [b"x"]


def test_a_memory_alarm_blocks_publishers_until_it_ends(own_rabbitmq: RabbitMq) -> None:
    own_rabbitmq.declare_queue("alarmed")
    own_rabbitmq.set_memory_alarm(True)
    try:
        with pytest.raises(ConnectionBlockedTimeout), connected(own_rabbitmq.url, blocked=0.5) as channel:
            publish(channel, "", "alarmed", [b"x"], {})
    finally:
        own_rabbitmq.set_memory_alarm(False)
    own_rabbitmq.publish("alarmed", [b"y"])
    assert b"y" in [message.body for message in own_rabbitmq.take("alarmed")]


def test_a_limited_user_is_refused_elsewhere(own_rabbitmq: RabbitMq) -> None:
    url = own_rabbitmq.limited_user("teller", "a:b/c@d", r"^bank\..*")
    with connected(url) as channel:
        channel.queue_declare("bank.events", durable=True)
        with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
            channel.queue_declare("events", durable=True)


def test_clients_are_told_when_an_operator_closes_their_connections(own_rabbitmq: RabbitMq) -> None:
    with own_rabbitmq.channel() as channel:
        own_rabbitmq.close_all_connections()
        with pytest.raises(ConnectionClosedByBroker, match="CONNECTION_FORCED"):
            channel.connection.process_data_events(10.0)


def test_tls_is_trusted_by_its_authority_and_by_nothing_else(secure_rabbitmq: RabbitMq) -> None:
    for trust in (trusting(secure_rabbitmq), trusting(secure_rabbitmq, with_certificate=True)):
        with connected(secure_rabbitmq.tls_url, trust) as channel:
            assert channel.is_open
    with pytest.raises(ssl.SSLCertVerificationError), connected(secure_rabbitmq.tls_url, ssl.create_default_context()):
        pass


async def test_the_management_api_takes_the_same_login(rabbitmq_with: Callable[[Options], RabbitMq]) -> None:
    strict = rabbitmq_with(STRICT)
    strict.declare_queue("seen", arguments={"x-delivery-limit": 7})
    url = urlsplit(strict.url)
    question = URL(f"{strict.management_url}/api/queues/%2F/seen", encoded=True)
    login = {"Authorization": aiohttp.encode_basic_auth(url.username or "", url.password or "")}
    async with aiohttp.ClientSession() as session:
        async with session.get(question, headers=login) as answer:
            assert (await answer.json())["arguments"]["x-delivery-limit"] == 7
        async with session.get(question) as answer:
            assert answer.status == 401


def test_mutual_tls_takes_a_client_certificate_and_nobody_without(rabbitmq_with: Callable[[Options], RabbitMq]) -> None:
    strict = rabbitmq_with(STRICT)
    with connected(strict.tls_url, trusting(strict, with_certificate=True)) as channel:
        assert channel.is_open
    with pytest.raises(AMQPConnectionError), connected(strict.tls_url, trusting(strict)):
        pass
