"""The lab's own broker: what other tests build on has to hold for the real thing, and has to break it for real."""

import subprocess
import time
import uuid
from itertools import groupby
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.abc import AbstractTokenProvider
from aiokafka.helpers import create_ssl_context
from confluent_kafka import KafkaError, KafkaException

from tests.brokers.kafka import Kafka
from tests.brokers.kafka_login import refusal, unsecured_token
from tests.brokers.kafka_records import Compression, Sent, produce
from tests.brokers.kafka_settings import Mechanism
from tests.brokers.sources import open_kafka

pytestmark = pytest.mark.broker

MECHANISMS: list[Mechanism] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


def messages(count: int) -> list[Sent]:
    return [(f"key-{number % 7}", f"value-{number}", [("number", str(number))]) for number in range(count)]


def new_topic(kafka: Kafka, partitions: int = 1) -> str:
    name = f"topic-{uuid.uuid4().hex[:12]}"
    kafka.create_topic(name, partitions)
    return name


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_was_produced_is_read_back_in_order_of_each_key(kafka: Kafka, topic: str, compression: Compression) -> None:
    places = kafka.produce(topic, messages(50), compression)
    records = kafka.read(topic)
    assert sorted(places) == sorted((record.partition, record.offset) for record in records)
    assert {record.partition for record in records} <= set(range(6))
    by_key = sorted(records, key=lambda record: record.key or b"")
    for key, group in groupby(by_key, key=lambda record: record.key):
        expected = [(value, headers) for sent, value, headers in messages(50) if sent == (key or b"").decode()]
        seen = [((record.value or b"").decode(), [(n, (v or b"").decode()) for n, v in record.headers]) for record in group]
        assert seen == expected


def test_transactions_leave_holes_in_the_positions(kafka: Kafka, topic: str) -> None:
    kafka.produce(topic, [("a", "committed", None)], partition=0, transaction="commit")
    kafka.produce(topic, [("a", "aborted", None)], partition=0, transaction="abort")
    kafka.produce(topic, [("a", "plain", None)], partition=0)
    assert [(record.offset, record.value) for record in kafka.read(topic)] == [(0, b"committed"), (4, b"plain")]
    assert kafka.end_offsets(topic)[0] == 5


def test_records_can_be_lost_below_what_is_committed(kafka: Kafka, topic: str) -> None:
    kafka.produce(topic, messages(10), partition=3)
    kafka.commit("g", topic, {3: 2, 5: 99})
    kafka.delete_records(topic, {3: 6})
    assert kafka.beginning_offsets(topic) == {0: 0, 1: 0, 2: 0, 3: 6, 4: 0, 5: 0}
    assert kafka.committed("g", topic) == {3: 2, 5: 99}
    assert [record.offset for record in kafka.read(topic)] == [6, 7, 8, 9]


def test_the_sampler_sees_a_commit_that_goes_back(kafka: Kafka, topic: str) -> None:
    group = f"group-{topic}"
    with kafka.sampler(group, topic) as forwards:
        for offset in (1, 2, 5):
            kafka.commit(group, topic, {0: offset})
        time.sleep(1.0)
    assert len(forwards.samples) >= 5
    assert forwards.steps_back() == []
    assert forwards.samples[-1].offsets == {0: 5}
    with kafka.sampler(group, topic) as backwards:
        kafka.commit(group, topic, {0: 4})
    assert backwards.steps_back() == [(0, 5, 4)]


def test_records_and_commits_survive_a_kill(own_kafka: Kafka) -> None:
    topic = new_topic(own_kafka, partitions=2)
    own_kafka.produce(topic, messages(200))
    own_kafka.commit("g", topic, {0: 7, 1: 9})
    before = own_kafka.bootstrap, own_kafka.read(topic), own_kafka.end_offsets(topic)
    with own_kafka.sampler("g", topic) as sampler:
        own_kafka.kill()
        assert not own_kafka.answers()
        own_kafka.start()
    assert (own_kafka.bootstrap, own_kafka.read(topic), own_kafka.end_offsets(topic)) == before
    assert own_kafka.committed("g", topic) == {0: 7, 1: 9}
    assert sampler.unanswered > 0
    assert sampler.steps_back() == []


