"""The crash test at a size for every run of the suite; `make chaos` runs it at full size."""

import random
from pathlib import Path

import pytest

from tests.brokers.kafka import Kafka
from tests.chaos.kafka import Chaos

pytestmark = [pytest.mark.broker, pytest.mark.slow]


async def test_promises_hold_through_kill_9_joins_and_leaves(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    report = await Chaos(kafka, topic, tmp_path, events=1_500, keys=150, kills=4, seed=seed).run()
    assert report.violations == [], report
    assert report.kills == 4
    assert report.samples > 50, "commits were hardly looked at"
