"""Which broker is taken where, and what is said if there is none; without starting any."""

from pathlib import Path

import pytest

from tests.brokers.container import engine_answers
from tests.brokers.life import Elsewhere
from tests.brokers.missing import REASONS, Missing, refuse
from tests.brokers.rabbitmq_settings import Options
from tests.brokers.sources import open_kafka, open_postgresql, open_rabbitmq


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No program on the PATH, nothing cached, no container engine, no address given; the folder of the PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    monkeypatch.setattr("tests.brokers.rabbitmq_process.PROGRAMS", tmp_path / "bin")
    monkeypatch.setattr("tests.brokers.postgresql_process.INSTALLED", tmp_path / "versions")
    for variable in ("TEST_KAFKA", "TEST_RABBITMQ", "TEST_POSTGRESQL"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "bin"


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def java(folder: Path, version: str) -> None:
    program(folder, "java", f"echo 'openjdk version \"{version}\"' >&2")


def reason(folder: Path) -> str:
    with pytest.raises(Missing) as missing:
        open_kafka(folder)
    assert "\n" not in str(missing.value)
    assert str(missing.value).endswith("install OpenJDK 17 and Maven, start a container engine, or set TEST_KAFKA=host:port")
    return str(missing.value)


def test_a_bare_machine_is_told_what_is_missing(bare_machine: Path, tmp_path: Path) -> None:
    assert "there is no java" in reason(tmp_path)
    java(bare_machine, "11.0.2")
    assert "java 11 is too old, 17 is needed" in reason(tmp_path)
    java(bare_machine, "17.0.15")
    assert "there is no mvn to fetch them" in reason(tmp_path)
    program(bare_machine, "mvn", "echo '[ERROR] offline'; exit 1")
    assert "mvn could not fetch its jars ([ERROR] offline)" in reason(tmp_path)
    assert not engine_answers()


def test_a_failed_fetch_is_not_taken_for_the_jars(bare_machine: Path, tmp_path: Path) -> None:
    java(bare_machine, "17.0.15")
    program(bare_machine, "mvn", "exit 1")
    assert "mvn could not fetch" in reason(tmp_path)
    assert [path.suffix for path in (tmp_path / "cache" / "investbus-lab").iterdir()] == [".lock"]


def test_an_address_is_taken_before_anything_else(
    bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KAFKA", "127.0.0.1:1")
    monkeypatch.setattr("tests.brokers.life.PATIENCE", 0.1)
    with pytest.raises(TimeoutError, match=r"TEST_KAFKA=127\.0\.0\.1:1.*nobody answers and lets us in there"):
        open_kafka(tmp_path)
    with pytest.raises(Missing, match=r"there is no java; install OpenJDK 17 and Maven, or start a container engine$"):
        open_kafka(tmp_path, own=True)
    with pytest.raises(Missing, match="there is no java; install OpenJDK 17 and Maven: one that asks for logins"):
        open_kafka(tmp_path, security="scram_tls")


def test_rabbitmq_and_postgresql_are_named_if_they_are_not_installed(bare_machine: Path, tmp_path: Path) -> None:
    engine = "start a container engine"
    with pytest.raises(Missing, match=rf"no epmd.*; install rabbitmq-server, {engine}, or set TEST_RABBITMQ=amqp://\.\.\.$"):
        open_rabbitmq(tmp_path)
    program(bare_machine, "epmd", "exit 1")
    with pytest.raises(Missing, match=rf"there is no .*rabbitmq-server; install rabbitmq-server, or {engine}$"):
        open_rabbitmq(tmp_path, own=True)
    with pytest.raises(Missing, match="install rabbitmq-server: one with TLS or options is always a process"):
        open_rabbitmq(tmp_path, options=Options(consumer_timeout=1.0))
    with pytest.raises(Missing, match=rf"no .*postgres; install postgresql, {engine}, or set TEST_POSTGRESQL=postgresql://"):
        open_postgresql(tmp_path)
    with pytest.raises(Missing, match=rf"no .*postgres; install postgresql, or {engine}$"):
        open_postgresql(tmp_path, own=True)


def test_a_given_rabbitmq_or_postgresql_has_to_answer(
    bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.brokers.life.PATIENCE", 0.1)
    monkeypatch.setenv("TEST_RABBITMQ", "amqp://app:secret@127.0.0.1:1/")
    with pytest.raises(TimeoutError, match=r"^TEST_RABBITMQ was not ready within 0\.1 s: nobody answers and lets us in there$"):
        open_rabbitmq(tmp_path)
    monkeypatch.setenv("TEST_POSTGRESQL", "postgresql://app:secret@127.0.0.1:1/postgres")
    with pytest.raises(TimeoutError, match=r"^TEST_POSTGRESQL was not ready within 0\.1 s"):
        open_postgresql(tmp_path)


def test_nobody_stops_a_broker_that_is_not_ours() -> None:
    given = Elsewhere("TEST_RABBITMQ", "own_rabbitmq")
    for act in (given.stop, given.kill, given.pause, given.resume):
        with pytest.raises(RuntimeError, match=r"^TEST_RABBITMQ: cannot \w+ a broker that is not ours; use .* own_rabbitmq$"):
            act()
    given.close()
    assert given.running


def test_missing_skips_loudly_but_fails_where_brokers_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.brokers.missing.REASONS", said := dict(REASONS))
    monkeypatch.delenv("REQUIRE_BROKERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no broker here"):
        refuse(Missing("no broker here"))
    assert "no broker here" in said
    monkeypatch.setenv("REQUIRE_BROKERS", "1")
    with pytest.raises(pytest.fail.Exception, match="no broker here"):
        refuse(Missing("no broker here"))
