"""The dead letters: rows, and the questions that people ask of them.

Selections are written once, as conditions on named parameters; `since <= last_at < until`, so that neighbouring spans
share no letter. "Newest" and "oldest" go by `last_at`, then by id, which makes every order total.

Whoever changes several letters locks them in the order of their ids first: two processes that change the same ones wait for each
other, and never both.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from investbus.store import STATES, DeadLetter, Done, Filter, Group, OpenLetters, State, Try, obsolete
from investbus.stores.postgresql_schema import Connection
from investbus.stores.postgresql_text import columns, storable, storables
from investbus.stores.values import micros, time_of

# ruff: noqa: S608 - the statements are put together from constants and the names of our own struct

PAGE = 32  # letters of an export that are in memory at once; each may be as large as the largest event
SLICE = 500  # letters forgotten in one transaction

CONDITIONS = {
    "route": "route = %(route)s",
    "reason": "reason = %(reason)s",
    "error": "error = %(error)s",
    "since": "last_at >= %(since)s",
    "until": "last_at < %(until)s",
    "event_id": "event_id = %(event_id)s",
    "key": "key = %(key)s",
    "state": "state = %(state)s",
}

# An item that has come to something asks for its letter no more.
IN_ACTIVE_REPLAY = (
    "SELECT 1 FROM items JOIN replays ON replays.number = items.replay"
    " WHERE items.letter = dead.id AND items.outcome IS NULL AND replays.state IN ('pending', 'running')"
)

FIELDS = DeadLetter.__struct_fields__
SELECT = f"SELECT {', '.join(FIELDS)} FROM dead"
# Letters of one call lie a microsecond apart, in its order, by the server's clock: that of replicas may differ. `since` is when a
# letter came to the state that it has.
STORED = "(extract(epoch FROM transaction_timestamp()) * 1000000)::bigint + %(nth)s"
VALUES = ", ".join(f"%({field})s" for field in FIELDS)
INSERT = f"INSERT INTO dead (stored, since, {', '.join(FIELDS)}) VALUES ({STORED}, %(last_at)s, {VALUES})"
RENEWED = ", ".join(f"{field} = excluded.{field}" for field in ("since", *FIELDS) if field not in ("id", "first_at"))
PUT = f"{INSERT} ON CONFLICT (id) DO UPDATE SET {RENEWED}, first_at = excluded.first_at WHERE dead.state NOT IN ('open', 'parked')"
REPLACE = f"{INSERT} ON CONFLICT (id) DO UPDATE SET {RENEWED}"

DISCARD = """WITH chosen AS (
        SELECT id FROM dead WHERE id = ANY(%s) AND state IN ('open', 'parked') ORDER BY id FOR UPDATE
    ) UPDATE dead SET state = 'discarded', since = %s FROM chosen WHERE dead.id = chosen.id"""
OF_ENTITIES = "SELECT id, entity, route, name, created FROM dead WHERE entity = ANY(%s) AND entity <> '' AND state = 'open'"

GROUPS = """SELECT route, error, place, count(*), min(first_at), max(last_at), max(CASE WHEN newest THEN id END) FROM (
    SELECT route, error, place, first_at, last_at, id, last_at = max(last_at) OVER (PARTITION BY route, error, place) AS newest
    FROM dead WHERE {where}
    ) AS letters GROUP BY route, error, place ORDER BY count(*) DESC, max(last_at) DESC, route, error, place"""

# A parked letter waits behind a dead one of its key and has never been handled: it must not be forgotten either. None was closed
# before it died, and by that there is an index.
FORGET = f"""DELETE FROM dead WHERE ctid IN (
    SELECT ctid FROM dead WHERE state IN ('replayed', 'discarded', 'superseded') AND last_at < %(before)s AND since < %(before)s
    AND NOT EXISTS ({IN_ACTIVE_REPLAY}) LIMIT %(most)s FOR UPDATE SKIP LOCKED)"""


async def put(db: Connection, letters: Iterable[DeadLetter]) -> None:
    await _write(db, PUT, [_row(letter) for letter in letters])


async def replace(db: Connection, letters: Mapping[str, DeadLetter]) -> None:
    """Letters by the id of the stored one whose place they take: they have died again."""
    await _write(db, REPLACE, [_row(letter) | {"id": letter_id} for letter_id, letter in letters.items()])


async def become(db: Connection, ids: Sequence[str], state: State, at: int, among: Sequence[State] = STATES) -> None:
    """Those that are in one of the states `among`."""
    sql = "UPDATE dead SET state = %s, since = %s WHERE id = ANY(%s) AND state = ANY(%s)"
    await db.execute(sql, [state, at, list(ids), list(among)])


async def discard(db: Connection, ids: Sequence[str], at: int) -> int:
    return (await db.execute(DISCARD, [storables(list(ids)), at])).rowcount


async def supersede(db: Connection, done: Sequence[Done], at: int) -> None:
    """Close the open letters that these records make obsolete."""
    by_entity: dict[str, list[Done]] = {}
    for one in done:
        by_entity.setdefault(storable(one.supersedes), []).append(one)
    cursor = await db.execute(f"{OF_ENTITIES} ORDER BY id FOR UPDATE", [list(by_entity)])
    rows = await cursor.fetchall()
    gone = [letter_id for letter_id, entity, *event in rows if any(obsolete(one, *event) for one in by_entity[entity])]
    if gone:
        await become(db, gone, "superseded", at)


async def lock(db: Connection, ids: Sequence[str], entities: Sequence[str]) -> None:
    """These letters and the open ones of these entities, all at once and so in order."""
    both = f"id = ANY(%s) OR id IN (SELECT id FROM ({OF_ENTITIES}) AS of_entities)"
    await db.execute(f"SELECT 1 FROM dead WHERE {both} ORDER BY id FOR UPDATE", [list(ids), storables(list(entities))])


async def get(db: Connection, letter_id: str) -> DeadLetter | None:
    cursor = await db.execute(f"{SELECT} WHERE id = %s", [storable(letter_id)], binary=True)
    return None if (row := await cursor.fetchone()) is None else read(row)


async def newest(db: Connection, wanted: Filter, limit: int) -> list[DeadLetter]:
    where, values = _where(wanted)
    sql = f"{SELECT} WHERE {where} ORDER BY last_at DESC, id DESC LIMIT %(limit)s"
    cursor = await db.execute(sql, values | {"limit": limit}, binary=True)
    return [read(row) for row in await cursor.fetchall()]


async def page(db: Connection, wanted: Filter, after: DeadLetter | None) -> list[DeadLetter]:
    """The next letters by age. A page begins behind a letter, not at a count, so that no change shifts it."""
    where, values = _where(wanted)
    if after is not None:
        where += " AND (last_at, id) > (%(after_at)s, %(after_id)s)"
        values |= {"after_at": micros(after.last_at), "after_id": after.id}
    cursor = await db.execute(f"{SELECT} WHERE {where} ORDER BY last_at, id LIMIT {PAGE}", values, binary=True)
    return [read(row) for row in await cursor.fetchall()]


async def select(db: Connection, wanted: Filter, ids: Sequence[str] | None) -> list[str]:
    where, values = _where(wanted)
    if ids is not None:
        where += " AND id = ANY(%(ids)s)"
        values["ids"] = storables(list(ids))
    cursor = await db.execute(f"SELECT id FROM dead WHERE {where} ORDER BY stored, id", values)
    return [row[0] for row in await cursor.fetchall()]


async def groups(db: Connection, wanted: Filter) -> list[Group]:
    """The sample is the newest letter: made by the code that runs now, and the last to be forgotten."""
    where, values = _where(wanted)
    cursor = await db.execute(GROUPS.format(where=where), values)
    return [
        Group(route, error, place, count, time_of(first_at), time_of(last_at), sample)
        for route, error, place, count, first_at, last_at, sample in await cursor.fetchall()
    ]


async def still_open(db: Connection) -> dict[str, OpenLetters]:
    cursor = await db.execute("SELECT route, count(*), min(last_at) FROM dead WHERE state = 'open' GROUP BY route")
    return {route: OpenLetters(count, time_of(oldest)) for route, count, oldest in await cursor.fetchall()}


async def forget(db: Connection, before: int) -> int:
    """Drop one slice of the letters that were closed before `before` and that no active replay will ask for; how many."""
    return (await db.execute(FORGET, {"before": before, "most": SLICE})).rowcount


async def _write(db: Connection, statement: str, rows: Sequence[dict[str, Any]]) -> None:
    """In the order of their ids, which is that of the locks."""
    rows = sorted((row | {"nth": nth} for nth, row in enumerate(rows)), key=lambda row: row["id"])
    async with db.cursor() as cursor:
        await cursor.executemany(statement, rows)  # psycopg sends them all at once


def _where(wanted: Filter) -> tuple[str, dict[str, Any]]:
    """Every condition that is set, and the values for it."""
    values = {name: value for name, value in columns(wanted).items() if value is not None}
    return " AND ".join(CONDITIONS[name] for name in values) or "true", values


def _row(letter: DeadLetter) -> dict[str, Any]:
    tries = [msgspec.structs.replace(one, error=storable(one.error)) for one in letter.tries]
    headers = {storable(name): storable(value) for name, value in letter.headers.items()}
    return columns(letter) | {"tries": msgspec.json.encode(tries).decode(), "headers": msgspec.json.encode(headers).decode()}


def read(row: Sequence[Any]) -> DeadLetter:
    """A row of `FIELDS`."""
    values: dict[str, Any] = dict(zip(FIELDS, row, strict=True))
    return DeadLetter(
        **values
        | {
            "tries": msgspec.json.decode(values["tries"], type=tuple[Try, ...]),
            "first_at": time_of(values["first_at"]),
            "last_at": time_of(values["last_at"]),
            "headers": msgspec.json.decode(values["headers"], type=Mapping[str, str]),
        }
    )
