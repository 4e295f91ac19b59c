"""The `rabbitmq` transport passes the conformance suite, on a node of its own."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest

from investbus import config_bus
from investbus.transport import Delivery, Transport
from investbus.transports.rabbitmq import RabbitMq
from tests.brokers.rabbitmq import RabbitMq as Broker
from tests.transports.conformance import Delivering, Ending, Leasing, Reaching, Sharing
from tests.transports.conformance_bus import PLENTY, reopen
from tests.transports.conformance_guarantees import GUARANTEES

HEARTBEAT = 1.0


class RabbitMqBus:
    """A quorum queue."""

    guarantees = GUARANTEES["rabbitmq"]
    silence = 4 * HEARTBEAT

    def __init__(self, broker: Broker, **arguments: Any) -> None:
        self._broker = broker
        self._queue = f"queue-{uuid.uuid4().hex[:12]}"
        broker.declare_queue(self._queue, arguments=arguments)

    def transport(self, *, bound: int = PLENTY, drain_cap: float = 0.3) -> RabbitMq:
        return self._made(drain_cap, prefetch=bound)

    def _made(self, drain_cap: float = 0.3, **changed: Any) -> RabbitMq:
        usual: dict[str, Any] = {"url": self._broker.url, "queue": self._queue, "heartbeat": HEARTBEAT}
        return RabbitMq(config_bus.RabbitMq.model_validate(usual | changed), drain_cap=drain_cap, max_gap=PLENTY)

    async def end_lease(self, transport: Transport, taken: Sequence[Delivery]) -> None:
        await asyncio.to_thread(self._broker.close_all_connections)
        await reopen(transport)

    async def crash(self) -> None:
        await asyncio.to_thread(self._broker.kill)
        await self.start()

    async def expire(self) -> None:
        """What was unacked on a channel goes back when the node sees that the channel is gone, a moment later."""
        await asyncio.sleep(0.2)

    def astray(self) -> tuple[Transport, str]:
        return self._made(queue="nowhere"), '"nowhere"'

    def intruder(self) -> tuple[Transport, str]:
        host = urlsplit(self._broker.url).netloc.rpartition("@")[2]
        return self._made(url=f"amqp://app:0pen-sesame@{host}/"), "0pen-sesame"

    async def stop(self) -> None:
        await asyncio.to_thread(self._broker.stop)

    async def start(self) -> None:
        self._broker.start()  # not in a thread: it would end with that


@pytest.mark.broker
class TestConformance(Delivering, Leasing, Ending, Sharing, Reaching):
    @pytest.fixture
    def bus(self, own_rabbitmq: Broker) -> RabbitMqBus:
        return RabbitMqBus(own_rabbitmq)


@pytest.mark.broker
class TestSingleActiveConsumer(Leasing, Sharing):
    @pytest.fixture
    def bus(self, own_rabbitmq: Broker) -> RabbitMqBus:
        bus = RabbitMqBus(own_rabbitmq, **{"x-single-active-consumer": True})
        bus.guarantees = GUARANTEES["rabbitmq, single active consumer"]
        return bus
