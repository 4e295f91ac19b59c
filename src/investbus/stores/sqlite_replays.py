"""Replays: a frozen list, who holds it, and what each item has come to.

Every change runs in a transaction that has the lock for writing from its begin, so two workers that ask at the same moment, in two
processes, are told different things. Time is what the caller says: a claim ends by the clock that began it.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from investbus.mailbox import Audit, Item, ItemEnd, ItemOutcome, Reason, Replay, ReplayState
from investbus.stores import sqlite_dead, sqlite_done
from investbus.stores.sqlite_pauses import note, values_of
from investbus.stores.values import storable, time_of

FIELDS = Replay.__struct_fields__
SELECT = f"SELECT {', '.join(FIELDS)} FROM replays"  # noqa: S608 - names of our own struct
# The same replay asked for again, after an answer that was lost, is there already.
INSERT = (
    f"INSERT INTO replays ({', '.join(FIELDS)}) VALUES ({', '.join(f':{field}' for field in FIELDS)}) "  # noqa: S608 - same
    "ON CONFLICT (id) DO NOTHING"
)
# A letter that stands in two replays could run in two workers at once.
ELSEWHERE = """UPDATE items SET outcome = 'skipped', reason = 'it stands in another replay'
    WHERE replay = :number AND letter IN (
        SELECT letter FROM replays CROSS JOIN items ON items.replay = replays.number
        WHERE replays.state IN ('pending', 'running') AND replays.number <> :number AND outcome IS NULL
    )"""

FREE = """SELECT number FROM replays WHERE state IN ('pending', 'running') AND (worker IN ('', ?) OR claimed <= ?)
    AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY at, number LIMIT 1"""
TAKE = "UPDATE replays SET state = 'running', worker = ?, claimed = ? WHERE number = ?"
RENEW = "UPDATE replays SET claimed = ? WHERE id = ? AND worker = ? AND state = 'running'"
END = "UPDATE replays SET state = ?, reason = ?, worker = '', claimed = 0 WHERE id = ? AND worker = ? AND state = 'running'"
CANCEL = "UPDATE replays SET state = 'cancelled', worker = '', claimed = 0 WHERE id = ? AND state IN ('pending', 'running')"
SLICE = 2000  # items forgotten in one transaction
OLD = "SELECT number FROM replays WHERE state NOT IN ('pending', 'running') AND at < ?"

LEFT = """SELECT replay, seq, letter FROM items
    WHERE replay = (SELECT number FROM replays WHERE id = ?) AND seq > ? AND outcome IS NULL ORDER BY seq LIMIT ?"""
UNDECIDED = """SELECT replay, seq, letter FROM items
    WHERE replay = (SELECT number FROM replays WHERE id = ?) AND seq = ? AND outcome IS NULL"""
END_ITEM = "UPDATE items SET outcome = ?, reason = ?, at = ? WHERE replay = ? AND seq = ?"
REASONS = """SELECT outcome, reason, count(*), min(letter) FROM items
    WHERE replay = (SELECT number FROM replays WHERE id = ?) AND outcome IN ('dead', 'skipped')
    GROUP BY outcome, reason ORDER BY count(*) DESC, outcome, reason"""
COUNT: dict[ItemOutcome, str] = {
    "done": "UPDATE replays SET done = done + 1 WHERE number = ?",
    "dead": "UPDATE replays SET dead = dead + 1 WHERE number = ?",
    "skipped": "UPDATE replays SET skipped = skipped + 1 WHERE number = ?",
}


def ask(db: sqlite3.Connection, replay: Replay, letters: Sequence[str]) -> None:
    listed = list(dict.fromkeys(letters))
    asked = db.execute(INSERT, values_of(replay) | {"planned": len(listed)})
    if not asked.rowcount:
        return
    number = asked.lastrowid
    rows = [(number, seq, storable(letter_id)) for seq, letter_id in enumerate(listed, start=1)]
    db.executemany("INSERT INTO items (replay, seq, letter) VALUES (?, ?, ?)", rows)
    skipped = db.execute(ELSEWHERE, {"number": number}).rowcount
    db.execute("UPDATE replays SET skipped = ? WHERE number = ?", (skipped, number))
    note(db, Audit(replay.at, replay.who, "replay", replay.note, replay.wanted, len(listed)))


def take(db: sqlite3.Connection, worker: str, now: int, until: int, besides: Sequence[str]) -> Replay | None:
    row = db.execute(FREE, (worker, now, sqlite_dead.texts(besides))).fetchone()
    if row is None:
        return None
    db.execute(TAKE, (worker, until, *row))
    return _replay(db.execute(f"{SELECT} WHERE number = ?", row).fetchone())


def next_items(db: sqlite3.Connection, replay_id: str, worker: str, after: int, limit: int, until: int) -> list[Item] | None:
    if not db.execute(RENEW, (until, replay_id, worker)).rowcount:
        return None
    items: list[Item] = []
    while rows := db.execute(LEFT, (replay_id, after, limit - len(items))).fetchall():
        for number, seq, letter_id in rows:
            letter = sqlite_dead.get(db, letter_id)
            if letter is None:
                _end_item(db, number, seq, "skipped", "the letter was forgotten", None)
            else:
                items.append(Item(seq, letter))
            after = seq
    return items


def end_items(db: sqlite3.Connection, replay_id: str, ends: Sequence[ItemEnd], at: int, now: int) -> None:
    for end in ends:
        row = db.execute(UNDECIDED, (replay_id, end.seq)).fetchone()
        if row is None:
            continue
        number, seq, letter_id = row
        _end_item(db, number, seq, end.outcome, end.reason, at)
        if end.outcome == "done":
            sqlite_dead.replayed(db, letter_id, now)
        elif end.outcome == "dead":
            sqlite_dead.replace(db, letter_id, end.letter)
        elif end.becomes is not None:
            sqlite_dead.become(db, letter_id, end.becomes, now)
        if end.record is not None:
            sqlite_done.put(db, [end.record], now)


def end_replay(db: sqlite3.Connection, replay_id: str, worker: str, state: ReplayState, reason: str) -> None:
    db.execute(END, (state, storable(reason), replay_id, worker))


def cancel(db: sqlite3.Connection, replay_id: str, who: str, at: datetime) -> bool:
    replay = get(db, replay_id)
    if replay is None or not db.execute(CANCEL, (replay.id,)).rowcount:
        return False
    left = replay.planned - replay.done - replay.dead - replay.skipped
    note(db, Audit(at, who, "cancel", "", replay.id, left))
    return True


def newest(db: sqlite3.Connection, limit: int) -> list[Replay]:
    return [_replay(row) for row in db.execute(f"{SELECT} ORDER BY at DESC, number DESC LIMIT ?", (limit,))]


def get(db: sqlite3.Connection, replay_id: str) -> Replay | None:
    row = db.execute(f"{SELECT} WHERE id = ?", (storable(replay_id),)).fetchone()
    return None if row is None else _replay(row)


def reasons(db: sqlite3.Connection, replay_id: str) -> list[Reason]:
    return [Reason(*row) for row in db.execute(REASONS, (storable(replay_id),))]


def forget(db: sqlite3.Connection, before: int) -> bool:
    """Drop one slice of the items of ended replays that are older than `before`, then the replays; whether there was anything."""
    slice_ = f"SELECT replay, seq FROM items WHERE replay IN ({OLD}) LIMIT {SLICE}"  # noqa: S608 - constants
    dropped = db.execute(f"DELETE FROM items WHERE (replay, seq) IN ({slice_})", (before,)).rowcount  # noqa: S608 - same
    if not dropped:
        dropped = db.execute(f"DELETE FROM replays WHERE number IN ({OLD})", (before,)).rowcount  # noqa: S608 - same
    return dropped > 0


def _end_item(db: sqlite3.Connection, number: int, seq: int, outcome: ItemOutcome, reason: str, at: int | None) -> None:
    db.execute(END_ITEM, (outcome, storable(reason), at, number, seq))
    db.execute(COUNT[outcome], (number,))


def _replay(row: tuple[Any, ...]) -> Replay:
    values = dict(zip(FIELDS, row, strict=True))
    return Replay(**values | {"at": time_of(values["at"]), "again": bool(values["again"])})
