"""The done table: what needs nothing more.

Every event asks here and leaves a row, so this is the store's hot path, and its cost is counted in rows per page and in
statements. A row is a digest behind the beginning of `created`: small, and appended to the edge of the tree as the stream goes.
There is no second index, which would cost more than the row; forgetting walks the table in slices instead. A batch is one
statement over one value that holds all its rows: with each statement the thread gives up the interpreter and must win it back
from the event loop, and 500 bound values cost more than the search.
"""

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import groupby
from operator import attrgetter

from investbus.store import DeadLetter, Done, Identity, body_hash, identity_of
from investbus.stores.sqlite_dead import supersede
from investbus.stores.values import scope

SLICE = 2000  # rows walked in one transaction: a few milliseconds, in between the worker has its turn

SECONDS = 19  # bytes of `created` in a key: as far as the seconds
KEY = SECONDS + 8
HASH = 16

FIRST = b""  # below every key

NUMBERS = "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :count)"
# CROSS tells where to begin: with the numbers, to search the table for each.
FIND = f"""{NUMBERS} SELECT key, hash FROM numbers CROSS JOIN done ON key = substr(:keys, n * {KEY} + 1, {KEY})
    WHERE at >= :oldest"""  # noqa: S608 - our own numbers
PUT = f"""{NUMBERS} INSERT INTO done (key, hash, outcome, at)
    SELECT substr(:rows, n * {KEY + HASH} + 1, {KEY}), substr(:rows, n * {KEY + HASH} + {KEY} + 1, {HASH}), :outcome, :at
    FROM numbers WHERE true
    ON CONFLICT (key) DO UPDATE SET hash = excluded.hash, outcome = excluded.outcome, at = excluded.at"""  # noqa: S608 - same
DONE = "SELECT 1 FROM done WHERE key = ? AND hash = ? AND outcome = 'done'"


def digest_key(scope: int, created: str, event_id: str) -> bytes:
    """The key of an identity: where it stands in time, then what tells it from its neighbours."""
    text = f"{created}\0{event_id}\0{len(created)}".encode("utf-8", "backslashreplace")
    digest = _begun(scope).copy()
    digest.update(text)
    return text[:SECONDS].ljust(SECONDS, b"\0") + digest.digest()


def key_of(identity: Identity) -> bytes:
    """Not remembered from the look-up to the record: what a cache displaces costs more than to begin anew (measured)."""
    return digest_key(scope(identity.source, identity.route), identity.created, identity.event_id)


@lru_cache(maxsize=4096)
def _begun(scope: int) -> "blake2b":
    return blake2b(scope.to_bytes(8, signed=True), digest_size=8)


def find(db: sqlite3.Connection, identities: Sequence[Identity], oldest: int) -> dict[Identity, bytes]:
    keys = [key_of(identity) for identity in identities]
    values = {"keys": b"".join(keys), "count": len(keys), "oldest": oldest}
    rows = db.execute(FIND, values).fetchall()
    if not rows:
        return {}
    by_key = dict(zip(keys, identities, strict=True))
    return {by_key[key]: known for key, known in rows}


def put(db: sqlite3.Connection, done: Sequence[Done], at: int) -> None:
    """The last content of an identity is the one that is known again."""
    for outcome, same in groupby(done, key=attrgetter("outcome")):
        rows = [key_of(row.identity) + _checked(row.body_hash) for row in same]
        db.execute(PUT, {"rows": b"".join(rows), "count": len(rows), "outcome": outcome, "at": at})
    for row in done:
        if row.supersedes:
            supersede(db, row, at)


def done_among(db: sqlite3.Connection, letters: Sequence[DeadLetter]) -> set[str]:
    found = set()
    for letter in letters:
        event = identity_of(letter.source, letter.name, letter.created, letter.event_id)
        if db.execute(DONE, (key_of(event), body_hash(letter.body))).fetchone() is not None:
            found.add(letter.id)
    return found


def forget(db: sqlite3.Connection, after: bytes, before: int) -> tuple[int, bytes | None]:
    """Drop what is older than `before` in the slice that follows `after`: how many, and where the next slice begins."""
    last = db.execute("SELECT key FROM done WHERE key > ? ORDER BY key LIMIT 1 OFFSET ?", (after, SLICE - 1)).fetchone()
    if last is None:
        return db.execute("DELETE FROM done WHERE key > ? AND at < ?", (after, before)).rowcount, None
    dropped = db.execute("DELETE FROM done WHERE key > ? AND key <= ? AND at < ?", (after, *last, before))
    return dropped.rowcount, last[0]


def _checked(known: bytes) -> bytes:
    """Rows are told apart by their length alone."""
    if len(known) != HASH:
        raise ValueError(f"a body's hash has {HASH} bytes, not {len(known)}")
    return known
