"""Which handlers were begun and have not ended: what stands here when a process starts was running when another one died."""

from collections.abc import Sequence

from investbus.stores.postgresql_schema import Connection
from investbus.stores.postgresql_text import indexable

BEGIN = """INSERT INTO starts (id, count, at)
    SELECT id, count(*), %s FROM unnest(%s::text[]) AS given (id) GROUP BY id ORDER BY id COLLATE "C"
    ON CONFLICT (id) DO UPDATE SET count = starts.count + excluded.count, at = excluded.at"""
ENDED = "DELETE FROM starts WHERE id IN (SELECT id FROM starts WHERE id = ANY(%s) ORDER BY id FOR UPDATE)"


async def begin(db: Connection, starts: Sequence[str], at: int) -> None:
    await db.execute(BEGIN, [at, [indexable(start) for start in starts]])


async def ended(db: Connection, starts: Sequence[str]) -> None:
    await db.execute(ENDED, [[indexable(start) for start in starts]])


async def begun(db: Connection, starts: Sequence[str]) -> dict[str, int]:
    by_id = {indexable(start): start for start in starts}
    cursor = await db.execute("SELECT id, count FROM starts WHERE id = ANY(%s)", [list(by_id)])
    return {by_id[start]: count for start, count in await cursor.fetchall()}


async def forget(db: Connection, before: int) -> None:
    """Starts whose events went to another place, and ended there."""
    await db.execute("DELETE FROM starts WHERE at < %s", [before])
