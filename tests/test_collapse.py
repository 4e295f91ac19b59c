"""Routes with `collapse`: queued events of one key are handled once, by the newest, and nothing of it is lost."""

import asyncio
from typing import Any

import pytest

from investbus import Context, Event, Reject, Router
from investbus.assembly import Assembled
from investbus.testing.bus import Bus
from investbus.transport import Delivery, Lease, Message, SettleCounts
from tests.whole import check_law, envelope

NAME = "portfolios.status-update"


def update(number: int, key: str = "P1", name: str = NAME) -> bytes:
    return envelope(name, f"{key}-{number}", data={"id": key, "value": "ACTIVE", "number": number})


async def put(bus: Bus, *bodies: bytes) -> Assembled:
    parts = await bus._started()
    assert bus._transport is not None
    await bus._transport.publish([Message(body) for body in bodies])
    return parts


def ended(parts: Assembled, name: str = NAME) -> dict[str, int]:
    check_law(parts)
    return {ending: count for ending, count in parts.worker.metrics.routes[name].outcomes.items() if count}


def handled(bus: Bus, seconds: float = 1.0, error: Exception | None = None, **settings: Any) -> list[tuple[str, int]]:
    """A collapsing handler that takes so long; which events it was called with, and which attempt that was."""
    router, calls = Router(), []

    @router.on(NAME, collapse=True, needs=())
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        calls.append((event.id, ctx.attempt))
        await asyncio.sleep(seconds)
        if error is not None:
            raise error

    bus.use(router, settings=settings)
    return calls


async def test_five_hundred_updates_of_one_portfolio_are_two_calls_and_all_are_acked(bus: Bus) -> None:
    calls = handled(bus)
    parts = await put(bus, *(update(number) for number in range(500)))
    await bus.advance(10.0)
    assert len(calls) <= 2
    assert calls[-1] == ("P1-499", 1), "the newest"
    assert ended(parts) == {"done": 500}
    assert parts.worker.transport.counts.ok == 500
    assert parts.worker.dispatcher.backlog.unfinished == 0


async def test_what_arrives_while_a_group_runs_has_a_run_of_its_own(bus: Bus) -> None:
    calls = handled(bus, seconds=10.0)
    parts = await put(bus, update(1), update(2))
    await bus.advance(2.0)
    await put(bus, update(3), update(4))
    await bus.advance(60.0)
    assert calls == [("P1-2", 1), ("P1-4", 1)]
    assert ended(parts) == {"done": 4}


async def test_a_group_is_fixed_at_its_first_attempt_and_each_of_it_dies_with_its_own_letter(bus: Bus) -> None:
    calls = handled(bus, seconds=0.0, error=RuntimeError("no"), retry={"attempts": 2, "first": 5.0})
    parts = await put(bus, update(1), update(2))
    await bus.advance(2.0)
    await put(bus, update(3))
    await bus.advance(60.0)
    assert calls == [("P1-2", 1), ("P1-2", 2), ("P1-3", 1), ("P1-3", 2)]
    assert [(letter.event_id, letter.attempts) for letter in bus.dead_letters] == [("P1-1", 2), ("P1-2", 2), ("P1-3", 2)]
    assert ended(parts) == {"dead": 3}


async def test_other_routes_other_keys_and_order_stay_as_they_are(bus: Bus) -> None:
    router, calls = Router(), []

    @router.on(NAME, collapse=True, needs=())
    async def status(event: Event[dict[str, Any]], ctx: Context) -> None:
        calls.append(event.id)
        await asyncio.sleep(1.0)

    @router.on("portfolios.creation", needs=())
    async def creation(event: Event[dict[str, Any]], ctx: Context) -> None:
        calls.append(event.id)

    bus.use(router, settings={"dispatch": {"slots": 1}})
    parts = await put(
        bus, update(1), update(2), update(3, name="portfolios.creation"), update(4), update(5), update(1, "P2"), update(2, "P2")
    )
    await bus.advance(30.0)
    assert [one for one in calls if one.startswith("P1")] == ["P1-2", "P1-3", "P1-5"]
    assert [one for one in calls if one.startswith("P2")] == ["P2-2"]
    assert ended(parts) == {"done": 6}
    assert ended(parts, "portfolios.creation") == {"done": 1}


@pytest.mark.parametrize("error", [None, Reject("no")])
async def test_a_lease_that_closes_under_a_group_leaves_it_to_end_as_one(bus: Bus, error: Exception | None) -> None:
    calls = handled(bus, seconds=5.0, error=error)
    parts = await put(bus, update(1), update(2), update(3))
    await bus.advance(1.0)
    await bus.lose_lease()  # within drain_cap
    await bus.advance(30.0)
    assert calls == [("P1-3", 1)]
    assert ended(parts) == {"dead" if error else "done": 3}


async def test_a_group_that_is_given_back_comes_again_whole(bus: Bus) -> None:
    calls = handled(bus, seconds=0.0, error=RuntimeError("no"), retry={"attempts": 5, "first": 100.0})
    parts = await put(bus, update(1), update(2))
    await bus.advance(1.0)
    await bus.lose_lease()  # while it waits for its next attempt
    await bus.advance(1.0)
    assert calls == [("P1-2", 1), ("P1-2", 1)]
    assert ended(parts) == {"released": 2}
    assert parts.worker.dispatcher.backlog.unfinished == 2


async def test_an_event_that_was_alone_at_its_first_attempt_stays_alone(bus: Bus) -> None:
    calls = handled(bus, seconds=0.0, error=RuntimeError("no"), retry={"attempts": 2, "first": 5.0})
    parts = await put(bus, update(1))
    await bus.advance(2.0)
    await put(bus, update(2))
    await bus.advance(60.0)
    assert calls == [("P1-1", 1), ("P1-1", 2), ("P1-2", 1), ("P1-2", 2)]
    assert ended(parts) == {"dead": 2}


async def test_an_attempt_counts_also_where_some_of_its_group_are_given_back(bus: Bus) -> None:
    calls = handled(bus, seconds=2.0, error=RuntimeError("no"), retry={"attempts": 3, "first": 10.0, "factor": 1.0})
    parts = await bus._started()
    counts = SettleCounts()
    leases = [Lease(lambda position: None, counts) for _ in range(2)]
    deliveries = [Delivery(update(at), {}, "test:events", at, lease) for at, lease in enumerate(leases)]
    for lease in leases:
        lease.on_closing(parts.worker.dispatcher.drop)
        lease.unsettled += 1
    parts.worker.dispatcher.submit(await parts.worker.intake.take(deliveries, parts.worker.dispatcher.slots.breathe))
    await bus.advance(1.0)
    leases[1].close()
    await bus.advance(100.0)
    assert calls == [("P1-1", 1), ("P1-0", 2), ("P1-0", 3)]
    assert ended(parts) == {"dead": 1, "released": 1}
