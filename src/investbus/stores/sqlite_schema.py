"""The tables, and the way from every older version of them to this one.

`PRAGMA user_version` counts the migrations that a file has seen; a step that has been released is never edited, a
change is a new step. Times are microseconds since 1970 (UTC): exact, and compared as integers.
"""

import sqlite3

from investbus.errors import StoreError, UnsafeStart
from investbus.stores.sqlite_done import digest_key

APPLICATION_ID = 0x69627573  # "ibus"; without it `user_version` may be the count of another program

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # The key decides what a row costs: with `created` before the id, a live stream appends to the edge of the tree.
        """CREATE TABLE done (
            scope INTEGER NOT NULL, created TEXT NOT NULL, id TEXT NOT NULL,
            hash BLOB NOT NULL, outcome TEXT NOT NULL, at INTEGER NOT NULL,
            PRIMARY KEY (scope, created, id)
        ) WITHOUT ROWID""",
        # The wide columns stand last: what comes before them is read without following a row to its overflow pages.
        """CREATE TABLE dead (
            id TEXT NOT NULL PRIMARY KEY,
            state TEXT NOT NULL, route TEXT NOT NULL, reason TEXT NOT NULL, error TEXT NOT NULL, place TEXT NOT NULL,
            first_at INTEGER NOT NULL, last_at INTEGER NOT NULL, event_id TEXT NOT NULL, key TEXT NOT NULL,
            source TEXT NOT NULL, origin TEXT NOT NULL, created TEXT NOT NULL, name TEXT NOT NULL,
            attempts INTEGER NOT NULL, handler TEXT NOT NULL, handler_version TEXT NOT NULL,
            message TEXT NOT NULL, stack TEXT NOT NULL, tries BLOB NOT NULL, headers BLOB NOT NULL, body BLOB NOT NULL
        )""",
        "CREATE INDEX dead_by_time ON dead (last_at, id)",
        "CREATE INDEX dead_by_state ON dead (state, last_at, id)",
        "CREATE INDEX dead_by_route ON dead (route, last_at, id)",
        "CREATE INDEX dead_by_error ON dead (error, last_at, id)",
        "CREATE INDEX dead_by_event ON dead (event_id, last_at, id)",
        "CREATE INDEX dead_by_key ON dead (key, last_at, id)",
        "CREATE INDEX dead_by_cause ON dead (route, error, place, last_at, first_at, id, state, reason)",
        "CREATE INDEX dead_open ON dead (route, last_at) WHERE state = 'open'",
    ),
    (
        # A digest in place of the texts halves the file, and what a commit writes.
        "ALTER TABLE done RENAME TO done_in_texts",
        """CREATE TABLE done (
            key BLOB NOT NULL PRIMARY KEY, hash BLOB NOT NULL, outcome TEXT NOT NULL, at INTEGER NOT NULL
        ) WITHOUT ROWID""",
        "INSERT INTO done SELECT done_key(scope, created, id), hash, outcome, at FROM done_in_texts",
        "DROP TABLE done_in_texts",
        "ALTER TABLE dead ADD COLUMN entity TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX dead_by_entity ON dead (entity) WHERE entity <> '' AND state = 'open'",
        "CREATE INDEX dead_waiting ON dead (key, first_at) WHERE state IN ('open', 'parked')",
        """CREATE TABLE pauses (
            route TEXT NOT NULL, reason TEXT NOT NULL, note TEXT NOT NULL, who TEXT NOT NULL, at INTEGER NOT NULL,
            PRIMARY KEY (route, reason)
        ) WITHOUT ROWID""",
        # `worker` holds the replay until `claimed`. The counts are kept, not counted: a list may be long, and is looked at often.
        """CREATE TABLE replays (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
            note TEXT NOT NULL, who TEXT NOT NULL, at INTEGER NOT NULL, wanted TEXT NOT NULL,
            rate REAL NOT NULL, stop_after INTEGER NOT NULL, again INTEGER NOT NULL,
            state TEXT NOT NULL, reason TEXT NOT NULL,
            planned INTEGER NOT NULL, done INTEGER NOT NULL, dead INTEGER NOT NULL, skipped INTEGER NOT NULL,
            worker TEXT NOT NULL DEFAULT '', claimed INTEGER NOT NULL DEFAULT 0
        )""",
        "CREATE INDEX replays_active ON replays (at) WHERE state IN ('pending', 'running')",
        # An item without an outcome has come to nothing yet.
        """CREATE TABLE items (
            replay INTEGER NOT NULL, seq INTEGER NOT NULL, letter TEXT NOT NULL, outcome TEXT, reason TEXT, at INTEGER,
            PRIMARY KEY (replay, seq)
        ) WITHOUT ROWID""",
        "CREATE INDEX items_by_letter ON items (letter)",
        "CREATE TABLE starts (id TEXT NOT NULL PRIMARY KEY, count INTEGER NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID",
        """CREATE TABLE audits (
            at INTEGER NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL, note TEXT NOT NULL, wanted TEXT NOT NULL,
            count INTEGER NOT NULL
        )""",
        "CREATE INDEX audits_by_time ON audits (at)",
    ),
    (
        # What waits is asked for once a second and before runs: in the order of the rows, which no clock has made.
        "DROP INDEX dead_waiting",
        "CREATE INDEX dead_waiting ON dead (key) WHERE state IN ('open', 'parked')",
        "CREATE INDEX dead_parked ON dead (key, route, state) WHERE state = 'parked'",
        # Counted every few seconds; with the state in it nothing is read beside the index.
        "DROP INDEX dead_open",
        "CREATE INDEX dead_open ON dead (route, last_at, state) WHERE state = 'open'",
        # Only of items that have come to nothing yet is asked where else they stand.
        "DROP INDEX items_by_letter",
        "CREATE INDEX items_left ON items (letter) WHERE outcome IS NULL",
        # Since when a letter is what it is: what was closed is kept for as long from then on, however old it is.
        "ALTER TABLE dead ADD COLUMN since INTEGER NOT NULL DEFAULT 0",
        "UPDATE dead SET since = last_at",
    ),
)


def migrate(db: sqlite3.Connection, path: object) -> None:
    """Bring the file to this version in one transaction; another process that starts at this moment waits for it."""
    if _version(db, path) == len(MIGRATIONS):
        return
    db.create_function("done_key", 3, digest_key)
    db.execute("BEGIN IMMEDIATE")
    for migration in MIGRATIONS[_version(db, path) :]:
        for statement in migration:
            db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    db.execute("COMMIT")


def prove_writable(db: sqlite3.Connection) -> None:
    """Write what stands there already: on a file that it may only read, SQLite begins a writing transaction all the same."""
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _version(db: sqlite3.Connection, path: object) -> int:
    # In this order: another process may commit its first migration between the two questions.
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if tables and application != APPLICATION_ID:
        raise StoreError(f"store {path}: belongs to another program; name another file in store.url")
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise UnsafeStart(
            f"store {path}: written by a newer investbus (tables of version {version}, this one knows "
            f"{len(MIGRATIONS)}); start that one, or use another file"
        )
    return version
