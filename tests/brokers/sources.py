"""Which broker a test run gets. This is the only place that decides, so that a run never mixes answers.

An address that was given is taken; else a process of our own; else a container; else nothing, with the reason why.
A test that has to stop its broker, and one that needs logins, never gets the address: it may be somebody's.
"""

import os
from pathlib import Path

from tests.brokers.kafka import Kafka
from tests.brokers.kafka_container import KafkaContainer, engine_answers
from tests.brokers.kafka_node import KafkaAddress, Node
from tests.brokers.kafka_process import KafkaProcess
from tests.brokers.kafka_settings import Security
from tests.brokers.missing import Missing


def open_kafka(folder: Path, *, own: bool = False, security: Security = "plaintext", heap_mb: int = 256) -> Kafka:
    """A started broker, its files in `folder`; `own`: one that may be killed. Raises Missing."""
    kafka = Kafka(_node(folder, own or security != "plaintext", security, heap_mb))
    try:
        kafka.start()
    except BaseException:
        kafka.close()
        raise
    return kafka


def _node(folder: Path, own: bool, security: Security, heap_mb: int) -> Node:
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
        otherwise = "or start a container engine" if own else "start a container engine, or set TEST_KAFKA=host:port"
        raise Missing(f"{missing}; install OpenJDK 17 and Maven, {otherwise}") from None
