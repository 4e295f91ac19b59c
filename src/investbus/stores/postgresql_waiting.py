"""Which letters a key waits behind, and which of those that wait may go on.

Both are asked while events flow. Order is that in which the server stored the letters: one behind which others were parked stood
there before them, whatever the clocks of replicas have said. A key whose oldest letter stands in a replay is on its way already.
"""

from collections.abc import Sequence

from investbus.stores.postgresql_dead import IN_ACTIVE_REPLAY
from investbus.stores.postgresql_schema import Connection
from investbus.stores.postgresql_text import storable, storables

# ruff: noqa: S608 - the statements are put together from constants

# Only so much of a key stands in the index. The conditions behind CASE would each be taken to leave next to nothing: then the
# planner gathers and sorts all letters of the key, which may be very many, instead of taking the first.
OF_KEY = """SELECT id, key, state, stored FROM dead
    WHERE left(dead.key, 200) COLLATE "C" = left({key}, 200) AND state IN ('open', 'parked')
    AND CASE WHEN dead.key = {key} AND route = ANY(%(routes)s) AND {more} THEN true END
    ORDER BY left(dead.key, 200) COLLATE "C", stored, id LIMIT {limit}"""
BLOCKING = OF_KEY.format(key="%(key)s", more="true", limit=1)

HEAD = OF_KEY.format(key="waiting.key", more="true", limit=1)
WALL = OF_KEY.format(key="free.key", more="state = 'open'", limit=1)
BEFORE = "(walls.id IS NULL OR (dead.stored, dead.id) < (walls.stored, walls.id))"
PARKED = OF_KEY.format(key="walls.key", more=f"state = 'parked' AND {BEFORE}", limit="%(limit)s")

# From the keys that have a parked letter, which may be few, to their oldest letters by an index.
UNBLOCKED = f"""WITH waiting AS MATERIALIZED (
        SELECT DISTINCT key FROM dead WHERE state = 'parked' AND route = ANY(%(routes)s)
    ), free AS MATERIALIZED (
        SELECT dead.key FROM waiting CROSS JOIN LATERAL ({HEAD}) AS dead
        WHERE dead.state = 'parked' AND NOT EXISTS ({IN_ACTIVE_REPLAY})
    ), walls AS MATERIALIZED (
        SELECT free.key, wall.stored, wall.id FROM free LEFT JOIN LATERAL ({WALL}) AS wall ON true
    )
    SELECT id FROM (
        SELECT parked.stored, parked.id FROM walls CROSS JOIN LATERAL ({PARKED}) AS parked
        UNION ALL
        SELECT dead.stored, dead.id FROM dead
        WHERE dead.state = 'parked' AND NOT dead.route = ANY(%(routes)s) AND NOT EXISTS ({IN_ACTIVE_REPLAY})
    ) AS unblocked ORDER BY stored, id LIMIT %(limit)s"""


async def blocking(db: Connection, key: str, routes: Sequence[str]) -> str | None:
    row = await (await db.execute(BLOCKING, {"key": storable(key), "routes": storables(routes)})).fetchone()
    return None if row is None else row[0]


async def unblocked(db: Connection, routes: Sequence[str], limit: int) -> list[str]:
    cursor = await db.execute(UNBLOCKED, {"routes": storables(routes), "limit": limit})
    return [row[0] for row in await cursor.fetchall()]
