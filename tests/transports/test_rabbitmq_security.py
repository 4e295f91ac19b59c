"""The `rabbitmq` transport at the door of a real node: who is let in, and the one line for who is not."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from investbus import config_bus
from investbus.errors import ConfigError, TransportDown, TransportRefused
from investbus.transport import Message
from investbus.transports.rabbitmq_connection import address
from tests.brokers.process import free_port
from tests.brokers.rabbitmq import RabbitMq as Broker
from tests.brokers.rabbitmq_settings import Options
from tests.transports.rabbitmq_workers import leftovers, made, opened, settings
from tests.transports.reading import ack, bodies, take, until


def where(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def login(broker: Broker, user: str, password: str) -> str:
    return urlsplit(broker.url)._replace(netloc=f"{user}:{password}@{where(broker.url)}").geturl()


async def refusal(chosen: config_bus.RabbitMq) -> str:
    """What `open` says; `check` has to say the same as a finding, and neither may leave anything behind."""
    bus = made(chosen)
    with pytest.raises(TransportRefused) as refused:
        await bus.open()
    said = str(refused.value)
    assert "\n" not in said
    assert said in await bus.check()
    await until(lambda: not leftovers(), within=1.0)
    return said


@pytest.mark.broker
async def test_tls_lets_in_who_trusts_the_authority(secure_rabbitmq: Broker) -> None:
    secure_rabbitmq.declare_queue("tls")
    chosen = settings(secure_rabbitmq, "tls", url=secure_rabbitmq.tls_url, ca_file=secure_rabbitmq.ca)
    async with opened(chosen) as bus:
        await bus.publish([Message(b"1")])
        taken = await take(bus, 1)
        ack(taken)
        assert bodies(taken) == [b"1"]
    assert bus.counts.ok == 1
    assert leftovers() == []


@pytest.mark.broker
async def test_a_node_whose_certificate_is_for_another_name_is_refused(secure_rabbitmq: Broker) -> None:
    host, port = where(secure_rabbitmq.tls_url).rstrip("/").split(":")
    other = "127.0.0.2" if host != "127.0.0.2" else "127.0.0.3"

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_copy(reader, back), _copy(there, writer))

    async with await asyncio.start_server(pass_on, other, free_port()) as server:
        at = f"{other}:{server.sockets[0].getsockname()[1]}"
        said = await refusal(settings(secure_rabbitmq, "tls", url=f"amqps://app:x@{at}/", ca_file=secure_rabbitmq.ca))
        assert said.startswith(f"RabbitMQ {at}: its certificate is not valid: IP address mismatch")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@pytest.mark.broker
async def test_a_node_that_nobody_vouches_for_is_refused(secure_rabbitmq: Broker, tmp_path: Path) -> None:
    url = secure_rabbitmq.tls_url
    said = await refusal(settings(secure_rabbitmq, "tls", url=url))
    assert said.startswith(f"RabbitMQ {where(url).rstrip('/')}: its certificate is not valid: ")
    assert said.endswith("(rabbitmq.ca_file)")
    empty = tmp_path / "ca.pem"
    empty.write_text("")
    with pytest.raises(TransportRefused, match=r"^rabbitmq\.ca_file .*ca\.pem: no CA certificates in it"):
        await made(settings(secure_rabbitmq, "tls", url=url, ca_file=empty)).open()


@pytest.mark.broker
async def test_a_client_certificate_is_shown_where_one_is_asked_for(rabbitmq_with: Callable[[Options], Broker]) -> None:
    broker = rabbitmq_with(Options(require_client_certificate=True))
    broker.declare_queue("mtls")
    tls = {"url": broker.tls_url, "ca_file": broker.ca}
    certificate = {"cert_file": broker.client_cert, "key_file": broker.client_key}
    async with opened(settings(broker, "mtls", **tls, **certificate)) as bus:
        assert bus.state().connected
    # With TLS 1.3 the node asks too late for an answer to the handshake, and what it says may get lost when it hangs up.
    with pytest.raises(TransportDown, match=r"TLS failed: .*cert_file|hung up.* or ask for a client certificate"):
        await made(settings(broker, "mtls", **tls)).open()
    wrong = {"cert_file": broker.ca, "key_file": broker.client_key}
    with pytest.raises(TransportRefused, match=r"^rabbitmq\.cert_file and key_file \(.*\) do not load: "):
        await made(settings(broker, "mtls", **tls, **wrong)).open()


@pytest.mark.broker
async def test_a_port_that_speaks_something_else_is_named_as_the_reason(secure_rabbitmq: Broker) -> None:
    plain, tls = where(secure_rabbitmq.url).rstrip("/"), where(secure_rabbitmq.tls_url).rstrip("/")
    assert await refusal(settings(secure_rabbitmq, "q", url=f"amqps://app:x@{plain}/", ca_file=secure_rabbitmq.ca)) == (
        f"RabbitMQ {plain}: no TLS there; does that port speak amqp://? (rabbitmq.url)"
    )
    with pytest.raises(TransportDown, match=re.escape(f"RabbitMQ {tls} hung up during the login; does that port speak amqp://")):
        await made(settings(secure_rabbitmq, "q", url=f"amqp://app:x@{tls}/")).open()


@pytest.mark.broker
async def test_a_wrong_password_is_refused_in_one_line(rabbitmq: Broker, queue: str) -> None:
    said = await refusal(settings(rabbitmq, queue, url=login(rabbitmq, "app", "not-the-one")))
    assert said == f'RabbitMQ {where(rabbitmq.url).rstrip("/")} refused user "app": wrong credentials (rabbitmq.url)'


@pytest.mark.broker
async def test_a_virtual_host_that_is_not_there_is_refused_by_its_name(rabbitmq: Broker) -> None:
    said = await refusal(settings(rabbitmq, "q", url=f"{rabbitmq.url.rstrip('/')}/no%2Fwhere"))
    assert 'virtual host "no/where" does not exist, or user "' in said


@pytest.mark.broker
async def test_all_that_a_user_may_not_do_is_found_at_once(rabbitmq: Broker, queue: str) -> None:
    url = rabbitmq.limited_user("guest-of-none", "guest-secret", "^none$")
    bus = made(settings(rabbitmq, queue, url=url, declare=True))
    at, lacks = f"RabbitMQ {where(url).rstrip('/')}", 'user "guest-of-none" lacks the permission to'
    rabbitmq.publish(queue, [b"1"])
    assert await bus.check() == [f'{at}: {lacks} read "{queue}" in "/"', f'{at}: {lacks} configure "{queue}" in "/"']
    assert bus.guarantees["publishing"].startswith(f'{at}: {lacks} write "amq.default" in "/"')
    (untouched,) = rabbitmq.take(queue)
    assert (untouched.redelivered, untouched.delivery_count) == (False, 0)
    with pytest.raises(TransportRefused, match=r"rabbitmq\.declare: ACCESS_REFUSED - access to exchange .* refused"):
        await bus.open()
    assert await refusal(settings(rabbitmq, queue, url=url)) == f'{at}: {lacks} read "{queue}" in "/"'
    with pytest.raises(TransportRefused, match=f'{lacks} write "amq.default"'):
        await bus.publish([Message(b"1")])
    assert leftovers() == []


@pytest.mark.broker
async def test_a_user_who_may_do_all_of_it_changes_nothing_by_asking(rabbitmq: Broker) -> None:
    rabbitmq.declare_queue("asked")
    rabbitmq.publish("asked", [b"1"])
    for name, missing in (("asked", False), ("not-there", True)):
        bus = made(settings(rabbitmq, name))
        findings = await bus.check()
        assert ("not seen" in bus.guarantees) != missing
        assert "publishing" not in bus.guarantees
        assert ['queue "not-there" does not exist' in line for line in findings] == [True] * missing
        assert await made(settings(rabbitmq, name, declare=True)).check() == []
    (untouched,) = rabbitmq.take("asked")
    assert (untouched.redelivered, untouched.delivery_count) == (False, 0)
    with pytest.raises(Exception, match="NOT_FOUND"):
        rabbitmq.ready("not-there")


@pytest.mark.broker
async def test_a_url_that_was_replaced_is_taken_at_the_next_open(rabbitmq: Broker, queue: str, tmp_path: Path) -> None:
    secret = tmp_path / "amqp"
    chosen = settings(rabbitmq, queue, url_file=secret)
    with pytest.raises(ConfigError, match=r"rabbitmq\.url_file cannot be read: \[Errno 2\] No such file"):
        made(chosen)
    secret.write_text(login(rabbitmq, "app", "old-password"))
    bus = made(chosen)
    with pytest.raises(TransportRefused, match="wrong credentials"):
        await bus.open()
    secret.write_text(f"{rabbitmq.url}\n")
    await bus.open()
    await bus.close(3.0)
    assert leftovers() == []


@pytest.mark.parametrize(
    "url",
    [
        "http://app:s3cr3t@host/",
        "app:s3cr3t@host",
        "amqp://app:s3cr3t@host:port/",
        "amqp://app:s3cr3t@host:99999/",
        "amqp:///",
        "amqps://app:s3cr3t@host/?no_verify_ssl=1",
        "amqps://app:s3cr3t@host/#x",
        "",
    ],
)
def test_a_url_that_is_not_understood_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^rabbitmq\.url: must be amqps://USER:PASSWORD@HOST:PORT/VHOST") as refused:
        made(config_bus.RabbitMq.model_validate({"url": url, "queue": "q"}))
    assert "s3cr3t" not in repr(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "vhost", "source"),
    [
        ("amqp://h", "/", "rabbitmq:%2F/q"),
        ("amqp://h/", "/", "rabbitmq:%2F/q"),
        ("amqp://u:p@h:1/%2F", "/", "rabbitmq:%2F/q"),
        ("amqps://u:p@h/bank", "bank", "rabbitmq:bank/q"),
        ("amqps://u:p@h/my%20bank%2Fone", "my bank/one", "rabbitmq:my%20bank%2Fone/q"),
    ],
)
def test_the_virtual_host_and_the_queue_are_the_source_and_credentials_are_not(url: str, vhost: str, source: str) -> None:
    chosen = config_bus.RabbitMq.model_validate({"url": url, "queue": "q"})
    assert address(chosen).vhost == vhost
    assert made(chosen).source == source


@pytest.mark.parametrize(
    ("url", "away"),
    [
        ("amqp://u:p@localhost/", None),
        ("amqp://u:p@127.0.0.1/", None),
        ("amqp://u:p@[::1]/", None),
        ("amqps://u:p@10.0.0.1/", None),
        ("amqp://u:p@mq.bank.example/", "mq.bank.example"),
    ],
)
def test_credentials_in_plain_text_that_leave_the_machine_are_a_finding(url: str, away: str | None) -> None:
    found = address(config_bus.RabbitMq.model_validate({"url": url, "queue": "q"})).in_the_clear
    assert found == ([f"rabbitmq.url: amqp:// sends credentials in plain text to {away}; use amqps://"] if away else [])
