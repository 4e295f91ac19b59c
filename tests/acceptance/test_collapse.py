"""Five hundred updates of one portfolio on Kafka are two calls, also where the worker is killed in the first of them."""

from pathlib import Path

import pytest

from tests.acceptance.replica import Replica, on_kafka, wait
from tests.brokers.kafka import Kafka
from tests.whole import envelope

pytestmark = pytest.mark.broker
UPDATES = 500


def publish(kafka: Kafka, topic: str) -> None:
    updates = [envelope(event_id=f"e{number}", data={"id": "P1", "value": "ACTIVE"}) for number in range(UPDATES)]
    kafka.produce(topic, [("P1", update, None) for update in updates])


def test_five_hundred_queued_updates_are_two_calls_and_all_are_committed(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    settings = on_kafka(kafka, topic, "collapsing", f"sqlite:///{tmp_path / 'state.db'}")
    publish(kafka, topic)
    with Replica("worker", tmp_path, settings) as worker:
        worker.start()
        wait(lambda: sum(kafka.committed(topic, topic).values()) == UPDATES)
        assert 1 <= len(worker.noted("begin")) <= 2
        assert worker.noted("end")[-1].event_id == f"e{UPDATES - 1}", "the newest"
        assert worker.page("status")["routes"][0]["outcomes"]["done"] == UPDATES
        assert worker.stop() == 0


def test_a_kill_in_the_middle_of_a_collapsed_call_loses_none(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    settings = on_kafka(kafka, topic, "collapsing", f"sqlite:///{tmp_path / 'state.db'}")
    publish(kafka, topic)
    with Replica("worker", tmp_path, settings) as worker:
        worker.start()
        wait(lambda: len(worker.noted("begin")) == 1)
        worker.kill()
        assert worker.noted("end") == []
        assert kafka.committed(topic, topic) == {}, "nothing is committed before the call has returned"
        worker.start()
        wait(lambda: sum(kafka.committed(topic, topic).values()) == UPDATES)
        assert 1 <= len(worker.noted("end")) <= 2
        assert worker.noted("end")[-1].event_id == f"e{UPDATES - 1}"
        assert worker.page("status")["routes"][0]["outcomes"]["done"] == UPDATES
        assert worker.page("status")["counts"]["dead_letters_open"] == 0
        assert worker.stop() == 0
