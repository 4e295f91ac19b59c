"""Brokers as pytest fixtures. Each test process has its own; none is started before a test asks for it."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers.kafka import Kafka
from tests.brokers.kafka_settings import Security
from tests.brokers.missing import REASONS, Missing, refuse
from tests.brokers.sources import open_kafka


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """The broker that all tests share: use topics and groups of your own, and leave it running."""
    yield from _opened(tmp_path_factory.mktemp("kafka"))


@pytest.fixture(scope="session")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A shared broker that asks for a login, by any mechanism, with TLS (`SASL_SSL`) and without (`SASL_PLAINTEXT`)."""
    yield from _opened(tmp_path_factory.mktemp("secure-kafka"), own=True, security="scram_tls")


@pytest.fixture(scope="module")
def _kafka_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    yield from _opened(tmp_path_factory.mktemp("own-kafka"), own=True)


@pytest.fixture
def own_kafka(_kafka_of_module: Kafka) -> Kafka:
    """A broker of this module's own, to be stopped, killed and paused; it runs again when the next test gets it."""
    if not _kafka_of_module.running:
        _kafka_of_module.start()
    _kafka_of_module.resume()
    return _kafka_of_module


@pytest.fixture
def topic(kafka: Kafka) -> str:
    """A new topic with six partitions on `kafka`."""
    name = f"topic-{uuid.uuid4().hex[:12]}"
    kafka.create_topic(name, partitions=6)
    return name


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus' own judge of rules and metrics."""
    path = shutil.which("promtool")
    if path is None:
        refuse(Missing("there is no promtool; install the package prometheus, or put promtool on the PATH"))
    return Path(path)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason in REASONS:
        terminalreporter.write_line(f"NOT TESTED: {reason}", red=True)


def _opened(folder: Path, *, own: bool = False, security: Security = "plaintext") -> Iterator[Kafka]:
    try:
        kafka = open_kafka(folder, own=own, security=security)
    except Missing as missing:
        refuse(missing)
    try:
        yield kafka
    finally:
        kafka.close()
