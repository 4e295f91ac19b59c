"""Which letters a key waits behind, and which of those that wait may go on. Both are asked while events flow."""

from collections.abc import Sequence

from investbus.stores.postgresql_schema import Connection
from investbus.stores.postgresql_text import storable, storables

BLOCKING = """SELECT id FROM dead WHERE key = %s AND state IN ('open', 'parked') AND route = ANY(%s)
    ORDER BY first_at, stored, id LIMIT 1"""

# Keys that are held up are gathered once: to ask for each letter anew would be quadratic in the letters of a key.
UNBLOCKED = """WITH held AS (
        SELECT key FROM dead WHERE route = ANY(%(routes)s) AND id IN (
            SELECT letter FROM items JOIN replays ON replays.number = items.replay WHERE replays.state IN ('pending', 'running')
        )
    ), opened AS (
        SELECT DISTINCT ON (key) key, first_at, stored, id FROM dead
        WHERE state = 'open' AND route = ANY(%(routes)s) ORDER BY key, first_at, stored, id
    )
    SELECT dead.id FROM dead LEFT JOIN opened ON opened.key = dead.key
    WHERE state = 'parked' AND route = ANY(%(routes)s) AND dead.key NOT IN (SELECT key FROM held)
    AND (opened.key IS NULL OR (opened.first_at, opened.stored, opened.id) > (dead.first_at, dead.stored, dead.id))
    ORDER BY dead.first_at, dead.stored, dead.id LIMIT %(limit)s"""


async def blocking(db: Connection, key: str, routes: Sequence[str]) -> str | None:
    row = await (await db.execute(BLOCKING, [storable(key), storables(routes)])).fetchone()
    return None if row is None else row[0]


async def unblocked(db: Connection, routes: Sequence[str], limit: int) -> list[str]:
    cursor = await db.execute(UNBLOCKED, {"routes": storables(routes), "limit": limit})
    return [row[0] for row in await cursor.fetchall()]
