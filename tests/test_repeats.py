"""An event that the bus delivers more than once is run once: copies in one batch, copies behind a run, leases lost under a run."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from investbus import Context, Event, Reject, Router
from investbus.assembly import Assembled
from investbus.store import Done, Identity
from investbus.stores.memory import MemoryStore
from investbus.testing.bus import Bus
from investbus.transport import Delivery, Lease, Message, SettleCounts
from tests.whole import check_law, envelope

BODY = envelope("a.b")
OTHER = envelope("a.b", data={"id": "P1", "value": "CLOSED"})


async def put(bus: Bus, *bodies: bytes) -> Assembled:
    """Messages as they are, twice the same if need be; none of them is waited for."""
    parts = await bus._started()
    assert bus._transport is not None
    await bus._transport.publish([Message(body) for body in bodies])
    return parts


def endings(parts: Assembled) -> dict[str, int]:
    """How the events of `a.b` ended, without what none of them did."""
    check_law(parts)
    return {ending: count for ending, count in parts.worker.metrics.routes["a.b"].outcomes.items() if count}


def slow(bus: Bus, seconds: float, **settings: Any) -> list[bytes]:
    """A handler of `a.b` that takes so long; the bodies that it began, in order."""
    router, ran = Router(), []

    @router.on("a.b", timeout=120.0, needs=())
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        ran.append(event.raw)
        await asyncio.sleep(seconds)

    bus.use(router, settings=settings)
    return ran


@pytest.mark.parametrize("losses", [1, 2, 3])
async def test_leases_lost_under_a_long_run_do_not_repeat_it(bus: Bus, losses: int) -> None:
    ran = slow(bus, 60.0)
    parts = await put(bus, BODY)
    for _ in range(losses):
        await bus.advance(1.0)
        await bus.lose_lease()  # what runs stays, what waits behind it goes back, and the message comes again
    await bus.advance(200.0)
    assert ran == [BODY]
    assert endings(parts) == {"released": losses, "duplicate": 1}


async def test_a_copy_that_goes_back_does_not_hide_the_run_from_the_next_copy(bus: Bus) -> None:
    ran = slow(bus, 30.0, dispatch={"drain_cap": 0.5})
    parts = await put(bus, BODY, BODY)
    await bus.advance(1.0)
    await bus.lose_lease()
    await bus.advance(100.0)
    assert ran == [BODY]
    assert endings(parts) == {"released": 2, "duplicate": 2}


async def test_copies_in_one_batch_run_once_and_nothing_of_them_is_kept(bus: Bus) -> None:
    ran = slow(bus, 1.0)
    parts = await put(bus, *[BODY] * 50)
    await bus.advance(0.5)
    await put(bus, *[BODY] * 50)
    await bus.advance(5.0)
    assert ran == [BODY]
    assert endings(parts) == {"done": 1, "duplicate": 99}
    assert not parts.worker.intake._pending
    assert not parts.worker.dispatcher.lanes


async def test_the_same_id_with_other_content_is_no_copy(bus: Bus) -> None:
    ran = slow(bus, 1.0)
    parts = await put(bus, BODY, OTHER, BODY, OTHER)
    await bus.advance(10.0)
    assert ran == [BODY, OTHER]
    assert endings(parts) == {"done": 2, "duplicate": 2}


async def test_a_copy_runs_where_the_first_one_went_back_without_an_end(bus: Bus) -> None:
    router, ran = Router(), []

    @router.on("a.b", needs=())
    async def fails_once(event: Event[dict[str, Any]], ctx: Context) -> None:
        ran.append(ctx.redelivered)
        await asyncio.sleep(3.0)
        if len(ran) == 1:
            raise ValueError("not yet")

    bus.use(router)
    parts = await put(bus, BODY, BODY)
    await bus.advance(1.0)
    await bus.lose_lease()  # the first run fails while its lease closes: it is given back, not tried again
    await bus.advance(30.0)
    assert ran == [False, True]
    assert endings(parts) == {"released": 2, "done": 1, "duplicate": 1}


class Amount(BaseModel):
    amount: int


async def test_copies_that_do_not_fit_the_model_are_one_dead_letter(bus: Bus) -> None:
    """A verdict known at receipt comes after the look at earlier copies."""
    router = Router()

    @router.on("a.b", needs=())
    async def handler(event: Event[Amount], ctx: Context) -> None: ...

    bus.use(router)
    bad = envelope("a.b", data={"id": "P1", "amount": "x"})
    parts = await put(bus, bad, bad, bad)
    await bus.advance(5.0)
    assert endings(parts) == {"dead": 1, "duplicate": 2}
    assert [letter.reason for letter in bus.dead_letters] == ["data_invalid"]


class SlowStore(MemoryStore):
    """A store that takes five seconds to write what was done."""

    async def put_done(self, done: Sequence[Done]) -> None:
        await asyncio.sleep(5.0)
        await super().put_done(done)


async def test_a_copy_whose_turn_comes_while_the_first_one_is_being_recorded_is_not_run(bus: Bus) -> None:
    ran = slow(bus, 1.0)
    bus._store = SlowStore()
    parts = await put(bus, BODY, BODY, OTHER, OTHER)
    await bus.advance(3.0)
    assert parts.worker.metrics.routes["a.b"].outcomes["done"] == 0
    assert ran == [BODY, OTHER]
    await bus.advance(20.0)
    assert ran == [BODY, OTHER]
    assert endings(parts) == {"done": 2, "duplicate": 2}


class LateStore(MemoryStore):
    """A store whose answers are five seconds old when they arrive."""

    async def find_done(self, identities: Sequence[Identity], since: datetime | None = None) -> dict[Identity, bytes]:
        found = await super().find_done(identities, since)
        await asyncio.sleep(5.0)
        return found


@pytest.mark.parametrize(("ends", "ending"), [(None, "done"), (Reject("no"), "dead")], ids=["done", "dead"])
async def test_an_event_that_ends_while_the_store_is_asked_about_its_copy_is_not_run_again(
    bus: Bus, ends: Exception | None, ending: str
) -> None:
    """The store says that it knows nothing, and is right as of when it was asked."""
    router, ran = Router(), []

    @router.on("a.b", needs=())
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        ran.append(event.id)
        await asyncio.sleep(2.0)
        if ends is not None:
            raise ends

    bus.use(router)
    bus._store = LateStore()
    parts = await put(bus, BODY)
    await bus.advance(6.0)  # it runs from 5 to 7
    await put(bus, BODY)  # and the store is asked about its copy from 6 to 11
    await bus.advance(2.0)
    assert parts.worker.taking, "the copy is on its way"
    assert not parts.worker.dispatcher.backlog.unfinished, "and the event has ended"
    await bus.advance(20.0)
    assert ran == ["e1"]
    assert endings(parts) == {ending: 1, "duplicate": 1}


async def test_of_a_lease_that_closed_before_it_was_seen_nothing_is_kept(bus: Bus) -> None:
    ran = slow(bus, 0.0)
    parts = await put(bus)
    await bus.advance(1.0)
    known = len(parts.worker._leases)
    for _ in range(5):
        lease = Lease(lambda position: None, SettleCounts())
        lease.unsettled = 1
        lease.lose()
        await parts.worker._take([Delivery(BODY, {}, "elsewhere", 1, lease)])
        assert lease.unsettled == 0, "given back"
    assert len(parts.worker._leases) == known
    assert ran == []
    assert endings(parts) == {"released": 5}


async def test_what_was_done_may_be_kept_for_ever(bus: Bus) -> None:
    ran = slow(bus, 0.0, store={"keep_done": 1e12})
    assert (await bus.send("a.b", {"id": "P1"}, id="e1")).outcome == "done"
    await bus.advance(86_400.0)
    assert (await bus.redeliver("e1")).outcome == "duplicate"
    assert len(ran) == 1


async def test_same_id_with_other_content_at_the_same_time_is_told(bus: Bus) -> None:
    router, ran = Router(), []

    @router.on("a.b", needs=())
    async def handle(event: Event[dict[str, Any]], ctx: Context) -> None:
        ran.append(event.data)

    bus.use(router)
    with capture_logs() as said:
        await put(bus, BODY, OTHER)
        await bus.advance(1.0)
    assert len(ran) == 2
    assert [line["log_level"] for line in said if "other content" in line["event"]] == ["warning"]


async def test_a_test_that_names_no_event_is_told_so(bus: Bus) -> None:
    bus.use(Router())
    with pytest.raises(ValueError, match=r'"portfolios" is no name of an event; write "subject\.action"'):
        await bus.send("portfolios", {})
    with pytest.raises(ValueError, match="nothing with the id nope was sent"):
        await bus.redeliver("nope")
