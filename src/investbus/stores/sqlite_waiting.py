"""Which letters a key waits behind, and which of those that wait may go on.

Both are asked while events flow. The index `dead_waiting` holds the open and parked letters alone, each key's oldest first.
"""

import sqlite3
from collections.abc import Sequence

from investbus.stores.sqlite_dead import texts
from investbus.stores.sqlite_text import storable

BLOCKING = """SELECT id FROM dead
    WHERE key = :key AND state IN ('open', 'parked') AND route IN (SELECT value FROM json_each(:routes))
    ORDER BY first_at, rowid LIMIT 1"""

# Keys that are held up are gathered once: to ask for each letter anew would be quadratic in the letters of a key.
UNBLOCKED = """WITH active AS (
        SELECT letter FROM items JOIN replays ON replays.number = items.replay WHERE replays.state IN ('pending', 'running')
    ), held AS (
        SELECT key FROM dead WHERE id IN (SELECT letter FROM active) AND route IN (SELECT value FROM json_each(:routes))
    ), opened AS (
        SELECT key, first_at, rowid AS number, row_number() OVER (PARTITION BY key ORDER BY first_at, rowid) AS nth
        FROM dead WHERE state = 'open' AND route IN (SELECT value FROM json_each(:routes))
    )
    SELECT dead.id FROM dead LEFT JOIN opened ON opened.key = dead.key AND nth = 1
    WHERE state = 'parked' AND route IN (SELECT value FROM json_each(:routes)) AND dead.key NOT IN (SELECT key FROM held)
    AND (opened.key IS NULL OR (opened.first_at, opened.number) > (dead.first_at, dead.rowid))
    ORDER BY dead.first_at, dead.rowid LIMIT :limit"""


def blocking(db: sqlite3.Connection, key: str, routes: Sequence[str]) -> str | None:
    row = db.execute(BLOCKING, {"key": storable(key), "routes": texts(routes)}).fetchone()
    return None if row is None else row[0]


def unblocked(db: sqlite3.Connection, routes: Sequence[str], limit: int) -> list[str]:
    return [row[0] for row in db.execute(UNBLOCKED, {"routes": texts(routes), "limit": limit})]
