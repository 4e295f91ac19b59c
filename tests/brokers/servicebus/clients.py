"""The SDK as the tests of the emulator use it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender

Handler = TypeVar("Handler", ServiceBusReceiver, ServiceBusSender)
QUICK = 0.02  # seconds for socket_timeout: how long the SDK waits on an empty socket before it looks elsewhere


def new_client(connection_string: str, *, retries: int = 0, try_timeout: float = 5.0) -> ServiceBusClient:
    """One that tells of every failure instead of trying again, or tries again soon."""
    return ServiceBusClient.from_connection_string(
        connection_string, retry_total=retries, retry_backoff_factor=0.05, try_timeout=try_timeout
    )


@asynccontextmanager
async def opened(*handlers: Handler) -> AsyncIterator[None]:
    """Opening one takes the SDK half a second, and closing one up to a second: do all at once."""
    await asyncio.gather(*(handler.__aenter__() for handler in handlers))
    try:
        yield
    finally:
        await asyncio.gather(*(handler.close() for handler in handlers))


async def received(receiver: ServiceBusReceiver, count: int, wait: float = 3.0) -> list[ServiceBusReceivedMessage]:
    """Exactly so many messages."""
    messages: list[ServiceBusReceivedMessage] = []
    while len(messages) < count:
        got = await receiver.receive_messages(count - len(messages), max_wait_time=wait)
        assert got, f"{len(messages)} messages came, of {count}"
        messages += got
    return messages


def body_of(message: ServiceBusReceivedMessage) -> bytes:
    return b"".join(message.body)
