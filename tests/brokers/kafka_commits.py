"""What a group has committed, and a witness of it while the broker and its consumers are treated badly.

Asked as a consumer that never joins: librdkafka's admin client loses its way to the group's coordinator when the
broker is killed, and has aborted the whole process over a question that was still open.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import closing
from itertools import pairwise
from types import TracebackType
from typing import NamedTuple, Self

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.brokers.kafka_login import Settings

LOOKS_PER_SECOND = 10


class Sample(NamedTuple):
    at: float  # time.monotonic()
    offsets: dict[int, int]  # by partition; one without a commit is not in it


class StepBack(NamedTuple):
    partition: int
    before: int
    after: int  # -1: no commit is left


class Sampler:
    """Looks at both ends of the `with` block, and in between again and again, in a thread of its own."""

    def __init__(self, settings: Settings, group: str, topic: str, partitions: int) -> None:
        self.samples: list[Sample] = []
        self.unanswered = 0  # looks at a broker that was dead or frozen
        self._consumer = visitor(settings, group)
        self._topic = topic
        self._partitions = partitions
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commit sampler", daemon=True)

    def steps_back(self) -> list[StepBack]:
        """Every time that a committed offset was seen below where it was seen before."""
        return [
            StepBack(partition, before, later.offsets.get(partition, -1))
            for earlier, later in pairwise(self.samples)
            for partition, before in earlier.offsets.items()
            if later.offsets.get(partition, -1) < before
        ]

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        with closing(self._consumer):
            self._look()

    def _run(self) -> None:
        while not self._over.wait(1 / LOOKS_PER_SECOND):
            self._look()

    def _look(self) -> None:
        try:
            offsets = committed(self._consumer, self._topic, self._partitions, timeout=1.0)
        except KafkaException:
            self.unanswered += 1
        else:
            self.samples.append(Sample(time.monotonic(), offsets))


def visitor(settings: Settings, group: str) -> Consumer:
    """A consumer that may ask and move what `group` has committed, and is no member of it."""
    return Consumer({**settings, "group.id": group, "enable.auto.commit": False})


def committed(consumer: Consumer, topic: str, partitions: int, timeout: float) -> dict[int, int]:
    answer = consumer.committed([TopicPartition(topic, partition) for partition in range(partitions)], timeout)
    return {place.partition: place.offset for place in answer if place.offset >= 0}


def commit(consumer: Consumer, topic: str, offsets: Mapping[int, int]) -> None:
    moved = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
    for place in consumer.commit(offsets=moved, asynchronous=False) or ():
        if place.error is not None:
            raise KafkaException(place.error)
