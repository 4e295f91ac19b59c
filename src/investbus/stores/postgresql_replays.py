"""Replays: a frozen list, who holds it, and what each item has come to.

Two workers that ask at the same moment are told different things, because who changes a replay has its row locked first. Claims are
kept by the server's clock: by those of two replicas that are apart, one would take what the other still holds.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from investbus.mailbox import Audit, Item, ItemEnd, Reason, Replay, ReplayState
from investbus.stores import postgresql_dead, postgresql_done
from investbus.stores.postgresql_pauses import note
from investbus.stores.postgresql_schema import AHEAD, Connection
from investbus.stores.postgresql_text import columns, storable, storables
from investbus.stores.values import micros, time_of

# ruff: noqa: S608 - the statements are put together from constants and the names of our own structs

FIELDS = Replay.__struct_fields__
SELECT = f"SELECT {', '.join(FIELDS)} FROM replays"

# The same replay asked for again, after an answer that was lost, is there already.
ASK = f"""INSERT INTO replays ({", ".join(FIELDS)}) VALUES ({", ".join(f"%({field})s" for field in FIELDS)})
    ON CONFLICT (id) DO NOTHING RETURNING number"""
LIST = "INSERT INTO items (replay, seq, letter) SELECT %s, seq, id FROM unnest(%s::text[]) WITH ORDINALITY AS listed (id, seq)"
TAKE = f"""UPDATE replays SET state = 'running', worker = %(worker)s, claimed = %(until)s + {AHEAD} WHERE number = (
        SELECT number FROM replays
        WHERE state IN ('pending', 'running') AND (worker IN ('', %(worker)s) OR claimed <= %(now)s + {AHEAD})
        AND NOT id = ANY(%(besides)s) ORDER BY at, number LIMIT 1 FOR UPDATE SKIP LOCKED
    ) RETURNING {", ".join(FIELDS)}"""
RENEW = f"UPDATE replays SET claimed = %s + {AHEAD} WHERE id = %s AND worker = %s AND state = 'running' RETURNING number"
END = "UPDATE replays SET state = %s, reason = %s, worker = '', claimed = 0 WHERE id = %s AND worker = %s AND state = 'running'"
CANCEL = f"""UPDATE replays SET state = 'cancelled', worker = '', claimed = 0
    WHERE id = %s AND state IN ('pending', 'running') RETURNING {", ".join(FIELDS)}"""

LEFT = f"""SELECT seq, {", ".join(f"dead.{field}" for field in postgresql_dead.FIELDS)} FROM items
    LEFT JOIN dead ON dead.id = items.letter WHERE replay = %s AND seq > %s AND outcome IS NULL ORDER BY seq LIMIT %s"""
GONE = """WITH gone AS (
        UPDATE items SET outcome = 'skipped', reason = 'the letter was forgotten' WHERE replay = %(number)s AND outcome IS NULL
        AND NOT EXISTS (SELECT FROM dead WHERE dead.id = items.letter) RETURNING seq
    ) UPDATE replays SET skipped = skipped + (SELECT count(*) FROM gone) WHERE number = %(number)s"""

UNDECIDED = "SELECT seq, letter FROM items WHERE replay = %s AND seq = ANY(%s) AND outcome IS NULL"
END_ITEMS = """UPDATE items SET outcome = given.outcome, reason = given.reason, at = %s
    FROM json_to_recordset(%s) AS given (seq integer, outcome text, reason text) WHERE replay = %s AND items.seq = given.seq"""
COUNT = "UPDATE replays SET done = done + %s, dead = dead + %s, skipped = skipped + %s WHERE number = %s"

REASONS = """SELECT outcome, reason, count(*), min(letter) FROM items
    WHERE replay = (SELECT number FROM replays WHERE id = %s) AND outcome IN ('dead', 'skipped')
    GROUP BY outcome, reason ORDER BY count(*) DESC, outcome, reason"""

SLICE = 2000  # items forgotten in one transaction
OLD = "SELECT number FROM replays WHERE state NOT IN ('pending', 'running') AND at < %s"


# A letter that stands in two replays could run in two workers at once; with the lock no two are asked for at once.
LOCK = "LOCK TABLE replays IN SHARE ROW EXCLUSIVE MODE"
ELSEWHERE = """WITH elsewhere AS (
        UPDATE items SET outcome = 'skipped', reason = 'it stands in another replay' WHERE replay = %(number)s AND letter IN (
            SELECT letter FROM items AS others JOIN replays ON replays.number = others.replay
            WHERE replays.state IN ('pending', 'running') AND replays.number <> %(number)s AND others.outcome IS NULL
        ) RETURNING seq
    ) UPDATE replays SET skipped = (SELECT count(*) FROM elsewhere) WHERE number = %(number)s"""


async def ask(db: Connection, replay: Replay, letters: Sequence[str]) -> None:
    listed = storables(list(dict.fromkeys(letters)))
    await db.execute(LOCK)
    row = await (await db.execute(ASK, columns(replay) | {"planned": len(listed)})).fetchone()
    if row is not None:
        await db.execute(LIST, [*row, listed])
        await db.execute(ELSEWHERE, {"number": row[0]})
        await note(db, Audit(replay.at, replay.who, "replay", replay.note, replay.wanted, len(listed)))


async def take(db: Connection, worker: str, now: datetime, until: datetime, besides: Sequence[str]) -> Replay | None:
    values = {"worker": storable(worker), "now": micros(now), "until": micros(until), "besides": storables(list(besides))}
    row = await (await db.execute(TAKE, values)).fetchone()
    return None if row is None else _replay(row)


async def next_items(db: Connection, replay_id: str, worker: str, after: int, limit: int, until: datetime) -> list[Item] | None:
    row = await (await db.execute(RENEW, [micros(until), storable(replay_id), storable(worker)])).fetchone()
    if row is None:
        return None
    page = [*row, after, limit]
    rows = await (await db.execute(LEFT, page, binary=True)).fetchall()
    if any(letter_id is None for _, letter_id, *_ in rows):
        await db.execute(GONE, {"number": row[0]})
        rows = await (await db.execute(LEFT, page, binary=True)).fetchall()
    return [Item(seq, postgresql_dead.read(letter)) for seq, *letter in rows]


async def end_items(db: Connection, replay_id: str, ends: Sequence[ItemEnd], at: datetime, now: int) -> None:
    row = await (await db.execute("SELECT number FROM replays WHERE id = %s FOR UPDATE", [storable(replay_id)])).fetchone()
    if row is None:
        return
    (number,) = row
    cursor = await db.execute(UNDECIDED, [number, [end.seq for end in ends]])
    letters: dict[int, str] = dict(await cursor.fetchall())
    first = {end.seq: end for end in reversed(ends) if end.seq in letters}  # of two outcomes in one call too the first one stands
    records = [end.record for end in first.values() if end.record is not None]
    await postgresql_dead.lock(db, list(letters.values()), [record.supersedes for record in records])
    given = [{"seq": end.seq, "outcome": end.outcome, "reason": storable(end.reason)} for end in first.values()]
    await db.execute(END_ITEMS, [micros(at), msgspec.json.encode(given).decode(), number])
    outcomes = [end.outcome for end in first.values()]
    await db.execute(COUNT, [outcomes.count("done"), outcomes.count("dead"), outcomes.count("skipped"), number])
    await postgresql_dead.become(db, [letters[seq] for seq, end in first.items() if end.outcome == "done"], "replayed", now)
    for state in {end.becomes for end in first.values() if end.becomes is not None}:
        ids = [letters[seq] for seq, end in first.items() if end.becomes == state]
        await postgresql_dead.become(db, ids, state, now, among=("open", "parked"))
    await postgresql_dead.replace(db, {letters[seq]: end.letter for seq, end in first.items() if end.outcome == "dead"})
    await postgresql_done.put(db, records, now)


async def end_replay(db: Connection, replay_id: str, worker: str, state: ReplayState, reason: str) -> None:
    await db.execute(END, [state, storable(reason), storable(replay_id), storable(worker)])


async def cancel(db: Connection, replay_id: str, who: str, at: datetime) -> bool:
    row = await (await db.execute(CANCEL, [storable(replay_id)])).fetchone()
    if row is None:
        return False
    replay = _replay(row)
    left = replay.planned - replay.done - replay.dead - replay.skipped
    await note(db, Audit(at, who, "cancel", "", replay.id, left))
    return True


async def newest(db: Connection, limit: int) -> list[Replay]:
    cursor = await db.execute(f"{SELECT} ORDER BY at DESC, number DESC LIMIT %s", [limit])
    return [_replay(row) for row in await cursor.fetchall()]


async def get(db: Connection, replay_id: str) -> Replay | None:
    row = await (await db.execute(f"{SELECT} WHERE id = %s", [storable(replay_id)])).fetchone()
    return None if row is None else _replay(row)


async def reasons(db: Connection, replay_id: str) -> list[Reason]:
    return [Reason(*row) for row in await (await db.execute(REASONS, [storable(replay_id)])).fetchall()]


async def forget(db: Connection, before: int) -> bool:
    """Drop one slice of the items of ended replays that are older than `before`, then the replays; whether there was anything."""
    slice_ = f"SELECT ctid FROM items WHERE replay IN ({OLD}) LIMIT {SLICE}"
    dropped = (await db.execute(f"DELETE FROM items WHERE ctid IN ({slice_})", [before])).rowcount
    if not dropped:
        dropped = (await db.execute(f"DELETE FROM replays WHERE number IN ({OLD})", [before])).rowcount
    return dropped > 0


def _replay(row: Sequence[Any]) -> Replay:
    values = dict(zip(FIELDS, row, strict=True))
    return Replay(**values | {"at": time_of(values["at"])})
