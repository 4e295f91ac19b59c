"""What every store that outlives its process must forget, and what never."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec

from investbus.mailbox import EVERYTHING, Pause
from investbus.store import STATES, DeadLetter, Filter, Store, identity_of
from tests.stores.letters import NOON, done, letter
from tests.stores.opened import FAR_OFF, LONG_AGO, Opened
from tests.stores.replay_cases import ask, ended, replay


async def exported(store: Store) -> list[DeadLetter]:
    return [one async for one in store.export_dead(Filter())]


class ForgetCases(Opened):
    async def test_what_still_needs_somebody_is_never_forgotten(self, store: Store) -> None:
        await store.put_dead([letter(number, state=state) for number, state in enumerate(STATES)], [])
        assert await store.forget(LONG_AGO, FAR_OFF) == 3
        assert {one.state for one in await exported(store)} == {"open", "parked"}

    async def test_closed_letters_are_forgotten_when_they_are_older(self, store: Store) -> None:
        await store.put_dead([letter(number, state="replayed") for number in range(1200)], [])
        assert await store.forget(LONG_AGO, NOON + timedelta(seconds=1100)) == 1100
        assert await exported(store) == [letter(number, state="replayed") for number in range(1100, 1200)]

    async def test_a_letter_is_kept_from_when_it_was_closed_and_not_from_when_it_died(self, store: Store) -> None:
        by_hand, again, obsolete = letter(1), letter(2), letter(3, entity="P1")
        await ask(store, replay(), [again, by_hand, obsolete])
        items = await store.next_items("replay1", "w1", 0, 1, FAR_OFF) if await store.take_replay("w1", NOON, FAR_OFF) else None
        assert items
        await store.end_items("replay1", [ended(items[0], "done")], NOON)
        await store.discard([by_hand.id], "", "ann", "booked by hand", datetime.now(UTC))
        later = identity_of(obsolete.source, obsolete.name, "2999-01-01T00:00:00Z", "9")
        later_done = msgspec.structs.replace(done(), identity=later, supersedes="P1")
        await store.put_done([later_done])
        await store.cancel_replay("replay1", "ann", NOON)
        assert await store.forget(LONG_AGO, datetime.now(UTC) - timedelta(hours=1)) == 0
        assert sorted(one.state for one in await exported(store)) == ["discarded", "replayed", "superseded"]
        assert await store.forget(LONG_AGO, datetime.now(UTC) + timedelta(hours=1)) == 3

    async def test_done_records_are_forgotten_when_they_are_older(self, store: Store) -> None:
        old = [done(number) for number in range(9000) if number % 3]
        new = [done(number) for number in range(0, 9000, 3)]
        await store.put_done(old)
        await asyncio.sleep(0.01)
        between = datetime.now(UTC)
        await asyncio.sleep(0.01)
        await store.put_done(new)
        assert await store.forget(LONG_AGO, LONG_AGO) == 0
        assert await store.forget(between, LONG_AGO) == len(old)
        assert set(await store.find_done([one.identity for one in old + new])) == {one.identity for one in new}
        assert await store.forget(between, LONG_AGO) == 0

    async def test_letters_of_an_active_replay_are_not_forgotten(self, store: Store) -> None:
        await ask(store, replay(1), [letter(1, state="replayed"), letter(2, state="parked")])
        await ask(store, replay(2), [letter(3, state="discarded")])
        await store.cancel_replay("replay2", "ann", NOON)
        assert await store.forget(LONG_AGO, FAR_OFF) == 1
        assert [one.id for one in await exported(store)] == [letter(1).id, letter(2).id]
        assert await store.list_replays(9) == [replay(1, planned=2)]

    async def test_ended_replays_and_audits_are_forgotten_when_they_are_older(self, store: Store) -> None:
        for number in range(3):
            await ask(store, replay(number), [letter(number)])
            await store.cancel_replay(f"replay{number}", "ann", NOON + timedelta(seconds=number))
        await store.pause(Pause(EVERYTHING, "operator", "", "ann", NOON))
        assert await store.forget(LONG_AGO, NOON + timedelta(seconds=2)) == 0
        assert [one.id for one in await store.list_replays(9)] == ["replay2"]
        assert [audit.at for audit in await store.audits(9)] == [NOON + timedelta(seconds=2)] * 2
        assert len(await store.pauses()) == 1

    async def test_a_long_list_is_forgotten_in_slices(self, store: Store) -> None:
        await store.ask_replay(replay(1), [letter(number).id for number in range(5000)])
        await store.ask_replay(replay(2), [letter(number).id for number in range(5000, 5003)])
        await store.cancel_replay("replay1", "ann", NOON)
        assert await store.forget(LONG_AGO, FAR_OFF) == 0
        assert [one.id for one in await store.list_replays(9)] == ["replay2"]
        await store.ask_replay(replay(1), [letter(5001).id])
        found = await store.get_replay("replay1")
        assert found is not None
        assert (found.planned, found.skipped) == (1, 1), "the other list is all there"

    async def test_starts_that_never_ended_are_forgotten_with_the_done_records(self, store: Store) -> None:
        await store.begin(["a"])
        assert await store.forget(LONG_AGO, FAR_OFF) == 0
        assert await store.begun(["a"]) == {"a": 1}
        await store.forget(FAR_OFF, LONG_AGO)
        assert await store.begun(["a"]) == {}
