"""A real RabbitMQ node, as tests see it: its life, its queues, its users and its alarms.

The client here is pika. The product speaks through aio-pika, so what one library writes the other has to read, and a
bug of one cannot hide itself.
"""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from tests.brokers import rabbitmq_amqp
from tests.brokers.life import Broker, Life
from tests.brokers.rabbitmq_access import Access, Tls
from tests.brokers.rabbitmq_amqp import REFUSALS, Channel, Message, connected
from tests.brokers.rabbitmq_settings import MEMORY

# RabbitMQ writes down which quorum queues are its own within two rounds of 0.5 s after a new one. Killed before that it
# takes the queue for a new one: no leader is ever elected, and confirmed messages are gone (rabbitmq-server issue 15725).
QUEUE_ON_DISK = 1.5


class Depth(NamedTuple):
    ready: int
    unacked: int


class RabbitMq(Broker):
    """What goes by `ctl` costs a second of processor time."""

    def __init__(self, life: Life, access: Access) -> None:
        super().__init__(life)
        self._access = access
        self._last_declared = float("-inf")

    @property
    def url(self) -> str:
        """What `rabbitmq.url` is set to: a user with all rights on the virtual host "/"."""
        return self._access.url

    @property
    def tls_url(self) -> str:
        return self._tls.url

    @property
    def ca(self) -> Path:
        """The authority that signed the node's certificate and the client's."""
        return self._tls.ca

    @property
    def client_cert(self) -> Path:
        return self._tls.client_cert

    @property
    def client_key(self) -> Path:
        return self._tls.client_key

    @property
    def has_tls(self) -> bool:
        """Whether there is a listener for TLS: only if it is a process of ours."""
        return self._access.tls is not None

    @property
    def management_url(self) -> str:
        """The HTTP API, without a login."""
        if self._access.management_url is None:
            raise RuntimeError("this RabbitMQ has no management API; ask for one with rabbitmq_with(management=True)")
        return self._access.management_url

    def kill(self) -> None:
        """SIGKILL. What it had confirmed is there again after `start()`.

        Waits until queues of `declare_queue` can survive it; one that somebody else has just declared may not.
        """
        time.sleep(max(0.0, self._last_declared + QUEUE_ON_DISK - time.monotonic()))
        super().kill()

    def answers(self) -> bool:
        try:
            with connected(self.url, answer=1.0):
                return True
        except REFUSALS:
            return False

    def channel(self) -> AbstractContextManager[Channel]:
        """A pika channel for a `with` block, on a connection of its own."""
        return connected(self.url)

    def declare_queue(self, name: str, quorum: bool = True, arguments: Mapping[str, Any] | None = None) -> None:
        """A durable queue; with `quorum` False a classic one."""
        kind = {"x-queue-type": "quorum" if quorum else "classic"}
        with self.channel() as channel:
            channel.queue_declare(name, durable=True, arguments=kind | dict(arguments or {}))
        self._last_declared = time.monotonic()

    def declare_exchange(self, name: str, queue: str, kind: str = "fanout", routing_key: str = "") -> None:
        """A durable exchange, bound to the queue."""
        with self.channel() as channel:
            channel.exchange_declare(name, kind, durable=True)
            channel.queue_bind(queue, name, routing_key)

    def delete_queue(self, name: str) -> None:
        with self.channel() as channel:
            channel.queue_delete(name)

    def publish(self, queue: str, bodies: Sequence[bytes], headers: Mapping[str, Any] | None = None) -> None:
        """Straight to the queue, persistent, each confirmed before the next."""
        with self.channel() as channel:
            rabbitmq_amqp.publish(channel, "", queue, bodies, headers or {})

    def take(self, queue: str) -> list[Message]:
        """Remove and return all that is ready in the queue now."""
        with self.channel() as channel:
            return list(rabbitmq_amqp.take(channel, queue))

    def ready(self, queue: str) -> int:
        """How many messages wait there; cheap enough to ask again and again."""
        with self.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

    def depth(self, queue: str) -> Depth:
        """Ready and unacked, by `ctl`: for unacked ones AMQP has no question."""
        said = json.loads(self.ctl("list_queues", "--formatter", "json", "name", "messages_ready", "messages_unacknowledged"))
        for row in said:
            if row["name"] == queue:
                return Depth(row["messages_ready"], row["messages_unacknowledged"])
        raise LookupError(f"RabbitMQ has no queue {queue}")

    def ctl(self, *words: str) -> str:
        """Run `rabbitmqctl`, and return what it prints."""
        if self._access.ctl is None:
            raise RuntimeError(f"cannot run rabbitmqctl {words[0]} on a RabbitMQ that is not ours; use the fixture own_rabbitmq")
        return self._access.ctl(*words)

    def limited_user(self, name: str, password: str, permissions: str) -> str:
        """A user who may configure, write and read only names that match the regular expression; the URL to be this one.

        The default exchange has the name `amq.default`: to publish straight to a queue, a pattern has to match it too.
        """
        self.ctl("add_user", name, password)
        self.ctl("set_permissions", "--vhost", "/", name, permissions, permissions, permissions)
        return urlsplit(self.url)._replace(netloc=f"{quote(name, safe='')}:{quote(password, safe='')}@{self._host}").geturl()

    def set_memory_alarm(self, on: bool) -> None:
        """While it is on, whoever publishes is blocked; consumers go on."""
        self.ctl("set_vm_memory_high_watermark", "absolute", "1MB" if on else MEMORY)

    def close_all_connections(self) -> None:
        """As an operator does it before maintenance: clients are told CONNECTION_FORCED."""
        self.ctl("close_all_connections", "closed by a test")

    @property
    def _host(self) -> str:
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def _tls(self) -> Tls:
        if self._access.tls is None:
            raise RuntimeError("this RabbitMQ has no TLS; use the fixture secure_rabbitmq")
        return self._access.tls
