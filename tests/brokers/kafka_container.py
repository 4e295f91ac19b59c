"""Apache Kafka in a container, for machines with an engine but without Java."""

from pathlib import Path

from tests.brokers.container import Container
from tests.brokers.kafka_jars import VERSION
from tests.brokers.kafka_settings import FOR_TESTS, LISTENERS, Security, one_node
from tests.brokers.process import LOOPBACK, free_port

IMAGE = f"apache/kafka:{VERSION}"
CLUSTER = "AAAAAAAAAAAAAAAAAAAAAA"  # a node on its own has nobody to be confused with


class KafkaContainer(Container):
    """The port outside is the port inside: a broker tells its clients where it is, and keeps that over a restart."""

    security: Security = "plaintext"
    ca: Path | None = None

    def __init__(self, *, heap_mb: int = 256) -> None:
        ports = {name: free_port() for name in (*LISTENERS[self.security], "CONTROLLER")}
        self.addresses = {name: f"{LOOPBACK}:{ports[name]}" for name in LISTENERS[self.security]}
        properties = one_node("0.0.0.0", LOOPBACK, ports) | FOR_TESTS  # noqa: S104 - inside the container only
        env = {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in properties.items()}
        env |= {"CLUSTER_ID": CLUSTER, "KAFKA_HEAP_OPTS": f"-Xmx{heap_mb}m"}
        outside = {ports[name]: ports[name] for name in LISTENERS[self.security]}
        super().__init__("Kafka", IMAGE, outside, env, instead="OpenJDK 17 and Maven")
