"""AMQP 0-9-1 by pika, which shares no code with the client of the product.

Every call makes a connection of its own and closes it: a node that is killed between two calls leaves nothing broken
behind, and on loopback that costs milliseconds.
"""

import logging
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import pika  # type: ignore[import-untyped]  # it carries no type information
from pika.adapters.utils.connection_workflow import AMQPConnectorException  # type: ignore[import-untyped]
from pika.exceptions import AMQPError  # type: ignore[import-untyped]

Channel = Any  # pika's BlockingChannel
REFUSALS = (AMQPError, AMQPConnectorException, OSError)  # what pika raises if it does not come to a connection

logging.getLogger("pika").setLevel(logging.CRITICAL)  # what matters is raised; the rest is told many times over


class Message(NamedTuple):
    body: bytes
    headers: dict[str, Any]
    redelivered: bool
    delivery_count: int  # how often a quorum queue had delivered it before
    properties: Any  # pika's BasicProperties


@contextmanager
def connected(
    url: str, tls: ssl.SSLContext | None = None, *, answer: float = 10.0, blocked: float = 10.0
) -> Iterator[Channel]:
    """A channel on a new connection; `answer` and `blocked`: seconds to wait for the node, and for an alarm to end."""
    parameters = pika.URLParameters(url)
    parameters.connection_attempts = 1
    parameters.socket_timeout = parameters.stack_timeout = answer
    parameters.blocked_connection_timeout = blocked
    parameters.heartbeat = 10
    if tls is not None:
        parameters.ssl_options = pika.SSLOptions(tls, parameters.host)
    connection = pika.BlockingConnection(parameters)
    try:
        yield connection.channel()
    finally:
        with suppress(AMQPError):  # it is closed already: by the node, or because it is gone
            connection.close()


def publish(channel: Channel, exchange: str, routing_key: str, bodies: Sequence[bytes], headers: Mapping[str, Any]) -> None:
    """Each is persistent, and confirmed before the next; one that no queue takes is raised."""
    channel.confirm_delivery()
    persistent = pika.BasicProperties(delivery_mode=2, headers=dict(headers))
    for body in bodies:
        channel.basic_publish(exchange, routing_key, body, properties=persistent, mandatory=True)


def take(channel: Channel, queue: str) -> Iterator[Message]:
    """Remove what is ready in the queue, one by one."""
    while True:
        method, properties, body = channel.basic_get(queue)
        if method is None:
            return
        headers = dict(properties.headers or {})
        yield Message(body, headers, method.redelivered, int(headers.get("x-delivery-count", 0)), properties)
        channel.basic_ack(method.delivery_tag)
