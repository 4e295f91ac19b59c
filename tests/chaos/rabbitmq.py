"""RabbitMQ under chaos: a quorum queue. An event is settled when its ack was seen; in the end nothing lies in any queue."""

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.brokers.rabbitmq import RabbitMq
from tests.brokers.sources import open_rabbitmq
from tests.chaos.amqp_tap import Tap
from tests.chaos.history import Sent


class RabbitMqBus:
    """With `single_active` the broker hands out to one consumer at a time, else to all in turns."""

    def __init__(self, rabbitmq: RabbitMq, *, single_active: bool) -> None:
        self.keyed = single_active
        self._rabbitmq = rabbitmq
        self._queue = f"chaos-{uuid.uuid4().hex[:12]}"
        self._dead = f"{self._queue}.dead"
        self._sent: list[Sent] = []
        self._url = urlsplit(rabbitmq.url)
        assert self._url.hostname is not None
        self._tap = Tap((self._url.hostname, self._url.port or 5672))
        rabbitmq.declare_queue(self._dead)
        dead_letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self._dead, "x-overflow": "reject-publish"}
        at_least_once = {"x-dead-letter-strategy": "at-least-once", "x-single-active-consumer": single_active}
        rabbitmq.declare_queue(self._queue, arguments=dead_letters | at_least_once)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async with self._tap.listening():
            yield

    def settings(self) -> dict[str, Any]:
        login = self._url.netloc.rpartition("@")[0]
        url = self._url._replace(netloc=f"{login}@127.0.0.1:{self._tap.port}").geturl()
        return {"transport": "rabbitmq", "rabbitmq": {"url": url, "queue": self._queue}}

    def publish(self, events: Sequence[Sent]) -> None:
        self._rabbitmq.publish(self._queue, [event.body for event in events])
        self._sent += events

    def drained(self) -> bool:
        return all(event.event_id in self._tap.acks.settled for event in self._sent) and not self._rabbitmq.ready(self._queue)

    def settled(self) -> Mapping[str, float]:
        return self._tap.acks.settled

    def returned(self) -> Mapping[str, int]:
        return self._tap.acks.returned

    def violations(self) -> list[str]:
        left = {name: count for name in (self._queue, self._dead) if (count := self._rabbitmq.ready(name))}
        return [f"end: {count} messages lie in {name}" for name, count in left.items()]


@contextmanager
def opened(folder: Path, *, single_active: bool) -> Iterator[RabbitMqBus]:
    """A bus on a node of our own; raises Missing."""
    rabbitmq = open_rabbitmq(folder)
    try:
        yield RabbitMqBus(rabbitmq, single_active=single_active)
    finally:
        rabbitmq.close()
