"""The PostgreSQL store where clocks disagree, and where letters are very many."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from investbus.store import Filter
from investbus.stores import postgresql_dead, postgresql_schema, postgresql_waiting
from investbus.stores.postgresql import PostgresqlStore
from tests.brokers.postgresql import PostgreSql
from tests.stores.letters import letter
from tests.stores.replay_cases import replay
from tests.stores.test_postgresql import opened

pytestmark = pytest.mark.broker


@pytest.fixture
def url(postgresql: PostgreSql) -> str:
    """Of a database without anything."""
    return postgresql.new_database()


async def test_the_first_of_very_many_letters_of_a_key_is_found_by_an_index(url: str) -> None:
    store = await opened(url)
    await store.put_dead([letter(1, key="P")], [])
    fields = ", ".join(field for field in postgresql_dead.FIELDS if field != "id")
    many = f"INSERT INTO dead (id, stored, {fields}) SELECT n, n, {fields} FROM dead, generate_series(1, 120000) AS n"  # noqa: S608 - ours

    async def plan(db: postgresql_schema.Connection) -> str:
        await db.execute("DROP INDEX dead_by_time, dead_by_state, dead_by_route, dead_by_error, dead_by_cause, dead_by_event")
        await db.execute(many)
        asked = {"key": "P", "routes": [letter().route]}
        return str(await (await db.execute(f"EXPLAIN {postgresql_waiting.BLOCKING}", asked)).fetchall())

    steps = await store._events.call(plan)
    assert "Index Scan using dead_waiting" in steps
    assert "Sort" not in steps, "all letters of the key would be read before each event"
    await store.close()


async def test_letters_stand_in_the_order_of_the_server_whatever_clock_a_replica_has(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, fast = [await opened(url) for _ in range(2)]
    now = time.time_ns()
    for number in range(10):  # their clocks are an hour apart
        ahead = number % 2 == 0
        monkeypatch.setattr(time, "time_ns", lambda said=now + ahead * 3_600_000_000_000: said)
        await (fast if ahead else slow).put_dead([letter(number, key="P", state="parked" if number else "open")], [])
    assert await slow.select_dead(Filter()) == [letter(number).id for number in range(10)]
    assert await slow.blocking("P", [letter().route]) == letter(0).id
    assert await slow.unblocked([letter().route], 99) == []
    for store in (slow, fast):
        await store.close()


async def test_a_claim_holds_among_replicas_whose_clocks_are_an_hour_apart(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now, hour, claim = datetime.now(UTC), timedelta(hours=1), timedelta(seconds=15)
    fast, slow = await opened(url), PostgresqlStore(url)
    behind = time.time_ns() - 3_600_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: behind)
    await slow.open()
    await fast.ask_replay(replay(), [letter(1).id])
    assert await slow.take_replay("slow", now - hour, now - hour + claim) is not None
    assert await fast.take_replay("fast", now, now + claim) is None
    assert await slow.next_items("replay1", "slow", 0, 9, now - hour + 2 * claim) == []
    assert await fast.take_replay("fast", now + claim, now + 2 * claim) is None
    assert await fast.take_replay("fast", now + 3 * claim, now + 4 * claim) is not None
    assert await slow.take_replay("slow", now - hour + 3 * claim, now - hour + 4 * claim) is None
    for store in (fast, slow):
        await store.close()
