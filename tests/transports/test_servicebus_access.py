"""Who may do what where: what opening, publishing and `check` say in one line, and never with a secret in it."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.servicebus.exceptions import ServiceBusConnectionError, ServiceBusError

from investbus.errors import TransportDown, TransportRefused
from investbus.transports.servicebus import ServiceBus
from investbus.transports.servicebus_connection import explained, in_the_clear
from tests.brokers.process import free_port
from tests.brokers.servicebus.lab import ServiceBus as Namespace
from tests.brokers.servicebus.orders import Put
from tests.transports.reading import take
from tests.transports.servicebus_workers import leftovers, made, new_queue, numbered, opened, settings, strict_namespace

pytestmark = pytest.mark.broker
SECRET = "bm90LXRoZS1rZXk="


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    yield from strict_namespace(tmp_path_factory.mktemp("servicebus"))


async def refused(bus: ServiceBus) -> str:
    """What `open` says, and `check` too."""
    with pytest.raises(TransportRefused) as error:
        await bus.open()
    said = str(error.value)
    assert "\n" not in said
    assert await bus.check() == [said]
    return said


def string_of(namespace: Namespace, **changed: str) -> str:
    parts = dict(part.split("=", 1) for part in namespace.connection_string.rstrip(";").split(";"))
    return ";".join(f"{name}={value}" for name, value in (parts | changed).items())


async def test_a_wrong_key_is_refused_without_showing_it(namespace: Namespace, caplog: pytest.LogCaptureFixture) -> None:
    wrong = string_of(namespace, SharedAccessKey=SECRET)
    bus = made(namespace, queue=new_queue(namespace), connection_string=wrong)
    assert "credentials" in await refused(bus)
    with pytest.raises(TransportRefused, match="credentials"):
        await bus.publish(numbered(0, 1))
    assert SECRET not in caplog.text


async def test_a_queue_a_topic_and_a_subscription_that_are_missing_are_named(namespace: Namespace) -> None:
    namespace.create_topic("there", ["also"])
    assert 'queue "nowhere" does not exist' in await refused(made(namespace, queue="nowhere"))
    missing = made(namespace, topic="there", subscription="nowhere")
    assert 'subscription "nowhere" of topic "there" does not exist' in await refused(missing)
    nothing = made(namespace, topic="nowhere", subscription="also")
    with pytest.raises(TransportRefused, match='topic "nowhere" does not exist'):
        await nothing.publish(numbered(0, 1))


async def test_a_key_that_may_not_listen_or_not_send_is_told_which_right_it_lacks(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    assert "lacks the right Listen" in await refused(made(namespace, queue=queue, connection_string=namespace.send_only))
    reader = made(namespace, queue=queue, connection_string=namespace.listen_only)
    with pytest.raises(TransportRefused, match="lacks the right Send"):
        await reader.publish(numbered(0, 1))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("nonsense", "servicebus.connection_string is none"),
        (f"Endpoint=sb://localhost;SharedAccessKey={SECRET}", "must have both SharedAccessKeyName and SharedAccessKey"),
    ],
)
async def test_a_connection_string_that_is_none_is_told_without_showing_it(namespace: Namespace, value: str, said: str) -> None:
    answer = await refused(made(namespace, queue="any", connection_string=value))
    assert said in answer
    assert SECRET not in answer


async def test_a_connection_string_of_another_entity_is_told(namespace: Namespace) -> None:
    other = f"{namespace.connection_string.rstrip(';')};EntityPath=other"
    assert "EntityPath" in await refused(made(namespace, queue="any", connection_string=other))


async def test_the_file_with_the_connection_string_is_read_again_at_each_opening(namespace: Namespace, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    bus = made(namespace, queue=new_queue(namespace), connection_string=None, connection_string_file=file)
    assert "cannot be read" in await refused(bus)
    file.write_text(string_of(namespace, SharedAccessKey=SECRET))
    assert "credentials" in await refused(bus)
    file.write_text(f"{namespace.connection_string}\n")
    async with opened(bus):
        await bus.publish(numbered(0, 1))
        assert [delivery.body for delivery in await take(bus, 1)] == [b"0"]


async def test_what_the_service_put_among_its_own_dead_letters_is_a_finding(namespace: Namespace) -> None:
    queue = new_queue(namespace, lifetime=0.1)
    bus = made(namespace, queue=queue)
    assert await bus.check() == []
    namespace.send(queue, [Put(b"%d" % number) for number in range(3)])
    await asyncio.sleep(0.5)
    (finding,) = await bus.check()
    assert finding.startswith(f'3 events lie among the dead letters of queue "{queue}"')
    assert len(namespace.contents(queue).dead) == 3


async def test_check_takes_no_event_and_leaves_nothing_behind(namespace: Namespace) -> None:
    queue = new_queue(namespace)
    namespace.send(queue, [Put(b"1")])
    assert await made(namespace, queue=queue).check() == []
    assert [(copy.count, copy.locked) for copy in namespace.contents(queue).active] == [(0, False)]
    await asyncio.sleep(0.1)
    assert leftovers() == []


async def test_where_nobody_listens_everything_says_that_the_bus_is_down(namespace: Namespace) -> None:
    nobody = string_of(namespace, Endpoint=f"sb://127.0.0.1:{free_port()}")
    bus = made(namespace, queue="any", connection_string=nobody)
    for attempt in (bus.open(), bus.publish(numbered(0, 1)), bus.check()):
        with pytest.raises(TransportDown) as error:
            await attempt
        assert not isinstance(error.value, TransportRefused)
        assert "\n" not in str(error.value)


async def test_a_workload_identity_is_closed_again_where_it_led_nowhere(namespace: Namespace) -> None:
    bus = made(namespace, queue="any", connection_string=None, namespace="investbus.invalid")
    with pytest.raises(TransportDown, match=r"investbus\.invalid"):
        await bus.open()
    await asyncio.sleep(0.1)
    assert leftovers() == []


def test_plain_text_beyond_this_machine_is_a_finding(namespace: Namespace) -> None:
    for endpoint, findings in (
        ("sb://10.0.0.1:5672", 1),
        ("sb://bus.example", 1),
        ("sb://localhost:5672", 0),
        ("sb://[::1]:5672", 0),
    ):
        changed = string_of(namespace, Endpoint=endpoint)
        assert len(in_the_clear(settings(namespace, queue="any", connection_string=changed))) == findings
    encrypted = string_of(namespace, Endpoint="sb://bus.example", UseDevelopmentEmulator="false")
    assert in_the_clear(settings(namespace, queue="any", connection_string=encrypted)) == []


def test_a_certificate_for_another_name_is_told(namespace: Namespace) -> None:
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
    cause.verify_message = "Hostname mismatch, certificate is not valid for 'bus.example'"
    error = ServiceBusConnectionError(message="Failed to initiate the connection", error=cause)
    meaning = explained(error, settings(namespace, queue="any"))
    assert isinstance(meaning, TransportRefused)
    assert "Hostname mismatch" in str(meaning)


def test_words_of_the_service_are_one_line_of_bounded_length(namespace: Namespace) -> None:
    meaning = str(explained(ServiceBusError("first\nsecond " + "x" * 5000), settings(namespace, queue="any")))
    assert "first second" in meaning
    assert len(meaning) < 400
