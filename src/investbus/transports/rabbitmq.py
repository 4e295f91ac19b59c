"""RabbitMQ: a queue of which every replica takes a part, with acks in batches.

A connection is made anew at each `open`, with the secrets of that moment, and thrown away by `close`. What a stay at the queue
is made of lies in `rabbitmq_consumer`; here are its two ends, publishing, and what can be said before anything is consumed.
Publishing has a connection of its own: a broker that runs out of memory stops reading from those who publish, and acks have to
get through.
"""

import asyncio
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import aiormq
import structlog

from investbus import config_bus
from investbus.errors import ConfigError, TransportDown, TransportRefused, UnsafeStart
from investbus.transport import Delivery, Message, SettleCounts, TransportState
from investbus.transports.rabbitmq_connection import Address, Link, address, answered, connected, explained, said
from investbus.transports.rabbitmq_consumer import Consumer
from investbus.transports.rabbitmq_message import properties
from investbus.transports.rabbitmq_queue import Queue, Unseen, declare, denied, look, look_up, may_publish, missing, refusals

PUBLISH_WITHIN = 10.0  # for a batch
PUBLISH_BATCH = 500
GIVE_UP_AFTER = 2.0  # seconds to take leave after an error

log = structlog.get_logger("investbus.transport.rabbitmq")


