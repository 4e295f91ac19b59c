"""A store that forgets when the process ends: for tests of handlers, which need the rules and not the disk."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from msgspec.structs import replace

from investbus.mailbox import ACTIVE, Audit, Item, ItemEnd, ItemOutcome, Pause, PauseReason, Reason, Replay, ReplayState
from investbus.store import DeadLetter, Done, Filter, Group, Identity, OpenLetters, body_hash, identity_of, obsolete

WAITING = ("open", "parked")


class MemoryReplay:
    """One replay: its row, its list, and who holds it until when."""

    def __init__(self, replay: Replay, letters: Sequence[str]) -> None:
        self.row = replay
        self.letters = dict(enumerate(dict.fromkeys(letters), start=1))
        self.ended: dict[int, tuple[ItemOutcome, str]] = {}
        self.worker = ""
        self.until: datetime | None = None

    @property
    def active(self) -> bool:
        return self.row.state in ACTIVE

    @property
    def left(self) -> list[str]:
        return [letter_id for seq, letter_id in self.letters.items() if seq not in self.ended]

    def end(self, seq: int, outcome: ItemOutcome, reason: str) -> None:
        self.ended[seq] = outcome, reason
        self.row = replace(self.row, **{outcome: getattr(self.row, outcome) + 1})


class MemoryStore:
    """The rules of `Store` over dicts and lists. `dead` holds the letters in the order in which they came."""

    def __init__(self) -> None:
        self.done: dict[Identity, Done] = {}
        self.dead: dict[str, DeadLetter] = {}
        self.paused: dict[tuple[str, PauseReason], Pause] = {}
        self.replays: dict[str, MemoryReplay] = {}
        self.starts: dict[str, int] = {}
        self.audit: list[Audit] = []

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    # ---- what was done, and what died

    async def find_done(self, identities: Sequence[Identity], since: datetime | None = None) -> dict[Identity, bytes]:
        """`since` says nothing here: no record is older than the process."""
        return {identity: self.done[identity].body_hash for identity in identities if identity in self.done}

    async def put_done(self, done: Sequence[Done]) -> None:
        self._put(done)

    async def put_dead(self, letters: Sequence[DeadLetter], done: Sequence[Done]) -> None:
        for letter in letters:
            if letter.id not in self.dead or self.dead[letter.id].state not in WAITING:
                self.dead[letter.id] = letter
        self._put(done)

    async def list_dead(self, wanted: Filter, limit: int) -> list[DeadLetter]:
        return sorted(self._matching(wanted), key=lambda letter: letter.last_at, reverse=True)[:limit]

    async def group_dead(self, wanted: Filter) -> list[Group]:
        groups: dict[tuple[str, str, str], list[DeadLetter]] = {}
        for letter in self._matching(wanted):
            groups.setdefault((letter.route, letter.error, letter.place), []).append(letter)
        rows = [
            Group(*cause, len(some), min(one.first_at for one in some), max(one.last_at for one in some), some[0].id)
            for cause, some in groups.items()
        ]
        return sorted(rows, key=lambda group: -group.count)

    async def export_dead(self, wanted: Filter) -> AsyncIterator[DeadLetter]:
        for letter in sorted(self._matching(wanted), key=lambda letter: letter.last_at):
            yield letter

    async def get_dead(self, letter_id: str) -> DeadLetter | None:
        return self.dead.get(letter_id)

    async def open_dead(self) -> dict[str, OpenLetters]:
        rows: dict[str, OpenLetters] = {}
        for letter in self._matching(Filter(state="open")):
            so_far = rows.get(letter.route, OpenLetters(0, letter.last_at))
            rows[letter.route] = OpenLetters(so_far.count + 1, min(so_far.oldest, letter.last_at))
        return rows

    async def forget(self, done_before: datetime, dead_before: datetime) -> int:
        """Nothing lives long enough here to be forgotten."""
        return 0

    # ---- pauses

    async def pauses(self) -> list[Pause]:
        return sorted(self.paused.values(), key=lambda pause: pause.at)

    async def pause(self, pause: Pause) -> None:
        self.paused[pause.route, pause.reason] = pause
        self._note(pause.at, pause.who, "pause", pause.note, pause.route, 0)

    async def resume(self, route: str, who: str, note: str, at: datetime) -> list[Pause]:
        ended = [pause for pause in await self.pauses() if pause.route == route]
        for pause in ended:
            del self.paused[pause.route, pause.reason]
        if ended:
            self._note(at, who, "resume", note, route, 0)
        return ended

    # ---- dead letters, as operators and parking routes ask for them

    async def select_dead(self, wanted: Filter, ids: Sequence[str] | None = None) -> list[str]:
        return [letter.id for letter in self._matching(wanted) if ids is None or letter.id in ids]

    async def discard(self, ids: Sequence[str], wanted: str, who: str, note: str, at: datetime) -> int:
        found = [letter for letter in map(self.dead.get, set(ids)) if letter is not None and letter.state in WAITING]
        for letter in found:
            self.dead[letter.id] = replace(letter, state="discarded")
        if found:
            self._note(at, who, "discard", note, wanted, len(found))
        return len(found)

    async def done_among(self, letters: Sequence[DeadLetter]) -> set[str]:
        return {letter.id for letter in letters if self._was_done(letter)}

    async def blocking(self, key: str, routes: Sequence[str]) -> str | None:
        waiting = (one for one in self.dead.values() if one.key == key and one.route in routes and one.state in WAITING)
        return next((letter.id for letter in waiting), None)

    async def unblocked(self, routes: Sequence[str], limit: int) -> list[str]:
        on_its_way = {letter_id for replay in self.replays.values() if replay.active for letter_id in replay.left}
        seen: set[str] = set()
        held: set[str] = set()
        free = []
        for letter in self.dead.values():
            if letter.state in WAITING and letter.route in routes:
                oldest = letter.key not in seen
                seen.add(letter.key)
                if letter.state == "open" or (oldest and letter.id in on_its_way):
                    held.add(letter.key)
            may_go = letter.key not in held if letter.route in routes else letter.id not in on_its_way
            if letter.state == "parked" and may_go:
                free.append(letter.id)
        return free[:limit]

    # ---- replays

    async def ask_replay(self, replay: Replay, letters: Sequence[str]) -> None:
        if replay.id in self.replays:
            return
        asked = MemoryReplay(replay, letters)
        asked.row = replace(replay, planned=len(asked.letters))
        elsewhere = {letter_id for other in self.replays.values() if other.active for letter_id in other.left}
        for seq in [seq for seq, letter_id in asked.letters.items() if letter_id in elsewhere]:
            asked.end(seq, "skipped", "it stands in another replay")
        self.replays[replay.id] = asked
        self._note(replay.at, replay.who, "replay", replay.note, replay.wanted, len(asked.letters))

    async def take_replay(self, worker: str, now: datetime, until: datetime, besides: Sequence[str] = ()) -> Replay | None:
        for replay in sorted(self.replays.values(), key=lambda replay: replay.row.at):
            if replay.row.id in besides:
                continue
            if replay.active and (replay.worker == worker or replay.until is None or replay.until <= now):
                replay.worker, replay.until = worker, until
                replay.row = replace(replay.row, state="running")
                return replay.row
        return None

    async def next_items(self, replay_id: str, worker: str, after: int, limit: int, until: datetime) -> list[Item] | None:
        replay = self._held(replay_id, worker)
        if replay is None:
            return None
        replay.until = until
        items: list[Item] = []
        for seq, letter_id in replay.letters.items():
            if seq > after and seq not in replay.ended and len(items) < limit:
                if letter_id in self.dead:
                    items.append(Item(seq, self.dead[letter_id]))
                else:
                    replay.end(seq, "skipped", "the letter was forgotten")
        return items

    async def end_items(self, replay_id: str, ends: Sequence[ItemEnd], at: datetime) -> None:
        replay = self.replays.get(replay_id)
        if replay is None:
            return
        for end in ends:
            if end.seq in replay.ended:
                continue
            replay.end(end.seq, end.outcome, end.reason)
            letter_id = replay.letters[end.seq]
            stored = self.dead.get(letter_id, end.letter)
            if end.outcome == "done":
                self.dead[letter_id] = replace(stored, state="replayed")
            elif end.outcome == "dead":
                self.dead[letter_id] = replace(end.letter, id=letter_id, first_at=stored.first_at)
            elif end.becomes is not None and stored.state in WAITING:
                self.dead[letter_id] = replace(stored, state=end.becomes)
            if end.record is not None:
                self._put([end.record])

    async def end_replay(self, replay_id: str, worker: str, state: ReplayState, reason: str) -> None:
        replay = self._held(replay_id, worker)
        if replay is not None:
            replay.row = replace(replay.row, state=state, reason=reason)
            replay.worker, replay.until = "", None

    async def cancel_replay(self, replay_id: str, who: str, at: datetime) -> bool:
        replay = self.replays.get(replay_id)
        if replay is None or not replay.active:
            return False
        replay.row = replace(replay.row, state="cancelled")
        replay.worker, replay.until = "", None
        self._note(at, who, "cancel", "", replay_id, len(replay.letters) - len(replay.ended))
        return True

    async def list_replays(self, limit: int) -> list[Replay]:
        return sorted((replay.row for replay in self.replays.values()), key=lambda row: row.at)[::-1][:limit]

    async def get_replay(self, replay_id: str) -> Replay | None:
        replay = self.replays.get(replay_id)
        return None if replay is None else replay.row

    async def reasons(self, replay_id: str) -> list[Reason]:
        letters: dict[tuple[ItemOutcome, str], list[str]] = {}
        if (replay := self.replays.get(replay_id)) is not None:
            for seq, end in replay.ended.items():
                letters.setdefault(end, []).append(replay.letters[seq])
        rows = [Reason(*end, len(some), min(some)) for end, some in letters.items() if end[0] != "done"]
        return sorted(rows, key=lambda row: (-row.count, row.outcome, row.reason))

    # ---- events that may kill the process, and who did what

    async def begin(self, starts: Sequence[str]) -> None:
        for start in starts:
            self.starts[start] = self.starts.get(start, 0) + 1

    async def ended(self, starts: Sequence[str]) -> None:
        for start in starts:
            self.starts.pop(start, None)

    async def begun(self, starts: Sequence[str]) -> dict[str, int]:
        return {start: self.starts[start] for start in starts if start in self.starts}

    async def audits(self, limit: int) -> list[Audit]:
        return sorted(self.audit, key=lambda audit: audit.at)[::-1][:limit]

    # ---- underneath

    def _put(self, done: Sequence[Done]) -> None:
        for record in done:
            self.done[record.identity] = record
            for letter in self._matching(Filter(state="open")) if record.supersedes else ():
                if letter.entity == record.supersedes and obsolete(record, letter.route, letter.name, letter.created):
                    self.dead[letter.id] = replace(letter, state="superseded")

    def _was_done(self, letter: DeadLetter) -> bool:
        record = self.done.get(identity_of(letter.source, letter.name, letter.created, letter.event_id))
        return record is not None and record.outcome == "done" and record.body_hash == body_hash(letter.body)

    def _held(self, replay_id: str, worker: str) -> MemoryReplay | None:
        replay = self.replays.get(replay_id)
        return replay if replay is not None and replay.row.state == "running" and replay.worker == worker else None

    def _matching(self, wanted: Filter) -> list[DeadLetter]:
        return [letter for letter in self.dead.values() if _fits(letter, wanted)]

    def _note(self, at: datetime, who: str, action: str, note: str, wanted: str, count: int) -> None:
        self.audit.append(Audit(at, who, action, note, wanted, count))


def _fits(letter: DeadLetter, wanted: Filter) -> bool:
    exact = ("route", "reason", "error", "event_id", "key", "state")
    if any((value := getattr(wanted, name)) is not None and value != getattr(letter, name) for name in exact):
        return False
    return (wanted.since is None or letter.last_at >= wanted.since) and (wanted.until is None or letter.last_at < wanted.until)
