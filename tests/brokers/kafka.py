"""A real Kafka broker, as tests see it: its life, its topics, and what is committed there.

The client here is librdkafka. The product speaks through aiokafka, so what one library writes the other has to
read, and a bug of one cannot hide itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from tests.brokers import kafka_records
from tests.brokers.kafka_commits import Sampler, commit, committed, visitor
from tests.brokers.kafka_login import Setting, login, refusal
from tests.brokers.kafka_node import Node
from tests.brokers.kafka_records import BY_KEY, Compression, Place, Record, Sent, Transaction
from tests.brokers.kafka_settings import OWN_MECHANISM, USERS, Mechanism
from tests.brokers.life import Broker

PATIENT: Mapping[str, Setting] = {  # towards a broker that is killed and frozen on purpose
    "socket.timeout.ms": 3000,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 500,
    "log_level": 0,  # a line on stderr for every lost connection tells nothing: what matters is raised
}
EARLIEST, LATEST = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]  # they carry no hints
ANSWER = 10.0  # seconds for one question to a broker that should be well


class Kafka(Broker):
    """From TEST_KAFKA it is not controllable."""

    users = USERS

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._node = node
        protocol, mechanism = next(iter(node.addresses)), OWN_MECHANISM[node.security]
        self._settings = self.client_settings(protocol, mechanism, "admin", USERS["admin"])
        self._admin = AdminClient(dict(self._settings))

    @property
    def bootstrap(self) -> str:
        """What `kafka.bootstrap_servers` is set to."""
        return str(self._settings["bootstrap.servers"])

    def address(self, protocol: str) -> str:
        """host:port of the listener for PLAINTEXT, SASL_PLAINTEXT, SASL_SSL or SSL, as far as this broker has it."""
        return self._node.addresses[protocol]

    def client_settings(self, protocol: str, mechanism: Mechanism | None, user: str, password: str) -> dict[str, Setting]:
        """For a librdkafka client of your own."""
        servers = {"bootstrap.servers": self._node.addresses[protocol]}
        return {**PATIENT, **servers, **login(protocol, mechanism, user, password, self._node.ca)}

    @property
    def ca(self) -> Path | None:
        """The authority that signed the broker's certificate, if it has one."""
        return self._node.ca

    def answers(self) -> bool:
        try:
            return bool(self._admin.list_topics(timeout=1.0).brokers)
        except KafkaException:
            return False

    def refusal(self, protocol: str, mechanism: Mechanism, user: str, password: str) -> str | None:
        """Why the broker refuses this login; None if it lets the user in."""
        return refusal(self.client_settings(protocol, mechanism, user, password))

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
        _settle(self._admin.create_topics([topic]).values())

    def produce(
        self,
        topic: str,
        messages: Sequence[Sent],
        compression: Compression = "none",
        *,
        partition: int = BY_KEY,
        transaction: Transaction | None = None,
        timeout: float = 30.0,
    ) -> list[Place]:
        """Write (key, value, headers) in this order; where each went. A transaction takes an offset of its own."""
        return kafka_records.produce(
            self._settings,
            topic,
            messages,
            compression=compression,
            partition=partition,
            transaction=transaction,
            timeout=timeout,
        )

    def read(self, topic: str, timeout: float = 30.0) -> list[Record]:
        """All that is in the topic now, ordered within each partition."""
        starts, ends = self.beginning_offsets(topic), self.end_offsets(topic)
        return kafka_records.read(self._settings, topic, {p: (starts[p], ends[p]) for p in ends}, timeout)

    def beginning_offsets(self, topic: str) -> dict[int, int]:
        return self._offsets(topic, EARLIEST)

    def end_offsets(self, topic: str) -> dict[int, int]:
        return self._offsets(topic, LATEST)

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Drop what lies below these offsets, by partition, as retention does."""
        doomed = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
        _settle(self._admin.delete_records(doomed, request_timeout=ANSWER).values())

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The group's committed offsets by partition; one without a commit is not in it."""
        with closing(visitor(self._settings, group)) as consumer:
            return committed(consumer, topic, len(self._partitions(topic)), ANSWER)

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Move a group that has no members: any offset is taken, also one that the topic does not have."""
        with closing(visitor(self._settings, group)) as consumer:
            commit(consumer, topic, offsets)

    def sampler(self, group: str, topic: str) -> Sampler:
        """A witness for a `with` block; `steps_back() == []` then says that no commit went back."""
        return Sampler(self._settings, group, topic, len(self._partitions(topic)))

    def _partitions(self, topic: str) -> list[int]:
        return sorted(self._admin.list_topics(topic, timeout=ANSWER).topics[topic].partitions)

    def _offsets(self, topic: str, which: OffsetSpec) -> dict[int, int]:
        question = {TopicPartition(topic, partition): which for partition in self._partitions(topic)}
        answers = self._admin.list_offsets(question, request_timeout=ANSWER)
        return {asked.partition: answer.result(ANSWER + 1.0).offset for asked, answer in answers.items()}


def _settle(futures: Iterable["Future[Any]"]) -> None:
    """Wait until the broker has done it; one refusal is raised as it is."""
    for future in futures:
        future.result(ANSWER + 1.0)
