"""Apache Kafka as a child process: what a container would run, without a container engine."""

import base64
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.brokers.kafka_jars import jars, java
from tests.brokers.kafka_settings import (
    FOR_TESTS,
    LISTENERS,
    SCRAM,
    USERS,
    Security,
    encryption,
    logins,
    one_node,
    write_properties,
)
from tests.brokers.process import LOOPBACK, Process, free_port
from tests.brokers.tls import make_certificates


class KafkaProcess:
    """Started a second time it comes up on the same ports with the same data, as after a crash of its machine."""

    controllable = True

    def __init__(self, folder: Path, *, security: Security = "plaintext", heap_mb: int = 256) -> None:
        self.security: Security = security
        self._folder = folder
        self._properties = folder / "server.properties"
        self._ports = {name: free_port() for name in (*LISTENERS[security], "CONTROLLER")}
        self.addresses = {name: f"{LOOPBACK}:{self._ports[name]}" for name in LISTENERS[security]}
        self._java = [
            java(),
            f"-Xms{min(heap_mb, 64)}m",
            f"-Xmx{heap_mb}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",  # starts faster, and a test broker never lives long enough for more
            "-XX:-UsePerfData",
            f"-Djava.io.tmpdir={folder}",  # native libraries are unpacked there, and a kill leaves them behind
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            f"{jars()}/*",
        ]
        self.ca = make_certificates(folder / "tls").ca if security == "scram_tls" else None
        self._process = Process("Kafka", [*self._java, "kafka.Kafka", str(self._properties)], folder)

    @property
    def running(self) -> bool:
        return self._process.running

    def start(self, ready: Callable[[], bool]) -> None:
        self._configure()
        if not (self._folder / "data" / "meta.properties").exists():
            self._format()
        self._process.start(ready)

    def stop(self) -> None:
        self._process.stop()

    def kill(self) -> None:
        self._process.kill()

    def pause(self) -> None:
        self._process.pause()

    def resume(self) -> None:
        self._process.resume()

    def close(self) -> None:
        self._process.stop()

    def _configure(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        properties = one_node(LOOPBACK, LOOPBACK, self._ports) | FOR_TESTS | logins(self.security)
        properties["log.dirs"] = str(self._folder / "data")
        if self.security == "scram_tls":
            properties |= encryption(make_certificates(self._folder / "tls"))
        write_properties(self._properties, properties)

    def _format(self) -> None:
        """Prepare the data folder; the users are part of its first records."""
        cluster = base64.urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")  # no "-" in front
        tool = [*self._java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties)]
        formatted = subprocess.run([*tool, *self._users()], capture_output=True, text=True, check=False, timeout=120)
        if formatted.returncode != 0:
            raise RuntimeError(f"Kafka: its data folder could not be formatted: {formatted.stdout}{formatted.stderr}")

    def _users(self) -> list[str]:
        if self.security == "plaintext":
            return []
        added = [f"{mechanism}=[name={user},password={USERS[user]}]" for mechanism in SCRAM for user in USERS]
        return [word for user in added for word in ("--add-scram", user)]
