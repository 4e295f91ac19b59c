"""Brokers as pytest fixtures. Each test process has its own; none is started before a test asks for it."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.brokers.kafka import Kafka
from tests.brokers.kafka_settings import Security
from tests.brokers.missing import REASONS, Missing, refuse
from tests.brokers.postgresql import PostgreSql
from tests.brokers.rabbitmq import RabbitMq
from tests.brokers.rabbitmq_settings import Options
from tests.brokers.sources import B, open_kafka, open_postgresql, open_rabbitmq


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
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    """The node that all tests share: use queues and users of your own, and leave it running and without alarms."""
    yield from _closed(lambda: open_rabbitmq(tmp_path_factory.mktemp("rabbitmq")))


@pytest.fixture(scope="module")
def _rabbitmq_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    yield from _closed(lambda: open_rabbitmq(tmp_path_factory.mktemp("own-rabbitmq"), own=True))


@pytest.fixture
def own_rabbitmq(_rabbitmq_of_module: RabbitMq) -> RabbitMq:
    """A node of this module's own, to be stopped, killed and paused; it runs again when the next test gets it."""
    if not _rabbitmq_of_module.running:
        _rabbitmq_of_module.start()
    _rabbitmq_of_module.resume()
    return _rabbitmq_of_module


@pytest.fixture(scope="session")
def rabbitmq_with(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Options], RabbitMq]]:
    """A shared node with these options; who asks for the same gets the same, since each takes 8 s to start."""
    with ExitStack() as stack:

        @cache
        def rabbitmq_with(options: Options) -> RabbitMq:
            folder = tmp_path_factory.mktemp("rabbitmq-with")
            return stack.enter_context(contextmanager(_closed)(lambda: open_rabbitmq(folder, options=options)))

        yield rabbitmq_with


@pytest.fixture(scope="session")
def secure_rabbitmq(rabbitmq: RabbitMq, rabbitmq_with: Callable[[Options], RabbitMq]) -> RabbitMq:
    """A shared node with a TLS listener beside the plain one."""
    return rabbitmq if rabbitmq.has_tls else rabbitmq_with(Options())


@pytest.fixture
def queue(rabbitmq: RabbitMq) -> str:
    """A new quorum queue on `rabbitmq`; what it rejects goes by the exchange NAME.dlx to the queue NAME.dead."""
    name = f"queue-{uuid.uuid4().hex[:12]}"
    rabbitmq.declare_queue(f"{name}.dead")
    rabbitmq.declare_exchange(f"{name}.dlx", f"{name}.dead")
    rabbitmq.declare_queue(
        name,
        arguments={
            "x-dead-letter-exchange": f"{name}.dlx",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",  # at-least-once needs it
        },
    )
    return name


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSql]:
    """The server that all tests share: use `new_database()`, and leave it running."""
    yield from _closed(lambda: open_postgresql(tmp_path_factory.mktemp("postgresql")))


@pytest.fixture(scope="module")
def _postgresql_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSql]:
    yield from _closed(lambda: open_postgresql(tmp_path_factory.mktemp("own-postgresql"), own=True))


@pytest.fixture
def own_postgresql(_postgresql_of_module: PostgreSql) -> PostgreSql:
    """A server of this module's own, to be stopped, killed and paused; it runs again when the next test gets it."""
    if not _postgresql_of_module.running:
        _postgresql_of_module.start()
    _postgresql_of_module.resume()
    return _postgresql_of_module


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus' own judge of rules and metrics."""
    path = shutil.which("promtool")
    if path is None:
        refuse(Missing("there is no promtool; install the package prometheus, or put promtool on the PATH"))
    return Path(path)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In one of several test processes: leave word for the one that writes the summary."""
    if isinstance(said := getattr(session.config, "workeroutput", None), dict):
        said["missing"] = list(REASONS)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    REASONS.update(dict.fromkeys(getattr(node, "workeroutput", {}).get("missing", ())))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason in REASONS:
        terminalreporter.write_line(f"NOT TESTED: {reason}", red=True)


def _opened(folder: Path, *, own: bool = False, security: Security = "plaintext") -> Iterator[Kafka]:
    return _closed(lambda: open_kafka(folder, own=own, security=security))


def _closed(open_broker: Callable[[], B]) -> Iterator[B]:
    try:
        broker = open_broker()
    except Missing as missing:
        refuse(missing)
    try:
        yield broker
    finally:
        broker.close()
