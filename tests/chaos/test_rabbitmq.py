"""The crash test on RabbitMQ, at a size for every run of the suite; `make chaos` runs it at full size."""

from pathlib import Path

import pytest

from tests.brokers.rabbitmq import RabbitMq
from tests.chaos.chaos import Chaos
from tests.chaos.rabbitmq import RabbitMqBus
from tests.chaos.small import small

pytestmark = [pytest.mark.broker, pytest.mark.slow]


async def test_promises_hold_through_kill_9_among_competing_workers(rabbitmq: RabbitMq, tmp_path: Path) -> None:
    report = await Chaos(RabbitMqBus(rabbitmq, single_active=False), tmp_path, small()).run()
    assert not report.violations, "\n".join(report.violations)


async def test_a_key_keeps_its_order_over_workers_where_one_is_active(rabbitmq: RabbitMq, tmp_path: Path) -> None:
    report = await Chaos(RabbitMqBus(rabbitmq, single_active=True), tmp_path, small()).run()
    assert not report.violations, "\n".join(report.violations)
