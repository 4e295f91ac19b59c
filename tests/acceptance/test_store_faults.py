"""The store fails under a whole worker: nothing is acked that was not stored, the probe says why, and it recovers by itself."""

import asyncio
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from investbus import Context, Event, Reject, Router
from investbus.config import Settings
from investbus.stores import postgresql_line, sqlite_file
from tests.acceptance.disks import ROOT, Disk, read_only, small_disk, small_files
from tests.acceptance.served import not_ready, on_kafka, served, until_not_ready
from tests.brokers.kafka import Kafka
from tests.brokers.postgresql import PostgreSql
from tests.stores.databases import execute
from tests.whole import at_rest, check_law, envelope, letters, until

pytestmark = pytest.mark.broker
LETTER = 500_000  # bytes of an event, from the second round on: more than the store has room for in what it has on the disk
ROUND = 8  # events: the even ones are rejected, so the first that cannot be stored is the first of all
LOCKING = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('BEGIN EXCLUSIVE'); print(); sys.stdin.read()"


@pytest.fixture
def line(kafka: Kafka) -> str:
    """A topic with one partition: what is committed there is one number."""
    name = f"line-{uuid.uuid4().hex[:12]}"
    kafka.create_topic(name)
    return name


class Handling:
    """A handler that rejects events of even number, and holds all of them while `held`."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.router = Router()
        self._goes = asyncio.Event()
        self._goes.set()

        @self.router.on("portfolios.status-update")
        async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
            self.ran.append(event.id)
            await self._goes.wait()
            if int(event.id) % 2 == 0:
                raise Reject("even")

    def hold(self) -> None:
        self._goes.clear()

    def let_go(self) -> None:
        self._goes.set()


def publish(kafka: Kafka, topic: str, number: int) -> None:
    """The round of events with this number, each of a key of its own."""
    padding = "x" * (LETTER if number else 0)
    ids = range(number * ROUND, (number + 1) * ROUND)
    kafka.produce(topic, [(None, envelope(event_id=f"{one}", data={"id": f"P{one}", "padding": padding}), None) for one in ids])


async def committed(kafka: Kafka, settings: Settings) -> int:
    assert settings.kafka is not None
    found = await asyncio.to_thread(kafka.committed, settings.kafka.group, settings.kafka.topic)
    return sum(found.values())


@asynccontextmanager
async def failing_store(
    kafka: Kafka, settings: Settings, *, breaks: Callable[[], object], mends: Callable[[], object]
) -> AsyncIterator[None]:
    """Four rounds: before the fault, in the handler when it begins, arriving while it lasts, which the block does, and after it."""
    assert settings.kafka is not None
    topic, handling = settings.kafka.topic, Handling()
    async with served(settings, handling.router) as (parts, url):
        publish(kafka, topic, 0)
        await until(at_rest(parts, ROUND), 60.0)
        await until_not_ready(url, [])
        handling.hold()
        publish(kafka, topic, 1)
        await until(lambda: len(handling.ran) == 2 * ROUND, 60.0)
        breaks()
        handling.let_go()
        publish(kafka, topic, 2)
        await until_not_ready(url, ["store"])
        yield
        assert await committed(kafka, settings) == ROUND, "what is not stored is not acked, nor anything behind it"
        mends()
        publish(kafka, topic, 3)
        await until(at_rest(parts, 4 * ROUND), 60.0)
        await until_not_ready(url, [])
        check_law(parts)
    assert await committed(kafka, settings) == 4 * ROUND
    assert sorted(handling.ran, key=int) == [str(number) for number in range(4 * ROUND)], "each once: no effect was repeated"
    died = [letter.event_id for letter in await letters(settings)]
    assert sorted(died, key=int) == [str(number) for number in range(0, 4 * ROUND, 2)]


FULL: dict[str, Callable[[Path], AbstractContextManager[Disk]]] = {"limit": small_files}
if ROOT:
    FULL["disk"] = small_disk


@pytest.mark.parametrize("kind", FULL)
async def test_a_full_disk(kind: str, kafka: Kafka, line: str, tmp_path: Path) -> None:
    with FULL[kind](tmp_path) as disk:
        settings = on_kafka(kafka, line, disk.folder)
        async with failing_store(kafka, settings, breaks=disk.fill, mends=disk.free):
            await asyncio.sleep(1.5)  # it is tried again, and fails again


async def test_a_store_that_may_not_be_written_takes_nothing_until_it_may(kafka: Kafka, line: str, tmp_path: Path) -> None:
    with read_only(tmp_path) as (folder, allow):
        settings = on_kafka(kafka, line, folder)
        handling = Handling()
        publish(kafka, line, 0)
        async with served(settings, handling.router) as (parts, url):
            await until(lambda: "cannot be written" in parts.console.readiness()["store"], 30.0)
            assert "store" in await not_ready(url)
            await asyncio.sleep(1.0)
            assert (handling.ran, await committed(kafka, settings)) == ([], 0)
            allow()
            await until(at_rest(parts, ROUND), 60.0)
            await until_not_ready(url, [])
        assert len(await letters(settings)) == ROUND // 2
    assert await committed(kafka, settings) == ROUND


async def test_a_file_that_another_process_has_locked(
    kafka: Kafka, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "PATIENCE", 0.2)
    settings = on_kafka(kafka, line, tmp_path)
    locking: list[subprocess.Popen[bytes]] = []

    def lock() -> None:
        command = [sys.executable, "-c", LOCKING, str(tmp_path / "state.db")]
        locking.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert locking[0].stdout is not None
        assert locking[0].stdout.readline() == b"\n", "it holds the lock"

    try:
        async with failing_store(kafka, settings, breaks=lock, mends=lambda: locking[0].communicate(timeout=30)):
            await asyncio.sleep(1.5)
    finally:
        for process in locking:
            process.kill()
            process.communicate()


async def test_a_server_that_is_killed_and_started_again(
    kafka: Kafka, line: str, own_postgresql: PostgreSql, tmp_path: Path
) -> None:
    settings = on_kafka(kafka, line, tmp_path, store={"url": own_postgresql.new_database()})
    async with failing_store(kafka, settings, breaks=own_postgresql.kill, mends=own_postgresql.start):
        await asyncio.sleep(1.5)


async def test_a_server_that_is_too_slow_to_answer(
    kafka: Kafka, line: str, own_postgresql: PostgreSql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = on_kafka(kafka, line, tmp_path, store={"url": own_postgresql.new_database()})
    monkeypatch.setattr(postgresql_line, "CONNECT", 2.0)
    monkeypatch.setattr(postgresql_line, "ANSWER", 2.0)
    async with failing_store(kafka, settings, breaks=own_postgresql.pause, mends=own_postgresql.resume):
        await asyncio.sleep(3.0)


REFUSALS = {
    "sqlite": "CREATE TRIGGER refuse BEFORE INSERT ON done BEGIN SELECT RAISE(ABORT, 'no done records'); END",
    "postgresql": """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no done records'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON investbus.done FOR EACH ROW EXECUTE FUNCTION refuse()
    """,
}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_done_record_that_cannot_be_written_does_not_hold_the_ack(
    kind: str, kafka: Kafka, line: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The effect has happened: holding its ack would only repeat it."""
    url = f"sqlite:///{tmp_path / 'state.db'}" if kind == "sqlite" else request.getfixturevalue("postgresql").new_database()
    settings = on_kafka(kafka, line, tmp_path, store={"url": url})
    router, ran = Router(), list[str]()

    @router.on("portfolios.status-update")
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        ran.append(event.id)

    async with served(settings, router) as (parts, pages):
        publish(kafka, line, 0)
        await until(at_rest(parts, ROUND), 60.0)
        if kind == "sqlite":
            with sqlite3.connect(tmp_path / "state.db") as db:
                db.execute(REFUSALS[kind])
            db.close()
        else:
            execute(url, REFUSALS[kind])
        publish(kafka, line, 1)
        await until_not_ready(pages, ["store"])
        await until(at_rest(parts, 2 * ROUND), 60.0)
        assert parts.worker.metrics.routes["portfolios.status-update"].outcomes["done"] == 2 * ROUND
        await until(lambda: parts.worker.transport.counts.ok == 2 * ROUND, 30.0)
        assert await committed(kafka, settings) == 2 * ROUND
    assert sorted(ran, key=int) == [str(number) for number in range(2 * ROUND)]
