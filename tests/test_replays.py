"""Replays: dead letters run again in the worker's own lanes, one after the other, and each comes to exactly one thing."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from investbus import Context, Event, Reject, Retry, Router, Unavailable
from investbus.assembly import Assembled
from investbus.event import Envelope
from investbus.mailbox import Replay
from investbus.store import Done, Filter, body_hash, identity_of
from investbus.testing.bus import Bus
from investbus.transport import Message
from tests.whole import check_law, envelope

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Bank:
    """A handler of `a.b` and `a.c` that can be mended; what it ran, and how many of one key at once."""

    def __init__(self, bus: Bus, seconds: float = 0.0, **settings: Any) -> None:
        self.broken = True
        self.bad: set[str] = set()
        self.slow: set[str] = set()
        self.ran: list[str] = []
        self.at_once: dict[str, int] = {}
        self.overlapped = False
        self.seconds = seconds
        router = Router()
        router.on("a.b", needs=())(self._handler)
        router.on("a.c", needs=())(self._handler)
        settings = {"store": {"flood_after": 1000}} | settings
        bus.use(router, settings=settings)

    async def _handler(self, event: Event[dict[str, Any]], ctx: Context) -> None:
        self.overlapped |= self.at_once.get(event.key, 0) > 0
        self.at_once[event.key] = self.at_once.get(event.key, 0) + 1
        await asyncio.sleep(self.seconds)
        self.at_once[event.key] -= 1
        self.ran.append(event.id)
        if event.id in self.slow:
            raise Retry(after=100.0)
        if self.broken or event.id in self.bad:
            raise Reject("broken")


def event(event_id: str, name: str = "a.b", key: str | None = None) -> bytes:
    return envelope(name, event_id, data={"id": key or event_id})


async def put(bus: Bus, *bodies: bytes) -> Assembled:
    parts = await bus._started()
    assert bus._transport is not None
    await bus._transport.publish([Message(body) for body in bodies])
    return parts


async def died(bus: Bus, *bodies: bytes) -> Assembled:
    """These events as dead letters, and the route mended or not by the caller."""
    parts = await put(bus, *bodies)
    await bus.advance(5.0)
    assert len(bus.dead_letters) == len(bodies)
    return parts


async def ask(bus: Bus, name: str = "r1", wanted: Filter | None = None, **changes: Any) -> None:
    ids = await bus._store.select_dead(wanted or Filter(state="open"))
    usual: dict[str, Any] = {"note": "mended", "who": "ann", "at": NOON, "wanted": "all", "rate": 1000.0, "stop_after": 3}
    await bus._store.ask_replay(Replay(id=name, **(usual | {"again": False} | changes)), ids)


async def replay(bus: Bus, name: str = "r1") -> Replay:
    found = await bus._store.get_replay(name)
    assert found is not None
    return found


def states(bus: Bus) -> dict[str, str]:
    return {letter.event_id: letter.state for letter in bus.dead_letters}


async def test_mended_letters_are_done_and_count_as_replays_only(bus: Bus) -> None:
    bank = Bank(bus)
    parts = await died(bus, *(event(str(number)) for number in range(20)))
    before = dict(parts.worker.metrics.routes["a.b"].outcomes)
    bank.broken, bank.ran = False, []
    await ask(bus)
    await bus.advance(15.0)
    ended = await replay(bus)
    assert (ended.state, ended.planned, ended.done, ended.dead, ended.skipped) == ("done", 20, 20, 0, 0)
    assert bank.ran == [str(number) for number in range(20)], "oldest first"
    assert set(states(bus).values()) == {"replayed"}
    counts = parts.worker.metrics.routes["a.b"]
    assert (counts.outcomes, counts.replays) == (before, {"done": 20, "dead": 0, "skipped": 0})
    assert counts.attempts["ok"] == 20
    assert parts.worker.transport.state().partitions["0"].lag == 0, "nothing went to the bus"
    check_law(parts)


async def test_a_replayed_event_is_known_as_done_when_the_bus_delivers_it_again(bus: Bus) -> None:
    bank = Bank(bus)
    parts = await died(bus, event("1"))
    bank.broken = False
    await ask(bus)
    await bus.advance(5.0)
    await put(bus, event("1"))
    await bus.advance(5.0)
    assert bank.ran == ["1", "1"]
    assert parts.worker.metrics.routes["a.b"].outcomes["duplicate"] == 1


async def test_the_speed_doubles_from_one_a_second_up_to_what_was_asked_for(bus: Bus) -> None:
    bank = Bank(bus)
    await died(bus, *(event(str(number)) for number in range(150)))
    bank.broken, bank.ran = False, []
    await ask(bus, rate=5.0)
    await bus.advance(3.0)
    assert 2 <= len(bank.ran) <= 8
    await bus.advance(10.0)
    ran = len(bank.ran)
    await bus.advance(10.0)
    assert 45 <= len(bank.ran) - ran <= 55


async def test_what_cannot_run_is_skipped_with_the_reason(bus: Bus) -> None:
    bank = Bank(bus, dispatch={"unrouted": "dead"})
    await died(bus, event("1"), b"{", event("2", "no.such"), event("3"), event("4"))
    ids = await bus._store.select_dead(Filter())
    await bus._store.discard(ids[3:4], "3", "ann", "not wanted", NOON)
    bank.broken, bank.ran = False, []
    await ask(bus, wanted=Filter())
    await bus.advance(10.0)
    ended = await replay(bus)
    assert bank.ran == ["1", "4"]
    assert (ended.done, ended.dead, ended.skipped) == (2, 0, 3)
    await ask(bus, "r2", wanted=Filter(), again=True)
    await bus.advance(10.0)
    assert bank.ran == ["1", "4", "1", "3", "4"]


async def test_a_live_event_and_a_replayed_one_of_the_same_key_never_overlap(bus: Bus) -> None:
    bank = Bank(bus, seconds=2.0)
    await died(bus, *(event(str(number), key="P1") for number in range(2)))
    bank.broken, bank.ran = False, []
    await ask(bus)
    for number in range(10, 20):
        await put(bus, event(str(number), key="P1"))
        await bus.advance(0.7)
    await bus.advance(60.0)
    assert sorted(bank.ran) == sorted(["0", "1", *(str(number) for number in range(10, 20))])
    assert not bank.overlapped


async def test_a_replay_that_waits_at_a_gate_does_not_hold_up_another(bus: Bus) -> None:
    router, mended = Router(), list[bool]()

    @router.on("portfolios.status-update")
    async def gated(event: Event[dict[str, Any]], ctx: Context) -> None:
        if not mended:
            raise Reject("broken")
        await ctx.detail()

    @router.on("a.b", needs=())
    async def free(event: Event[dict[str, Any]], ctx: Context) -> None:
        if not mended:
            raise Reject("broken")

    bus.use(router)
    await died(bus, envelope("portfolios.status-update", "1", data={"id": "P1"}), event("2"))
    mended.append(True)
    bus.api.get("/portfolios/P1/", status=503)
    await ask(bus, wanted=Filter(event_id="1"))
    await bus.advance(5.0)
    await ask(bus, "r2", wanted=Filter(event_id="2"))
    await bus.advance(30.0)
    assert ((await replay(bus)).state, (await replay(bus, "r2")).state) == ("running", "done")
    bus.api.get("/portfolios/P1/", json={"id": "P1"})
    await bus.advance(30.0)
    assert (await replay(bus)).done == 1


@pytest.mark.parametrize("rate", [5.0, 1000.0])
async def test_an_outage_in_the_middle_of_a_replay_costs_nothing(bus: Bus, rate: float) -> None:
    router, mended = Router(), list[bool]()

    @router.on("portfolios.status-update")
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if not mended:
            raise Reject("broken")
        await ctx.detail()

    bus.use(router)
    bodies = [envelope("portfolios.status-update", str(number), data={"id": str(number)}) for number in range(30)]
    await died(bus, *bodies)
    mended.append(True)
    for number in range(30):
        bus.api.get(f"/portfolios/{number}/", json={"id": str(number)})
        if number >= 3:
            bus.api.get(f"/portfolios/{number}/", status=503, times=60, then={"id": str(number)})
    await ask(bus, rate=rate)
    await bus.advance(4000.0)
    ended = await replay(bus)
    assert (ended.state, ended.done, ended.dead) == ("done", 30, 0)


async def test_the_speed_that_was_asked_for_holds_after_an_outage_too(bus: Bus) -> None:
    router, mended, down, ran = Router(), list[bool](), list[bool](), list[str]()

    @router.on("a.b", needs=("core",))
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if not mended:
            raise Reject("broken")
        if down:
            raise Unavailable("core")
        ran.append(event.id)

    bus.use(router, settings={"store": {"flood_after": 1000}})
    await put(bus, *(event(str(number)) for number in range(600)))
    await bus.advance(20.0)
    mended.append(True)
    await ask(bus, rate=2.0)
    await bus.advance(10.0)
    down.append(True)
    await bus.advance(1000.0)
    down.clear()
    ran.clear()
    await bus.advance(60.0)
    assert len(ran) <= 128 + 2 * 60, "those that were under way, and the others at their speed"


async def test_letters_that_run_or_wait_again_are_no_events_received(bus: Bus) -> None:
    router, mended = Router(), list[bool]()

    @router.on("a.b", needs=())
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if not mended:
            raise Reject("broken")
        await asyncio.sleep(10.0)

    bus.use(router)
    parts = await died(bus, event("1", key="P1"), event("2", key="P1"))
    mended.append(True)
    await ask(bus)
    for _ in range(100):
        await bus.advance(1.0)
        check_law(parts)
    assert (await replay(bus)).done == 2


async def test_a_letter_whose_event_was_done_after_all_is_closed(bus: Bus) -> None:
    bank = Bank(bus)
    await died(bus, event("1"), event("2"))
    (letter, _) = bus.dead_letters
    identity = identity_of(letter.source, letter.name, letter.created, letter.event_id)
    await bus._store.put_done([Done(identity, body_hash(letter.body), "done")])
    bank.broken, bank.ran = False, []
    await ask(bus)
    await bus.advance(5.0)
    assert bank.ran == ["2"]
    assert states(bus) == {"1": "replayed", "2": "replayed"}, "else it would be asked for again and again"
    assert ((await replay(bus)).done, (await replay(bus)).skipped) == (1, 1)


def both(body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
    """A dialect of messages with several events."""
    return [Envelope(one["id"], "1.0.0", "a", one["action"], one["data"], one["created"]) for one in msgspec.json.decode(body)]


async def test_two_events_of_one_message_with_the_same_id_are_two_letters_and_both_are_replayed(bus: Bus) -> None:
    bank = Bank(bus, dialect="tests.test_replays:both")
    one = {"id": "1", "action": "b", "created": "2026-11-21T10:00:00Z", "data": {"id": "P1"}}
    body = msgspec.json.encode([one, one | {"action": "c"}, one | {"created": "2026-11-21T10:00:01Z"}, one])
    await put(bus, body)
    await bus.advance(5.0)
    told = sorted((letter.name, letter.created[-3:]) for letter in bus.dead_letters)
    assert told == [("a.b", "00Z"), ("a.b", "01Z"), ("a.c", "00Z")]
    bank.broken, bank.ran = False, []
    await ask(bus)
    await bus.advance(10.0)
    ended = await replay(bus)
    assert (bank.ran, ended.done, ended.skipped) == (["1", "1", "1"], 3, 0)
