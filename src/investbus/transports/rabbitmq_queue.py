"""The queue: what it is made of, and what of that can be seen.

The protocol shows no arguments of a queue that is there, so whether it may drop events, and whether one consumer at a time keeps
its order, is asked of the broker's management API, if `rabbitmq.management_url` says where that is. What a user may do is asked
of the broker itself, by questions that it has to refuse: how it refuses them tells, and nothing on it changes.
"""

import ssl
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import aiormq
import msgspec
from aiormq.abc import DeliveredMessage
from pamqp.common import FieldTable
from yarl import URL

from investbus import config_bus
from investbus.errors import InvestbusError, TransportRefused
from investbus.transports.rabbitmq_connection import Address, Link, answered, said, tls

MANAGEMENT_WITHIN = 5.0
BROKERS_TIMEOUT = 1800.0  # seconds: consumer_timeout of a broker that was told nothing else


class Unseen(InvestbusError):
    """The management API did not say. The text is for people."""


class Queue(msgspec.Struct, frozen=True):
    """A queue as the management API shows it; what a policy sets is in force where no argument says otherwise."""

    type: str = "classic"
    durable: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, Any] = {}
    effective_policy_definition: Mapping[str, Any] | None = None
    nowhere: bool = False  # its dead-letter exchange does not exist

    def has(self, name: str) -> list[Any]:
        """What is set for `name`, by argument and by policy."""
        both = (self.arguments.get(f"x-{name}"), (self.effective_policy_definition or {}).get(name))
        return [value for value in both if value is not None]

    @property
    def single_active(self) -> bool:
        return any(value is True for value in self.has("single-active-consumer"))

    @property
    def consumer_timeout(self) -> float | None:
        """In seconds; None: the broker's own."""
        return min((value / 1000 for value in self.has("consumer-timeout") if isinstance(value, int)), default=None)

    @property
    def unburied(self) -> str:
        """Why what dies here is gone for good; "" if it is not."""
        exchange = self.has("dead-letter-exchange")
        if not exchange:
            return "has no dead-letter exchange"
        return f'has a dead-letter exchange "{exchange[0]}" that does not exist' if self.nowhere else ""

    def drops(self, version: str) -> str:
        """After how many deliveries it drops an event for good; "" if it does not."""
        if self.type != "quorum" or not self.unburied:
            return ""
        limits = [value for value in self.has("delivery-limit") if isinstance(value, int)]
        if limits:
            limit = min(limits) if min(limits) >= 0 else max(limits)  # a negative one is none, and does not win
            return f"after {limit} deliveries" if limit >= 0 else ""
        since_4 = version.partition(".")[0]
        return f"after 20 deliveries, the default of RabbitMQ {version}" if since_4.isdigit() and int(since_4) >= 4 else ""

    def findings(self, name: str, hold_max: float, version: str) -> list[str]:
        found = []
        if self.type == "quorum" and self.unburied:
            dropped = f"; an event is dropped {how}" if (how := self.drops(version)) else ""
            remedy = "declare it" if self.nowhere else "set one by a policy"
            found.append(f'queue "{name}" {self.unburied}{dropped}; {remedy}')
        if (self.has("max-length") or self.has("max-length-bytes")) and "reject-publish" not in self.has("overflow"):
            found.append(f'queue "{name}" drops its oldest events when it is full; set overflow: reject-publish by a policy')
        if not self.durable or self.auto_delete:
            when = "when its last consumer leaves (auto-delete)" if self.auto_delete else "when its node restarts (not durable)"
            found.append(f'queue "{name}" is gone with its events {when}; declare it anew')
        if self.has("expires"):
            found.append(f'queue "{name}" is gone with its events once nobody has used it for a while; unset its expires')
        if self.has("message-ttl") and self.unburied:
            found.append(f'queue "{name}" drops events that wait for too long; unset its message-ttl')
        timeout = self.consumer_timeout or BROKERS_TIMEOUT
        if hold_max > timeout / 2:
            whose = "the consumer timeout of the queue" if self.consumer_timeout else "RabbitMQ's default consumer_timeout"
            found.append(f"rabbitmq.hold_max {hold_max:g} s is more than half of {timeout:g} s, {whose}")
        return found


async def look_up(settings: config_bus.RabbitMq, link: Link) -> Queue:
    """The queue as `rabbitmq.management_url` shows it. Raises Unseen."""
    queue = await _asked(settings, link.address)
    exchange = next(iter(queue.has("dead-letter-exchange")), "")
    if not exchange:  # or the default one, which is always there
        return queue
    try:
        await answered((await link.channel()).exchange_declare(str(exchange), passive=True))
    except aiormq.ChannelNotFoundEntity:
        return msgspec.structs.replace(queue, nowhere=True)
    return queue


