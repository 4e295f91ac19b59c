"""The `servicebus` transport as the tests make it: against a namespace that tells when two coroutines use one receiver."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from investbus import config_bus
from investbus.errors import TransportDown
from investbus.transport import Message
from investbus.transports.servicebus import ServiceBus
from tests.brokers.missing import Missing, refuse
from tests.brokers.servicebus.lab import ServiceBus as Namespace
from tests.brokers.servicebus.sources import open_servicebus


def strict_namespace(folder: Path) -> Iterator[Namespace]:
    try:
        namespace = open_servicebus(folder, own=True, strict=True)
    except Missing as missing:
        refuse(missing)
    try:
        yield namespace
    finally:
        namespace.close()


def new_queue(namespace: Namespace, **given: Any) -> str:
    name = f"queue-{uuid.uuid4().hex[:12]}"
    namespace.create_queue(name, **given)
    return name


def settings(namespace: Namespace, /, **given: Any) -> config_bus.ServiceBus:
    return config_bus.ServiceBus.model_validate({"connection_string": namespace.connection_string} | given)


def made(namespace: Namespace, /, *, drain_cap: float = 0.3, **given: Any) -> ServiceBus:
    return ServiceBus(settings(namespace, **given), drain_cap=drain_cap, max_gap=20000)


@asynccontextmanager
async def opened(*buses: ServiceBus) -> AsyncIterator[None]:
    """Opening one takes the SDK half a second: do all at once. Closed at the end whatever happens."""
    try:
        await asyncio.gather(*(bus.open() for bus in buses))
        yield
    finally:
        await asyncio.gather(*(bus.close(5.0) for bus in buses))


def numbered(start: int, end: int, key: str | None = None) -> list[Message]:
    return [Message(b"%d" % number, key=key) for number in range(start, end)]


async def down(bus: ServiceBus, within: float = 10.0) -> TransportDown:
    """What `receive` raises in the end."""
    async with asyncio.timeout(within):
        while True:
            try:
                await bus.receive(100)
            except TransportDown as error:
                return error


def leftovers() -> list[str]:
    """Tasks beside the test's own."""
    return [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]
