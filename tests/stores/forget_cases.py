"""What every store that outlives its process must forget, and what never."""

import asyncio
from datetime import UTC, datetime, timedelta

from investbus.mailbox import EVERYTHING, Pause
from investbus.store import STATES, DeadLetter, Filter, Store
from tests.stores.letters import NOON, done, letter
from tests.stores.opened import FAR_OFF, LONG_AGO, Opened
from tests.stores.replay_cases import ask, replay


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

    async def test_starts_that_never_ended_are_forgotten_with_the_done_records(self, store: Store) -> None:
        await store.begin(["a"])
        assert await store.forget(LONG_AGO, FAR_OFF) == 0
        assert await store.begun(["a"]) == {"a": 1}
        await store.forget(FAR_OFF, LONG_AGO)
        assert await store.begun(["a"]) == {}
