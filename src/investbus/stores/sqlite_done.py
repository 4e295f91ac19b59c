"""The done table: what needs nothing more.

Every event asks here and leaves a row, so this is the store's hot path: one look-up per batch, rows appended to the
edge of the tree, and no second index, which would cost more than the row itself. Forgetting walks the table in slices
instead.
"""

import sqlite3
from collections.abc import Sequence
from functools import cache, lru_cache
from hashlib import blake2b

from investbus.store import DeadLetter, Done, Identity, body_hash, identity_of
from investbus.stores.sqlite_dead import supersede
from investbus.stores.sqlite_text import storable

CHUNK = 256  # three variables each; an SQLite of before 2020 takes 999 in a statement
SLICE = 2000  # rows walked in one transaction: a few milliseconds, in between the worker has its turn

FIRST = (-(2**63), "", "")  # below every key

PUT = """INSERT INTO done (scope, created, id, hash, outcome, at) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (scope, created, id) DO UPDATE SET hash = excluded.hash, outcome = excluded.outcome, at = excluded.at"""

DONE = "SELECT 1 FROM done WHERE scope = ? AND created = ? AND id = ? AND hash = ? AND outcome = 'done'"

Key = tuple[int, str, str]


@lru_cache(maxsize=4096)
def scope(source: str, route: str) -> int:
    """Source and route as one integer. Derived, not handed out: no process, no rolled back transaction can disagree."""
    text = f"{len(source)}:{source}{route}"
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), signed=True)


def find(db: sqlite3.Connection, identities: Sequence[Identity], oldest: int) -> dict[Identity, bytes]:
    found: dict[Identity, bytes] = {}
    for start in range(0, len(identities), CHUNK):
        asked = identities[start : start + CHUNK]
        size = 1 << (len(asked) - 1).bit_length()  # powers of two: few statements to prepare; NULL finds nothing
        parts: list[int | str | None] = [part for identity in asked for part in _key(identity)]
        parts += [None] * (3 * (size - len(asked))) + [oldest]
        found.update((asked[position], body_hash) for position, body_hash in db.execute(_lookup(size), parts))
    return found


def put(db: sqlite3.Connection, done: Sequence[Done], at: int) -> None:
    """The last content of an identity is the one that is known again."""
    db.executemany(PUT, [(*_key(row.identity), row.body_hash, row.outcome, at) for row in done])
    for row in done:
        if row.supersedes:
            supersede(db, row)


def done_among(db: sqlite3.Connection, letters: Sequence[DeadLetter]) -> set[str]:
    found = set()
    for letter in letters:
        event = identity_of(letter.source, letter.name, letter.created, letter.event_id)
        if db.execute(DONE, (*_key(event), body_hash(letter.body))).fetchone() is not None:
            found.add(letter.id)
    return found


def forget(db: sqlite3.Connection, after: Key, before: int) -> tuple[int, Key | None]:
    """Drop what is older than `before` in the slice that follows `after`: how many, and where the next slice begins."""
    last: Key | None = db.execute(
        "SELECT scope, created, id FROM done WHERE (scope, created, id) > (?, ?, ?) ORDER BY scope, created, id LIMIT 1 OFFSET ?",
        (*after, SLICE - 1),
    ).fetchone()
    if last is None:
        dropped = db.execute("DELETE FROM done WHERE (scope, created, id) > (?, ?, ?) AND at < ?", (*after, before))
    else:
        dropped = db.execute(
            "DELETE FROM done WHERE (scope, created, id) > (?, ?, ?) AND (scope, created, id) <= (?, ?, ?) AND at < ?",
            (*after, *last, before),
        )
    return dropped.rowcount, last


def _key(identity: Identity) -> Key:
    return scope(identity.source, identity.route), storable(identity.created), storable(identity.event_id)


@cache
def _lookup(size: int) -> str:
    """`(created, id) IN (VALUES …)` would scan the table; the join, told by CROSS where to begin, searches it."""
    rows = ", ".join(f"({position}, ?, ?, ?)" for position in range(size))
    return (
        f"WITH asked (position, scope, created, id) AS (VALUES {rows}) "  # noqa: S608 - numbers and question marks
        "SELECT position, hash FROM asked CROSS JOIN done "
        "ON done.scope = asked.scope AND done.created = asked.created AND done.id = asked.id WHERE done.at >= ?"
    )
