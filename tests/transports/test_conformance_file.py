"""The `file` transport passes the conformance suite."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from investbus import config_bus
from investbus.transport import Delivery, Transport
from investbus.transports.file import File
from tests.transports.conformance import Delivering, Ending, Leasing, Sharing
from tests.transports.conformance_bus import PLENTY
from tests.transports.conformance_guarantees import GUARANTEES


class FileBus:
    guarantees = GUARANTEES["file"]

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def transport(self, *, bound: int = PLENTY, drain_cap: float = 0.3) -> Transport:
        return File(config_bus.File(path=self._folder / "events.ndjson"), drain_cap=drain_cap, max_gap=bound)

    async def end_lease(self, transport: Transport, taken: Sequence[Delivery]) -> None:
        """Nobody else can: a lease on a log ends when its reader closes it."""
        await transport.close(10.0)
        await transport.open()

    async def crash(self) -> None:
        """Nothing keeps the messages but the file: a publisher may end however it likes once `publish` has returned."""

    async def expire(self) -> None:
        """What nobody acked is free as soon as the lock is."""

    def astray(self) -> tuple[Transport, str]:
        missing = self._folder / "missing"
        return File(config_bus.File(path=missing / "events.ndjson"), drain_cap=0.3, max_gap=PLENTY), str(missing)


class TestConformance(Delivering, Leasing, Ending, Sharing):
    @pytest.fixture
    def bus(self, tmp_path: Path) -> FileBus:
        return FileBus(tmp_path)
