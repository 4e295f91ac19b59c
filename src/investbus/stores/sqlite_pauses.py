"""Pauses, and the audit of what operators did.

The audit is written here and by every other change that somebody asked for, each time in the transaction of the change: what
stands in it has happened, and nothing has happened that does not.
"""

import sqlite3
from datetime import datetime
from typing import Any

import msgspec

from investbus.mailbox import Audit, Pause
from investbus.stores.values import micros, storable, time_of

PAUSE = """INSERT INTO pauses (route, reason, note, who, at) VALUES (:route, :reason, :note, :who, :at)
    ON CONFLICT (route, reason) DO UPDATE SET note = excluded.note, who = excluded.who, at = excluded.at"""
PAUSES = "SELECT route, reason, note, who, at FROM pauses"
NOTE = "INSERT INTO audits (at, who, action, note, wanted, count) VALUES (:at, :who, :action, :note, :wanted, :count)"


def standing(db: sqlite3.Connection) -> list[Pause]:
    return _pauses(db.execute(f"{PAUSES} ORDER BY at, route, reason"))


def pause(db: sqlite3.Connection, asked: Pause) -> None:
    db.execute(PAUSE, values_of(asked))
    note(db, Audit(asked.at, asked.who, "pause", asked.note, asked.route, 0))


def resume(db: sqlite3.Connection, audit: Audit) -> list[Pause]:
    """End the pauses of the route that the audit is about."""
    route = (storable(audit.wanted),)
    ended = _pauses(db.execute(f"{PAUSES} WHERE route = ? ORDER BY at, reason", route))
    if ended:
        db.execute("DELETE FROM pauses WHERE route = ?", route)
        note(db, audit)
    return ended


def note(db: sqlite3.Connection, audit: Audit) -> None:
    """Write down who did what."""
    db.execute(NOTE, values_of(audit))


def audits(db: sqlite3.Connection, limit: int) -> list[Audit]:
    rows = db.execute("SELECT at, who, action, note, wanted, count FROM audits ORDER BY at DESC, rowid DESC LIMIT ?", (limit,))
    return [Audit(time_of(at), *rest) for at, *rest in rows]


def forget(db: sqlite3.Connection, before: int) -> None:
    db.execute("DELETE FROM audits WHERE at < ?", (before,))


def values_of(asked: msgspec.Struct) -> dict[str, Any]:
    """The fields as columns of the same names."""
    values = msgspec.structs.asdict(asked)
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = storable(value)
        elif isinstance(value, datetime):
            values[name] = micros(value)
    return values


def _pauses(rows: sqlite3.Cursor) -> list[Pause]:
    return [Pause(route, reason, note, who, time_of(at)) for route, reason, note, who, at in rows]
