"""Which handlers were begun and have not ended: what stands here when a process starts was running when another one died."""

import json
import sqlite3
from collections.abc import Sequence

from investbus.stores.values import storable

BEGIN = "INSERT INTO starts (id, count, at) VALUES (?, 1, ?) ON CONFLICT (id) DO UPDATE SET count = count + 1, at = excluded.at"


def begin(db: sqlite3.Connection, starts: Sequence[str], at: int) -> None:
    db.executemany(BEGIN, [(storable(start), at) for start in starts])


def ended(db: sqlite3.Connection, starts: Sequence[str]) -> None:
    db.executemany("DELETE FROM starts WHERE id = ?", [(storable(start),) for start in starts])


def begun(db: sqlite3.Connection, starts: Sequence[str]) -> dict[str, int]:
    by_id = {storable(start): start for start in starts}
    rows = db.execute("SELECT id, count FROM starts WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(by_id)),))
    return {by_id[start]: count for start, count in rows}


def forget(db: sqlite3.Connection, before: int) -> None:
    """Starts whose events went to another place, and ended there."""
    db.execute("DELETE FROM starts WHERE at < ?", (before,))
