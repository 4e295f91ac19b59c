"""The dead letters: rows, and the questions that people ask of them.

Selections are written once, as conditions on named parameters; `since <= last_at < until`, so that neighbouring spans
share no letter. "Newest" and "oldest" go by `last_at`, then by id, which makes every order total.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from investbus.store import DeadLetter, Done, Filter, Group, OpenLetters, State, Try, obsolete
from investbus.stores.values import micros, storable, time_of

PAGE = 32  # letters of an export that are in memory at once; each may be as large as the largest event
SLICE = 500  # letters forgotten in one transaction

# A parked letter waits behind a dead one of its key and has never been handled: it must not be forgotten either.
CLOSED: tuple[State, ...] = ("replayed", "discarded", "superseded")

CONDITIONS = {
    "route": "route = :route",
    "reason": "reason = :reason",
    "error": "error = :error",
    "since": "last_at >= :since",
    "until": "last_at < :until",
    "event_id": "event_id = :event_id",
    "key": "key = :key",
    "state": "state = :state",
}

# An item that has come to something asks for its letter no more.
IN_ACTIVE_REPLAY = (
    "SELECT 1 FROM items JOIN replays ON replays.number = items.replay"
    " WHERE items.letter = dead.id AND items.outcome IS NULL AND replays.state IN ('pending', 'running')"
)

FIELDS = DeadLetter.__struct_fields__
SELECT = f"SELECT {', '.join(FIELDS)} FROM dead"  # noqa: S608 - names of our own struct
# `since` is when a letter came to the state that it has.
INSERT = f"INSERT INTO dead (since, {', '.join(FIELDS)}) VALUES (:last_at, {', '.join(f':{field}' for field in FIELDS)})"  # noqa: S608 - same
RENEWED = ", ".join(f"{field} = excluded.{field}" for field in ("since", *FIELDS) if field not in ("id", "first_at"))
PUT = f"{INSERT} ON CONFLICT (id) DO UPDATE SET {RENEWED}, first_at = excluded.first_at WHERE state NOT IN ('open', 'parked')"
REPLACE = f"{INSERT} ON CONFLICT (id) DO UPDATE SET {RENEWED}"


def put(db: sqlite3.Connection, letters: Sequence[DeadLetter]) -> None:
    db.executemany(PUT, [_row(letter) for letter in letters])


def replace(db: sqlite3.Connection, letter_id: str, letter: DeadLetter) -> None:
    """`letter` in place of the stored one: it has died again."""
    db.execute(REPLACE, _row(letter) | {"id": letter_id})


def replayed(db: sqlite3.Connection, letter_id: str, at: int) -> None:
    db.execute("UPDATE dead SET state = 'replayed', since = ? WHERE id = ?", (at, letter_id))


def become(db: sqlite3.Connection, letter_id: str, state: State, at: int) -> None:
    """Unless somebody has closed it meanwhile."""
    db.execute("UPDATE dead SET state = ?, since = ? WHERE id = ? AND state IN ('open', 'parked')", (state, at, letter_id))


def discard(db: sqlite3.Connection, ids: Sequence[str], at: int) -> int:
    where = "state IN ('open', 'parked') AND id IN (SELECT value FROM json_each(?))"
    return db.execute(f"UPDATE dead SET state = 'discarded', since = ? WHERE {where}", (at, texts(ids))).rowcount  # noqa: S608 - same


def supersede(db: sqlite3.Connection, done: Done, at: int) -> None:
    rows = db.execute("SELECT id, route, name, created FROM dead WHERE entity = ? AND state = 'open'", (storable(done.supersedes),))
    gone = [letter_id for letter_id, *event in rows.fetchall() if obsolete(done, *event)]
    db.executemany("UPDATE dead SET state = 'superseded', since = ? WHERE id = ?", [(at, letter_id) for letter_id in gone])


def get(db: sqlite3.Connection, letter_id: str) -> DeadLetter | None:
    row = db.execute(f"{SELECT} WHERE id = ?", (storable(letter_id),)).fetchone()
    return None if row is None else _letter(row)


def newest(db: sqlite3.Connection, wanted: Filter, limit: int) -> list[DeadLetter]:
    where, values = _where(wanted)
    rows = db.execute(f"{SELECT} WHERE {where} ORDER BY last_at DESC, id DESC LIMIT :limit", {**values, "limit": limit})
    return [_letter(row) for row in rows]


def page(db: sqlite3.Connection, wanted: Filter, after: DeadLetter | None) -> list[DeadLetter]:
    """The next letters by age. A page begins behind a letter, not at a count, so that no change shifts it."""
    where, values = _where(wanted)
    if after is not None:
        where += " AND (last_at, id) > (:after_at, :after_id)"
        values |= {"after_at": micros(after.last_at), "after_id": after.id}
    rows = db.execute(f"{SELECT} WHERE {where} ORDER BY last_at, id LIMIT {PAGE}", values)
    return [_letter(row) for row in rows]


def select(db: sqlite3.Connection, wanted: Filter, ids: Sequence[str] | None) -> list[str]:
    where, values = _where(wanted)
    if ids is not None:
        where += " AND id IN (SELECT value FROM json_each(:ids))"
        values["ids"] = texts(ids)
    return [row[0] for row in db.execute(f"SELECT id FROM dead WHERE {where} ORDER BY rowid", values)]  # noqa: S608 - same


def groups(db: sqlite3.Connection, wanted: Filter) -> list[Group]:
    """The sample is the newest letter: made by the code that runs now, and the last to be forgotten."""
    where, values = _where(wanted)
    rows = db.execute(
        "SELECT route, error, place, count(*), min(first_at), max(last_at), max(CASE WHEN newest THEN id END) FROM ("  # noqa: S608
        "SELECT route, error, place, first_at, last_at, id,"
        " last_at = max(last_at) OVER (PARTITION BY route, error, place) AS newest"
        f" FROM dead WHERE {where}"  # our own conditions, the values are bound
        ") GROUP BY route, error, place ORDER BY count(*) DESC, max(last_at) DESC, route, error, place",
        values,
    )
    return [
        Group(route, error, place, count, time_of(first_at), time_of(last_at), sample)
        for route, error, place, count, first_at, last_at, sample in rows
    ]


def still_open(db: sqlite3.Connection) -> dict[str, OpenLetters]:
    rows = db.execute("SELECT route, count(*), min(last_at) FROM dead INDEXED BY dead_open WHERE state = 'open' GROUP BY route")
    return {route: OpenLetters(count, time_of(oldest)) for route, count, oldest in rows}


def forget(db: sqlite3.Connection, before: int) -> int:
    """Drop one slice of the letters that were closed before `before` and that no active replay will ask for; how many.

    None was closed before it died, and by that there is an index.
    """
    dropped = 0
    for state in CLOSED:
        dropped += db.execute(
            "DELETE FROM dead WHERE rowid IN (SELECT rowid FROM dead WHERE state = ? AND last_at < ? AND since < ?"  # noqa: S608 - a constant
            f" AND NOT EXISTS ({IN_ACTIVE_REPLAY}) LIMIT ?)",
            (state, before, before, SLICE - dropped),
        ).rowcount
    return dropped


def texts(given: Sequence[str]) -> str:
    """A list of texts as one value, for `json_each`: a statement takes no list, and only so many single values."""
    return json.dumps([storable(text) for text in given])


def _where(wanted: Filter) -> tuple[str, dict[str, Any]]:
    """Every condition that is set, and the values for it."""
    given = {name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not None}
    where = " AND ".join(CONDITIONS[name] for name in given) or "1"
    values = {name: micros(value) if isinstance(value, datetime) else storable(value) for name, value in given.items()}
    return where, values


def _row(letter: DeadLetter) -> dict[str, Any]:
    values = msgspec.structs.asdict(letter)
    texts = {field: storable(value) for field, value in values.items() if isinstance(value, str)}
    tries = [msgspec.structs.replace(one, error=storable(one.error)) for one in letter.tries]
    headers = {storable(name): storable(value) for name, value in letter.headers.items()}
    return texts | {
        "attempts": letter.attempts,
        "tries": msgspec.json.encode(tries),
        "first_at": micros(letter.first_at),
        "last_at": micros(letter.last_at),
        "headers": msgspec.json.encode(headers),
        "body": letter.body,
    }


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    values = dict(zip(FIELDS, row, strict=True))
    return DeadLetter(
        **values
        | {
            "tries": msgspec.json.decode(values["tries"], type=tuple[Try, ...]),
            "first_at": time_of(values["first_at"]),
            "last_at": time_of(values["last_at"]),
            "headers": msgspec.json.decode(values["headers"], type=Mapping[str, str]),
        }
    )
