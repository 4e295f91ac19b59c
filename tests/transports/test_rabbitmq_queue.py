"""The `rabbitmq` transport looks at its queue through the management API: what may drop events, and what keeps order."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from investbus.errors import TransportDown, UnsafeStart
from investbus.transport import Message
from investbus.transports.rabbitmq import RabbitMq
from investbus.transports.rabbitmq_queue import Queue
from tests.brokers.rabbitmq import RabbitMq as Broker
from tests.brokers.rabbitmq_settings import Options
from tests.transports.rabbitmq_workers import leftovers, made, opened, settings
from tests.transports.reading import ack, take

DLX = {"x-dead-letter-exchange": "amq.fanout"}
DEAD = "has no dead-letter exchange"


@pytest.fixture(scope="module")
def managed(rabbitmq_with: Callable[[Options], Broker]) -> Broker:
    """A node with the management API."""
    return rabbitmq_with(Options(management=True))


def seeing(managed: Broker, queue: str, **given: Any) -> RabbitMq:
    return made(settings(managed, queue, management_url=managed.management_url, **given))


@pytest.mark.parametrize(
    ("arguments", "policy", "version", "how"),
    [
        ({}, {}, "3.13.7", ""),
        ({}, {}, "4.0.1", "after 20 deliveries, the default of RabbitMQ 4.0.1"),
        ({}, {}, "10.1.0", "after 20 deliveries, the default of RabbitMQ 10.1.0"),
        ({"x-delivery-limit": -1}, {}, "4.0.1", ""),
        ({"x-delivery-limit": -1}, {"delivery-limit": 7}, "4.0.1", "after 7 deliveries"),
        ({"x-delivery-limit": 5}, {"delivery-limit": 7}, "3.10.8", "after 5 deliveries"),
        ({}, {"delivery-limit": 0}, "3.10.8", "after 0 deliveries"),
        ({"x-delivery-limit": 5} | DLX, {}, "4.0.1", ""),
        ({"x-delivery-limit": 5}, {"dead-letter-exchange": "dlx"}, "4.0.1", ""),
    ],
)
def test_a_quorum_queue_drops_events_at_its_limit_unless_they_go_elsewhere(
    arguments: dict[str, Any], policy: dict[str, Any], version: str, how: str
) -> None:
    seen: dict[str, Any] = {"arguments": arguments, "effective_policy_definition": policy or None}
    assert Queue("quorum", **seen).drops(version) == how
    assert Queue("classic", **seen).drops(version) == ""


@pytest.mark.parametrize(
    ("arguments", "hold_max", "line"),
    [
        ({}, 900.0, ""),
        ({}, 901.0, "rabbitmq.hold_max 901 s is more than half of 1800 s, RabbitMQ's default consumer_timeout"),
        ({"x-consumer-timeout": 60000}, 30.0, ""),
        (
            {"x-consumer-timeout": 60000},
            31.0,
            "rabbitmq.hold_max 31 s is more than half of 60 s, the consumer timeout of the queue",
        ),
        ({"x-consumer-timeout": 7200000}, 3600.0, ""),
        ({"x-max-length": 5}, 1.0, 'queue "q" drops its oldest events when it is full; set overflow: reject-publish by a policy'),
        ({"x-max-length": 5, "x-overflow": "reject-publish"}, 1.0, ""),
        ({"x-message-ttl": 1000}, 1.0, ""),
        ({"x-expires": 1000}, 1.0, 'queue "q" is gone with its events once nobody has used it for a while; unset its expires'),
    ],
)
def test_what_is_found_in_the_arguments_of_a_queue(arguments: dict[str, Any], hold_max: float, line: str) -> None:
    assert Queue("quorum", arguments=arguments | DLX).findings("q", hold_max, "3.10.8") == ([line] if line else [])


@pytest.mark.parametrize(
    ("queue", "line"),
    [
        (Queue(durable=False), "is gone with its events when its node restarts (not durable); declare it anew"),
        (Queue(auto_delete=True), "is gone with its events when its last consumer leaves (auto-delete); declare it anew"),
        (Queue(arguments={"x-message-ttl": 1000}), "drops events that wait for too long; unset its message-ttl"),
    ],
)
def test_a_queue_that_loses_events_by_its_nature_is_a_finding(queue: Queue, line: str) -> None:
    assert queue.findings("q", 1.0, "3.10.8") == [f'queue "q" {line}']


@pytest.mark.broker
async def test_a_queue_that_can_drop_events_refuses_the_start_and_is_a_finding(managed: Broker) -> None:
    managed.declare_queue("limited", arguments={"x-delivery-limit": 2})
    bus = seeing(managed, "limited")
    with pytest.raises(UnsafeStart) as unsafe:
        await bus.open()
    assert "\n" not in str(unsafe.value)
    assert 'queue "limited" drops an event after 2 deliveries, and has no dead-letter exchange; set one' in str(unsafe.value)
    assert f'queue "limited" {DEAD}; an event is dropped after 2 deliveries; set one by a policy' in await bus.check()
    assert leftovers() == []
    async with opened(settings(managed, "limited")):  # unseen it is not refused
        pass


@pytest.mark.broker
async def test_a_dead_letter_exchange_that_does_not_exist_is_none(managed: Broker) -> None:
    managed.declare_queue("misled", arguments={"x-delivery-limit": 2, "x-dead-letter-exchange": "not-there"})
    bus = seeing(managed, "misled")
    why = 'has a dead-letter exchange "not-there" that does not exist'
    with pytest.raises(UnsafeStart) as unsafe:
        await bus.open()
    assert f'queue "misled" drops an event after 2 deliveries, and {why}; declare it, then' in str(unsafe.value)
    assert f'queue "misled" {why}; an event is dropped after 2 deliveries; declare it' in await bus.check()
    assert leftovers() == []


async def found(bus: RabbitMq, *findings: str) -> None:
    """Wait until a policy has reached its queue."""
    async with asyncio.timeout(15.0):
        while await bus.check() != list(findings):
            await asyncio.sleep(0.2)


@pytest.mark.broker
async def test_a_policy_counts_as_much_as_an_argument(managed: Broker) -> None:
    managed.declare_queue("ruled")
    bus = seeing(managed, "ruled")
    await bus.open()
    await bus.close(1.0)
    managed.ctl("set_policy", "ruled", "^ruled$", '{"delivery-limit": 3}')
    await found(bus, f'queue "ruled" {DEAD}; an event is dropped after 3 deliveries; set one by a policy')
    with pytest.raises(UnsafeStart, match="after 3 deliveries"):
        await bus.open()
    managed.ctl("set_policy", "ruled", "^ruled$", '{"delivery-limit": 3, "dead-letter-exchange": "amq.fanout"}')
    await found(bus)
    await bus.open()
    await bus.close(1.0)


@pytest.mark.broker
async def test_what_declare_makes_is_safe_and_has_no_findings(managed: Broker) -> None:
    bus = seeing(managed, "made", declare=True)
    await bus.open()
    await bus.publish([Message(b"1")])
    ack(await take(bus, 1))
    await bus.close(3.0)
    assert await bus.check() == []
    assert leftovers() == []


@pytest.mark.broker
async def test_a_single_active_consumer_is_seen_and_promised(managed: Broker) -> None:
    managed.declare_queue("single", arguments={"x-single-active-consumer": True} | DLX)
    managed.declare_queue("shared", arguments=DLX)
    single, shared = seeing(managed, "single"), seeing(managed, "shared", hold_max=60.0)
    assert (await single.check(), await shared.check()) == ([], [])
    assert single.guarantees["order"].endswith("over replicas too: the queue has a single active consumer")
    assert shared.guarantees["order"].endswith("in one process: the queue has no single active consumer")
    assert "60 s at most; the broker's consumer_timeout" in shared.guarantees["holding"]


@pytest.mark.broker
async def test_after_a_hold_a_single_active_consumer_stays_in_order_beside_another(managed: Broker) -> None:
    managed.declare_queue("in-order", arguments={"x-single-active-consumer": True} | DLX)
    chosen = settings(managed, "in-order", hold_max=0.5, prefetch=5)
    async with opened(chosen) as first:
        await first.publish([Message(b"%d" % number) for number in range(4)])
        await take(first, 4)
        with pytest.raises(TransportDown):
            await first.receive(1)
        await first.close(0.2)
        await first.open()
        (alone,) = await take(first, 1)
        async with opened(chosen.model_copy(update={"hold_max": 60.0})) as second:
            alone.ack()  # and the consumer is made anew: the other one becomes the active one
            taken = await take(second, 3)
            assert [delivery.body for delivery in [alone, *taken]] == [b"0", b"1", b"2", b"3"]
            ack(taken)


@pytest.mark.broker
async def test_what_cannot_be_seen_is_said_and_stops_nobody(managed: Broker, capfd: pytest.CaptureFixture[str]) -> None:
    managed.declare_queue("unseen", arguments=DLX)
    unseen = "delivery limit, dead-letter exchange, single active consumer and consumer timeout of the queue"
    bus = made(settings(managed, "unseen"))
    assert await bus.check() == []
    assert bus.guarantees["not seen"] == f"{unseen}: set rabbitmq.management_url"
    gone = made(settings(managed, "unseen", management_url="http://127.0.0.1:1"))
    assert await gone.check() == ["rabbitmq.management_url http://127.0.0.1:1 cannot be reached: ClientConnectorError"]
    await gone.open()
    await gone.close(1.0)
    assert "whether the queue may drop events cannot be seen" in "".join(capfd.readouterr())
    url = managed.limited_user("unmanaged", "unmanaged-secret", ".*")
    stranger = made(settings(managed, "unseen", url=url, management_url=managed.management_url))
    refused = (
        f'rabbitmq.management_url {managed.management_url} refused user "unmanaged"; wrong credentials, or no tag "management"'
    )
    assert await stranger.check() == [refused]
    amqp = managed.url.rpartition("@")[2].rstrip("/")
    other = made(settings(managed, "unseen", management_url=f"http://{amqp}"))
    assert [line.partition(": ")[0] for line in await other.check()] == [f"rabbitmq.management_url http://{amqp} cannot be reached"]
