"""Which letters a key waits behind, and which of those that wait may go on.

Both are asked while events flow. Order is that of the rows: a letter behind which others were parked stood there before them,
whatever clocks have said. A key whose oldest letter stands in a replay is on its way already.
"""

import sqlite3
from collections.abc import Sequence

from investbus.stores.sqlite_dead import IN_ACTIVE_REPLAY, texts
from investbus.stores.values import storable

# ruff: noqa: S608 - the statements are put together from constants

PARKING = "route IN (SELECT value FROM json_each(:routes))"

BLOCKING = f"""SELECT id FROM dead WHERE key = :key AND state IN ('open', 'parked') AND {PARKING} ORDER BY rowid LIMIT 1"""

# From the keys that have a parked letter, which may be few, to their first letters by an index. LIMIT -1 keeps SQLite from asking
# for the wall of a key anew with each letter of it.
UNBLOCKED = f"""WITH heads AS (
        SELECT key, (
            SELECT rowid FROM dead WHERE dead.key = waiting.key AND state IN ('open', 'parked') AND {PARKING} ORDER BY rowid LIMIT 1
        ) AS head FROM (SELECT DISTINCT key FROM dead INDEXED BY dead_parked WHERE state = 'parked' AND {PARKING}) AS waiting
    ), free AS (
        SELECT heads.key, (
            SELECT rowid FROM dead AS wall
            WHERE wall.key = heads.key AND wall.state IN ('open', 'parked') AND wall.state = 'open' AND wall.{PARKING}
            ORDER BY rowid LIMIT 1
        ) AS wall FROM heads CROSS JOIN dead ON dead.rowid = heads.head
        WHERE dead.state = 'parked' AND NOT EXISTS ({IN_ACTIVE_REPLAY}) LIMIT -1
    )
    SELECT id FROM (
        SELECT dead.rowid AS number, dead.id FROM free CROSS JOIN dead ON dead.key = free.key
        WHERE dead.state = 'parked' AND dead.{PARKING} AND (free.wall IS NULL OR dead.rowid < free.wall)
        UNION ALL
        SELECT rowid, id FROM dead INDEXED BY dead_parked
        WHERE state = 'parked' AND NOT {PARKING} AND NOT EXISTS ({IN_ACTIVE_REPLAY})
    ) ORDER BY number LIMIT :limit"""


def blocking(db: sqlite3.Connection, key: str, routes: Sequence[str]) -> str | None:
    row = db.execute(BLOCKING, {"key": storable(key), "routes": texts(routes)}).fetchone()
    return None if row is None else row[0]


def unblocked(db: sqlite3.Connection, routes: Sequence[str], limit: int) -> list[str]:
    return [row[0] for row in db.execute(UNBLOCKED, {"routes": texts(routes), "limit": limit})]
