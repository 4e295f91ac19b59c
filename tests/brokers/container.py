"""A broker in a container: the same life as a `Process`, for machines with an engine but without the broker's package.

Its ports outside are given, so that clients find the broker again after a restart.
"""

import socket
from collections.abc import Callable, Mapping

from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient, get_docker_host

from tests.brokers.missing import Missing
from tests.brokers.process import LOOPBACK, wait_until


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


class Container:
    """Made at the first start; stopped and killed it keeps its data, closed it is gone."""

    controllable = True

    def __init__(self, name: str, image: str, ports: Mapping[int, int], env: Mapping[str, str], *, instead: str) -> None:
        """`ports`: the one outside by the one inside; `instead`: what to install where no container can be run."""
        self.name = name
        self._image = image
        self._instead = instead
        self._container = DockerContainer(image, env=dict(env))
        for inside, outside in ports.items():
            # the engine's own form for "on loopback only", which testcontainers hands through but does not declare
            self._container.ports[f"{inside}/tcp"] = (LOOPBACK, outside)  # type: ignore[assignment]
        self._created = False
        self.running = False

    def start(self, ready: Callable[[], bool]) -> None:
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._create()
        self.running = True
        wait_until(ready, 90.0, self.name, self._alive, self._last_words)

    def run(self, *words: str) -> str:
        """Run a program inside; what it prints."""
        code, output = self._container.get_wrapped_container().exec_run(list(words))
        said = output.decode(errors="replace")
        if code != 0:
            raise RuntimeError(f"{self.name}: {words[0]} in its container: {' '.join(said.split())}")
        return str(said)

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
            said = f"the container engine could not run {self._image} ({error})"
            raise Missing(f"{self.name}: {said}; install {self._instead}") from error
        self._created = True

    def _alive(self) -> bool:
        container = self._container.get_wrapped_container()
        container.reload()
        return container.status in ("created", "running")

    def _last_words(self) -> str:
        lines = b"".join(self._container.get_logs()).decode(errors="replace").splitlines()
        return lines[-1] if lines else "no output"
