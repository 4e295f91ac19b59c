"""The crash test on Service Bus, at a size for every run of the suite; `make chaos` runs it at full size."""

from pathlib import Path

import pytest

from tests.brokers.servicebus.lab import ServiceBus
from tests.chaos.chaos import Chaos
from tests.chaos.servicebus import ServiceBusBus
from tests.chaos.small import small

pytestmark = [pytest.mark.broker, pytest.mark.slow]


async def test_promises_hold_through_kill_9_among_competing_workers(own_servicebus: ServiceBus, tmp_path: Path) -> None:
    report = await Chaos(ServiceBusBus(own_servicebus, sessions=0), tmp_path, small()).run()
    assert not report.violations, "\n".join(report.violations)


async def test_a_key_keeps_its_order_over_workers_where_it_is_a_session(own_servicebus: ServiceBus, tmp_path: Path) -> None:
    report = await Chaos(ServiceBusBus(own_servicebus, sessions=8), tmp_path, small(keys=40)).run()
    assert not report.violations, "\n".join(report.violations)
