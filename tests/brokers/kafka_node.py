"""Where a Kafka broker is: more to say than an address, since its listeners differ in who may come in and how."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tests.brokers.kafka_settings import Security
from tests.brokers.life import Elsewhere, Life


class Node(Life, Protocol):
    @property
    def addresses(self) -> Mapping[str, str]:
        """host:port by the name of the security protocol; the first is the one to use."""

    @property
    def security(self) -> Security: ...
    @property
    def ca(self) -> Path | None: ...


class KafkaAddress(Elsewhere):
    """A broker that runs elsewhere."""

    security: Security = "plaintext"
    ca: Path | None = None

    def __init__(self, address: str) -> None:
        super().__init__(f"TEST_KAFKA={address}", "own_kafka")
        self.addresses = {"PLAINTEXT": address}
