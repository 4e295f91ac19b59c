"""A store that this user may not write: the worker starts, takes nothing, says why, and goes on when it is put right.

A process of its own, since nothing is read-only for root; then it runs as somebody else.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.replica import Replica, on_kafka, wait
from tests.brokers.kafka import Kafka
from tests.whole import envelope

pytestmark = pytest.mark.broker
NOBODY = "nobody"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own, whose parents are closed to others."""
    made = Path(tempfile.mkdtemp(prefix="investbus-acceptance-"))
    if os.geteuid() == 0:
        shutil.chown(made, NOBODY)
    yield made
    shutil.rmtree(made)


def test_a_store_that_is_read_only_takes_nothing_until_it_can_be_written(kafka: Kafka, topic: str, folder: Path) -> None:
    store = folder / "state.db"
    settings = on_kafka(kafka, topic, "steady", f"sqlite:///{store}")
    kafka.produce(topic, [(None, envelope(event_id=f"e{number}", data={"id": f"P{number}"}), None) for number in range(10)])
    with Replica("worker", folder, settings, user=NOBODY if os.geteuid() == 0 else None) as worker:
        store.touch()
        if os.geteuid() == 0:
            shutil.chown(store, NOBODY)
        store.chmod(0o400)
        worker.start()
        wait(lambda: "store" in (worker.failing() or []))
        assert "cannot be written" in worker.page("readyz")["checks"]["store"]["reason"]
        assert worker.noted("begin") == []
        assert kafka.committed(topic, topic) == {}
        store.chmod(0o600)
        wait(lambda: worker.failing() == [] and len(worker.noted("begin")) == 10)
        wait(lambda: sum(kafka.committed(topic, topic).values()) == 10)
        assert worker.stop() == 0
