"""One event kills the process, on Kafka: after three starts it is a dead letter, and all others are done."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from investbus.store import Filter
from investbus.stores import open_store
from tests.acceptance.replica import Replica, on_kafka
from tests.brokers.kafka import Kafka
from tests.whole import envelope

pytestmark = [pytest.mark.broker, pytest.mark.slow]
NEIGHBOURS = 60


def test_an_event_that_kills_the_process_is_dead_after_three_starts_and_everything_else_is_done(
    kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    keys = [f"P{number}" for number in range(NEIGHBOURS)]
    events = [(key, envelope(event_id=key, data={"id": key, "value": "GOOD"}), None) for key in keys]
    events.insert(NEIGHBOURS // 2, ("bad", envelope(event_id="poison", data={"id": "bad", "value": "KILL"}), None))
    events.append(("bad", envelope(event_id="next", data={"id": "bad", "value": "GOOD"}), None))
    kafka.produce(topic, events)
    with Replica("worker", tmp_path, on_kafka(kafka, topic, "crashing", url)) as worker:
        codes = []
        for _ in range(4):
            worker.start("--until-idle", "1")
            codes.append(worker.ended())
        begun = Counter(one.event_id for one in worker.noted("begin"))
        done = Counter(one.event_id for one in worker.noted("end"))
    assert codes == [139, 139, 139, 0]
    assert begun["poison"] == 3
    assert set(done) == {*keys, "next"}
    assert done["next"] == 1, "it waited behind the poison of its key"
    assert sum(kafka.committed(topic, topic).values()) == len(events)
    assert asyncio.run(dead(url)) == [("poison", "crashed")]


async def dead(url: str) -> list[tuple[str, str]]:
    store = open_store(url)
    await store.open()
    try:
        return [(letter.event_id, letter.reason) async for letter in store.export_dead(Filter())]
    finally:
        await store.close()
