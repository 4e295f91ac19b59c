"""The tables, the way from every older version of them to this one, and what each connection is told before its first job.

The tables stand in the schema `investbus`, which is made if it is not there. A URL that sets `search_path` in its `options` has
them in the first schema of that path, which must be there. A step that has been released is never edited, a change is a new step.

Texts compare as bytes (`COLLATE "C"`): the same order on every server, and the one in which all processes lock rows. An index entry
holds 2,704 bytes, so what the bus may make longer than that stands only in hash indexes.
"""

import time

from psycopg import AsyncConnection
from psycopg.errors import InsufficientPrivilege
from psycopg.rows import TupleRow

from investbus.errors import StoreError, UnsafeStart

Connection = AsyncConnection[TupleRow]

SCHEMA = "investbus"
LOCK = 0x69627573  # "ibus": who holds this advisory lock of the database migrates
STATEMENT = 10.0  # seconds for one statement, locks that it waits for included

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # `created` before the id: a live stream appends to the edge of the index.
        """CREATE TABLE done (
            scope bigint NOT NULL, created text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL,
            hash bytea NOT NULL, outcome text NOT NULL, at bigint NOT NULL,
            PRIMARY KEY (scope, created, id)
        )""",
        "CREATE INDEX done_by_age ON done (at)",
        # `stored` is when; letters of one moment were stored in its order.
        """CREATE TABLE dead (
            id text COLLATE "C" NOT NULL PRIMARY KEY, stored bigint NOT NULL,
            state text COLLATE "C" NOT NULL, route text COLLATE "C" NOT NULL, reason text COLLATE "C" NOT NULL,
            error text COLLATE "C" NOT NULL, place text COLLATE "C" NOT NULL, first_at bigint NOT NULL, last_at bigint NOT NULL,
            event_id text NOT NULL, key text NOT NULL, entity text NOT NULL, source text NOT NULL, origin text NOT NULL,
            created text NOT NULL, name text NOT NULL, attempts integer NOT NULL, handler text NOT NULL,
            handler_version text NOT NULL, message text NOT NULL, stack text NOT NULL, tries text NOT NULL, headers text NOT NULL,
            body bytea NOT NULL
        )""",
        "CREATE INDEX dead_by_time ON dead (last_at, id)",
        "CREATE INDEX dead_by_state ON dead (state, last_at, id)",
        "CREATE INDEX dead_by_route ON dead (route, last_at, id)",
        "CREATE INDEX dead_by_error ON dead (error, last_at, id)",
        "CREATE INDEX dead_by_cause ON dead (route, error, place, last_at, first_at, id, state, reason)",
        "CREATE INDEX dead_by_event ON dead USING hash (event_id)",
        "CREATE INDEX dead_by_key ON dead USING hash (key)",
        "CREATE INDEX dead_by_entity ON dead USING hash (entity) WHERE entity <> '' AND state = 'open'",
        "CREATE INDEX dead_open ON dead (route, last_at) WHERE state = 'open'",
        "CREATE INDEX dead_parked ON dead (first_at, stored, id) WHERE state = 'parked'",
        """CREATE TABLE pauses (
            route text COLLATE "C" NOT NULL, reason text COLLATE "C" NOT NULL, note text NOT NULL, who text NOT NULL,
            at bigint NOT NULL,
            PRIMARY KEY (route, reason)
        )""",
        # `worker` holds the replay until `claimed`. The counts are kept, not counted: a list may be long, and is looked at often.
        """CREATE TABLE replays (
            number bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text NOT NULL UNIQUE,
            note text NOT NULL, who text NOT NULL, at bigint NOT NULL, wanted text NOT NULL,
            rate double precision NOT NULL, stop_after integer NOT NULL, again boolean NOT NULL,
            state text NOT NULL, reason text NOT NULL,
            planned integer NOT NULL, done integer NOT NULL, dead integer NOT NULL, skipped integer NOT NULL,
            worker text NOT NULL DEFAULT '', claimed bigint NOT NULL DEFAULT 0
        )""",
        "CREATE INDEX replays_active ON replays (at) WHERE state IN ('pending', 'running')",
        # An item without an outcome has come to nothing yet.
        """CREATE TABLE items (
            replay bigint NOT NULL, seq integer NOT NULL, letter text NOT NULL, outcome text, reason text, at bigint,
            PRIMARY KEY (replay, seq)
        )""",
        "CREATE INDEX items_by_letter ON items USING hash (letter)",
        'CREATE TABLE starts (id text COLLATE "C" NOT NULL PRIMARY KEY, count integer NOT NULL, at bigint NOT NULL)',
        """CREATE TABLE audits (
            number bigint NOT NULL GENERATED ALWAYS AS IDENTITY, at bigint NOT NULL, who text NOT NULL, action text NOT NULL,
            note text NOT NULL, wanted text NOT NULL, count integer NOT NULL
        )""",
        "CREATE INDEX audits_by_time ON audits (at, number)",
    ),
    (
        # What waits is asked for once a second and before runs, and the letters of one key may be many. Of a key only so much
        # stands in the index as it holds.
        """CREATE INDEX dead_waiting ON dead (left(key, 200) COLLATE "C", stored, id) WHERE state IN ('open', 'parked')""",
        "DROP INDEX dead_parked",
        # Only of items that have come to nothing yet is asked where else they stand.
        "DROP INDEX items_by_letter",
        "CREATE INDEX items_left ON items USING hash (letter) WHERE outcome IS NULL",
        # Since when a letter is what it is: what was closed is kept for as long from then on, however old it is.
        "ALTER TABLE dead ADD COLUMN since bigint NOT NULL DEFAULT 0",
        "UPDATE dead SET since = last_at",
    ),
)

