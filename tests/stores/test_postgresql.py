"""The PostgreSQL store passes the cases of every store; and what is its own: one server for many, its tables and versions."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from investbus.errors import StoreError, UnsafeStart
from investbus.store import Done, Filter, Identity
from investbus.stores import open_store, postgresql_dead, postgresql_schema
from investbus.stores.postgresql import PostgresqlStore
from investbus.stores.postgresql_schema import MIGRATIONS
from tests.brokers.postgresql import PostgreSql
from tests.stores.cases import Fresh, StoreCases
from tests.stores.databases import emptied, execute, value
from tests.stores.letters import done, identity, letter
from tests.stores.opened import LONG_AGO

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def _url_of_module(postgresql: PostgreSql) -> str:
    return postgresql.new_database()


@pytest.fixture
def url(_url_of_module: str) -> str:
    """Of a database without rows; whether there are tables is left open."""
    emptied(_url_of_module)
    return _url_of_module


@pytest.fixture
def bare(postgresql: PostgreSql) -> str:
    """The URL of a database without anything."""
    return postgresql.new_database()


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresqlStore]:
    store = PostgresqlStore(url)
    await store.open()
    yield store
    await store.close()


class TestPostgresql(StoreCases):
    @pytest.fixture
    def fresh(self, url: str) -> Fresh:
        return lambda: open_store(url)


async def opened(url: str) -> PostgresqlStore:
    store = PostgresqlStore(url)
    await store.open()
    return store


async def refusal(url: str) -> str:
    """Why the store at `url` cannot be opened: one line."""
    with pytest.raises(StoreError) as caught:
        await opened(url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- what the server cannot hold


async def test_texts_of_any_length_and_with_nul_are_stored(store: PostgresqlStore) -> None:
    long = "\0é" * 100_000
    sent = letter(1, event_id=long, key=long, entity=long, created=long, origin=long, message=long, headers={long: long})
    await store.put_dead([sent, letter(2)], [done(1)])
    found = await store.get_dead(sent.id)
    assert found is not None
    assert (found.key, found.headers) == (r"\x00é" * 100_000, {r"\x00é" * 100_000: r"\x00é" * 100_000})
    assert [one.id for one in await store.list_dead(Filter(key=long, event_id=long), 9)] == [sent.id]
    assert await store.blocking(long, [sent.route]) == sent.id
    await store.begin([long, long + "x", "a\0"])
    await store.begin([long])
    assert await store.begun([long, long + "x", "a\0"]) == {long: 2, long + "x": 1, "a\0": 1}
    last = Identity("kafka:events", "a.b", "2025\0", "é" * 200)  # as long as an id may be
    await store.put_done([done(2)])
    await store.put_done([done(3), Done(last, b"h", "done")])
    assert await store.find_done([last]) == {last: b"h"}


async def test_a_letter_that_the_server_refuses_is_told_and_takes_nothing_along(store: PostgresqlStore) -> None:
    with pytest.raises(StoreError, match="out of range"):
        await store.put_dead([letter(7), letter(1, attempts=2**63)], [done(1)])
    assert await store.list_dead(Filter(), 9) == []
    assert await store.find_done([identity(1)]) == {}
    await store.put_dead([letter(7)], [done(1)])


# ---- many replicas


async def test_a_batch_is_one_transaction(store: PostgresqlStore, url: str) -> None:
    before = value(url, "SELECT pg_current_xact_id()::text::bigint")
    await store.put_done([done(number) for number in range(500)])
    await store.put_dead([letter(number) for number in range(50)], [done(number) for number in range(50)])
    assert isinstance(before, int)
    assert value(url, "SELECT pg_current_xact_id()::text::bigint") == before + 3


async def test_replicas_that_change_the_same_rows_in_other_orders_do_not_stand_in_each_other_s_way(url: str) -> None:
    stores = [await opened(url) for _ in range(3)]
    for start in range(0, 1500, 500):
        numbers = range(start, start + 500)
        orders = list(zip(stores, (numbers, numbers[::-1], [*numbers[1::2], *numbers[::2]]), strict=True))
        await asyncio.gather(*(store.put_done([done(n) for n in order]) for store, order in orders))
        await asyncio.gather(*(store.put_dead([letter(n) for n in order], [done(n) for n in order]) for store, order in orders))
        at = letter().last_at
        await asyncio.gather(*(store.discard([letter(n).id for n in order], "", "ann", "", at) for store, order in orders))
    assert len(await stores[0].select_dead(Filter(state="discarded"))) == 1500
    assert sum(audit.count for audit in await stores[0].audits(99)) == 1500
    for store in stores:
        await store.close()


async def test_of_the_same_event_put_by_two_replicas_at_once_the_first_stands(url: str) -> None:
    stores = [await opened(url) for _ in range(2)]
    for number in range(30):
        puts = [store.put_dead([letter(number, message=str(at))], [done(number)]) for at, store in enumerate(stores)]
        await asyncio.gather(*puts)
        first = [await store.get_dead(letter(number).id) for store in stores]
        assert first[0] == first[1]
        assert first[0] is not None
        assert first[0].message in ("0", "1")
    assert len([one async for one in stores[0].export_dead(Filter())]) == 30
    for store in stores:
        await store.close()


async def test_starts_that_replicas_begin_at_once_are_all_counted(url: str) -> None:
    stores = [await opened(url) for _ in range(3)]
    await asyncio.gather(*(store.begin(order) for store in stores for order in (["a", "b"], ["b", "a", "a"]) for _ in range(10)))
    assert await stores[0].begun(["a", "b"]) == {"a": 90, "b": 60}
    for store in stores:
        await store.close()


# ---- the tables


async def test_replicas_that_start_at_once_on_an_empty_database_all_get_it(bare: str) -> None:
    stores = await asyncio.gather(*(opened(bare) for _ in range(8)))
    await stores[0].put_dead([letter()], [done()])
    assert [await store.get_dead(letter().id) for store in stores] == [letter()] * 8
    assert value(bare, "SELECT count(*) FROM investbus.investbus_version") == 1
    for store in stores:
        await store.close()


async def test_the_tables_stand_in_a_schema_of_their_own_or_where_the_url_says(bare: str) -> None:
    execute(bare, "CREATE SCHEMA bank")
    for url, schema in ((bare, "investbus"), (f"{bare}?options=-csearch_path%3Dbank,public", "bank")):
        store = await opened(url)
        await store.put_done([done()])
        await store.close()
        assert value(bare, f"SELECT count(*) FROM {schema}.done") == 1  # noqa: S608 - one of the two above
    assert value(bare, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


async def test_a_search_path_without_a_schema_is_told(bare: str) -> None:
    said = await refusal(f"{bare}?options=-csearch_path%3Dbank,shop")
    assert said.endswith("none of the schemas in search_path is there (bank,shop); make one")


async def test_a_newer_step_keeps_what_is_there(bare: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await opened(bare)
    await store.put_dead([letter()], [done()])
    await store.close()
    monkeypatch.setattr(postgresql_schema, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE more (a integer)",)))
    await store.open()
    assert await store.get_dead(letter().id) == letter()
    await store.close()
    assert value(bare, "SELECT count(*) FROM investbus.more") == 0
    assert value(bare, "SELECT version FROM investbus.investbus_version") == len(MIGRATIONS) + 1


async def test_letters_of_the_first_version_are_all_there_and_kept_from_when_they_died(
    bare: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_schema, "MIGRATIONS", MIGRATIONS[:1])
    store = await opened(bare)
    await store.close()
    letters = [letter(number, key="P", state=state) for number, state in enumerate(("open", "parked", "replayed"))]
    with psycopg.connect(bare, autocommit=True) as db:
        for at, one in enumerate(letters):
            row = postgresql_dead._row(one) | {"stored": at}
            names = sql.SQL(", ").join(map(sql.Identifier, row))
            values = sql.SQL(", ").join(map(sql.Placeholder, row))
            db.execute(sql.SQL("INSERT INTO investbus.dead ({}) VALUES ({})").format(names, values), row)
    monkeypatch.undo()
    await store.open()
    assert [one async for one in store.export_dead(Filter())] == letters
    assert await store.blocking("P", [letter().route]) == letters[0].id
    assert await store.forget(LONG_AGO, letters[2].last_at) == 0
    assert await store.forget(LONG_AGO, letters[2].last_at + timedelta(microseconds=1)) == 1
    await store.close()


async def test_a_step_that_fails_leaves_the_database_as_it_was(bare: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_schema, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE done (a integer)",)))
    assert 'relation "done" already exists' in await refusal(bare)
    assert value(bare, "SELECT count(*) FROM pg_namespace WHERE nspname = 'investbus'") == 0


async def test_newer_tables_are_refused_at_the_start_and_told_later(bare: str) -> None:
    store = await opened(bare)
    execute(bare, "UPDATE investbus.investbus_version SET version = 99")
    await store.put_done([done(1)])  # on the connection that it has
    with pytest.raises(StoreError):
        await store.put_dead([letter(1, attempts=2**63)], [])  # the next call connects anew
    with pytest.raises(StoreError, match="newer investbus"):
        await store.put_done([done(2)])
    await store.close()
    with pytest.raises(UnsafeStart, match=r"newer investbus \(tables of version 99, this one knows \d+\)"):
        await store.open()
    with pytest.raises(StoreError, match="closed"):
        await store.find_done([identity()])
    assert value(bare, "SELECT count(*) FROM investbus.done") == 1


# ---- settings of the server


async def test_a_database_that_cannot_hold_all_texts_is_refused(postgresql: PostgreSql) -> None:
    execute(postgresql.url, "CREATE DATABASE test_latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    said = await refusal(urlsplit(postgresql.url)._replace(path="/test_latin").geturl())
    assert said.endswith("the database is encoded in LATIN1; make one with ENCODING 'UTF8'")
    execute(postgresql.url, "DROP DATABASE test_latin WITH (FORCE)")


@pytest.mark.parametrize(("asked", "held"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")])
async def test_a_commit_is_never_one_that_the_server_may_forget(url: str, asked: str, held: str) -> None:
    store = await opened(f"{url}?options=-csynchronous_commit%3D{asked}")

    async def setting(db: postgresql_schema.Connection) -> tuple[Any, ...] | None:
        return await (await db.execute("SHOW synchronous_commit")).fetchone()

    assert await store._events.call(setting) == (held,)
    await store.close()


async def test_a_session_s_defaults_do_not_reach_the_store(url: str) -> None:
    options = "-cdefault_transaction_isolation%3Dserializable%20-cTimeZone%3DAsia/Tokyo%20-cDateStyle%3DGerman"
    stores = [await opened(f"{url}?options={options}") for _ in range(2)]
    for number in range(20):
        await asyncio.gather(*(store.put_dead([letter(number)], [done(number)]) for store in stores))
    assert len(await stores[0].find_done([identity(number) for number in range(20)])) == 20
    for store in stores:
        await store.close()
