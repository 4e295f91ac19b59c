"""The `kafka` transport as the tests make it: short sessions, a group of its own, closed at the end whatever happens."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from investbus import config_bus
from investbus.transports.kafka import Kafka
from tests.brokers.kafka import Kafka as Broker

SESSION = 6.0  # the shortest that a broker takes unless it is told otherwise


def settings(broker: Broker, topic: str, **given: Any) -> config_bus.Kafka:
    usual: dict[str, Any] = {
        "bootstrap_servers": [broker.bootstrap],
        "topic": topic,
        "group": f"group-{uuid.uuid4().hex[:12]}",
        "session_timeout": SESSION,
    }
    return config_bus.Kafka.model_validate(usual | given)


def made(chosen: config_bus.Kafka, *, drain_cap: float = 2.0, max_gap: int = 20000) -> Kafka:
    return Kafka(chosen, drain_cap=drain_cap, max_gap=max_gap)


@asynccontextmanager
async def opened(chosen: config_bus.Kafka, *, drain_cap: float = 2.0, max_gap: int = 20000) -> AsyncIterator[Kafka]:
    bus = made(chosen, drain_cap=drain_cap, max_gap=max_gap)
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close(5.0)


def leftovers() -> list[str]:
    """Tasks beside the test's own."""
    return [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]