class RabbitMq:
    """The `rabbitmq` transport."""

    name: str = "rabbitmq"
    guarantees: Mapping[str, str] = {
        "delivery": "at least once: an event is acked when it is finished",
        "order": "order of the queue, and per key in one process; over replicas with x-single-active-consumer only",
        "replicas": "any number share the queue; with x-single-active-consumer one works and the others wait",
    }

    # `max_gap` is not needed: prefetch bounds how much can be unacked.
    def __init__(self, settings: config_bus.RabbitMq, *, drain_cap: float, max_gap: int) -> None:
        try:
            vhost = address(settings).vhost
        except TransportRefused as error:
            raise ConfigError([str(error)]) from None
        self.source = f"rabbitmq:{quote(vhost, safe='')}/{settings.queue}"
        self.counts = SettleCounts()
        self._settings = settings
        self._drain_cap = drain_cap
        self._consumer: Consumer | None = None
        self._cautious = False  # an event was held for too long, and none was acked since
        self._lenient = False  # there are messages that aiormq cannot read
        self._publishing = asyncio.Lock()
        self._publisher: tuple[Link, aiormq.Channel] | None = None

    async def open(self) -> None:
        link = await connected(self._settings, lenient=self._lenient)
        try:
            if self._settings.declare:
                await declare(link, self._settings)
            await self._refuse_to_lose(link)
            prefetch = 1 if self._cautious else self._settings.prefetch
            consumer = Consumer(link, self._settings, self.counts, self.source, prefetch)
            await consumer.join()
        except BaseException as error:
            await link.close(GIVE_UP_AFTER)
            if isinstance(error, Exception) and not isinstance(error, UnsafeStart):
                raise explained(error, link.address) from error
            raise
        self._consumer = consumer

    async def receive(self, limit: int) -> list[Delivery]:
        if self._consumer is None:
            raise TransportDown(f"{self.source} is not open")
        return await self._consumer.receive(limit)

    async def publish(self, messages: Sequence[Message]) -> None:
        to = address(self._settings)
        try:
            for start in range(0, len(messages), PUBLISH_BATCH):
                channel = await self._publisher_channel()
                await answered(_publish(channel, self._settings.queue, messages[start : start + PUBLISH_BATCH]), PUBLISH_WITHIN)
        except Exception as error:
            await self._drop_publisher(0.0)  # what is not confirmed should not be sent after all
            raise _unpublished(error, self._settings, to) from error

    async def close(self, flush_timeout: float) -> None:
        consumer, self._consumer = self._consumer, None
        leaving = [self._drop_publisher(flush_timeout)]
        if consumer is not None:
            self._cautious = consumer.held or consumer.cautious
            self._lenient = self._lenient or consumer.unreadable
            leaving.append(consumer.leave(self._drain_cap, flush_timeout))
        await asyncio.gather(*leaving)

    def state(self) -> TransportState:
        if self._consumer is None:
            return TransportState(connected=False, joined=False, reason="not open")
        return self._consumer.state()

    async def check(self) -> list[str]:
        findings: list[str] = []
        try:
            findings += address(self._settings).in_the_clear
            link = await connected(self._settings)
        except TransportRefused as refused:
            return [*findings, str(refused)]
        try:
            return findings + await self._looked_up(link)
        except Exception as error:
            raise explained(error, link.address) from error
        finally:
            await link.close(GIVE_UP_AFTER)

    # ---- looking

    async def _refuse_to_lose(self, link: Link) -> None:
        """Raises UnsafeStart for a queue that may drop an event for good, as far as that can be seen."""
        if self._settings.management_url is None:
            return
        try:
            queue = await look_up(self._settings, link)
        except Unseen as unseen:
            log.warning("whether the queue may drop events cannot be seen", reason=str(unseen))
            return
        self._promise(queue)
        if how := queue.drops(link.version):
            what = f'{link.address.where}: queue "{self._settings.queue}" drops an event {how}, and {queue.unburied}'
            remedy = "declare it" if queue.nowhere else "set one by a policy (dead-letter-exchange)"
            raise UnsafeStart(f"{what}; {remedy}, then start again")

    async def _looked_up(self, link: Link) -> list[str]:
        findings = await refusals(link, self._settings)
        if not await may_publish(link, self._settings):
            self._say("publishing", f"{denied('write', link.address, 'amq.default')}; a worker does not need it, `send` does")
        try:
            await look(await link.channel(), self._settings.queue)
        except aiormq.ChannelNotFoundEntity:
            if not self._settings.declare:
                findings.append(str(missing(self._settings, link.address)))
            return findings
        if self._settings.management_url is None:
            unseen = "delivery limit, dead-letter exchange, single active consumer and consumer timeout of the queue"
            self._say("not seen", f"{unseen}: set rabbitmq.management_url")
            return findings
        try:
            queue = await look_up(self._settings, link)
        except Unseen as unseen:
            return [*findings, str(unseen)]
        self._promise(queue)
        return findings + queue.findings(self._settings.queue, self._settings.hold_max, link.version)

    def _promise(self, queue: Queue) -> None:
        """Say more exactly what holds, now that the queue was seen."""
        if queue.single_active:
            order = "order of the queue and per key, over replicas too: the queue has a single active consumer"
            replicas = "one works and the others wait: the queue has a single active consumer"
        else:
            order = "order of the queue, and per key in one process: the queue has no single active consumer"
            replicas = "any number share the queue"
        self._say("order", order)
        self._say("replicas", replicas)
        if queue.consumer_timeout is None:
            hold = f"an event is unacked for {self._settings.hold_max:g} s at most"
            self._say("holding", f"{hold}; the broker's consumer_timeout, which has to be at least twice that, cannot be seen")

    def _say(self, name: str, promise: str) -> None:
        self.guarantees = {**self.guarantees, name: promise}

    # ---- publishing

    async def _publisher_channel(self) -> aiormq.Channel:
        async with self._publishing:
            if self._publisher is None or self._publisher[1].is_closed:
                await self._drop_publisher(0.0)
                link = await connected(self._settings)
                try:
                    self._publisher = link, await link.channel(confirms=True)
                except BaseException:
                    await link.close(0.0)
                    raise
            return self._publisher[1]

    async def _drop_publisher(self, within: float) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher[0].close(within)


async def _publish(channel: aiormq.Channel, queue: str, messages: Sequence[Message]) -> None:
    """Each is confirmed when this returns. The default exchange brings to a queue what bears its name."""
    prepared = [(bytes(message.body), properties(message)) for message in messages]
    sent = (channel.basic_publish(body, routing_key=queue, properties=given, mandatory=True) for body, given in prepared)
    await asyncio.gather(*sent)


def _unpublished(error: Exception, settings: config_bus.RabbitMq, to: Address) -> TransportDown:
    match error:
        case aiormq.PublishError():
            return missing(settings, to)
        case aiormq.DeliveryError():
            why = "it is full and its overflow is reject-publish, or its node failed"
            return TransportDown(f'{to.where}: queue "{settings.queue}" did not take an event: {why}')
        case aiormq.ChannelAccessRefused():
            return denied("write", to, "amq.default")
        case aiormq.ChannelPreconditionFailed() | ValueError():
            return TransportRefused(f"{to.where}: an event cannot be published: {said(error)}")
        case TimeoutError():
            why = "an alarm of its memory or disk blocks who publishes, or it is frozen or overloaded"
            return TransportDown(f"{to.where} did not confirm within {PUBLISH_WITHIN:g} s: {why}")
    return explained(error, to)
