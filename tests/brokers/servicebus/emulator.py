"""The emulator as a child process, and the orders that it takes."""

import http.client
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec

from tests.brokers.process import LOOPBACK, Process, free_port
from tests.brokers.servicebus.claims import KEYS
from tests.brokers.servicebus.orders import Put
from tests.brokers.servicebus.settings import Entities
from tests.brokers.tls import make_certificates

ROOT = Path(__file__).parents[3]
ANSWER = 10.0  # seconds for one order to an emulator that should be well


class EmulatorProcess:
    """Started a second time it comes up on the same ports with all that it had confirmed."""

    controllable = True

    def __init__(self, folder: Path, *, tls: bool = False, strict: bool = False) -> None:
        port, control = free_port(), free_port()
        command = [sys.executable, "-m", "tests.brokers.servicebus", "--port", str(port)]
        command += ["--control-port", str(control), "--journal", str(folder / "journal")]
        ca = None
        if tls:
            certificates = make_certificates(folder / "tls")
            ca = certificates.ca
            command += ["--cert", str(certificates.server_chain)]
        if strict:
            command.append("--strict")
        self.access = EmulatorAccess(port, control, ca)
        self._process = Process("Service Bus emulator", command, folder, env={**os.environ, "PYTHONPATH": str(ROOT)})

    @property
    def running(self) -> bool:
        return self._process.running

    def start(self, ready: Callable[[], bool]) -> None:
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


class EmulatorAccess:
    def __init__(self, port: int, control: int, ca: Path | None) -> None:
        self.endpoint = f"sb://{LOOPBACK}:{port}"
        self.ca = ca
        self._control = control

    def connection_string(self, key: str) -> str:
        emulator = ";UseDevelopmentEmulator=true" if self.ca is None else ""
        return f"Endpoint={self.endpoint};SharedAccessKeyName={key};SharedAccessKey={KEYS[key][0]}{emulator}"

    def answers(self) -> bool:
        """It listens for clients before it takes orders."""
        try:
            self.order("GET", "/")
        except OSError:
            return False
        return True

    def create(self, entities: Entities) -> None:
        self.order("POST", "/entities", entities)

    def send(self, entity: str, messages: Sequence[Put]) -> None:
        self.order("POST", f"/messages?entity={quote(entity)}", messages)

    def order(self, method: str, path: str, body: object = None) -> bytes:
        connection = http.client.HTTPConnection(LOOPBACK, self._control, timeout=ANSWER)
        try:
            connection.request(method, path, msgspec.json.encode(body) if body is not None else None)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(f"Service Bus emulator: {method} {path}: {answer.decode(errors='replace')}")
        return answer

    def close(self) -> None:
        """All of it ends with the process."""
