"""What every store must do for replays: a frozen list, one worker at a time, one outcome for each item."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from investbus.mailbox import Audit, Item, ItemEnd, ItemOutcome, Reason, Replay, ReplayState
from investbus.store import DeadLetter, Done, Store
from tests.stores.letters import NOON, done, identity, letter
from tests.stores.opened import FAR_OFF, Fresh, Opened

SECOND = timedelta(seconds=1)
CLAIM = 10 * SECOND


def replay(number: int = 1, **changes: Any) -> Replay:
    made = Replay(f"replay{number}", "the core is up", "ann", NOON + number * SECOND, "route=pay", 5.0, 3, again=False)
    return msgspec.structs.replace(made, **changes)


def ended(item: Item, outcome: ItemOutcome = "skipped", record: Done | None = None, **changes: Any) -> ItemEnd:
    return ItemEnd(item.seq, msgspec.structs.replace(item.letter, **changes), outcome, "because", record)


async def ask(store: Store, asked: Replay, letters: Sequence[DeadLetter]) -> None:
    """Store the letters, and ask for them in this order."""
    await store.put_dead(letters, [])
    await store.ask_replay(asked, [one.id for one in letters])


async def items_of(store: Store, worker: str = "w1", replay_id: str = "replay1", after: int = 0, limit: int = 99) -> list[Item]:
    """What is left of a replay that this worker takes, or has taken."""
    taken = await store.take_replay(worker, NOON, NOON + CLAIM)
    assert taken is not None
    assert taken.id == replay_id
    items = await store.next_items(replay_id, worker, after, limit, NOON + CLAIM)
    assert items is not None
    return items


class ReplayCases(Opened):
    # ---- the list

    async def test_a_replay_is_there_as_it_was_asked_for_and_in_its_order(self, store: Store) -> None:
        letters = [letter(number) for number in (3, 1, 2)]
        await ask(store, replay(), [*letters, letter(1)])
        asked = replay(planned=3)
        assert await store.get_replay("replay1") == asked
        assert await store.list_replays(9) == [asked]
        assert await store.audits(9) == [Audit(asked.at, "ann", "replay", asked.note, asked.wanted, 3)]
        assert await items_of(store) == [Item(seq, one) for seq, one in enumerate(letters, start=1)]

    async def test_replays_are_listed_newest_first_and_no_more_than_asked(self, store: Store) -> None:
        asked = [replay(1), replay(3), replay(2, rate=0.5, again=True)]
        for one in asked:
            await store.ask_replay(one, [])
        assert await store.list_replays(2) == [asked[1], asked[2]]
        assert await store.get_replay("replay9") is None

    async def test_a_letter_that_stands_in_an_active_replay_is_skipped_in_the_next(self, store: Store) -> None:
        await ask(store, replay(1), [letter(1), letter(2)])
        (first, _) = await items_of(store)
        await store.end_items("replay1", [ended(first)], NOON)
        await store.ask_replay(replay(2), [letter(number).id for number in (1, 2, 3)])
        await store.put_dead([letter(3)], [])
        found = await store.get_replay("replay2")
        assert found is not None
        assert (found.planned, found.skipped) == (3, 1)
        await store.end_replay("replay1", "w1", "done", "")
        assert [item.letter.id for item in await items_of(store, replay_id="replay2")] == [letter(1).id, letter(3).id]

    async def test_a_replay_that_is_asked_for_again_stays_as_it_is(self, store: Store) -> None:
        await ask(store, replay(1), [letter(1)])
        await store.ask_replay(replay(1, note="another"), [letter(1).id, letter(2).id])
        assert await store.list_replays(9) == [replay(1, planned=1)]
        assert len(await store.audits(9)) == 1

    async def test_a_worker_takes_another_replay_besides_those_that_it_is_about(self, store: Store) -> None:
        await ask(store, replay(1), [letter(1)])
        await ask(store, replay(2), [letter(2)])
        for besides, taken in (([], "replay1"), (["replay1"], "replay2"), (["replay2"], "replay1"), (["replay1", "replay2"], None)):
            found = await store.take_replay("w1", NOON, NOON + CLAIM, besides)
            assert (None if found is None else found.id) == taken

    async def test_a_list_of_ten_thousand_is_stored_and_read_in_pages(self, store: Store) -> None:
        await store.put_dead([letter(number) for number in range(300)], [])
        await asyncio.wait_for(store.ask_replay(replay(), [letter(number).id for number in range(10_000)]), 5.0)
        seen = await items_of(store, limit=200)
        seen += await items_of(store, after=seen[-1].seq, limit=200)
        assert [item.letter.id for item in seen] == [letter(number).id for number in range(300)]

    async def test_a_letter_that_is_gone_is_skipped_and_the_page_is_full_all_the_same(self, store: Store) -> None:
        await store.put_dead([letter(2), letter(4), letter(8)], [])
        await store.ask_replay(replay(), [letter(number).id for number in range(10)])
        assert [item.seq for item in await items_of(store, limit=2)] == [3, 5]
        assert [item.seq for item in await items_of(store, after=5, limit=2)] == [9]
        assert await items_of(store, after=9, limit=2) == []
        assert await store.get_replay("replay1") == replay(planned=10, skipped=7, state="running")

    # ---- who holds it

    async def test_one_worker_at_a_time_holds_a_replay(self, store: Store) -> None:
        await ask(store, replay(), [letter(1)])
        assert await store.take_replay("w1", NOON, NOON + CLAIM) == replay(planned=1, state="running")
        assert await store.take_replay("w2", NOON + CLAIM - SECOND, NOON + 2 * CLAIM) is None
        assert await store.next_items("replay1", "w2", 0, 9, NOON + CLAIM) is None
        assert await store.take_replay("w1", NOON, NOON + CLAIM) == replay(planned=1, state="running")

    async def test_a_claim_that_is_not_renewed_ends(self, store: Store) -> None:
        await ask(store, replay(), [letter(1), letter(2)])
        await items_of(store, "w1")
        assert await store.take_replay("w2", NOON + CLAIM, NOON + 2 * CLAIM) == replay(planned=2, state="running")
        assert await store.next_items("replay1", "w1", 0, 9, NOON + 3 * CLAIM) is None
        assert await store.take_replay("w1", NOON + CLAIM, NOON + 3 * CLAIM) is None

    async def test_looking_for_items_renews_the_claim(self, store: Store) -> None:
        await ask(store, replay(), [letter(1)])
        await items_of(store, "w1")
        assert await store.next_items("replay1", "w1", 1, 9, NOON + 2 * CLAIM) == []
        assert await store.take_replay("w2", NOON + CLAIM, NOON + 3 * CLAIM) is None

    async def test_the_oldest_that_is_free_is_taken(self, store: Store) -> None:
        for number in (3, 1, 2):
            await store.ask_replay(replay(number), [])
        for worker in (1, 2, 3):
            taken = await store.take_replay(f"w{worker}", NOON, NOON + CLAIM)
            assert taken is not None
            assert taken.id == f"replay{worker}"
        assert await store.take_replay("w4", NOON, NOON + CLAIM) is None

    async def test_of_many_that_ask_at_once_one_gets_it(self, store: Store, fresh: Fresh) -> None:
        other = fresh()
        await other.open()
        for number in range(20):
            await store.ask_replay(replay(number), [])
            asks = [one.take_replay(f"{at} of {number}", NOON, FAR_OFF) for at, one in enumerate((store, other) * 3)]
            assert sum(taken is not None for taken in await asyncio.gather(*asks)) == 1
        await other.close()

    @pytest.mark.parametrize("state", ["done", "stopped"])
    async def test_what_has_ended_is_not_taken_again(self, store: Store, state: ReplayState) -> None:
        await ask(store, replay(), [letter(1)])
        await items_of(store)
        await store.end_replay("replay1", "w2", state, "not mine")
        assert (await store.list_replays(1))[0].state == "running"
        await store.end_replay("replay1", "w1", state, "three died")
        assert await store.get_replay("replay1") == replay(planned=1, state=state, reason="three died")
        assert await store.take_replay("w1", FAR_OFF, FAR_OFF) is None
        assert await store.next_items("replay1", "w1", 0, 9, FAR_OFF) is None
        assert not await store.cancel_replay("replay1", "bob", NOON)

    async def test_a_replay_that_is_given_back_goes_to_the_next_worker(self, store: Store) -> None:
        await ask(store, replay(), [letter(1)])
        await items_of(store, "w1")
        await store.end_replay("replay1", "w1", "pending", "")
        assert await store.get_replay("replay1") == replay(planned=1)
        assert [item.letter for item in await items_of(store, "w2")] == [letter(1)]

    async def test_a_cancelled_replay_stops_and_still_learns_what_ran(self, store: Store) -> None:
        await ask(store, replay(), [letter(1), letter(2), letter(3)])
        first, second, _ = await items_of(store)
        await store.end_items("replay1", [ended(first, "done")], NOON)
        assert await store.cancel_replay("replay1", "bob", NOON + 9 * SECOND)
        assert await store.next_items("replay1", "w1", 0, 9, FAR_OFF) is None
        await store.end_items("replay1", [ended(second, "done")], NOON)
        await store.end_replay("replay1", "w1", "done", "")
        assert await store.get_replay("replay1") == replay(planned=3, done=2, state="cancelled")
        assert await store.audits(1) == [Audit(NOON + 9 * SECOND, "bob", "cancel", "", "replay1", 2)]
        assert not await store.cancel_replay("replay1", "bob", NOON)
        assert not await store.cancel_replay("replay9", "bob", NOON)

    # ---- what items come to

    async def test_a_letter_that_was_done_is_replayed_and_recorded(self, store: Store) -> None:
        await ask(store, replay(), [letter(1, entity="P1"), letter(2, entity="P1")])
        first, _ = await items_of(store)
        record = msgspec.structs.replace(done(1), identity=identity(1, route=letter().route), supersedes="P1")
        await store.end_items("replay1", [ended(first, "done", record)], NOON)
        assert await store.get_dead(letter(1).id) == letter(1, entity="P1", state="replayed")
        assert await store.get_dead(letter(2).id) == letter(2, entity="P1", state="superseded")
        assert await store.find_done([record.identity]) == {record.identity: b"h" * 16}
        assert await store.get_replay("replay1") == replay(planned=2, done=1, state="running")

    async def test_a_letter_that_dies_again_is_renewed_but_for_when_it_first_died(self, store: Store) -> None:
        await ask(store, replay(), [letter(1, state="parked"), letter(2, state="replayed")])
        again: dict[str, Any] = {"state": "open", "message": "now", "attempts": 9, "first_at": FAR_OFF, "last_at": FAR_OFF}
        items = await items_of(store)
        await store.end_items("replay1", [ended(item, "dead", **again) for item in items], NOON)
        for item in items:
            kept = {"first_at": item.letter.first_at}
            assert await store.get_dead(item.letter.id) == msgspec.structs.replace(item.letter, **(again | kept))
        assert await store.get_replay("replay1") == replay(planned=2, dead=2, state="running")

    async def test_a_letter_that_is_skipped_stays_as_it_is(self, store: Store) -> None:
        await ask(store, replay(), [letter(1)])
        (item,) = await items_of(store)
        await store.end_items("replay1", [ended(item, state="discarded", message="another")], NOON)
        assert await store.get_dead(letter(1).id) == letter(1)
        assert await store.get_replay("replay1") == replay(planned=1, skipped=1, state="running")
        assert await items_of(store) == []

    async def test_the_first_outcome_stands(self, store: Store) -> None:
        await ask(store, replay(), [letter(1), letter(2)])
        first, second = await items_of(store)
        await store.end_items("replay1", [ended(first, "done"), ended(first, "dead", message="late")], NOON)
        await store.end_items("replay1", [ended(first, "dead", done(7), message="late"), ended(second, "dead")], NOON)
        assert await store.get_dead(letter(1).id) == letter(1, state="replayed")
        assert await store.find_done([identity(7)]) == {}
        assert await store.get_replay("replay1") == replay(planned=2, done=1, dead=1, state="running")

    async def test_a_key_is_not_unblocked_while_its_oldest_letter_is_on_its_way(self, store: Store) -> None:
        parked = [letter(number, key="P", state="parked") for number in range(3)]
        await store.put_dead([*parked, letter(9, key="Q")], [])
        await store.ask_replay(replay(), [letter(0).id, letter(9).id])
        assert await store.unblocked([letter().route], 9) == []
        item, _ = await items_of(store)
        await store.end_items("replay1", [ended(item, "done")], NOON)
        behind = [one.id for one in parked[1:]]
        assert await store.unblocked([letter().route], 9) == behind, "the rest of the list is not waited for"

    async def test_a_letter_that_is_skipped_may_change_its_state(self, store: Store) -> None:
        await ask(store, replay(), [letter(1), letter(2, state="parked"), letter(3)])
        first, second, third = await items_of(store)
        await store.discard([letter(3).id], "", "ann", "by hand", NOON)
        await store.end_items("replay1", [ItemEnd(third.seq, third.letter, "skipped", becomes="replayed")], NOON)
        assert await store.get_dead(letter(3).id) == letter(3, state="discarded"), "what somebody has closed stays closed"
        done_after_all = ItemEnd(first.seq, first.letter, "skipped", becomes="replayed")
        await store.end_items("replay1", [done_after_all, ItemEnd(second.seq, second.letter, "skipped", becomes="open")], NOON)
        assert await store.get_dead(letter(1).id) == letter(1, state="replayed")
        assert await store.get_dead(letter(2).id) == letter(2)
        assert await store.get_replay("replay1") == replay(planned=3, skipped=3, state="running")

    async def test_why_items_are_not_done_is_counted_most_frequent_first(self, store: Store) -> None:
        await ask(store, replay(), [letter(number) for number in range(6)])
        items = await items_of(store)
        why: list[tuple[ItemOutcome, str]] = [
            ("done", ""), ("skipped", "no handler now"), ("dead", "Reject"), ("dead", "Reject"), ("skipped", "already done")
        ]  # fmt: skip
        ends = [ItemEnd(item.seq, item.letter, *end) for item, end in zip(items, why, strict=False)]
        await store.end_items("replay1", ends, NOON)
        assert await store.reasons("replay1") == [
            Reason("dead", "Reject", 2, letter(2).id),
            Reason("skipped", "already done", 1, letter(4).id),
            Reason("skipped", "no handler now", 1, letter(1).id),
        ]
        assert await store.reasons("replay9") == []
