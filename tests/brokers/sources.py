"""Which broker a test run gets. This is the only place that decides, so that a run never mixes answers.

An address that was given is taken; else a process of our own; else a container; else nothing, with the reason why.
A test that has to stop its broker, and one that needs logins, never gets the address: it may be somebody's.
"""

import os
from pathlib import Path
from typing import TypeVar

from tests.brokers import postgresql_container, rabbitmq_access
from tests.brokers.container import engine_answers
from tests.brokers.kafka import Kafka
from tests.brokers.kafka_container import KafkaContainer
from tests.brokers.kafka_node import KafkaAddress, Node
from tests.brokers.kafka_process import KafkaProcess
from tests.brokers.kafka_settings import Security
from tests.brokers.life import Broker, Elsewhere
from tests.brokers.missing import Missing
from tests.brokers.postgresql import PostgreSql
from tests.brokers.postgresql_process import PostgreSqlProcess
from tests.brokers.rabbitmq import RabbitMq
from tests.brokers.rabbitmq_access import Access
from tests.brokers.rabbitmq_process import RabbitMqProcess
from tests.brokers.rabbitmq_settings import Options

B = TypeVar("B", bound=Broker)


def open_kafka(folder: Path, *, own: bool = False, security: Security = "plaintext", heap_mb: int = 256) -> Kafka:
    """A started broker, its files in `folder`; `own`: one that may be killed. Raises Missing."""
    return started(Kafka(_kafka(folder, own or security != "plaintext", security, heap_mb)))


def open_rabbitmq(folder: Path, *, own: bool = False, options: Options | None = None) -> RabbitMq:
    """A started node, its files in `folder`; `own`: one that may be killed; with `options` always a process. Raises Missing."""
    return started(_rabbitmq(folder, own, options))


def open_postgresql(folder: Path, *, own: bool = False) -> PostgreSql:
    """A started server, its files in `folder`; `own`: one that may be killed. Raises Missing."""
    return started(_postgresql(folder, own))


def _kafka(folder: Path, own: bool, security: Security, heap_mb: int) -> Node:
    address = os.environ.get("TEST_KAFKA")
    if address and not own:
        return KafkaAddress(address)
    try:
        return KafkaProcess(folder, security=security, heap_mb=heap_mb)
    except Missing as missing:
        if security != "plaintext":
            raise Missing(f"{missing}; install OpenJDK 17 and Maven: one that asks for logins is always a process") from None
        if engine_answers():
            return KafkaContainer(heap_mb=heap_mb)
        raise _nothing(missing, "OpenJDK 17 and Maven", own, "TEST_KAFKA=host:port") from None


def _rabbitmq(folder: Path, own: bool, options: Options | None) -> RabbitMq:
    address = os.environ.get("TEST_RABBITMQ")
    if address and not own and options is None:
        return RabbitMq(Elsewhere("TEST_RABBITMQ", "own_rabbitmq"), Access(address))
    try:
        process = RabbitMqProcess(folder, options or Options())
    except Missing as missing:
        if options is not None:
            raise Missing(f"{missing}; install rabbitmq-server: one with TLS or options is always a process") from None
        if engine_answers():
            return RabbitMq(*rabbitmq_access.in_container())
        raise _nothing(missing, "rabbitmq-server", own, "TEST_RABBITMQ=amqp://...") from None
    return RabbitMq(process, process.access)


def _postgresql(folder: Path, own: bool) -> PostgreSql:
    address = os.environ.get("TEST_POSTGRESQL")
    if address and not own:
        return PostgreSql(Elsewhere("TEST_POSTGRESQL", "own_postgresql"), address)
    try:
        process = PostgreSqlProcess(folder)
    except Missing as missing:
        if engine_answers():
            return PostgreSql(*postgresql_container.in_container())
        raise _nothing(missing, "postgresql", own, "TEST_POSTGRESQL=postgresql://...") from None
    return PostgreSql(process, process.url)


def _nothing(missing: Missing, package: str, own: bool, address: str) -> Missing:
    otherwise = "or start a container engine" if own else f"start a container engine, or set {address}"
    return Missing(f"{missing}; install {package}, {otherwise}")


def started(broker: B) -> B:
    try:
        broker.start()
    except BaseException:
        broker.close()
        raise
    return broker
