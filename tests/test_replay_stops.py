"""How a replay ends before its list does: letters that die again, a cancellation, a stop, another worker that goes on with it,
a store that is away."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from investbus.errors import StoreError
from investbus.mailbox import EVERYTHING, Item, ItemEnd, Pause
from investbus.replayer import CLAIM
from investbus.testing.bus import Bus
from tests.test_replays import NOON, Bank, ask, died, event, replay, states


async def test_a_handler_that_is_still_broken_costs_one_run(bus: Bus) -> None:
    bank = Bank(bus)
    await died(bus, *(event(str(number)) for number in range(50)))
    bank.ran = []
    await ask(bus, stop_after=10)
    await bus.advance(10.0)
    ended = await replay(bus)
    assert bank.ran == ["0"]
    assert (ended.state, ended.dead, ended.done, ended.reason) == ("stopped", 1, 0, "the first letter died again")
    assert set(states(bus).values()) == {"open"}


async def test_it_stops_after_so_many_that_die_again(bus: Bus) -> None:
    bank = Bank(bus)
    await died(bus, *(event(str(number)) for number in range(50)))
    bank.broken, bank.bad, bank.ran = False, {str(number) for number in range(5, 50)}, []
    await ask(bus, rate=5.0)
    await bus.advance(60.0)
    ended = await replay(bus)
    assert (ended.state, ended.done) == ("stopped", 5)
    assert ended.dead in (3, 4), "one more may be under way when the third is stored"
    assert len(bank.ran) == 5 + ended.dead


async def test_a_cancelled_replay_ends_within_one_letter(bus: Bus) -> None:
    bank = Bank(bus, seconds=1.0)
    await died(bus, *(event(str(number)) for number in range(4)))
    bank.broken, bank.ran = False, []
    await ask(bus, rate=1.0)
    while not bank.ran:
        await bus.advance(0.1)
    assert await bus._store.cancel_replay("r1", "ann", NOON)
    ran = len(bank.ran)
    await bus.advance(60.0)
    assert len(bank.ran) <= ran + 1
    ended = await replay(bus)
    assert (ended.state, ended.done) == ("cancelled", len(bank.ran))


async def test_a_paused_worker_begins_no_replay(bus: Bus) -> None:
    bank = Bank(bus)
    await died(bus, event("1"))
    bank.broken, bank.ran = False, []
    await bus._store.pause(Pause(EVERYTHING, "operator", "", "ann", NOON))
    await bus.advance(3.0)
    await ask(bus)
    await bus.advance(10.0)
    assert (bank.ran, (await replay(bus)).state) == ([], "pending")
    await bus._store.resume(EVERYTHING, "ann", "", NOON)
    await bus.advance(10.0)
    assert (await replay(bus)).state == "done"


async def test_a_replay_stays_with_one_worker_while_letters_end_one_after_the_other(bus: Bus) -> None:
    bank, other = Bank(bus), Bus()
    await died(bus, *(event(str(number), key="P1") for number in range(60)))
    other._store = bus._store
    beside = Bank(other, seconds=0.8)
    await other._started()
    for one in (bank, beside):
        one.seconds, one.broken, one.ran = 0.8, False, []
    await ask(bus)
    await bus.advance(120.0)
    await other.stop()
    assert sorted((len(bank.ran), len(beside.ran))) == [0, 60], "a claim that runs out makes letters run twice"


async def test_a_slow_replay_keeps_its_claim_between_two_letters(bus: Bus) -> None:
    bank = Bank(bus)
    await died(bus, *(event(str(number)) for number in range(3)))
    bank.broken = False
    await ask(bus, rate=0.02)
    for _ in range(60):
        await bus.advance(1.0)
        until = bus._store.replays["r1"].until
        assert until is None or until.timestamp() > bus._wall()


async def test_a_replay_is_cancelled_also_while_letters_of_one_key_end_all_the_time(bus: Bus) -> None:
    bank = Bank(bus)
    await died(bus, *(event(str(number), key="P1") for number in range(60)))
    bank.seconds, bank.broken, bank.ran = 0.8, False, []
    await ask(bus)
    await bus.advance(15.0)
    await bus._store.cancel_replay("r1", "ann", NOON)
    ran = len(bank.ran)
    await bus.advance(60.0)
    assert len(bank.ran) <= ran + 3


async def test_a_stop_gives_a_replay_back_when_nothing_of_it_runs_any_more(bus: Bus) -> None:
    bank = Bank(bus)
    parts = await died(bus, event("1"), event("2"))
    bank.seconds, bank.broken, bank.ran = 8.0, False, []
    await ask(bus)
    await bus.advance(3.0)
    parts.worker.stop()
    while not bank.ran:
        assert (await replay(bus)).state == "running", "else another worker takes what still runs here"
        await bus.advance(0.2)
    await bus.advance(5.0)
    ended = await replay(bus)
    assert (ended.state, ended.done) == ("pending", 1)


async def test_the_first_letter_that_really_runs_goes_alone(bus: Bus) -> None:
    bank = Bank(bus, dispatch={"unrouted": "dead"})
    await died(bus, b"{", event("x", "no.such"), *(event(str(number)) for number in range(50)))
    bank.ran, bank.seconds = [], 10.0
    await ask(bus, stop_after=10)
    await bus.advance(120.0)
    ended = await replay(bus)
    assert bank.ran == ["0"], "what cannot run says nothing of the others"
    assert (ended.state, ended.skipped, ended.dead) == ("stopped", 2, 1)


async def test_a_single_letter_that_dies_again_has_stopped_its_replay(bus: Bus) -> None:
    Bank(bus)
    await died(bus, event("1"))
    await ask(bus)
    await bus.advance(5.0)
    ended = await replay(bus)
    assert (ended.state, ended.reason) == ("stopped", "the first letter died again")


async def test_what_waits_in_its_lane_when_a_replay_stops_is_not_run_again(bus: Bus) -> None:
    bank = Bank(bus, retry={"attempts": 2, "first": 100.0})
    await died(bus, *(event(str(number)) for number in range(100)))
    bank.broken, bank.ran, bank.bad = False, [], {"10", "11", "12"}
    bank.slow = {str(number) for number in range(1, 100)} - bank.bad
    await ask(bus, rate=1000.0)
    await bus.advance(20.0)
    ended = await replay(bus)
    assert (ended.state, ended.done, ended.dead) == ("stopped", 1, 3)
    await bus.advance(500.0)
    assert len(bank.ran) > 10
    assert len(set(bank.ran)) == len(bank.ran)
    assert (await replay(bus)).dead == 3
    assert set(states(bus).values()) == {"open", "replayed"}


async def test_a_replay_that_another_worker_goes_on_with_knows_how_many_have_died(bus: Bus) -> None:
    bank = Bank(bus)
    await died(bus, *(event(str(number)) for number in range(50)))
    bank.broken, bank.ran, bank.bad = False, [], {str(number) for number in range(2, 50)}
    await ask(bus, stop_after=3)
    bus._store.replays["r1"].row = msgspec.structs.replace(bus._store.replays["r1"].row, done=1, dead=2)
    await bus.advance(30.0)
    ended = await replay(bus)
    assert ended.state == "stopped"
    assert ended.dead == 3, "two elsewhere, and one here"


async def test_after_an_outage_of_the_store_a_claim_is_as_long_as_ever(bus: Bus) -> None:
    bank = Bank(bus)
    await died(bus, *(event(str(number)) for number in range(20)))
    bank.broken, bank.ran = False, []
    real, away, claims = bus._store.next_items, [True], list[float]()

    async def asked(replay_id: str, worker: str, after: int, limit: int, until: datetime) -> list[Item] | None:
        if bank.ran and away:
            raise StoreError("the store is away")
        claims.append(until.timestamp() - bus._wall())
        return await real(replay_id, worker, after, limit, until)

    bus._store.next_items = asked  # type: ignore[method-assign]
    await ask(bus, rate=1.0)
    await bus.advance(60.0)
    away.clear()
    await bus.advance(60.0)
    assert (await replay(bus)).done == 20
    assert min(claims) == CLAIM, "else another worker takes it while letters run here"


async def test_an_outcome_that_the_store_refuses_does_not_hold_up_the_others(bus: Bus) -> None:
    bank = Bank(bus, seconds=0.1)
    parts = await died(bus, *(event(str(number)) for number in range(30)))
    bank.broken, bank.ran = False, []
    real, refused = bus._store.end_items, [True]

    async def some(replay_id: str, ends: Sequence[ItemEnd], at: datetime) -> None:
        if refused and any(end.letter.event_id == "7" for end in ends):
            raise StoreError("this one not")
        await real(replay_id, ends, at)

    bus._store.end_items = some  # type: ignore[method-assign]
    await ask(bus)
    await bus.advance(30.0)
    found = await replay(bus)
    assert (found.state, found.done) == ("running", 29)
    assert parts.console.store_reason == "this one not"
    refused.clear()
    await bus.advance(5.0)
    found = await replay(bus)
    assert (found.state, found.done, parts.console.store_reason) == ("done", 30, "")
    assert sorted(bank.ran, key=int) == [str(number) for number in range(30)], "each ran once"