def test_a_paused_broker_confirms_nothing_until_it_is_resumed(own_kafka: Kafka) -> None:
    topic = new_topic(own_kafka)
    own_kafka.pause()
    with pytest.raises(TimeoutError, match="1 of 1 messages not confirmed within 1 s"):
        own_kafka.produce(topic, [("a", "b", None)], timeout=1.0)
    own_kafka.resume()
    own_kafka.produce(topic, [("a", "c", None)], timeout=10.0)
    assert own_kafka.read(topic)[-1].value == b"c"


def test_a_stopped_broker_runs_again_for_the_next_test(own_kafka: Kafka) -> None:
    topic = new_topic(own_kafka)
    own_kafka.stop()
    assert not own_kafka.running
    own_kafka.restart()
    assert own_kafka.end_offsets(topic) == {0: 0}


def test_two_brokers_run_side_by_side(kafka: Kafka, own_kafka: Kafka) -> None:
    topic = new_topic(own_kafka)
    own_kafka.produce(topic, messages(1))
    kafka.create_topic(topic)
    assert own_kafka.bootstrap != kafka.bootstrap
    assert (own_kafka.end_offsets(topic), kafka.end_offsets(topic)) == ({0: 1}, {0: 0})


def test_an_address_is_used_and_its_broker_left_alone(
    own_kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KAFKA", own_kafka.bootstrap)
    given = open_kafka(tmp_path)
    assert (given.bootstrap, given.controllable, own_kafka.controllable) == (own_kafka.bootstrap, False, True)
    given.create_topic(tmp_path.name)
    assert own_kafka.end_offsets(tmp_path.name) == {0: 0}
    with pytest.raises(RuntimeError, match="cannot kill a broker that is not ours"):
        given.kill()
    given.close()
    assert own_kafka.answers()


@pytest.mark.parametrize("protocol", ["SASL_SSL", "SASL_PLAINTEXT"])
def test_a_user_gets_in_by_every_mechanism_and_not_with_a_wrong_password(secure_kafka: Kafka, protocol: str) -> None:
    for mechanism in MECHANISMS:
        assert secure_kafka.refusal(protocol, mechanism, "app", secure_kafka.users["app"]) is None
        assert "uthentication failed" in str(secure_kafka.refusal(protocol, mechanism, "app", "wrong"))


def test_a_certificate_of_an_unknown_authority_is_refused(secure_kafka: Kafka) -> None:
    settings = secure_kafka.client_settings("SASL_SSL", "PLAIN", "app", secure_kafka.users["app"])
    del settings["ssl.ca.location"]
    assert "certificate verify failed" in str(refusal(settings))
    assert refusal(secure_kafka.client_settings("SSL", None, "", "")) is None


def test_guest_gets_in_and_may_do_nothing(secure_kafka: Kafka) -> None:
    topic = new_topic(secure_kafka)
    settings = secure_kafka.client_settings("SASL_SSL", "SCRAM-SHA-256", "guest", secure_kafka.users["guest"])
    with pytest.raises(KafkaException) as refused:
        produce(settings, topic, messages(1), compression="none", partition=0, transaction=None, timeout=5.0)
    assert refused.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert secure_kafka.end_offsets(topic) == {0: 0}


class Bearer(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka carries no hints
    async def token(self) -> str:
        return unsecured_token("app")


async def test_a_bearer_token_is_taken(secure_kafka: Kafka) -> None:
    assert secure_kafka.refusal("SASL_PLAINTEXT", "OAUTHBEARER", "app", "") is None
    topic = new_topic(secure_kafka)
    producer = AIOKafkaProducer(
        bootstrap_servers=secure_kafka.bootstrap,
        security_protocol="SASL_SSL",
        ssl_context=create_ssl_context(cafile=str(secure_kafka.ca)),
        sasl_mechanism="OAUTHBEARER",
        sasl_oauth_token_provider=Bearer(),
    )
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"by bearer")
    finally:
        await producer.stop()
    assert [record.value for record in secure_kafka.read(topic)] == [b"by bearer"]


def test_promtool_is_the_real_one(promtool: Path) -> None:
    said = subprocess.run([promtool, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("promtool, version")
