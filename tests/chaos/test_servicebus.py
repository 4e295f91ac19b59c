"""The crash test on Service Bus, at a size for every run of the suite; `make chaos` runs it at full size."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.brokers.missing import Missing, refuse
from tests.chaos.chaos import Chaos
from tests.chaos.servicebus import ServiceBusBus, opened
from tests.chaos.small import small

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.fixture
def bus_with(tmp_path: Path) -> Iterator[Callable[[int], ServiceBusBus]]:
    """A bus with so many sessions for each worker, on an emulator of its own, whose journal is read."""
    with ExitStack() as stack:

        def bus_with(sessions: int) -> ServiceBusBus:
            try:
                return stack.enter_context(opened(tmp_path, sessions=sessions, lock=6.0 if sessions else 4.0))
            except Missing as missing:
                refuse(missing)

        yield bus_with


async def test_promises_hold_through_kill_9_among_competing_workers(
    bus_with: Callable[[int], ServiceBusBus], tmp_path: Path
) -> None:
    report = await Chaos(bus_with(0), tmp_path, small()).run()
    assert not report.violations, "\n".join(report.violations)


async def test_a_key_keeps_its_order_over_workers_where_it_is_a_session(
    bus_with: Callable[[int], ServiceBusBus], tmp_path: Path
) -> None:
    report = await Chaos(bus_with(16), tmp_path, small(keys=32)).run()
    assert not report.violations, "\n".join(report.violations)
