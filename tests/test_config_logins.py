"""A login or certificate that cannot work is refused before anything is opened, under the key that holds it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from investbus.config_load import load
from investbus.errors import ConfigError

KAFKA = ("transport=kafka", "kafka.bootstrap_servers=k:1", "kafka.topic=t", "kafka.group=g")
RABBIT = ("transport=rabbitmq", "rabbitmq.queue=q")
BUS = ("transport=servicebus", "servicebus.queue=q")
MEMORY = ("transport=memory",)
KEY = "SharedAccessKeyName=mw;SharedAccessKey=s3cr3t"

AMQP = "must be amqps://USER:PASSWORD@HOST:PORT/VHOST"
ENDPOINT = "must be Endpoint=sb://HOST;SharedAccessKeyName=NAME;SharedAccessKey=KEY"
STORE = "must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"
NAMESPACE = "must be NAME.servicebus.windows.net, without https:// and without a path"


@pytest.fixture(autouse=True)
def _bare_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("white").write_text(" \n\t\n")
    Path("garbage").write_text("s3cr3t\n")
    Path("latin").write_bytes("s3cr3té".encode("latin-1"))
    Path("spaced").write_text("amqps://mw:s3cr3t s3cr3t@rabbit/\n")


def mistakes(sets: Sequence[str]) -> list[str]:
    try:
        load(None, sets, {})
    except ConfigError as error:
        return [line.removeprefix("--set: ") for line in error.lines]
    return []


REFUSED: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "white space": ([*RABBIT, "rabbitmq.url_file=white"], ["rabbitmq.url_file: white: is empty"]),
    "white space for the store": ([*MEMORY, "store.url_file=white"], ["store.url_file: white: is empty"]),
    "no text": ([*RABBIT, "rabbitmq.url_file=latin"], ["rabbitmq.url_file: latin: is no text in UTF-8"]),
    "no URL": ([*RABBIT, "rabbitmq.url=s3cr3t"], [f"rabbitmq.url: {AMQP}"]),
    "no URL in a file": ([*RABBIT, "rabbitmq.url_file=garbage"], [f"rabbitmq.url_file: garbage: {AMQP}"]),
    "a space in a URL": ([*RABBIT, "rabbitmq.url_file=spaced"], [f"rabbitmq.url_file: spaced: {AMQP}"]),
    "no URL of a store in a file": ([*MEMORY, "store.url_file=garbage"], [f"store.url_file: garbage: {STORE}"]),
    "no connection string": ([*BUS, "servicebus.connection_string=s3cr3t"], [f"servicebus.connection_string: {ENDPOINT}"]),
    "none in a file": (
        [*BUS, "servicebus.connection_string_file=garbage"],
        [f"servicebus.connection_string_file: garbage: {ENDPOINT}"],
    ),
    "an endpoint without a key": (
        [*BUS, "servicebus.connection_string=Endpoint=sb://b;SharedAccessKeyName=mw"],
        [f"servicebus.connection_string: {ENDPOINT}"],
    ),
    "namespace with a scheme": (
        [*BUS, "servicebus.namespace=https://b.servicebus.windows.net"],
        [f"servicebus.namespace: {NAMESPACE}"],
    ),
    "namespace with a path": ([*BUS, "servicebus.namespace=b.servicebus.windows.net/"], [f"servicebus.namespace: {NAMESPACE}"]),
    "login without SASL": (
        [*KAFKA, "kafka.security.username=mw", "kafka.security.password=s3cr3t"],
        [
            "kafka.security.username: has no effect with protocol PLAINTEXT; use SASL_SSL, or leave it out",
            "kafka.security.password: has no effect with protocol PLAINTEXT; use SASL_SSL, or leave it out",
        ],
    ),
    "password file without SASL": (
        [*KAFKA, "kafka.security.protocol=SSL", "kafka.security.password_file=garbage"],
        ["kafka.security.password_file: has no effect with protocol SSL; use SASL_SSL, or leave it out"],
    ),
    "certificate without TLS": (
        [*KAFKA, "kafka.security.ca_file=garbage"],
        ["kafka.security.ca_file: has no effect with protocol PLAINTEXT; use SSL or SASL_SSL, or leave it out"],
    ),
    "key without certificate": (
        [*KAFKA, "kafka.security.protocol=SSL", "kafka.security.key_file=garbage"],
        ["kafka.security.cert_file: is missing; key_file needs it"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_never_work_is_refused_under_its_own_key_and_without_the_secret(name: str) -> None:
    sets, lines = REFUSED[name]
    assert mistakes(sets) == lines
    assert "s3cr3t" not in "".join(lines)


@pytest.mark.parametrize(
    "sets",
    [
        [*RABBIT, "rabbitmq.url=amqp://rabbit"],
        [*RABBIT, "rabbitmq.url=amqps://mw:p%20w@rabbit:5671/%2F?auth=external"],
        [*BUS, f"servicebus.connection_string=Endpoint=sb://b.servicebus.windows.net/;{KEY};EntityPath=q"],
        [*BUS, "servicebus.connection_string=Endpoint=sb://b.servicebus.windows.net/;SharedAccessSignature=sig"],
        [*BUS, "servicebus.namespace=b.servicebus.windows.net"],
        [*KAFKA, "kafka.security.protocol=SSL", "kafka.security.cert_file=garbage"],
        [*MEMORY, "rabbitmq.queue=q", "rabbitmq.url=s3cr3t"],
    ],
    ids=str,
)
def test_what_may_work_is_not_refused(sets: Sequence[str]) -> None:
    assert mistakes(sets) == []
