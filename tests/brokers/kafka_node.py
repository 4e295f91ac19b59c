"""Where a Kafka broker comes from: a process of ours, a container, or an address that somebody gave."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, Protocol

from tests.brokers.kafka_settings import Security
from tests.brokers.process import wait_until

PATIENCE = 20.0  # seconds for a broker at a given address to answer


class Node(Protocol):
    """A broker to be reached, and to be stopped and started if it is ours: on the same ports, with the same data."""

    @property
    def addresses(self) -> Mapping[str, str]:
        """host:port by the name of the security protocol; the first is the one to use."""

    @property
    def security(self) -> Security: ...
    @property
    def ca(self) -> Path | None: ...
    @property
    def controllable(self) -> bool: ...
    @property
    def running(self) -> bool: ...

    def start(self, ready: Callable[[], bool]) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None:
        """End it and whatever it holds on this machine, for good."""


class KafkaAddress:
    """A broker that runs elsewhere. It may serve others as well, so nothing here touches its life."""

    security: Security = "plaintext"
    ca: Path | None = None
    controllable = False
    running = True

    def __init__(self, address: str) -> None:
        self.addresses = {"PLAINTEXT": address}
        self._name = f"TEST_KAFKA={address}"

    def start(self, ready: Callable[[], bool]) -> None:
        wait_until(ready, PATIENCE, self._name, lambda: True, lambda: "no Kafka broker answers there")

    def stop(self) -> None:
        self._refuse("stop")

    def kill(self) -> None:
        self._refuse("kill")

    def pause(self) -> None:
        self._refuse("pause")

    def resume(self) -> None:
        self._refuse("resume")

    def close(self) -> None:
        """It goes on: it is not ours."""

    def _refuse(self, verb: str) -> NoReturn:
        raise RuntimeError(f"{self._name}: cannot {verb} a broker that is not ours; use the fixture own_kafka")
