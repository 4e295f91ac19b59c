"""The `rabbitmq` transport as the tests make it: short heartbeats, closed at the end whatever happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from investbus import config_bus
from investbus.transports.rabbitmq import RabbitMq
from tests.brokers.rabbitmq import RabbitMq as Broker


def settings(broker: Broker, queue: str, **given: Any) -> config_bus.RabbitMq:
    usual: dict[str, Any] = {"url": broker.url, "queue": queue, "heartbeat": 2.0}
    if "url_file" in given:
        del usual["url"]
    return config_bus.RabbitMq.model_validate(usual | given)


def made(chosen: config_bus.RabbitMq, *, drain_cap: float = 2.0) -> RabbitMq:
    return RabbitMq(chosen, drain_cap=drain_cap, max_gap=20000)


@asynccontextmanager
async def opened(chosen: config_bus.RabbitMq, *, drain_cap: float = 2.0) -> AsyncIterator[RabbitMq]:
    bus = made(chosen, drain_cap=drain_cap)
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close(3.0)


def leftovers() -> list[str]:
    """Tasks beside the test's own."""
    return [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]
