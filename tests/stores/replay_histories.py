"""Two workers at one replay, in any order: each item comes to one thing, and none is lost."""

from datetime import UTC, datetime
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from investbus.mailbox import Item
from investbus.store import Store
from tests.stores.letters import NOON, letter
from tests.stores.opened import FAR_OFF, Opened, on_one_store
from tests.stores.replay_cases import CLAIM, ask, ended, replay

ACTS = ("take", "look", "end", "cancel", "give back", "wait")

examples = count()


class ReplayHistories(Opened):
    @on_one_store
    @given(steps=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 1)), max_size=40))
    async def test_every_item_has_at_most_one_outcome_and_none_is_lost(self, store: Store, steps: list[tuple[str, int]]) -> None:
        replay_id = f"example {next(examples)}"
        letters = [letter(number, id=f"{replay_id} {number}") for number in range(5)]
        await ask(store, replay(id=replay_id), letters)
        history = _History(store, replay_id)
        for act, worker in steps:
            await history.act(act, worker)
        left = await history.left()
        assert left | set(history.ended) == {1, 2, 3, 4, 5}
        assert not left & set(history.ended)
        for seq, message in history.ended.items():
            found = await store.get_dead(letters[seq - 1].id)
            assert found is not None
            assert found.message == message
        row = await store.get_replay(replay_id)
        assert row is not None
        assert row.dead == len(history.ended)
        await store.cancel_replay(replay_id, "ann", NOON)  # it would be the oldest one of the next example


class _History:
    """Two workers at one replay, and what its items have come to. Whoever says so first is right."""

    def __init__(self, store: Store, replay_id: str) -> None:
        self._store, self._id = store, replay_id
        self._now = datetime(2025, 1, 1, tzinfo=UTC)
        self._seen: list[list[Item]] = [[], []]  # per worker, what it has been given and not reported
        self.ended: dict[int, str] = {}  # the message of the letter that ended it
        self._messages = count()

    async def act(self, act: str, worker: int) -> None:
        name, until = f"w{worker}", self._now + CLAIM
        match act:
            case "take":
                await self._store.take_replay(name, self._now, until)
            case "look":
                after = max((item.seq for item in self._seen[worker]), default=0)
                items = await self._store.next_items(self._id, name, after, 2, until)
                assert not {item.seq for item in items or ()} & set(self.ended)
                self._seen[worker] += items or ()
            case "end" if self._seen[worker]:
                item = self._seen[worker].pop(0)
                message = str(next(self._messages))
                await self._store.end_items(self._id, [ended(item, "dead", message=message)], self._now)
                self.ended.setdefault(item.seq, message)
            case "give back":
                await self._store.end_replay(self._id, name, "pending", "")
            case "cancel" if len(self.ended) == 4:  # else most histories would end before they begin
                await self._store.cancel_replay(self._id, "ann", self._now)
            case "wait":
                self._now += CLAIM

    async def left(self) -> set[int]:
        """The items without an outcome, by asking as a third worker; of a cancelled replay by its counts alone."""
        taken = await self._store.take_replay("w3", FAR_OFF, FAR_OFF)
        if taken is None:
            return {1, 2, 3, 4, 5} - set(self.ended)
        items = await self._store.next_items(self._id, "w3", 0, 99, FAR_OFF)
        assert items is not None
        return {item.seq for item in items}
