"""The `kafka` transport passes the conformance suite, on a broker of its own that asks for a login."""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from investbus import config_bus
from investbus.transport import Delivery, Transport
from investbus.transports.kafka import Kafka
from investbus.transports.kafka_partition import Epoch
from tests.brokers.kafka import Kafka as Broker
from tests.brokers.kafka_settings import USERS
from tests.brokers.missing import Missing, refuse
from tests.brokers.sources import open_kafka
from tests.transports.conformance import Delivering, Ending, Leasing, Reaching, Sharing
from tests.transports.conformance_bus import PLENTY, opened
from tests.transports.conformance_guarantees import GUARANTEES
from tests.transports.reading import until

SESSION = 1.5


class KafkaBus:
    """A topic with one partition, and one group: what holds for a partition holds for each of many."""

    guarantees = GUARANTEES["kafka"]
    silence = 2 * SESSION

    def __init__(self, broker: Broker) -> None:
        name = uuid.uuid4().hex[:12]
        self._broker = broker
        self._topic, self._group = f"topic-{name}", f"group-{name}"
        broker.create_topic(self._topic)

    def transport(self, *, bound: int = PLENTY, drain_cap: float = 0.3) -> Kafka:
        return Kafka(self._settings(), drain_cap=drain_cap, max_gap=bound)

    def _settings(self, password: str = USERS["app"], **changed: Any) -> config_bus.Kafka:
        security = {"protocol": "SASL_PLAINTEXT", "mechanism": "SCRAM-SHA-256", "username": "app", "password": password}
        usual: dict[str, Any] = {
            "bootstrap_servers": [self._broker.address("SASL_PLAINTEXT")],
            "topic": self._topic,
            "group": self._group,
            "session_timeout": SESSION,
            "security": security,
        }
        return config_bus.Kafka.model_validate(usual | changed)

    async def end_lease(self, transport: Transport, taken: Sequence[Delivery]) -> None:
        """Another worker comes and goes, and each time the group takes all partitions away and gives them out anew."""
        assert isinstance(transport, Kafka)
        stays = [None, _stay(transport)]
        rival = self.transport()
        async with opened(rival):
            await until(lambda: rival.state().joined and _stay(transport) not in stays)
            stays.append(_stay(transport))
        await until(lambda: _stay(transport) not in stays)

    async def crash(self) -> None:
        await asyncio.to_thread(self._broker.kill)
        await self.start()

    async def expire(self) -> None:
        """A session that somebody left open ends by itself within two seconds, before a new worker is let in."""

    def astray(self) -> tuple[Transport, str]:
        return Kafka(self._settings(topic="nowhere"), drain_cap=0.3, max_gap=PLENTY), '"nowhere"'

    def intruder(self) -> tuple[Transport, str]:
        return Kafka(self._settings(password="0pen-sesame"), drain_cap=0.3, max_gap=PLENTY), "0pen-sesame"

    async def stop(self) -> None:
        await asyncio.to_thread(self._broker.stop)

    async def start(self) -> None:
        self._broker.start()  # not in a thread: it would end with that


def _stay(kafka: Kafka) -> Epoch | None:
    """The assignment that it reads from; None between two. From outside one looks like the next."""
    epoch = kafka._membership and kafka._membership._epoch
    return epoch if epoch and epoch.placed else None


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    try:
        broker = open_kafka(tmp_path_factory.mktemp("kafka"), own=True, security="scram_tls")
    except Missing as missing:
        refuse(missing)
    try:
        yield broker
    finally:
        broker.close()


@pytest.mark.broker
class TestConformance(Delivering, Leasing, Ending, Sharing, Reaching):
    @pytest.fixture
    def bus(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> KafkaBus:
        monkeypatch.setattr("investbus.transports.kafka.PUBLISH_WITHIN", 3.0)
        if not broker.running:
            broker.start()
        return KafkaBus(broker)
