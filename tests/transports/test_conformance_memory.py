"""The `memory` transport passes the conformance suite."""

from collections.abc import Sequence

import pytest

from investbus import config_bus
from investbus.transport import Delivery, Transport
from investbus.transports.memory import Memory
from tests.transports.conformance import Delivering, Ending, Leasing
from tests.transports.conformance_bus import PLENTY
from tests.transports.conformance_guarantees import GUARANTEES


class MemoryBus:
    """The transport is the bus: there is one, and a crash is the end of it."""

    guarantees = GUARANTEES["memory"]

    def __init__(self) -> None:
        self._memory: Memory | None = None

    def transport(self, *, bound: int = PLENTY, drain_cap: float = 0.3) -> Transport:
        self._memory = self._memory or Memory(config_bus.Memory(), drain_cap=drain_cap, max_gap=bound)
        return self._memory

    async def end_lease(self, transport: Transport, taken: Sequence[Delivery]) -> None:
        assert isinstance(transport, Memory)
        await transport.lose_lease()

    async def crash(self) -> None:
        self._memory = None

    async def expire(self) -> None:
        """Nothing is held by anybody else."""


class TestConformance(Delivering, Leasing, Ending):
    @pytest.fixture
    def bus(self) -> MemoryBus:
        return MemoryBus()
