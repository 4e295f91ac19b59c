"""Keys that always fail: the others go on, memory stays flat, and what is not committed stays within its limit."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from investbus import Context, Event, Router
from tests.acceptance.load import kafka_bus
from tests.acceptance.poison import Poison
from tests.acceptance.served import on_kafka, served
from tests.brokers.kafka import Kafka
from tests.whole import envelope, letters, until

pytestmark = pytest.mark.broker
GROWTH = 30.0  # MiB that a process may take in some seconds and give back later


@pytest.mark.slow
async def test_one_poison_key_in_a_hundred_stops_nobody_else_and_fills_nothing(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    max_gap = 600
    retry = {"attempts": 3, "first": 1.0, "factor": 1.0}
    poison = Poison(kafka_bus(kafka, topic, topic), tmp_path, rate=200.0, keys=2000, retry=retry, dispatch={"max_gap": max_gap})
    report = await poison.run(4.0, 16.0)
    assert report.done == report.good, "every event of a healthy key"
    assert report.dead_good == 0
    assert report.dead >= 20
    assert 0 < max(one.gap for one in report.samples) <= max_gap
    before, later = report.samples[: report.poisoned_at], report.samples[report.poisoned_at :]
    assert later[-1].rss_mb < max(one.rss_mb for one in before) + GROWTH
    assert all(one.good > 0 for one in later), "in each second"


async def test_what_waits_behind_one_poison_key_is_no_wider_than_max_gap_and_then_goes_on(kafka: Kafka, tmp_path: Path) -> None:
    topic, max_gap, events = f"topic-{uuid.uuid4().hex[:12]}", 200, 3000
    kafka.create_topic(topic, partitions=1)
    router, done = Router(), list[str]()

    @router.on("portfolios.status-update")
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if event.key == "bad":
            raise ValueError("always")
        done.append(event.id)

    keys = ["bad", *(f"P{number}" for number in range(1, events))]
    kafka.produce(topic, [(key, envelope(event_id=key, data={"id": key}), None) for key in keys])
    retry = {"attempts": 2, "first": 4.0, "factor": 1.0}
    settings = on_kafka(kafka, topic, tmp_path, retry=retry, dispatch={"max_gap": max_gap})
    async with served(settings, router) as (parts, _):
        gaps: list[int] = []

        def died() -> bool:
            if not parts.worker.settler.letters:  # after that it counts what is done and waits for the commit of this second
                gaps.extend(one.gap for one in parts.worker.transport_state.partitions.values())
            return parts.worker.settler.letters > 0

        await until(died, 60.0)
        assert max(gaps) == max_gap, "as wide as it may be, and no wider"
        await until(lambda: len(done) == events - 1, 60.0)
    assert [letter.key for letter in await letters(settings)] == ["bad"]
