"""Azure Service Bus: a queue or a subscription, in peek-lock mode, with or without sessions.

Clients of the SDK are made anew at each `open`, with the secrets of that moment, and thrown away by `close`. How messages
are held lies in `servicebus_receiver`; here are the two ends of it, and what can be said before anything is received.
"""

import asyncio
from collections.abc import Mapping, Sequence

from azure.servicebus.aio import ServiceBusReceiver

from investbus import config_bus
from investbus.errors import TransportDown, TransportRefused
from investbus.transport import Delivery, Message, SettleCounts, TransportState
from investbus.transports.servicebus_connection import CLOSE_WITHIN, Connection, entity, explained, in_the_clear
from investbus.transports.servicebus_consumer import Consumer
from investbus.transports.servicebus_publisher import Publisher
from investbus.transports.servicebus_sessions import knock

LOOK_WITHIN = 10.0  # seconds for one look at the dead letters
PAGE = 100  # messages of one look
MOST_COUNTED = 1000


class ServiceBus:
    """The `servicebus` transport."""

    name: str = "servicebus"
    guarantees: Mapping[str, str] = {
        "delivery": "at least once: a lock is renewed until its event is settled; the entity's max delivery count, which cannot be "
        "seen from here, puts an event whose lock was lost that often among the service's dead letters",
        "order": "per key in one process, as received; with servicebus.sessions per key across replicas: a key is a session",
        "replicas": "any number; with servicebus.sessions each session is with one of them at a time",
    }

    def __init__(self, settings: config_bus.ServiceBus, *, drain_cap: float, max_gap: int) -> None:
        where = settings.queue if settings.queue is not None else f"{settings.topic}/{settings.subscription}"
        self.source = f"servicebus:{where}"
        self.counts = SettleCounts()
        self._settings = settings
        self._drain_cap = drain_cap
        self._window = min(settings.window, max_gap)
        self._consumer: Consumer | None = None
        self._publisher = Publisher(settings)

    async def open(self) -> None:
        consumer = Consumer(self._settings, self.counts, source=self.source, window=self._window, drain_cap=self._drain_cap)
        await consumer.open()
        self._consumer = consumer

    async def receive(self, limit: int) -> list[Delivery]:
        if self._consumer is None:
            raise TransportDown(f"{self.source} is not open")
        return await self._consumer.receive(limit)

    async def publish(self, messages: Sequence[Message]) -> None:
        await self._publisher.publish(messages)

    async def close(self, flush_timeout: float) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            await self._publisher.close(flush_timeout)
        else:
            await asyncio.gather(consumer.leave(flush_timeout), self._publisher.close(flush_timeout))

    def state(self) -> TransportState:
        if self._consumer is None:
            return TransportState(connected=False, joined=False, reason="not open")
        return self._consumer.state()

    async def check(self) -> list[str]:
        findings: list[str] = []
        try:
            findings += in_the_clear(self._settings)
            connection = Connection(self._settings)
            try:
                return findings + await self._looked_up(connection)
            finally:
                await connection.close()
        except TransportRefused as refused:
            return [*findings, str(refused)]

    async def _looked_up(self, connection: Connection) -> list[str]:
        """What stands in the way of receiving, and what the service itself has put aside. No message is taken for that."""
        try:
            if self._settings.sessions:
                await knock(connection)
            else:
                receiver = connection.receiver()
                await connection.open(receiver)
                await connection.end(receiver, CLOSE_WITHIN)
            dead = connection.receiver(dead=True)
            await connection.open(dead)
            try:
                count = await _count(dead)
            finally:
                await connection.end(dead, CLOSE_WITHIN)
        except Exception as error:
            raise explained(error, self._settings) from error
        if not count:
            return []
        number = f"at least {count}" if count >= MOST_COUNTED else str(count)
        return [
            f"{number} events lie among the dead letters of {entity(self._settings)}, put there by the service (lock lost too "
            "often, or expired) or by somebody else; this worker has no record of them"
        ]


async def _count(receiver: ServiceBusReceiver) -> int:
    """How many messages there are, as far as it is worth knowing."""
    count, start = 0, 1
    while count < MOST_COUNTED:
        page = await receiver.peek_messages(PAGE, sequence_number=start, timeout=LOOK_WITHIN)
        if not page:
            break
        count += len(page)
        start = (page[-1].sequence_number or start) + 1
    return count
