"""Pauses, and the audit of what operators did.

The audit is written here and by every other change that somebody asked for, each time in the transaction of the change: what
stands in it has happened, and nothing has happened that does not.
"""

from typing import Any

from investbus.mailbox import Audit, Pause
from investbus.stores.postgresql_schema import Connection
from investbus.stores.postgresql_text import columns, storable
from investbus.stores.values import time_of

PAUSE = """INSERT INTO pauses (route, reason, note, who, at) VALUES (%(route)s, %(reason)s, %(note)s, %(who)s, %(at)s)
    ON CONFLICT (route, reason) DO UPDATE SET note = excluded.note, who = excluded.who, at = excluded.at"""
STANDING = "SELECT route, reason, note, who, at FROM pauses ORDER BY at, route, reason"
RESUME = "DELETE FROM pauses WHERE route = %s RETURNING route, reason, note, who, at"
NOTE = """INSERT INTO audits (at, who, action, note, wanted, count)
    VALUES (%(at)s, %(who)s, %(action)s, %(note)s, %(wanted)s, %(count)s)"""
AUDITS = "SELECT at, who, action, note, wanted, count FROM audits ORDER BY at DESC, number DESC LIMIT %s"


async def standing(db: Connection) -> list[Pause]:
    cursor = await db.execute(STANDING)
    return [_pause(row) for row in await cursor.fetchall()]


async def pause(db: Connection, asked: Pause) -> None:
    await db.execute(PAUSE, columns(asked))
    await note(db, Audit(asked.at, asked.who, "pause", asked.note, asked.route, 0))


async def resume(db: Connection, audit: Audit) -> list[Pause]:
    """End the pauses of the route that the audit is about."""
    cursor = await db.execute(RESUME, [storable(audit.wanted)])
    ended = [_pause(row) for row in await cursor.fetchall()]
    if ended:
        await note(db, audit)
    return sorted(ended, key=lambda one: (one.at, one.reason))


async def note(db: Connection, audit: Audit) -> None:
    """Write down who did what."""
    await db.execute(NOTE, columns(audit))


async def audits(db: Connection, limit: int) -> list[Audit]:
    cursor = await db.execute(AUDITS, [limit])
    return [Audit(time_of(at), *rest) for at, *rest in await cursor.fetchall()]


async def forget(db: Connection, before: int) -> None:
    await db.execute("DELETE FROM audits WHERE at < %s", [before])


def _pause(row: tuple[Any, ...]) -> Pause:
    route, reason, note, who, at = row
    return Pause(route, reason, note, who, time_of(at))
