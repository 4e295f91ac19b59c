"""Sends messages to the queue or the topic: one sender, one caller at a time.

Two coroutines on one sender send each other's messages again. The service detaches a sender that was idle for ten minutes,
which is noticed with the next batch: one that fails on a sender which has worked before is sent once more on a new one.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from azure.servicebus import ServiceBusMessage, ServiceBusMessageBatch
from azure.servicebus.aio import ServiceBusSender
from azure.servicebus.exceptions import MessageSizeExceededError

from investbus import config_bus
from investbus.errors import TransportDown, TransportRefused
from investbus.transport import Message
from investbus.transports.servicebus_connection import CLOSE_WITHIN, Connection, explained, one_line
from investbus.transports.servicebus_message import outgoing
from investbus.transports.servicebus_wires import note

SEND_WITHIN = 10.0  # seconds for one batch
PUBLISH_WITHIN = 15.0  # for all of them

Done = TypeVar("Done")


class Publisher:
    """Opened with the first message; after `close` the next one opens it anew."""

    def __init__(self, settings: config_bus.ServiceBus) -> None:
        self._settings = settings
        self._open: tuple[Connection, ServiceBusSender] | None = None
        self._proven = False  # that sender has sent something
        self._busy = asyncio.Lock()

    async def publish(self, messages: Sequence[Message]) -> None:
        try:
            groups = list(outgoing(messages, sessions=self._settings.sessions > 0))
        except ValueError as error:
            raise TransportRefused(f"Service Bus takes no such message: {one_line(error)}") from error
        async with self._busy:
            try:
                async with asyncio.timeout(PUBLISH_WITHIN):
                    for group in groups:
                        await self._send_group(group)
            except TimeoutError as error:
                raise explained(error, self._settings, sending=True) from error

    async def close(self, within: float) -> None:
        """Whoever publishes meanwhile may finish in half of the time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within / 2), self._busy:
                pass
        if self._open is not None:
            await self._end(self._open, within / 2)

    async def _send_group(self, group: Iterable[ServiceBusMessage]) -> None:
        """In as few batches as it fits into. A message that fits into none goes alone: some entities take larger ones."""
        batch = await self._do(lambda sender: sender.create_message_batch())
        for message in group:
            if _fits(batch, message):
                continue
            await self._send(batch)
            batch = await self._do(lambda sender: sender.create_message_batch())
            if not _fits(batch, message):
                await self._send(message)
        await self._send(batch)

    async def _send(self, batch: ServiceBusMessage | ServiceBusMessageBatch) -> None:
        proven = self._proven
        try:
            await self._do(lambda sender: sender.send_messages(batch, timeout=SEND_WITHIN))
        except TransportDown as error:
            if not proven or isinstance(error, TransportRefused):
                raise
            await self._do(lambda sender: sender.send_messages(batch, timeout=SEND_WITHIN))
        self._proven = True

    async def _do(self, call: Callable[[ServiceBusSender], Awaitable[Done]]) -> Done:
        if self._open is None:
            connection = Connection(self._settings)
            self._open, self._proven = (connection, connection.sender()), False
        opened = self._open
        try:
            done = await call(opened[1])
        except BaseException as error:
            await self._end(opened, CLOSE_WITHIN)  # what it still holds is not confirmed, and should not be sent after all
            if isinstance(error, Exception):
                raise explained(error, self._settings, sending=True) from error
            raise
        note(opened[1])
        return done

    async def _end(self, opened: tuple[Connection, ServiceBusSender], within: float) -> None:
        if self._open is opened:
            self._open = None
        connection, sender = opened
        await connection.end(sender, within)
        await connection.close()


def _fits(batch: ServiceBusMessageBatch, message: ServiceBusMessage) -> bool:
    try:
        batch.add_message(message)
    except MessageSizeExceededError:
        return False
    return True
