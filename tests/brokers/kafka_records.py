"""Writing to a topic and reading it back, all of it or an error: no test goes on with half of what it asked for."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Literal, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.brokers.kafka_login import Settings

Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]
Transaction = Literal["commit", "abort"]
Headers = Sequence[tuple[str, str | bytes | None]]
Sent = tuple[str | bytes | None, str | bytes | None, Headers | None]  # key, value, headers
Place = tuple[int, int]  # partition, offset
BY_KEY = -1  # the partition that the key leads to; without a key, any


class Record(NamedTuple):
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Confirmations:
    """What the broker said to each message, in the order in which they were sent."""

    def __init__(self, count: int) -> None:
        self.places: list[Place | None] = [None] * count
        self.errors: list[KafkaError] = []

    def note(self, index: int, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.errors.append(error)
        else:
            self.places[index] = (message.partition() or 0, message.offset() or 0)

    def all(self, topic: str, timeout: float) -> list[Place]:
        confirmed = [place for place in self.places if place is not None]
        if len(confirmed) == len(self.places):
            return confirmed
        if self.errors and self.errors[0].code() != KafkaError._MSG_TIMED_OUT:
            raise KafkaException(self.errors[0])
        missing = len(self.places) - len(confirmed)
        raise TimeoutError(f"{topic}: {missing} of {len(self.places)} messages not confirmed within {timeout:g} s")


def produce(
    settings: Settings,
    topic: str,
    messages: Sequence[Sent],
    *,
    compression: Compression,
    partition: int,
    transaction: Transaction | None,
    timeout: float,
) -> list[Place]:
    producer = Producer(
        {
            **settings,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": compression,
            "partitioner": "murmur2_random",  # as the clients in Java and aiokafka place a key
            "linger.ms": 5,
            "message.timeout.ms": int(timeout * 1000),
            "queue.buffering.max.messages": max(len(messages), 1) + 1,
            **({"transactional.id": f"lab-{topic}-{time.monotonic_ns()}"} if transaction else {}),
        }
    )
    with suppress(KafkaException):  # once connected, it need not wait half a second for its producer id
        producer.list_topics(topic, timeout=min(1.0, timeout))
    if transaction:
        producer.init_transactions(timeout)
        producer.begin_transaction()
    said = Confirmations(len(messages))
    for index, (key, value, headers) in enumerate(messages):
        note = partial(said.note, index)
        producer.produce(topic, value, key, partition, note, headers=list(headers or ()))
    producer.flush(timeout + 5.0)
    places = said.all(topic, timeout)
    match transaction:
        case "commit": producer.commit_transaction(timeout)
        case "abort": producer.abort_transaction(timeout)
        case None: pass
    return places


def read(settings: Settings, topic: str, span: Mapping[int, tuple[int, int]], timeout: float) -> list[Record]:
    """The records between the two offsets of each partition; without a group, so it leaves nothing behind."""
    left = {partition: end for partition, (start, end) in span.items() if start < end}
    alone = {"group.id": "unused", "enable.auto.commit": False, "enable.partition.eof": True, "fetch.wait.max.ms": 50}
    consumer = Consumer({**settings, **alone})
    records: list[Record] = []
    end_of_patience = time.monotonic() + timeout
    try:
        consumer.assign([TopicPartition(topic, partition, span[partition][0]) for partition in left])
        while left:
            if time.monotonic() > end_of_patience:
                raise TimeoutError(f"{topic}: partitions {sorted(left)} not read to their ends within {timeout:g} s")
            for message in consumer.consume(1000, timeout=0.2):
                error = message.error()
                if error is None:
                    records.append(_record(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.pop(message.partition() or 0, None)
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()
    return records


def _record(message: Message) -> Record:
    headers = [(name, value.encode() if isinstance(value, str) else value) for name, value in _pairs(message)]
    return Record(message.partition() or 0, message.offset() or 0, message.key(), message.value(), headers)


def _pairs(message: Message) -> Iterator[tuple[str, str | bytes | None]]:
    headers = message.headers() or []
    yield from headers.items() if isinstance(headers, dict) else headers
