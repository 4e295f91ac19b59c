"""What can be done to a broker, whether it is a process of ours, a container, or runs elsewhere."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NoReturn, Protocol

from tests.brokers.process import wait_until

PATIENCE = 20.0  # seconds for a broker at a given address to answer


class Life(Protocol):
    """Started again it is on the same ports, with the same data."""

    @property
    def controllable(self) -> bool: ...
    @property
    def running(self) -> bool:
        """True also while paused."""

    def start(self, ready: Callable[[], bool]) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None:
        """End it and whatever it holds on this machine, for good."""


class Broker(ABC):
    """A broker as tests see it. `start()` it first. Whatever cannot be done is raised."""

    def __init__(self, life: Life) -> None:
        self._life = life

    @abstractmethod
    def answers(self) -> bool:
        """Whether it can be used."""

    @property
    def controllable(self) -> bool:
        """Whether it may be stopped, killed and paused: not if its address was given."""
        return self._life.controllable

    @property
    def running(self) -> bool:
        return self._life.running

    def start(self) -> None:
        self._life.start(self.answers)

    def stop(self) -> None:
        self._life.stop()

    def kill(self) -> None:
        """SIGKILL. What it had confirmed is there again after `start()`."""
        self._life.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self._life.pause()

    def resume(self) -> None:
        self._life.resume()

    def restart(self) -> None:
        """The same broker again, paused or not: same address, same data."""
        self.stop()
        self.start()

    def close(self) -> None:
        self._life.close()


class Elsewhere:
    """A broker whose address was given. It may serve others as well, so nothing here touches its life."""

    controllable = False
    running = True

    def __init__(self, variable: str, fixture: str) -> None:
        """The environment variable that held the address; the fixture for whoever needs one of our own."""
        self._variable = variable
        self._fixture = fixture

    def start(self, ready: Callable[[], bool]) -> None:
        wait_until(ready, PATIENCE, self._variable, lambda: True, lambda: "nobody answers and lets us in there")

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
        raise RuntimeError(f"{self._variable}: cannot {verb} a broker that is not ours; use the fixture {self._fixture}")
