"""The `kafka` transport at the door of a real broker: who is let in, and the one line for who is not."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from confluent_kafka.admin import AdminClient

from investbus import config_bus
from investbus.errors import TransportDown, TransportRefused
from investbus.transport import Message
from investbus.transports.kafka_security import in_the_clear
from tests.brokers.kafka import Kafka as Broker
from tests.brokers.kafka_login import unsecured_token
from tests.brokers.kafka_settings import USERS, Mechanism
from tests.transports.kafka_workers import leftovers, made, opened, settings
from tests.transports.reading import ack, bodies, take, until

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def guarded(secure_kafka: Broker) -> str:
    """A topic behind a login."""
    secure_kafka.create_topic("guarded")
    return "guarded"


def login(
    broker: Broker, topic: str, mechanism: str, protocol: str = "SASL_SSL", user: str = "app", **changed: Any
) -> config_bus.Kafka:
    security: dict[str, Any] = {"protocol": protocol, "mechanism": mechanism, "ca_file": broker.ca}
    if mechanism == "OAUTHBEARER":
        security["token"] = unsecured_token(user)
    else:
        security |= {"username": user, "password": USERS[user]}
    address = {"bootstrap_servers": [broker.address(protocol)]}
    return settings(broker, topic, **address, security=security | changed, start_from="latest")


async def refusal(chosen: config_bus.Kafka) -> str:
    """What `open` says; `check` has to say the same as a finding, and neither may leave anything behind."""
    bus = made(chosen)
    with pytest.raises(TransportRefused) as refused:
        await bus.open()
    said = str(refused.value)
    assert "\n" not in said
    assert said in await bus.check()
    await until(lambda: not leftovers(), within=1.0)
    return said


@pytest.mark.parametrize("protocol", ["SASL_SSL", "SASL_PLAINTEXT"])
@pytest.mark.parametrize("mechanism", get_args(Mechanism))
async def test_every_mechanism_lets_in(secure_kafka: Broker, guarded: str, mechanism: str, protocol: str) -> None:
    chosen = login(secure_kafka, guarded, mechanism, protocol)
    async with opened(chosen) as bus:
        await until(lambda: bus.state().joined)
        await bus.publish([Message(mechanism.encode())])
        taken = await take(bus, 1)
        ack(taken)
        assert bodies(taken) == [mechanism.encode()]
        assert await bus.check() == []
    assert secure_kafka.committed(chosen.group, guarded) == {0: taken[0].position + 1}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_wrong_password_is_refused_in_one_line(secure_kafka: Broker, guarded: str, mechanism: str) -> None:
    said = await refusal(login(secure_kafka, guarded, mechanism, password="not-the-one"))
    where = secure_kafka.address("SASL_SSL")
    assert said == f'Kafka broker {where} refused user "app" with {mechanism}: wrong credentials (kafka.security)'


async def test_a_token_that_has_expired_is_refused_in_one_line(secure_kafka: Broker, guarded: str) -> None:
    expired = unsecured_token("app", lifetime=-3600.0)
    said = await refusal(login(secure_kafka, guarded, "OAUTHBEARER", token=expired))
    assert said.endswith("refused the token with OAUTHBEARER: wrong credentials (kafka.security)")
    assert expired not in said


async def test_a_broker_that_another_authority_vouches_for_is_refused(secure_kafka: Broker, guarded: str, tmp_path: Path) -> None:
    said = await refusal(login(secure_kafka, guarded, "PLAIN", ca_file=None))
    assert "its certificate is not valid: " in said
    assert "(kafka.security.ca_file)" in said
    empty = tmp_path / "ca.pem"
    empty.write_text("")
    bus = made(login(secure_kafka, guarded, "PLAIN", ca_file=empty))
    with pytest.raises(TransportRefused, match=r"^kafka\.security\.ca_file .*ca\.pem: no CA certificates in it"):
        await bus.open()


@pytest.mark.parametrize(("there", "spoken"), [("SASL_SSL", "SASL_PLAINTEXT"), ("SASL_PLAINTEXT", "SASL_SSL")])
async def test_a_listener_of_another_kind_is_named_as_the_reason(
    secure_kafka: Broker, guarded: str, there: str, spoken: str
) -> None:
    address = secure_kafka.address(there)
    chosen = login(secure_kafka, guarded, "PLAIN", spoken).model_copy(update={"bootstrap_servers": [address]})
    line = f"Kafka broker {address} hung up; does that listener speak {spoken}? (kafka.security.protocol)"
    with pytest.raises(TransportDown, match=re.escape(line)):
        await made(chosen).open()
    await until(lambda: not leftovers(), within=1.0)


async def test_a_login_at_a_listener_without_one_says_which_keys_disagree(secure_kafka: Broker, kafka: Broker) -> None:
    chosen = login(secure_kafka, "guarded", "PLAIN", "SASL_PLAINTEXT").model_copy(update={"bootstrap_servers": [kafka.bootstrap]})
    assert await refusal(chosen) == (
        f"Kafka broker {kafka.bootstrap}: that listener speaks PLAINTEXT and takes no login; "
        "name a SASL_PLAINTEXT listener, or set kafka.security.protocol to PLAINTEXT and leave out the login"
    )


async def test_a_session_that_the_broker_does_not_allow_is_refused_at_open(kafka: Broker, topic: str) -> None:
    assert await refusal(settings(kafka, topic, session_timeout=7200.0)) == (
        "kafka.session_timeout 7200 s is beyond the broker's group.min.session.timeout.ms "
        "or group.max.session.timeout.ms (6 and 1800 s unless set there)"
    )


async def test_a_group_that_shares_in_another_way_is_refused_at_open(kafka: Broker, topic: str) -> None:
    chosen = settings(kafka, topic)
    other = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap,
        group_id=chosen.group,
        auto_offset_reset="latest",
        partition_assignment_strategy=(RangePartitionAssignor,),
    )
    await other.start()  # which waits for its partitions
    try:
        bus = made(chosen)
        line = f'Kafka: group "{chosen.group}" has members that do not divide partitions by roundrobin'
        with pytest.raises(TransportRefused, match=f"^{re.escape(line)}"):
            await bus.open()
    finally:
        await other.stop()


async def test_a_check_joins_no_group_and_makes_none(kafka: Broker, topic: str) -> None:
    chosen = settings(kafka, topic)
    known = AdminClient({"bootstrap.servers": kafka.bootstrap})
    assert await made(chosen).check() == []
    assert chosen.group not in groups(known)
    async with opened(chosen) as bus:
        await until(lambda: bus.state().joined)
        assert chosen.group in groups(known)


def groups(known: AdminClient) -> set[str]:
    return {group.group_id for group in known.list_consumer_groups(request_timeout=10.0).result(11.0).valid}


async def test_a_topic_that_is_not_there_is_said_so(secure_kafka: Broker, kafka: Broker) -> None:
    assert await refusal(settings(kafka, "nowhere")) == 'Kafka: topic "nowhere" does not exist'
    said = await refusal(login(secure_kafka, "nowhere", "PLAIN"))
    assert said == 'Kafka: topic "nowhere" does not exist, or user "app" may not see it'


async def test_all_that_a_user_may_not_do_is_found_at_once(secure_kafka: Broker, guarded: str) -> None:
    chosen = login(secure_kafka, guarded, "PLAIN", user="guest")
    assert await made(chosen).check() == [
        'Kafka: topic "guarded" does not exist, or user "guest" may not see it',
        f'Kafka: user "guest" is not authorized for group "{chosen.group}"',
    ]
    with pytest.raises(TransportRefused, match='Kafka: user "guest" is not authorized for topic "guarded"'):
        await made(chosen).publish([Message(b"1")])


async def test_a_secret_that_was_replaced_is_taken_at_the_next_open(secure_kafka: Broker, guarded: str, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    chosen = login(secure_kafka, guarded, "SCRAM-SHA-512", password=None, password_file=secret)
    assert await refusal(chosen) == f"kafka.security.password_file cannot be read: [Errno 2] No such file or directory: '{secret}'"
    secret.write_text("old-password\n")
    bus = made(chosen)
    with pytest.raises(TransportRefused, match="wrong credentials"):
        await bus.open()
    secret.write_text(f"{USERS['app']}\n")
    await bus.open()
    await bus.close(5.0)
    assert leftovers() == []


@pytest.mark.parametrize(
    ("security", "line"),
    [
        ({"protocol": "SASL_SSL"}, "kafka.security.mechanism is needed with SASL_SSL"),
        ({"protocol": "SASL_SSL", "mechanism": "PLAIN"}, "kafka.security.username is needed with PLAIN"),
        (
            {"protocol": "SASL_PLAINTEXT", "mechanism": "SCRAM-SHA-512", "username": "app"},
            "kafka.security.password or password_file is needed with SCRAM-SHA-512",
        ),
        (
            {"protocol": "SASL_PLAINTEXT", "mechanism": "OAUTHBEARER"},
            "kafka.security.token or token_file is needed with OAUTHBEARER",
        ),
    ],
)
async def test_a_login_that_is_not_complete_says_what_is_missing(secure_kafka: Broker, security: dict[str, str], line: str) -> None:
    address = secure_kafka.address(security["protocol"])
    chosen = settings(secure_kafka, "guarded", bootstrap_servers=[address], security={**security, "ca_file": secure_kafka.ca})
    assert await refusal(chosen) == line


@pytest.mark.parametrize(
    ("servers", "protocol", "away"),
    [
        (["localhost:9092", "127.0.0.1:9093", "[::1]:9094"], "SASL_PLAINTEXT", None),
        (["localhost:9092", "kafka.bank.example:9092"], "SASL_PLAINTEXT", "kafka.bank.example"),
        (["10.0.0.1:9092"], "SASL_SSL", None),
        (["10.0.0.1:9092"], "PLAINTEXT", None),
    ],
)
def test_credentials_in_plain_text_that_leave_the_machine_are_a_finding(
    servers: list[str], protocol: str, away: str | None
) -> None:
    chosen = config_bus.Kafka.model_validate(
        {"bootstrap_servers": servers, "topic": "t", "group": "g", "security": {"protocol": protocol}}
    )
    line = f"kafka.security.protocol SASL_PLAINTEXT sends credentials in plain text to {away}; use SASL_SSL"
    assert in_the_clear(chosen) == ([line] if away else [])
