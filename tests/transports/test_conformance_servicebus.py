"""The `servicebus` transport passes the conformance suite, on a namespace of its own."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import pytest

from investbus import config_bus
from investbus.transport import Delivery, Transport
from investbus.transports.servicebus import ServiceBus
from tests.brokers.servicebus.lab import ServiceBus as Namespace
from tests.transports.conformance import Delivering, Ending, Leasing, Reaching, Sharing
from tests.transports.conformance_bus import PLENTY
from tests.transports.conformance_guarantees import GUARANTEES
from tests.transports.reading import until

LOCK = 4.0  # seconds; what has to come again at once does not wait for it


class ServiceBusBus:
    """A queue; with sessions the one key of all events is one session."""

    guarantees = GUARANTEES["servicebus"]
    silence = LOCK + 1.0

    def __init__(self, namespace: Namespace, *, sessions: bool = False) -> None:
        self._namespace = namespace
        self._queue = f"queue-{uuid.uuid4().hex[:12]}"
        self._sessions = int(sessions)
        namespace.create_queue(self._queue, lock=LOCK, sessions=sessions)

    def transport(self, *, bound: int = PLENTY, drain_cap: float = 0.3) -> ServiceBus:
        return self._made(drain_cap, window=bound)

    def _made(self, drain_cap: float = 0.3, **changed: Any) -> ServiceBus:
        usual: dict[str, Any] = {
            "connection_string": self._namespace.connection_string,
            "queue": self._queue,
            "sessions": self._sessions,
        }
        return ServiceBus(config_bus.ServiceBus.model_validate(usual | changed), drain_cap=drain_cap, max_gap=PLENTY)

    async def end_lease(self, transport: Transport, taken: Sequence[Delivery]) -> None:
        """A connection that is cut ends no lock; time does, one by one where the lock is not the session's."""
        await until(lambda: not self._namespace.contents(self._queue).active)  # the window has them all, and what is newer goes on
        sequences = () if self._sessions else [delivery.position for delivery in taken]
        await asyncio.to_thread(self._namespace.expire_locks, self._queue, sequences)
        await until(lambda: all(delivery.lease.lost for delivery in taken))

    async def crash(self) -> None:
        await asyncio.to_thread(self._namespace.kill)
        await self.start()

    async def expire(self) -> None:
        await asyncio.to_thread(self._namespace.expire_locks, self._queue)

    def astray(self) -> tuple[Transport, str]:
        return self._made(queue="nowhere"), '"nowhere"'

    def intruder(self) -> tuple[Transport, str]:
        start, _, _ = self._namespace.connection_string.partition("SharedAccessKey=")
        secret = "MHBlbi1zZXNhbWU="
        return self._made(connection_string=f"{start}SharedAccessKey={secret};UseDevelopmentEmulator=true"), secret

    async def stop(self) -> None:
        await asyncio.to_thread(self._namespace.stop)

    async def start(self) -> None:
        self._namespace.start()  # not in a thread: it would end with that


@pytest.mark.broker
class TestConformance(Delivering, Leasing, Ending, Sharing, Reaching):
    @pytest.fixture
    def bus(self, own_servicebus: Namespace) -> ServiceBusBus:
        return ServiceBusBus(own_servicebus)


@pytest.mark.broker
class TestSessions(Leasing, Sharing):
    @pytest.fixture
    def bus(self, own_servicebus: Namespace) -> ServiceBusBus:
        bus = ServiceBusBus(own_servicebus, sessions=True)
        bus.guarantees = GUARANTEES["servicebus, sessions"]
        return bus
