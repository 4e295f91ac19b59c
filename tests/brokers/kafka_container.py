"""Apache Kafka in a container, for machines with an engine but without Java."""

import socket
from collections.abc import Callable
from pathlib import Path

from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient, get_docker_host

from tests.brokers.kafka_jars import VERSION
from tests.brokers.kafka_settings import FOR_TESTS, LISTENERS, Security, one_node
from tests.brokers.missing import Missing
from tests.brokers.process import LOOPBACK, free_port, wait_until

IMAGE = f"apache/kafka:{VERSION}"
CLUSTER = "AAAAAAAAAAAAAAAAAAAAAA"  # a node on its own has nobody to be confused with


def engine_answers() -> bool:
    host = get_docker_host() or "unix:///var/run/docker.sock"
    if host.startswith("unix://") and not _is_listening(host.removeprefix("unix://")):
        return False  # asked here, because the engine's client leaks its socket over a refusal
    try:
        return bool(DockerClient().client.ping())
    except Exception:  # whatever its client has to say: there is no engine to be used
        return False


def _is_listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


class KafkaContainer:
    """The port outside is the port inside: a broker tells its clients where it is, and keeps that over a restart."""

    security: Security = "plaintext"
    ca: Path | None = None
    controllable = True

    def __init__(self, *, heap_mb: int = 256) -> None:
        ports = {name: free_port() for name in (*LISTENERS[self.security], "CONTROLLER")}
        self.addresses = {name: f"{LOOPBACK}:{ports[name]}" for name in LISTENERS[self.security]}
        properties = one_node("0.0.0.0", LOOPBACK, ports) | FOR_TESTS  # noqa: S104 - inside the container only
        settings = {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in properties.items()}
        self._container = DockerContainer(IMAGE, env=settings)
        self._container.with_envs(CLUSTER_ID=CLUSTER, KAFKA_HEAP_OPTS=f"-Xmx{heap_mb}m")
        for name in LISTENERS[self.security]:
            # the engine's own form for "on loopback only", which testcontainers hands through but does not declare
            self._container.ports[f"{ports[name]}/tcp"] = (LOOPBACK, ports[name])  # type: ignore[assignment]
        self._created = False
        self.running = False

    def start(self, ready: Callable[[], bool]) -> None:
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._create()
        self.running = True
        wait_until(ready, 90.0, "Kafka", self._alive, self._last_words)

    def stop(self) -> None:
        if self.running:
            self.resume()
            self._container.get_wrapped_container().stop(timeout=15)
            self.running = False

    def kill(self) -> None:
        if self.running:
            self._container.get_wrapped_container().kill()
            self.running = False

    def pause(self) -> None:
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        container = self._container.get_wrapped_container()
        container.reload()
        if container.status == "paused":
            container.unpause()

    def close(self) -> None:
        self._container.stop()
        self.running = False

    def _create(self) -> None:
        try:
            self._container.start()
        except Exception as error:  # the engine, its registry, its network: to the tests they are all one
            raise Missing(f"Kafka: the container engine could not run {IMAGE} ({error}); install OpenJDK 17 and Maven") from error
        self._created = True

    def _alive(self) -> bool:
        container = self._container.get_wrapped_container()
        container.reload()
        return container.status in ("created", "running")

    def _last_words(self) -> str:
        lines = b"".join(self._container.get_logs()).decode(errors="replace").splitlines()
        return lines[-1] if lines else "no output"
