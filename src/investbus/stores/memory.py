"""A store that forgets when the process ends: for tests of handlers, which need the rules and not the disk."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from investbus.store import DeadLetter, Done, Filter, Group, Identity, OpenLetters


class MemoryStore:
    """The rules of `Store` over two dicts. `dead` holds the letters in the order in which they came."""

    def __init__(self) -> None:
        self.done: dict[Identity, Done] = {}
        self.dead: dict[str, DeadLetter] = {}

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def find_done(self, identities: Sequence[Identity], since: datetime | None = None) -> dict[Identity, bytes]:
        """`since` says nothing here: no record is older than the process."""
        return {identity: self.done[identity].body_hash for identity in identities if identity in self.done}

    async def put_done(self, done: Sequence[Done]) -> None:
        self.done.update((record.identity, record) for record in done)

    async def put_dead(self, letters: Sequence[DeadLetter], done: Sequence[Done]) -> None:
        for letter in letters:
            self.dead.setdefault(letter.id, letter)
        await self.put_done(done)

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

    def _matching(self, wanted: Filter) -> list[DeadLetter]:
        return [letter for letter in self.dead.values() if _fits(letter, wanted)]


def _fits(letter: DeadLetter, wanted: Filter) -> bool:
    exact = ("route", "reason", "error", "event_id", "key", "state")
    if any((value := getattr(wanted, name)) is not None and value != getattr(letter, name) for name in exact):
        return False
    return (wanted.since is None or letter.last_at >= wanted.since) and (wanted.until is None or letter.last_at < wanted.until)
