"""What of a Service Bus namespace outlives a kill, and how its configuration is read."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.brokers.servicebus.journal import Gone, Journal
from tests.brokers.servicebus.namespace import Namespace
from tests.brokers.servicebus.pretend import Clock, Hands, content
from tests.brokers.servicebus.queue import Outcome, Surroundings
from tests.brokers.servicebus.settings import Entities, Entity, Properties, Topic, read_config

Steps = list[tuple[str, int]]
ENTITIES = Entities(
    queues=(Entity("q", Properties(max_delivery_count=2)), Entity("s", Properties(requires_session=True))),
    topics=(Topic("t", (Entity("a"), Entity("b"))),),
)


@contextmanager
def opened(path: Path, clock: Clock) -> Iterator[Namespace]:
    with closing(Journal(path)) as journal:
        yield Namespace(ENTITIES, Surroundings(journal, clock.now, lambda queue: None))


def everything(namespace: Namespace) -> dict[str, tuple[int, list[tuple[int, int, bytes]]]]:
    """What has to outlive a kill: the last number of each queue, and its messages."""
    return {
        queue.name: (queue.last, [(number, m.count, m.content.bare) for number, m in sorted(queue.messages.items())])
        for queue in namespace.queues()
    }


def written(script: Steps, namespace: Namespace) -> None:
    """Send to an entity, or settle something that was received from any of them."""
    hands = {queue: Hands(10**6) for queue in namespace.queues() if queue.sessions is None}
    for queue, each in hands.items():
        queue.add(each)
    for what, choice in script:
        target = namespace.target(what)
        held = [(queue, lock) for queue, each in hands.items() for lock in each.locks]
        if target is not None:
            target.put(content(f"{what} {choice}", "one"))
        elif held:
            queue, lock = held[choice % len(held)]
            queue.settle(lock.token, Outcome(what))
        for queue in hands:
            queue.dispatch()


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["q", "s", "t", *Outcome]), st.integers(0, 9)), max_size=30), st.integers(0, 10_000))
def test_a_restart_finds_what_was_written_even_behind_a_torn_record(script: Steps, torn: int) -> None:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        with opened(path, clock) as namespace:
            namespace.create(Entities(queues=(Entity("made at run time"),)))
            written(script, namespace)
            before = everything(namespace)
        with opened(path, clock) as namespace:
            assert everything(namespace) == before
        path.write_bytes(path.read_bytes()[:torn])
        with opened(path, clock) as namespace:
            written([("q", 1)], namespace)
            before = everything(namespace)
        with opened(path, clock) as namespace:
            assert everything(namespace) == before
            assert before["q"][1][-1][2].endswith(b"q 1")


def test_a_torn_record_is_cut_off_before_the_next_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with closing(Journal(path)) as journal:
        journal.append(Gone("q", 1))
        journal.append(Gone("q", 2))
    path.write_bytes(path.read_bytes()[:-1])
    with closing(Journal(path)) as torn:
        assert list(torn.read()) == [Gone("q", 1)]
        torn.append(Gone("q", 3))
    with closing(Journal(path)) as journal:
        assert list(journal.read()) == [Gone("q", 1), Gone("q", 3)]


def test_the_configuration_of_the_official_emulator_is_read(tmp_path: Path) -> None:
    properties = {"LockDuration": "PT1M30S", "MaxDeliveryCount": 3, "RequiresSession": True}
    topics = [{"Name": "t", "Subscriptions": [{"Name": "s"}]}]
    namespace = {"Name": "sbemulatorns", "Queues": [{"Name": "q", "Properties": properties}], "Topics": topics}
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"UserConfig": {"Namespaces": [namespace], "Logging": {"Type": "File"}}}))
    entities = read_config(file)
    [queue] = entities.queues
    expected = Properties(lock_duration=timedelta(seconds=90), max_delivery_count=3, requires_session=True)
    assert (queue.name, queue.properties) == ("q", expected)
    assert entities.topics == (Topic("t", (Entity("s"),)),)


@pytest.mark.parametrize(
    ("queue", "error"),
    [
        ({"Name": "q", "Properties": {"ForwardTo": "r"}}, "unknown field `ForwardTo`"),
        ({"Name": "q", "Properties": {"LockDuration": "30 s"}}, "Invalid ISO8601 duration"),
        ({"Properties": {}}, "missing required field `Name`"),
    ],
)
def test_a_setting_that_is_not_emulated_is_refused(tmp_path: Path, queue: dict[str, object], error: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"UserConfig": {"Namespaces": [{"Name": "n", "Queues": [queue]}]}}))
    with pytest.raises(ValueError, match=error) as raised:
        read_config(file)
    assert str(raised.value).startswith(str(file))
