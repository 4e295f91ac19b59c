"""Routes that park: behind a dead letter later events of the key wait in the store, and come back in order once that is dealt with.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from investbus import Context, Event, Reject, Router
from investbus.assembly import Assembled
from investbus.mailbox import Replay
from investbus.store import Filter
from investbus.testing.bus import Bus
from investbus.transport import Message
from tests.test_replays import ask, replay, states
from tests.whole import check_law, envelope

LATER = datetime(2026, 11, 21, 13, tzinfo=UTC)


class Bank:
    """`a.b` and `a.c` park, `a.d` does not; events whose id is in `bad` are rejected."""

    def __init__(self, bus: Bus, **settings: Any) -> None:
        self.bad: set[str] = set()
        self.ran: list[str] = []
        router = Router()
        router.on("a.b", needs=(), after_dead="park")(self._handler)
        router.on("a.c", needs=(), after_dead="park")(self._handler)
        router.on("a.d", needs=())(self._handler)
        bus.use(router, settings=settings)

    async def _handler(self, event: Event[dict[str, Any]], ctx: Context) -> None:
        self.ran.append(event.id)
        if event.id in self.bad:
            raise Reject("broken")


def event(event_id: str, name: str = "a.b", key: str = "P1") -> bytes:
    return envelope(name, event_id, data={"id": key})


async def put(bus: Bus, *bodies: bytes) -> Assembled:
    parts = await bus._started()
    assert bus._transport is not None
    await bus._transport.publish([Message(body) for body in bodies])
    await bus.advance(5.0)
    return parts


async def test_later_events_of_the_key_are_parked_and_come_back_in_order_after_a_replay(bus: Bus) -> None:
    bank = Bank(bus)
    bank.bad = {"1"}
    parts = await put(bus, event("1"), event("2"), event("3", "a.c"), event("4", "a.d"), event("5", key="P2"), event("6"))
    assert sorted(bank.ran) == ["1", "4", "5"], "neither another key nor a route that does not park is held back"
    assert states(bus) == {"1": "open", "2": "parked", "3": "parked", "6": "parked"}
    parked = [letter for letter in bus.dead_letters if letter.state == "parked"]
    assert {(letter.reason, letter.error, letter.attempts) for letter in parked} == {("rejected", "Parked", 0)}
    assert parts.worker.metrics.routes["a.b"].outcomes["dead"] == 3
    bank.bad, bank.ran = set(), []
    await ask(bus)
    await bus.advance(10.0)
    assert bank.ran == ["1", "2", "3", "6"]
    assert set(states(bus).values()) == {"replayed"}
    await put(bus, event("7"))
    assert bank.ran[-1] == "7", "the key is free again"
    check_law(parts)


async def test_a_parked_event_that_dies_itself_keeps_those_behind_it_parked(bus: Bus) -> None:
    bank = Bank(bus)
    bank.bad = {"1", "2"}
    await put(bus, event("1"), event("2"), event("3"))
    bank.bad, bank.ran = {"2"}, []
    await ask(bus)
    await bus.advance(20.0)
    assert bank.ran == ["1", "2"]
    assert states(bus) == {"1": "replayed", "2": "open", "3": "parked"}
    bank.bad = set()
    await ask(bus, "r2")
    await bus.advance(20.0)
    assert bank.ran == ["1", "2", "2", "3"]


async def test_a_discarded_letter_sets_those_behind_it_free(bus: Bus) -> None:
    bank = Bank(bus)
    bank.bad = {"1"}
    await put(bus, event("1"), event("2"))
    ids = await bus._store.select_dead(Filter(event_id="1"))
    await bus._store.discard(ids, "1", "ann", "booked by hand", LATER)
    await bus.advance(10.0)
    assert bank.ran == ["1", "2"]
    assert states(bus) == {"1": "discarded", "2": "replayed"}


async def test_a_younger_letter_that_died_by_itself_does_not_hold_up_what_was_parked_before_it(bus: Bus) -> None:
    bank = Bank(bus)
    bank.bad = {"1"}
    await put(bus, event("1"), event("2"))
    younger = msgspec.structs.replace(bus.dead_letters[0], id="younger", event_id="3", first_at=LATER, last_at=LATER)
    await bus._store.put_dead([younger], [])
    bank.bad, bank.ran = set(), []
    await ask(bus, wanted=Filter(event_id="1"))
    await bus.advance(10.0)
    assert bank.ran == ["1", "2"]
    assert states(bus) == {"1": "replayed", "2": "replayed", "3": "open"}


async def test_a_parked_letter_does_not_overtake_when_it_is_asked_for_by_itself(bus: Bus) -> None:
    bank = Bank(bus)
    bank.bad = {"1"}
    await put(bus, event("1"), event("2"))
    bank.ran = []
    await ask(bus, wanted=Filter(event_id="2"))
    await bus.advance(10.0)
    assert bank.ran == []
    assert states(bus) == {"1": "open", "2": "parked"}


async def test_a_live_event_that_comes_while_parked_ones_run_stays_behind_them(bus: Bus) -> None:
    bank = Bank(bus)
    bank.bad = {"1"}
    await put(bus, *(event(str(number)) for number in range(1, 30)))
    bank.bad, bank.ran = set(), []
    await ask(bus)
    for number in range(100, 120):
        assert bus._transport is not None
        await bus._transport.publish([Message(event(str(number)))])
        await bus.advance(0.3)
    await bus.advance(30.0)
    assert bank.ran == [*(str(number) for number in range(1, 30)), *(str(number) for number in range(100, 120))]
    assert set(states(bus).values()) == {"replayed"}


async def test_an_obsolete_dead_letter_is_superseded_and_left_out_of_a_replay(bus: Bus) -> None:
    bad, ran, router = {"1", "3"}, [], Router()

    @router.on("optimizations.status-update", needs=(), supersede=True)
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        ran.append(event.id)
        if event.id in bad:
            raise Reject("broken")

    bus.use(router)

    def update(event_id: str, entity: str) -> bytes:
        return envelope("optimizations.status-update", event_id, data={"id": entity, "portfolio_id": "P1"})

    await put(bus, update("1", "O1"), update("2", "O2"), update("3", "O3"))
    assert states(bus) == {"1": "open", "3": "open"}, "same portfolio, other optimization"
    await put(bus, update("4", "O1"))
    assert states(bus) == {"1": "superseded", "3": "open"}
    bad.clear()
    await ask(bus)
    await bus.advance(10.0)
    assert ran == ["1", "2", "3", "4", "3"]


async def test_a_hundred_parked_events_of_a_key_come_back_in_one_replay(bus: Bus) -> None:
    bank = Bank(bus)
    bank.bad = {"0"}
    await put(bus, *(event(str(number)) for number in range(100)))
    bank.bad, bank.ran = set(), []
    await ask(bus)
    await bus.advance(30.0)
    assert bank.ran == [str(number) for number in range(100)]
    assert [(one.row.done, one.row.skipped) for one in bus._store.replays.values()] == [(1, 0), (99, 0)]


async def test_parked_events_that_collapse_come_back_as_a_group(bus: Bus) -> None:
    bad, router = {"0"}, Router()

    @router.on("a.b", collapse=True, after_dead="park", needs=())
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        await asyncio.sleep(3.0)
        if event.id in bad:
            raise Reject("broken")

    bus.use(router)
    for number in range(20):
        await put(bus, event(str(number)))
    bad.clear()
    await ask(bus)
    await bus.advance(60.0)
    assert set(states(bus).values()) == {"replayed"}
    assert [one.row.skipped for one in bus._store.replays.values()] == [0, 0]


async def test_parked_events_that_cannot_come_back_are_asked_for_once_a_minute(bus: Bus) -> None:
    """The key function has changed meanwhile, and under the new key a letter is open."""
    router, keys = Router(), ["of their own"]

    @router.on("a.b", needs=(), after_dead="park", key=lambda event: event.data["id"] if keys else "ALL")
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if event.id in ("1", "3"):
            raise Reject("broken")

    bus.use(router)
    await put(bus, event("1"), event("2"))
    keys.clear()
    await put(bus, event("3", key="P2"))
    await bus._store.discard(await bus._store.select_dead(Filter(event_id="1")), "1", "ann", "booked by hand", LATER)
    real, asked = bus._store.ask_replay, list[str]()

    async def noted(replay: Replay, letters: Sequence[str]) -> None:
        asked.append(replay.id)
        await real(replay, letters)

    bus._store.ask_replay = noted  # type: ignore[method-assign]
    await bus.advance(300.0)
    assert states(bus) == {"1": "discarded", "2": "parked", "3": "open"}
    assert len(set(asked)) == len(asked)
    assert 5 <= len(asked) <= 6


async def test_a_key_goes_on_after_a_cancellation_by_another_events_handler(bus: Bus) -> None:
    router, ran = Router(), []

    @router.on("a.b", needs=(), after_dead="park")
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        ran.append(event.id)
        task = asyncio.current_task()
        assert task is not None
        if event.id == "1":
            asyncio.get_running_loop().call_later(0.05, task.cancel)

    bus.use(router, settings={"dispatch": {"slots": 1}})
    real = bus._store.blocking

    async def slow(key: str, routes: Sequence[str]) -> str | None:
        await asyncio.sleep(0.2)
        return await real(key, routes)

    bus._store.blocking = slow  # type: ignore[method-assign]
    parts = await put(bus, event("1"), event("2"), event("3"))
    assert ran == ["1", "2", "3"]
    assert parts.worker.transport.counts.ok == 3
    check_law(parts)


async def test_what_is_parked_behind_a_letter_goes_on_when_that_is_done_and_not_when_its_whole_replay_is(bus: Bus) -> None:
    bank = Bank(bus)
    bank.bad = {"1", *(f"x{number}" for number in range(40))}
    await put(bus, event("1"), event("2"), *(event(f"x{number}", "a.d", f"X{number}") for number in range(40)))
    bank.bad, bank.ran = set(), []
    await ask(bus, rate=1.0)
    await bus.advance(5.0)
    assert states(bus)["2"] == "replayed"
    assert (await replay(bus)).state == "running"


async def test_a_route_that_parks_no_more_gives_back_what_it_has_parked_in_order(bus: Bus) -> None:
    before = Bank(before_bus := Bus())
    before.bad = {"1"}
    await put(before_bus, event("1"), event("2"), event("3"), event("4", key="P2"))
    await before_bus.stop()
    bus._store, ran, router = before_bus._store, list[str](), Router()

    @router.on("a.b", needs=())
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        ran.append(event.id)

    bus.use(router)
    await put(bus)
    await bus.advance(10.0)
    assert ran == ["2", "3"]
    assert states(bus) == {"1": "open", "2": "replayed", "3": "replayed"}


async def test_what_is_parked_on_a_route_that_has_gone_becomes_open_for_somebody_to_see(bus: Bus) -> None:
    before = Bank(before_bus := Bus())
    before.bad = {"1"}
    await put(before_bus, event("1"), event("2"), event("3"))
    await before_bus.stop()
    bus._store, router = before_bus._store, Router()

    @router.on("a.z", needs=(), after_dead="park")
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None: ...

    bus.use(router)
    await put(bus)
    await bus.advance(200.0)
    assert states(bus) == {"1": "open", "2": "open", "3": "open"}
    (asked,) = await bus._store.list_replays(9)
    assert [(why.reason, why.count) for why in await bus._store.reasons(asked.id)] == [("no handler now", 2)]
