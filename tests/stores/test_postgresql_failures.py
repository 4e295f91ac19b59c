"""What fails around the PostgreSQL store: each failure is one readable line in bounded time, and it works again by itself."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
import structlog

from investbus import log
from investbus.config import Log
from investbus.errors import StoreError
from investbus.store import Filter
from investbus.stores import postgresql_line, postgresql_schema
from investbus.stores.postgresql import PostgresqlStore
from investbus.stores.postgresql_errors import explained
from investbus.stores.postgresql_schema import Connection
from tests.brokers.postgresql import PostgreSql
from tests.brokers.process import free_port
from tests.stores.databases import as_user, end_sessions, execute
from tests.stores.letters import done, identity, letter

pytestmark = pytest.mark.broker

SOON = 3.0  # seconds; the patience below and a slow machine


@pytest.fixture
def url(own_postgresql: PostgreSql) -> str:
    return own_postgresql.new_database()


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresqlStore]:
    store = PostgresqlStore(url)
    await store.open()
    await store.put_dead([letter(0)], [])
    yield store
    await store.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_line, "CONNECT", 0.5)
    monkeypatch.setattr(postgresql_line, "ANSWER", 0.5)


async def refusal(url: str) -> str:
    store = PostgresqlStore(url)
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        await store.open()
    assert time.monotonic() - began < SOON
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def works_again(store: PostgresqlStore) -> None:
    await store.put_dead([letter(9)], [done(9)])
    assert await store.get_dead(letter(9).id) == letter(9)
    assert await store.find_done([identity(9)]) == {identity(9): b"h" * 16}


# ---- the server goes away


async def test_nothing_that_was_answered_is_lost_when_the_server_is_killed(own_postgresql: PostgreSql, url: str) -> None:
    answered: set[int] = set()
    failed = [0, 0]
    stop = asyncio.Event()

    async def writer(at: int) -> None:
        store = PostgresqlStore(url)
        await store.open()
        number = at
        while not stop.is_set():
            try:
                await asyncio.gather(store.put_dead([letter(number)], [done(number)]), store.put_done([done(number + 50_000)]))
            except StoreError:
                failed[at] += 1
                await asyncio.sleep(0.02)
                continue
            answered.add(number)
            number += 2
        await store.close()

    writers = [asyncio.create_task(writer(at)) for at in (0, 1)]
    for _ in range(3):
        before = len(answered)
        while len(answered) < before + 20:
            await asyncio.sleep(0.01)
        own_postgresql.kill()
        await asyncio.sleep(0.1)
        own_postgresql.start()
    before = len(answered)
    while len(answered) < before + 20:  # by itself
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*writers)
    assert min(failed) >= 1
    store = PostgresqlStore(url)
    await store.open()
    assert {letter(number).id for number in answered} <= set(await store.select_dead(Filter()))
    asked = [identity(number) for number in answered] + [identity(number + 50_000) for number in answered]
    assert len(await store.find_done(asked)) == len(asked)
    await store.close()


async def test_after_a_restart_the_next_call_finds_the_server(own_postgresql: PostgreSql, store: PostgresqlStore) -> None:
    await store.get_dead("x")  # both lines are open
    own_postgresql.restart()
    await works_again(store)


async def test_while_the_server_is_stopped_calls_say_so_at_once(own_postgresql: PostgreSql, store: PostgresqlStore) -> None:
    own_postgresql.stop()
    began = time.monotonic()
    for _ in range(5):
        with pytest.raises(StoreError, match="Connection refused"):
            await store.put_done([done()])
        with pytest.raises(StoreError, match="Connection refused"):
            await store.open_dead()
    assert time.monotonic() - began < SOON
    own_postgresql.start()
    await works_again(store)


async def test_sessions_that_an_administrator_ends_are_opened_again(store: PostgresqlStore, url: str) -> None:
    await store.get_dead("x")
    assert end_sessions(url) == 2
    await asyncio.sleep(0.1)  # the server says goodbye
    await works_again(store)


async def test_a_session_that_ends_in_the_middle_of_a_call_fails_that_call_alone(store: PostgresqlStore, url: str) -> None:
    slow = asyncio.create_task(store._events.call(lambda db: db.execute("SELECT pg_sleep(30)")))
    behind = asyncio.create_task(store.put_done([done(1)]))
    await asyncio.sleep(0.2)
    assert end_sessions(url) == 1
    with pytest.raises(StoreError, match="the server is stopping"):
        await slow
    await behind
    assert await store.find_done([identity(1)]) != {}


# ---- the server does not answer


@pytest.mark.usefixtures("impatient")
async def test_a_frozen_server_is_an_error_in_bounded_time_and_repeating_does_no_harm(
    own_postgresql: PostgreSql, store: PostgresqlStore
) -> None:
    await store.get_dead("x")
    own_postgresql.pause()
    began = time.monotonic()
    calls = [store.put_dead([letter(1)], [done(1)]), store.put_done([done(2)]), store.get_dead("x"), store.find_done([identity()])]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [StoreError] * 4
    assert time.monotonic() - began < SOON
    assert "did not answer within 0.5 s" in str(results[0])
    with pytest.raises(StoreError, match=r"no connection within 0.5 s|did not answer"):
        await store.put_done([done(2)])
    own_postgresql.resume()
    await store.put_dead([letter(1)], [done(1)])
    await store.put_done([done(2)])
    assert await store.select_dead(Filter()) == [letter(0).id, letter(1).id]
    assert len(await store.find_done([identity(1), identity(2)])) == 2


@pytest.mark.usefixtures("impatient")
async def test_a_frozen_server_holds_up_neither_opening_nor_closing(
    own_postgresql: PostgreSql, store: PostgresqlStore, url: str
) -> None:
    own_postgresql.pause()
    assert "no connection within 0.5 s" in await refusal(url)
    put = asyncio.create_task(store.put_done([done()]))
    await asyncio.sleep(0)
    began = time.monotonic()
    await store.close()
    assert time.monotonic() - began < SOON
    with pytest.raises(StoreError):
        await put
    own_postgresql.resume()
    await store.open()
    await works_again(store)


async def test_a_lock_of_another_session_is_waited_for_and_then_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_schema, "STATEMENT", 0.5)
    store = PostgresqlStore(url)
    await store.open()
    await store.put_dead([letter(0)], [done(0)])
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE investbus.dead, investbus.done")
        began = time.monotonic()
        with pytest.raises(StoreError, match="did not answer in time; the server is slow, or another session holds a lock"):
            await store.put_dead([letter(9)], [done(9)])
        with pytest.raises(StoreError, match="another session holds a lock"):
            await store.find_done([identity(0)])
        assert time.monotonic() - began < SOON
    assert await store.find_done([identity(9)]) == {}
    await works_again(store)
    await store.close()


@pytest.mark.usefixtures("impatient")
async def test_tables_that_another_process_makes_for_ever_are_told(url: str) -> None:
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [postgresql_schema.LOCK])
        assert "did not answer within 0.5 s" in await refusal(url)


@pytest.mark.usefixtures("impatient")
async def test_calls_that_wait_behind_others_give_up_too(store: PostgresqlStore) -> None:
    slow = [asyncio.create_task(store._events.call(lambda db: db.execute("SELECT pg_sleep(30)"))) for _ in range(20)]
    began = time.monotonic()
    results = await asyncio.gather(*slow, return_exceptions=True)
    assert {type(result) for result in results} == {StoreError}
    assert any("earlier calls are not answered" in str(result) for result in results)
    assert time.monotonic() - began < SOON
    await works_again(store)


async def test_questions_of_people_do_not_hold_up_events(store: PostgresqlStore) -> None:
    question = asyncio.create_task(store._questions.call(lambda db: db.execute("SELECT pg_sleep(0.5)")))
    await asyncio.sleep(0.1)
    await store.put_done([done(1)])
    assert not question.done()
    await question


# ---- callers that leave


async def test_a_caller_that_is_cancelled_leaves_no_half_of_a_transaction(store: PostgresqlStore, url: str) -> None:
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE investbus.done IN EXCLUSIVE MODE")
        put = asyncio.create_task(store.put_dead([letter(1)], [done(1)]))
        await asyncio.sleep(0.2)  # the letter is written, its record waits
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        assert await store.get_dead(letter(1).id) is None
    assert await store.find_done([identity(1)]) != {}
    assert await store.get_dead(letter(1).id) == letter(1)


async def test_a_job_that_fails_half_way_is_rolled_back(store: PostgresqlStore) -> None:
    async def half(db: Connection) -> None:
        async with db.transaction():
            await db.execute("DELETE FROM dead")
            raise RuntimeError("a bug")

    with pytest.raises(StoreError, match="RuntimeError: a bug"):
        await store._events.call(half)
    assert await store.get_dead(letter(0).id) == letter(0)


def test_a_loop_that_ends_in_the_middle_of_a_call_ends(url: str) -> None:
    async def leave() -> None:
        store = PostgresqlStore(url)
        await store.open()
        calls = [store._events.call(lambda db: db.execute("SELECT pg_sleep(30)")), store.put_done([done()])]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0.1)
        assert not tasks[0].done()

    began = time.monotonic()
    asyncio.run(leave())
    assert time.monotonic() - began < SOON


def test_a_store_can_be_opened_again_in_another_loop(url: str) -> None:
    store = PostgresqlStore(url)

    async def life() -> None:
        await store.open()
        await asyncio.gather(*(works_again(store) for _ in range(5)))
        await store.close()

    for _ in range(2):
        asyncio.run(life())


# ---- what is told


async def test_why_it_cannot_be_opened_is_told_without_the_password(url: str) -> None:
    wrong = await refusal(as_user(url, "app", "wr0ng"))
    assert 'password authentication failed for user "app"' in wrong
    assert "wr0ng" not in wrong
    assert 'database "nowhere" does not exist' in await refusal(urlsplit(url)._replace(path="/nowhere").geturl())
    assert "Connection refused" in await refusal(f"postgresql://mw:wr0ng@127.0.0.1:{free_port()}/x")
    assert "failed to resolve host 'nowhere.invalid'" in await refusal("postgresql://mw:wr0ng@nowhere.invalid/x")
    assert "server does not support SSL" in await refusal(f"{url}?sslmode=require")
    several = await refusal(f"postgresql://mw:wr0ng@127.0.0.1:{free_port()},127.0.0.1:{free_port()}/x")
    assert several.count("Connection refused") >= 2
    assert "wr0ng" not in several


def test_what_libpq_says_twice_is_told_once() -> None:
    said = explained(
        psycopg.OperationalError('connection failed: at "db": FATAL:  no\nat "db": FATAL:  no\n\tIs it running?'), "db"
    )
    assert str(said) == 'store db: at "db": FATAL: no Is it running?'


async def test_a_rotated_password_is_taken_at_the_next_login(url: str) -> None:
    execute(url, "CREATE ROLE rotated LOGIN PASSWORD 'old'", "CREATE SCHEMA investbus AUTHORIZATION rotated")
    current = as_user(url, "rotated", "old")
    store = PostgresqlStore(current, lambda: current)
    await store.open()
    execute(url, "ALTER ROLE rotated PASSWORD 'new'")
    await store.put_done([done(1)])
    end_sessions(url)
    await asyncio.sleep(0.1)  # the server says goodbye
    with pytest.raises(StoreError, match='password authentication failed for user "rotated"'):
        await store.put_done([done(2)])
    current = as_user(url, "rotated", "new")
    await store.put_done([done(2)])
    await store.close()


async def test_a_user_without_a_right_is_told_which_one(url: str) -> None:
    execute(url, "CREATE ROLE mw LOGIN PASSWORD 'pw1'")
    mw = as_user(url, "mw", "pw1")
    assert "this user may not make the schema investbus; as an administrator: CREATE SCHEMA" in await refusal(mw)
    execute(url, "CREATE SCHEMA investbus AUTHORIZATION mw")
    store = PostgresqlStore(mw)
    await store.open()
    await works_again(store)
    await store.close()
    execute(url, "REVOKE UPDATE ON investbus.investbus_version FROM mw")
    assert "this user lacks a right (permission denied for table investbus_version)" in await refusal(mw)


async def test_of_several_hosts_the_one_that_can_be_written_is_taken(url: str) -> None:
    netloc = urlsplit(url).netloc
    store = PostgresqlStore(url.replace(netloc, netloc.replace("@", f"@127.0.0.1:{free_port()},")))
    await store.open()
    await works_again(store)
    await store.close()


async def test_a_server_that_cannot_be_written_is_refused(url: str) -> None:
    assert "read-only" in await refusal(f"{url}?options=-cdefault_transaction_read_only%3Don")


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("_logging_as_before")
async def test_nothing_of_it_reaches_the_log(
    own_postgresql: PostgreSql, store: PostgresqlStore, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(Log(level="debug"))
    logging.getLogger("other").warning("told")
    both = [asyncio.create_task(store.put_dead([letter(n, body=b"x" * 10_000_000)], [done(n)])) for n in range(3)]
    await asyncio.sleep(0.01)
    own_postgresql.kill()
    results = await asyncio.gather(*both, return_exceptions=True)
    assert StoreError in map(type, results)
    with pytest.raises(StoreError):
        await store.open_dead()
    lines = capsys.readouterr().err.splitlines()
    assert [line.count("told") for line in lines] == [1], lines
