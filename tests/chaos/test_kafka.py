"""The crash test on Kafka, at a size for every run of the suite; `make chaos` runs it at full size."""

from pathlib import Path

import pytest

from tests.brokers.kafka import Kafka
from tests.chaos.chaos import Chaos
from tests.chaos.kafka import KafkaBus
from tests.chaos.small import small

pytestmark = [pytest.mark.broker, pytest.mark.slow]


async def test_promises_hold_through_kill_9_joins_and_leaves(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    report = await Chaos(KafkaBus(kafka, topic, session_timeout=4.0), tmp_path, small()).run()
    assert not report.violations, "\n".join(report.violations)