# How far the server's clock is ahead of ours, in microseconds, is what replicas with other clocks have in common.
AHEAD = "current_setting('investbus.ahead')::bigint"

# A commit that the server may forget is none, so the weakest setting is overruled; what a session may do, and for how long, is
# ours to say: a client that was frozen with rows locked must not hold up the others.
SESSION = """SELECT
    set_config('synchronous_commit', CASE setting WHEN 'off' THEN 'on' ELSE setting END, false),
    set_config('statement_timeout', %(statement)s, false),
    set_config('idle_in_transaction_session_timeout', %(statement)s, false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('investbus.ahead', ((extract(epoch FROM clock_timestamp()) * 1000000)::bigint - %(ours)s)::text, false),
    set_config('search_path', coalesce(
        (SELECT setting FROM pg_settings WHERE name = 'search_path' AND source = 'client'), %(schema)s
    ), false),
    current_setting('server_encoding')
    FROM pg_settings WHERE name = 'synchronous_commit'"""


async def prepare(db: Connection, place: str) -> None:
    """Make the connection ours and the tables current. Processes that start at the same moment wait for the one that migrates."""
    ours = {"statement": f"{STATEMENT:g}s", "schema": SCHEMA, "ours": time.time_ns() // 1000}
    row = await (await db.execute(SESSION, ours)).fetchone()
    if row is not None and row[-1] != "UTF8":
        raise StoreError(f"store {place}: the database is encoded in {row[-1]}; make one with ENCODING 'UTF8'")
    if await _version(db, place) == len(MIGRATIONS):
        return
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        await _make_schema(db, place)
        for migration in MIGRATIONS[await _version(db, place) :]:
            for statement in migration:
                await db.execute(statement)
        await db.execute("CREATE TABLE IF NOT EXISTS investbus_version (version integer NOT NULL)")
        await db.execute("DELETE FROM investbus_version")
        await db.execute("INSERT INTO investbus_version VALUES (%s)", [len(MIGRATIONS)])


async def prove_writable(db: Connection) -> None:
    """Write what stands there already."""
    await db.execute("UPDATE investbus_version SET version = version")


async def _version(db: Connection, place: str) -> int:
    cursor = await db.execute("SELECT to_regclass('investbus_version') IS NULL")
    if await cursor.fetchone() == (True,):
        return 0
    row = await (await db.execute("SELECT version FROM investbus_version")).fetchone()
    version: int = 0 if row is None else row[0]
    if version > len(MIGRATIONS):
        raise UnsafeStart(
            f"store {place}: written by a newer investbus (tables of version {version}, this one knows "
            f"{len(MIGRATIONS)}); start that one, or use another database"
        )
    return version


async def _make_schema(db: Connection, place: str) -> None:
    row = await (await db.execute("SELECT current_schema(), current_setting('search_path')")).fetchone()
    assert row is not None
    schema, path = row
    if schema is not None:
        return
    if path != SCHEMA:
        raise StoreError(f"store {place}: none of the schemas in search_path is there ({path}); make one")
    try:
        await db.execute(f"CREATE SCHEMA {SCHEMA}")
    except InsufficientPrivilege as error:
        said = f"this user may not make the schema {SCHEMA}; as an administrator: CREATE SCHEMA {SCHEMA} AUTHORIZATION that user"
        raise StoreError(f"store {place}: {said}") from error