async def _asked(settings: config_bus.RabbitMq, to: Address) -> Queue:
    url = f"{str(settings.management_url).rstrip('/')}/api/queues/{quote(to.vhost, safe='')}/{quote(settings.queue, safe='')}"
    login = {"Authorization": aiohttp.encode_basic_auth(to.user, to.url.password or "guest")}
    timeout = aiohttp.ClientTimeout(total=MANAGEMENT_WITHIN)
    at = f"rabbitmq.management_url {settings.management_url}"
    try:
        trusted = tls(settings) if url.startswith("https:") else True
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=login) as session,
            session.get(URL(url, encoded=True), ssl=trusted, allow_redirects=False) as answer,
        ):
            if answer.status == 401:
                raise Unseen(f'{at} refused user "{to.user}"; wrong credentials, or no tag "management"')
            if answer.status != 200:
                raise Unseen(f'{at} says {answer.status} of queue "{settings.queue}"')
            return msgspec.json.decode(await answer.read(), type=Queue)
    except TransportRefused as error:
        raise Unseen(str(error)) from error
    except (aiohttp.ClientConnectorCertificateError, ssl.SSLError) as error:
        raise Unseen(f"{at}: its certificate is not valid (rabbitmq.ca_file)") from error
    except TimeoutError as error:
        raise Unseen(f"{at} does not answer") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Unseen(f"{at} cannot be reached: {type(error).__name__}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unseen(f"{at} is no management API of RabbitMQ") from error


async def look(channel: aiormq.Channel, queue: str) -> tuple[int, int]:
    """How many events wait there, and for how many consumers; it needs no permission.

    Raises ChannelNotFoundEntity if there is no such queue.
    """
    found = await answered(channel.queue_declare(queue, passive=True))
    return found.message_count or 0, found.consumer_count or 0


def missing(settings: config_bus.RabbitMq, to: Address) -> TransportRefused:
    what = f'queue "{settings.queue}" does not exist in virtual host "{to.vhost}"'
    return TransportRefused(f"{to.where}: {what}; create it, or set rabbitmq.declare: true")


def denied(permission: str, to: Address, name: str) -> TransportRefused:
    return TransportRefused(f'{to.where}: user "{to.user}" lacks the permission to {permission} "{name}" in "{to.vhost}"')


async def declare(link: Link, settings: config_bus.RabbitMq) -> None:
    """Create what is not there: first the place for what may die, then the queue. Raises TransportRefused."""
    channel = await link.channel()
    try:
        await answered(_declare(channel, settings.queue))
    except aiormq.ChannelAccessRefused as error:
        raise TransportRefused(f"{link.address.where}: rabbitmq.declare: {said(error)}") from error
    except aiormq.ChannelPreconditionFailed as error:
        what = "something of that name is there and is different; delete it, or set rabbitmq.declare: false"
        raise TransportRefused(f"{link.address.where}: rabbitmq.declare: {what}: {said(error)}") from error
    await answered(channel.close())


async def _declare(channel: aiormq.Channel, queue: str) -> None:
    exchange, dead = f"{queue}.dlx", f"{queue}.dead"
    await channel.exchange_declare(exchange, exchange_type="fanout", durable=True)
    await channel.queue_declare(dead, durable=True, arguments={"x-queue-type": "quorum"})
    await channel.queue_bind(dead, exchange)
    arguments: FieldTable = {"x-queue-type": "quorum", "x-dead-letter-exchange": exchange}
    arguments |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}  # the first needs the second
    await channel.queue_declare(queue, durable=True, arguments=arguments)


async def refusals(link: Link, settings: config_bus.RabbitMq) -> list[str]:
    """What of the queue this user may not do."""
    to, queue = link.address, settings.queue
    # Numbers are wanted there, so nothing is consumed and nothing declared.
    no_such_value: FieldTable = {"x-priority": "none", "x-max-length": "none"}
    found = []
    if not await _may(link, lambda channel: channel.basic_consume(queue, nobody, arguments=no_such_value)):
        found.append(str(denied("read", to, queue)))
    if settings.declare and not await _may(link, lambda channel: channel.queue_declare(queue, arguments=no_such_value)):
        found.append(str(denied("configure", to, queue)))
    return found


async def may_publish(link: Link, settings: config_bus.RabbitMq) -> bool:
    """Whether this user may write to the default exchange; asked with a message that has nowhere to go."""
    nowhere = f"{settings.queue}.nowhere"
    return await _may(link, lambda channel: channel.basic_publish(b"", routing_key=nowhere, mandatory=True))


async def _may(link: Link, ask: Callable[[aiormq.Channel], Coroutine[Any, Any, object]]) -> bool:
    try:
        await answered(ask(await link.channel(confirms=True)))
    except aiormq.ChannelAccessRefused:
        return False
    except (aiormq.AMQPChannelError, aiormq.PublishError):  # permissions are looked at first
        return True
    return True


async def nobody(_: DeliveredMessage) -> None:
    """For a consumer that is to get nothing."""
