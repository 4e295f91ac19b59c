"""`investbus pause` and `resume` reach every worker process that shares the store, within three seconds."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.load import Load, kafka_bus
from tests.acceptance.replica import Replica, on_kafka, wait
from tests.brokers.kafka import Kafka
from tests.brokers.postgresql import PostgreSql

pytestmark = pytest.mark.broker
NAME = "portfolios.status-update"
WITHIN = 3.0  # seconds; a limit of the product, not of this machine


@pytest.fixture
def both(kafka: Kafka, topic: str, postgresql: PostgreSql, tmp_path: Path) -> Iterator[tuple[Replica, Replica]]:
    """Two workers that share topic and store, each with some of the partitions."""
    settings = on_kafka(kafka, topic, "steady", postgresql.new_database())
    with Replica("one", tmp_path, settings) as one, Replica("two", tmp_path, settings) as two:
        one.start()
        two.start()
        wait(lambda: all(partitions(each) == 3 for each in (one, two)))
        yield one, two


def partitions(replica: Replica) -> int:
    return len(replica.page("status").get("transport", {}).get("partitions", {}))


def paused(replica: Replica) -> bool:
    return "operator" in replica.page("status")["pauses"]


def test_a_pause_and_its_end_reach_two_processes_in_time(both: tuple[Replica, Replica], kafka: Kafka, topic: str) -> None:
    one, two = both
    pids = {one.pid, two.pid}

    def at_work(since: float) -> bool:
        return {noted.pid for noted in one.noted("begin") if noted.at > since} == pids

    with Load(kafka_bus(kafka, topic), 50.0, lambda number: (NAME, f"P{number}")) as load:
        wait(lambda: at_work(0.0))
        assert one.ask("pause", "--note", "moving the core")[0] == 0
        wait(lambda: paused(one) and paused(two), WITHIN)
        since = time.time()
        time.sleep(1.0)
        assert not [noted for noted in one.noted("begin") if noted.at > since], "nobody starts a handler"
        assert one.failing() == two.failing() == [], "a pause is no reason to be taken out of service"
        assert two.ask("resume", "--note", "moved")[0] == 0
        since = time.time()
        wait(lambda: at_work(since), WITHIN)
    wait(lambda: len(one.noted("begin")) == load.published)
    assert len({noted.event_id for noted in one.noted("begin")}) == load.published, "each once"
    assert (one.stop(), two.stop()) == (0, 0)
