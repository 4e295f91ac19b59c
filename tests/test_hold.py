"""A bus that allows to hold an event only for so long: everything goes back once, and comes again when it can be handled."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec

from investbus import Context, Event, Router, Unavailable
from investbus.assembly import Assembled
from investbus.errors import TransportHeld
from investbus.mailbox import EVERYTHING, Pause
from investbus.testing.bus import Bus
from investbus.transport import Delivery, Message
from tests.whole import check_law, envelope

NAME = "portfolios.status-update"


async def put(bus: Bus, *bodies: bytes) -> Assembled:
    parts = await bus._started()
    assert bus._transport is not None
    await bus._transport.publish([Message(body) for body in bodies])
    return parts


def hold_after(bus: Bus, seconds: float) -> list[float]:
    """Let the transport do what RabbitMQ's does at `hold_max`; when it did."""
    transport, held, clock = bus._transport, list[float](), asyncio.get_running_loop().time
    assert transport is not None
    real = transport.receive
    since = [clock()]

    async def receive(limit: int) -> list[Delivery]:
        assert transport is not None
        if not transport._unacked:
            since[0] = clock()
        try:
            async with asyncio.timeout_at(since[0] + seconds):
                return await real(limit)
        except TimeoutError:
            if not transport._unacked or clock() < since[0] + seconds:
                raise
        held.append(clock())
        raise TransportHeld(f"events were held for {seconds:g} s")

    transport.receive = receive  # type: ignore[method-assign]
    return held


def count_deliveries(bus: Bus) -> dict[str, int]:
    """How often each event was delivered at most, as the bus counts."""
    assert bus._transport is not None
    real, counts = bus._transport._deliver, dict[str, int]()

    def deliver(lease: Any) -> Delivery:
        delivery = real(lease)
        counts[delivery.body.decode()[7:9]] = delivery.count
        return delivery

    bus._transport._deliver = deliver  # type: ignore[method-assign]
    return counts


async def test_a_long_outage_costs_one_more_delivery_and_no_dead_letter(bus: Bus) -> None:
    router, done = Router(), []

    @router.on(NAME)
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        await ctx.detail()
        done.append(event.id)

    bus.use(router)
    parts = await bus._started()
    held, counts = hold_after(bus, 900.0), count_deliveries(bus)
    bus.api.post("/auth/refresh-token/", status=503)
    bus.api.post("/auth/login/", json={"access_token": "a", "expires_in": "300"}, times=1)
    bus.api.post("/auth/login/", status=503)
    for number in range(10):
        bus.api.get(f"/portfolios/P{number}/", status=503)
    await put(bus, *(envelope(NAME, f"e{number}", data={"id": f"P{number}"}) for number in range(10)))
    await bus.advance(2400.0)  # forty minutes
    assert len(held) == 1
    assert parts.console.paused() == {"hold"}
    assert parts.console.readiness()["transport"]
    assert not any(parts.console.liveness().values()), "a restart would mend nothing"
    assert parts.worker.dispatcher.backlog.unfinished == 0
    assert done == []
    bus.api.post("/auth/login/", json={"access_token": "b", "expires_in": "300"})
    for number in range(10):
        bus.api.get(f"/portfolios/P{number}/", json={"id": f"P{number}"})
    await bus.advance(60.0)
    assert sorted(done) == [f"e{number}" for number in range(10)]
    assert max(counts.values()) == 2, "one more than without the outage"
    assert bus.dead_letters == []
    assert parts.console.paused() == frozenset()
    check_law(parts)


async def test_what_only_an_event_can_ask_is_asked_by_one_that_comes_again(bus: Bus) -> None:
    router, down, done = Router(), [True], []

    @router.on(NAME, needs=("core",))
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if down:
            raise Unavailable("core")
        done.append(event.id)

    bus.use(router)
    await bus._started()
    held = hold_after(bus, 100.0)
    await put(bus, *(envelope(NAME, f"e{number}", data={"id": f"P{number}"}) for number in range(5)))
    await bus.advance(350.0)
    assert 2 <= len(held) <= 3
    down.clear()
    await bus.advance(120.0)
    assert sorted(done) == [f"e{number}" for number in range(5)]
    assert bus.dead_letters == []


async def test_a_pause_longer_than_the_bus_allows_gives_everything_back_once(bus: Bus) -> None:
    router, done = Router(), list[str]()

    @router.on(NAME, needs=("core",))
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if not done:
            raise Unavailable("core")

    bus.use(router)
    parts = await bus._started()
    held, counts = hold_after(bus, 900.0), count_deliveries(bus)
    assert bus._transport is not None
    real, clock = bus._transport.state, asyncio.get_running_loop().time
    began = clock()
    bus._transport.state = lambda: msgspec.structs.replace(real(), held=not held and clock() > began + 900.0)  # type: ignore[method-assign]
    await put(bus, *(envelope(NAME, f"e{number}", data={"id": f"P{number}"}) for number in range(5)))
    await bus.advance(10.0)
    assert parts.worker.dispatcher.backlog.unfinished == 5
    await bus._store.pause(Pause(EVERYTHING, "operator", "maintenance", "ann", datetime(2026, 11, 21, tzinfo=UTC)))
    await bus.advance(3600.0)
    assert (len(held), parts.worker.dispatcher.backlog.unfinished) == (1, 0)
    done.append("mended")
    await bus._store.resume(EVERYTHING, "ann", "", datetime(2026, 11, 21, tzinfo=UTC))
    await bus.advance(120.0)
    assert parts.worker.metrics.routes[NAME].outcomes["done"] == 5
    assert max(counts.values()) == 2
    check_law(parts)


async def test_a_platform_that_said_when_to_come_back_is_not_asked_before_it_is_held_anew(bus: Bus) -> None:
    router, done = Router(), []

    @router.on(NAME)
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        await ctx.detail()
        done.append(asyncio.get_running_loop().time())

    bus.use(router)
    parts = await bus._started()
    held = hold_after(bus, 100.0)
    for number in range(3):
        bus.api.get(f"/portfolios/P{number}/", status=429, headers={"Retry-After": "300"}, times=1, then={"id": f"P{number}"})
    await put(bus, *(envelope(NAME, f"e{number}", data={"id": f"P{number}"}) for number in range(3)))
    await bus.advance(280.0)
    assert len(held) == 1
    assert parts.gatehouse.gates["api"].closed
    assert done == []
    await bus.advance(60.0)
    assert len(done) == 3
    assert min(done) >= 300.0
