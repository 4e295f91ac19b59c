"""A steady load on a real bus from a thread of its own, so that a worker that is slow does not slow down what comes next."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from typing import Any, NamedTuple

from confluent_kafka import Producer

from investbus.sandbox.world import timestamp, utc_now
from tests.brokers import rabbitmq_amqp
from tests.brokers.kafka import Kafka
from tests.brokers.rabbitmq import RabbitMq
from tests.whole import envelope

TICK = 0.02  # seconds between looks at the clock

Put = Callable[[str, bytes], None]


class Bus(NamedTuple):
    """The settings that lead a worker to a bus, and the way for others to publish there."""

    settings: Mapping[str, Any]
    publishing: Callable[[], AbstractContextManager[Put]]


def kafka_bus(kafka: Kafka, topic: str, group: str = "accepted") -> Bus:
    @contextmanager
    def publishing() -> Iterator[Put]:
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 0, "partitioner": "murmur2_random"})

        def put(key: str, body: bytes) -> None:
            producer.produce(topic, body, key)
            producer.poll(0)

        yield put
        assert producer.flush(30.0) == 0

    section = {"bootstrap_servers": [kafka.bootstrap], "topic": topic, "group": group, "session_timeout": 10.0}
    return Bus({"transport": "kafka", "kafka": section}, publishing)


def rabbitmq_bus(rabbitmq: RabbitMq, queue: str, prefetch: int = 200) -> Bus:
    @contextmanager
    def publishing() -> Iterator[Put]:
        with rabbitmq.channel() as channel:
            yield lambda key, body: rabbitmq_amqp.publish(channel, "", queue, [body], {})

    return Bus({"transport": "rabbitmq", "rabbitmq": {"url": rabbitmq.url, "queue": queue, "prefetch": prefetch}}, publishing)


class Load:
    """`rate` events a second, from `with` to its end. `make` gives name and key of the event with this number."""

    def __init__(self, bus: Bus, rate: float, make: Callable[[int], tuple[str, str]]) -> None:
        self.published = 0
        self._bus, self._rate, self._make = bus, rate, make
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Publish no more; raises what went wrong."""
        self._ends.set()
        self._thread.join(60.0)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with self._bus.publishing() as put:
                self._publish(put)
        except BaseException as error:  # raised by `stop`, in the thread that waits
            self._error = error

    def _publish(self, put: Put) -> None:
        began = time.monotonic()
        for number in count():
            while time.monotonic() - began < number / self._rate:
                if self._ends.wait(TICK):
                    return
            if self._ends.is_set():
                return
            name, key = self._make(number)
            data = {"id": key, "sent": time.time()}
            put(key, envelope(name, f"e{number}", created=timestamp(utc_now()), data=data))
            self.published = number + 1
