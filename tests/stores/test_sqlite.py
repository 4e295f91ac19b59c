"""The SQLite store passes the cases of every store; and what is its own: one transaction for many, the file, its versions."""

import asyncio
import os
import sqlite3
import stat
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from investbus.errors import ConfigError, StoreError, UnsafeStart
from investbus.store import Filter, Store
from investbus.stores import open_store, sqlite_dead, sqlite_file, sqlite_replays, sqlite_schema, sqlite_waiting
from investbus.stores.mounts import Mount
from investbus.stores.sqlite import SqliteStore
from investbus.stores.values import scope
from tests.stores.cases import Fresh, StoreCases
from tests.stores.letters import done, identity, letter
from tests.stores.opened import LONG_AGO


class TestSqlite(StoreCases):
    @pytest.fixture
    def fresh(self, tmp_path: Path) -> Fresh:
        return lambda: open_store(f"sqlite:///{tmp_path}/state.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.open()
    yield store
    await store.close()


def modes(path: Path) -> dict[str, int]:
    return {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}


# ---- the thread


async def test_jobs_that_wait_share_one_transaction(store: SqliteStore) -> None:
    statements: list[str] = []
    await store._thread.read(lambda db: db.set_trace_callback(statements.append))
    busy = asyncio.ensure_future(store._thread.read(lambda db: time.sleep(0.2)))
    await asyncio.gather(busy, *(store.put_done([done(number)]) for number in range(100)))
    assert statements.count("BEGIN IMMEDIATE") == 1
    assert len(await store.find_done([identity(number) for number in range(100)])) == 100


async def test_a_job_that_fails_does_not_fail_its_neighbours(store: SqliteStore) -> None:
    bad = letter(1, attempts=2**63)
    busy = asyncio.ensure_future(store._thread.read(lambda db: time.sleep(0.2)))
    results = await asyncio.gather(
        busy,
        store.put_dead([letter(0)], [done(0)]),
        store.put_dead([letter(7), bad], [done(1)]),
        store.put_dead([letter(2)], [done(2)]),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), type(None), StoreError, type(None)]
    assert [one.id for one in await store.list_dead(Filter(), 9)] == [letter(2).id, letter(0).id]
    assert set(await store.find_done([identity(number) for number in range(3)])) == {identity(0), identity(2)}


async def test_the_loop_runs_while_the_thread_works(store: SqliteStore) -> None:
    job = asyncio.ensure_future(store._thread.read(lambda db: time.sleep(0.3)))
    closing = asyncio.ensure_future(store.close())
    turns = 0
    while not closing.done():
        await asyncio.sleep(0.01)
        turns += 1
    await job
    assert turns > 10


async def test_a_commit_is_on_the_disk_when_it_returns(store: SqliteStore) -> None:
    pragmas = await store._thread.read(
        lambda db: [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    )
    assert pragmas == ["wal", 2]


# ---- the file


async def test_the_files_are_for_their_owner_only(path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(path)
        await store.open()
        await store.put_done([done()])
        assert modes(path) == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}
        await store.close()
    finally:
        os.umask(before)


async def test_files_that_were_open_to_others_are_tightened(store: SqliteStore, path: Path) -> None:
    await store.put_done([done()])
    for found in path.parent.iterdir():
        found.chmod(0o664)
    other = SqliteStore(path)
    await other.open()
    assert modes(path) == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}
    await other.close()


async def test_close_leaves_one_file_with_everything(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.put_done([done(number) for number in range(100)])
    await store.close()
    assert list(modes(path)) == ["state.db"]
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM done").fetchone() == (100,)
    db.close()


async def test_close_checkpoints_though_another_process_has_the_file_open(store: SqliteStore, path: Path) -> None:
    other = SqliteStore(path)
    await other.open()
    await store.put_dead([letter()], [])
    await store.close()
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())  # without the -wal beside it
    with sqlite3.connect(copy) as db:
        assert db.execute("SELECT id FROM dead").fetchall() == [(letter().id,)]
    db.close()
    await other.close()


@pytest.mark.parametrize("name", ["with space.db", "percent%20.db", "question?mode=ro.db", "ключ#1.db"])
async def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    store = open_store(f"sqlite:///{tmp_path}/{name}")
    await store.open()
    await store.close()
    assert [found.name for found in tmp_path.iterdir()] == [name]


async def test_a_network_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "network_mount", lambda path: Mount(Path("/mnt/shared"), "nfs4"))
    with pytest.raises(UnsafeStart, match=r"state\.db: lies on a network file system \(nfs4 at /mnt/shared\)"):
        await SqliteStore(path).open()
    assert not path.exists()


# ---- versions


def version(path: Path) -> int:
    db = sqlite3.connect(path)
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    db.close()
    return found


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    store = SqliteStore(path)
    await store.open()
    await store.put_dead([letter()], [done()])
    await store.close()
    assert version(path) == len(sqlite_schema.MIGRATIONS)


