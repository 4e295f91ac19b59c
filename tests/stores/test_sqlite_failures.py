"""What fails around the SQLite store: each failure is one readable line, and the next call works when its cause is gone."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from investbus.errors import StoreError
from investbus.store import Filter
from investbus.stores import sqlite_file
from investbus.stores.sqlite import SqliteStore
from tests.stores.letters import done, identity, letter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
async def store(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteStore]:
    monkeypatch.setattr(sqlite_file, "PATIENCE", 0.1)
    store = SqliteStore(path)
    await store.open()
    await store.put_dead([letter(0)], [])
    yield store
    await store.close()


def child(act: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.stores.children", act, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said_by(act: str, path: Path) -> str:
    with child(act, path) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return said


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


async def works_again(store: SqliteStore) -> None:
    await store.put_dead([letter(9)], [done(9)])
    assert await store.get_dead(letter(9).id) == letter(9)


# ---- other processes


async def test_a_dead_letter_survives_a_kill_right_after_it_was_put(path: Path) -> None:
    with child("killed_after_put_dead", path) as process:
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    store = SqliteStore(path)
    await store.open()
    assert await store.list_dead(Filter(), 9) == [letter(1)]
    assert await store.find_done([identity(1)]) == {identity(1): b"h" * 16}
    await store.close()


async def test_two_processes_read_and_write_side_by_side(path: Path) -> None:
    with child("neighbour", path) as process:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        store = SqliteStore(path)
        await store.open()
        for number in range(0, 200, 2):
            await store.put_dead([letter(number)], [done(number)])
            assert letter(number) in await store.list_dead(Filter(event_id=f"event-{number}"), 1)
        await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 0
    assert [one async for one in store.export_dead(Filter())] == [letter(number) for number in range(200)]
    await store.close()


async def test_processes_that_start_on_a_new_file_at_once_all_get_it(path: Path) -> None:
    children = [child("neighbour", path) for _ in range(3)]
    for process in children:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in children:
        with process:
            await asyncio.to_thread(process.communicate, timeout=60)
    assert [process.returncode for process in children] == [0, 0, 0]


# ---- locks and space


async def test_a_lock_of_another_process_is_waited_for_and_then_told(store: SqliteStore, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked by another process") as caught:
        await store.put_dead([letter(9)], [])
    assert str(path) in one_line(caught.value)
    assert await store.get_dead(letter(0).id) == letter(0)  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    await works_again(store)


async def test_a_lock_that_ends_in_time_is_not_an_error(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    put = asyncio.ensure_future(store.put_dead([letter(9)], []))
    await asyncio.sleep(0.3)
    assert not put.done()
    other.execute("COMMIT")
    other.close()
    await put
    await store.close()


async def test_a_full_disk_is_told_and_loses_nothing(store: SqliteStore) -> None:
    await store._thread.read(lambda db: db.execute("PRAGMA max_page_count = 1").fetchone())  # no more than there are now
    with pytest.raises(StoreError, match="no space left on the disk") as caught:
        await store.put_dead([letter(8, body=b"x" * 100_000)], [done(8)])
    assert one_line(caught.value)
    assert await store.find_done([identity(8)]) == {}
    await works_again(store)  # the limit was the connection's, and that is a new one
    assert len(await store.list_dead(Filter(), 9)) == 2


def test_a_commit_that_fails_fails_all_that_share_it(path: Path) -> None:
    assert "the disk failed" in said_by("full_disk", path)


# ---- the file


def test_a_read_only_file_is_told(path: Path) -> None:
    said = said_by("read_only", path)
    assert "state.db: cannot be written; this user must be able to write the file" in said
    assert said.count("\n") == 1


async def test_a_missing_folder_is_told_and_not_made(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "missing" / "state.db")
    with pytest.raises(StoreError, match="missing does not exist; create it"):
        await store.open()
    assert not (tmp_path / "missing").exists()
    (tmp_path / "missing").mkdir()
    await store.open()
    await works_again(store)
    await store.close()


async def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder"):
        await SqliteStore(tmp_path).open()


async def test_a_file_that_is_no_store_is_told_and_kept(path: Path) -> None:
    garbage = os.urandom(8192)
    path.write_bytes(garbage)
    store = SqliteStore(path)
    with pytest.raises(StoreError, match="not a store; move the file away") as caught:
        await store.open()
    assert one_line(caught.value)
    assert path.read_bytes() == garbage
    with pytest.raises(StoreError, match="closed"):
        await store.find_done([identity()])
    path.unlink()
    await store.open()
    await works_again(store)
    await store.close()


async def test_a_store_that_is_damaged_while_open_works_again_when_it_is_restored(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.put_dead([letter(0)], [])
    await store._thread.read(lambda db: None)
    other = sqlite3.connect(path)
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    other.close()
    good = path.read_bytes()
    with path.open("r+b") as file:
        file.write(os.urandom(len(good)))
    await store.close()
    with pytest.raises(StoreError):
        await store.open()
    with path.open("r+b") as file:
        file.write(good)
    await store.open()
    assert await store.get_dead(letter(0).id) == letter(0)
    await works_again(store)
    await store.close()


async def test_a_file_that_was_deleted_while_in_use_takes_nothing_more(store: SqliteStore, path: Path) -> None:
    path.unlink()
    with pytest.raises(StoreError, match="moved or deleted while in use"):
        await store.put_dead([letter(1)], [])
    await works_again(store)
    assert path.exists()
    assert len(await store.list_dead(Filter(), 9)) == 1


async def test_another_file_in_its_place_is_not_touched(store: SqliteStore, path: Path) -> None:
    other = SqliteStore(path.with_name("other.db"))
    await other.open()
    await other.put_done([done(5)])
    await other.close()
    aside = path.rename(path.with_name("aside.db"))
    path.with_name("other.db").rename(path)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(StoreError, match="was replaced while in use; stop"):
            await store.put_done([done()])
    assert path.read_bytes() == before
    aside.rename(path)
    await works_again(store)
    assert len(await store.list_dead(Filter(), 9)) == 2


async def test_while_it_is_closed_another_file_may_take_its_place(store: SqliteStore, path: Path) -> None:
    await store.close()
    path.with_name("other.db").touch()  # beside the first one, else it might get the same inode
    path.with_name("other.db").rename(path)
    await store.open()
    assert await store.list_dead(Filter(), 9) == []
    await works_again(store)


async def test_a_file_that_became_newer_while_out_of_reach_is_an_error_of_the_store(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store._thread.write(lambda db: db.execute("PRAGMA user_version = 99"))
    with pytest.raises(StoreError):
        await store._thread.read(lambda db: db.execute("SELECT * FROM missing"))  # the next call connects anew
    with pytest.raises(StoreError, match="newer investbus"):
        await store.put_done([done()])
