"""The lab's own side of Service Bus: where a namespace comes from, and what it says to a test that asks wrongly."""

import importlib.util
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.brokers.life import Elsewhere
from tests.brokers.missing import Missing
from tests.brokers.process import free_port
from tests.brokers.servicebus.elsewhere import NamespaceAccess
from tests.brokers.servicebus.lab import ServiceBus
from tests.brokers.servicebus.orders import Put
from tests.brokers.servicebus.sources import open_servicebus

ROOT = Path(__file__).parents[2]


def test_without_the_engine_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_SERVICEBUS", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Missing, match=r"no python-qpid-proton.*requirements/emulator\.txt.*or set TEST_SERVICEBUS") as shared:
        open_servicebus(tmp_path)
    with pytest.raises(Missing, match="no python-qpid-proton") as own:
        open_servicebus(tmp_path, own=True)
    assert "\n" not in str(shared.value)
    assert "TEST_SERVICEBUS" not in str(own.value)


@pytest.mark.broker
def test_mistakes_of_a_test_are_told_in_words(servicebus: ServiceBus) -> None:
    name = f"queue-{uuid.uuid4().hex[:12]}"
    servicebus.create_queue(name)
    with pytest.raises(ValueError, match=f"there is an entity {name} already"):
        servicebus.create_queue(name)
    with pytest.raises(ValueError, match="there is no queue or subscription 'nowhere'"):
        servicebus.contents("nowhere")
    with pytest.raises(ValueError, match="there is no queue or topic 'nowhere'"):
        servicebus.send("nowhere", [Put(b"")])


@pytest.mark.broker
def test_a_topic_that_cannot_be_made_is_not_half_made(servicebus: ServiceBus) -> None:
    name = f"topic-{uuid.uuid4().hex[:12]}"
    with pytest.raises(ValueError, match="already"):
        servicebus.create_topic(name, ["twice", "twice"])
    servicebus.create_topic(name, ["once"])
    assert servicebus.contents(f"{name}/Subscriptions/once").active == []


@pytest.mark.broker
def test_a_given_namespace_is_filled_through_the_sdk_and_never_disturbed(servicebus: ServiceBus) -> None:
    name = f"queue-{uuid.uuid4().hex[:12]}"
    servicebus.create_queue(name)
    given = ServiceBus(Elsewhere("TEST_SERVICEBUS", "own_servicebus"), NamespaceAccess(servicebus.connection_string))
    given.send(name, [Put(b"body", message_id="m", subject="s", properties={"a": "b"})])
    [copy] = servicebus.contents(name).active
    assert (copy.body, copy.message_id, copy.subject, copy.properties) == (b"body", "m", "s", {"a": "b"})
    assert not given.controllable
    for act in (given.kill, given.cut, given.mute, lambda: given.contents(name), lambda: given.listen_only):
        with pytest.raises(RuntimeError, match=r"^TEST_SERVICEBUS: cannot .* use the fixture own_servicebus$"):
            act()
    given.close()


@pytest.mark.broker
def test_a_wrong_configuration_is_one_line(tmp_path: Path, servicebus: ServiceBus) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"UserConfig": {"Namespaces": []}}')
    ports = ["--port", str(free_port()), "--control-port", str(free_port())]
    command = [sys.executable, "-m", "tests.brokers.servicebus", *ports, "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
    assert ended.returncode == 2
    assert ended.stderr == f"Service Bus emulator: {config}: UserConfig.Namespaces has 0 entries; give one\n"