async def test_a_newer_step_keeps_what_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.put_dead([letter()], [done()])
    await store.close()
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", (*sqlite_schema.MIGRATIONS, ("CREATE TABLE more (a)",)))
    await store.open()
    assert await store.get_dead(letter().id) == letter()
    assert await store._thread.read(lambda db: db.execute("SELECT * FROM more").fetchall()) == []
    await store.close()
    assert version(path) == len(sqlite_schema.MIGRATIONS)


async def test_records_of_the_first_version_are_still_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [identity(1), identity(2, source="file", route="é", created="", event_id="\U0001f4b6")]
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", sqlite_schema.MIGRATIONS[:1])
    db = sqlite3.connect(path, isolation_level=None)
    sqlite_schema.migrate(db, path)
    for row in rows:
        texts = (scope(row.source, row.route), row.created, row.event_id)
        db.execute("INSERT INTO done VALUES (?, ?, ?, ?, 'done', 1)", (*texts, b"h" * 16))
    db.close()
    monkeypatch.undo()
    store = SqliteStore(path)
    await store.open()
    assert await store.find_done([*rows, identity(3)]) == dict.fromkeys(rows, b"h" * 16)
    await store.close()


async def test_letters_of_the_second_version_are_all_there_and_kept_from_when_they_died(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", sqlite_schema.MIGRATIONS[:2])
    db = sqlite3.connect(path, isolation_level=None)
    sqlite_schema.migrate(db, path)
    letters = [letter(number, key="P", state=state) for number, state in enumerate(("open", "parked", "replayed"))]
    for one in letters:
        row = sqlite_dead._row(one)
        db.execute(f"INSERT INTO dead ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values()))  # noqa: S608 - ours
    db.close()
    monkeypatch.undo()
    store = SqliteStore(path)
    await store.open()
    assert [one async for one in store.export_dead(Filter())] == letters
    assert await store.blocking("P", [letter().route]) == letters[0].id
    assert await store.forget(LONG_AGO, letters[2].last_at) == 0
    assert await store.forget(LONG_AGO, letters[2].last_at + timedelta(microseconds=1)) == 1
    await store.close()


@pytest.mark.parametrize("question", [sqlite_waiting.BLOCKING, sqlite_waiting.UNBLOCKED, sqlite_replays.ELSEWHERE])
async def test_what_is_asked_while_events_flow_reads_no_table_from_end_to_end(store: SqliteStore, question: str) -> None:
    values = {"key": "P1", "routes": "[]", "limit": 9, "number": 1}
    plan = await store._thread.read(lambda db: db.execute(f"EXPLAIN QUERY PLAN {question}", values).fetchall())
    tables = [row[3] for row in plan if row[3].startswith(("SCAN dead", "SCAN items", "SCAN replays"))]
    assert all(step.endswith((" INDEX dead_parked", " INDEX replays_active")) for step in tables), "only what waits, or is active"


async def test_a_hash_of_another_length_is_refused_since_rows_are_told_apart_by_it(store: SqliteStore) -> None:
    with pytest.raises(StoreError, match="16 bytes, not 3"):
        await store.put_done([done(1), done(2, b"old")])
    assert await store.find_done([identity(1)]) == {}


async def test_a_step_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", (*sqlite_schema.MIGRATIONS, ("CREATE TABLE done (a)",)))
    with pytest.raises(StoreError, match="table done already exists"):
        await SqliteStore(path).open()
    assert version(path) == 0


async def test_a_newer_file_is_refused_and_not_touched(store: SqliteStore, path: Path) -> None:
    await store._thread.write(lambda db: db.execute("PRAGMA user_version = 99"))
    await store.close()
    before = path.read_bytes()
    with pytest.raises(UnsafeStart, match=r"newer investbus \(tables of version 99"):
        await SqliteStore(path).open()
    assert path.read_bytes() == before


async def test_the_database_of_another_program_is_refused(path: Path) -> None:
    db = sqlite3.connect(path)
    db.executescript("CREATE TABLE theirs (a); PRAGMA user_version = 99;")
    db.close()
    with pytest.raises(StoreError, match="belongs to another program"):
        await SqliteStore(path).open()


# ---- the URL


@pytest.mark.parametrize("url", ["mysql://user:secret@host/db", "sqlite://host/state.db", "state.db", ""])
def test_a_url_that_no_store_takes_is_a_mistake_in_the_configuration(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(url)
    assert "sqlite:////absolute/path" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite:///:memory:", "sqlite:////var/lib/"])
def test_a_url_without_a_file_is_a_mistake_in_the_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match="names no file"):
        open_store(url)


async def test_a_relative_url_is_relative_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store: Store = open_store("sqlite:///state.db")
    monkeypatch.chdir("/")
    await store.open()
    await store.close()
    assert (tmp_path / "state.db").exists()
