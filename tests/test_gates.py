"""Gates with a whole worker or dispatcher around them: what closes one, what opens it again, and what may wait there."""

import asyncio
import gc
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from investbus.context import Context
from investbus.errors import ApiUnavailable, Reject, Retry, Unavailable
from investbus.event import Event
from investbus.gatehouse import MOST_GATES
from investbus.mailbox import Pause
from investbus.metrics import OTHERS
from investbus.router import Router
from investbus.testing.bus import Bus, Result
from investbus.work import Route, Work
from tests.lanes import Lanes, virtually

PORTFOLIO = "portfolios.status-update"


def reads_its_portfolio(bus: Bus) -> None:
    router = Router()

    @router.on(PORTFOLIO)
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        await ctx.detail()

    bus.use(router)


def send_each(bus: Bus, keys: Iterable[str]) -> list[asyncio.Task[Result]]:
    return [asyncio.create_task(bus.send(PORTFOLIO, {"id": key, "value": "ACTIVE"})) for key in keys]


async def closed(bus: Bus) -> bool:
    return (await bus._started()).gatehouse.gates["api"].closed


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_an_answer_that_refuses_or_fails_everybody_closes_the_gate_and_costs_two_dead_letters_at_most(
    bus: Bus, status: int
) -> None:
    """A revoked key, or a platform that is down and says 500: events wait until it works again."""
    reads_its_portfolio(bus)
    keys = [f"P{number}" for number in range(30)]
    for key in keys:
        bus.api.get(f"/portfolios/{key}/", status=status)
    sending = send_each(bus, keys)
    await bus.advance(600.0)
    assert await closed(bus)
    assert len(bus.dead_letters) <= 2
    asked = len(bus.api.calls)
    await bus.advance(60.0)
    assert len(bus.api.calls) - asked <= 60 / 5 * 3 * 2 + 6, "one probe per interval, with the tries of the client and of the login"
    for key in keys:
        bus.api.get(f"/portfolios/{key}/", json={"id": key})
    results = await asyncio.gather(*sending)
    assert not await closed(bus)
    assert len(bus.dead_letters) <= 2
    assert sorted({result.outcome for result in results}) in (["done"], ["dead", "done"])
    assert sum(result.outcome == "dead" for result in results) == len(bus.dead_letters)


@pytest.mark.parametrize(("status", "reason", "attempts"), [(403, "rejected", 1), (500, "exhausted", 5)])
async def test_one_entity_that_is_refused_or_fails_again_and_again_closes_nothing(
    bus: Bus, status: int, reason: str, attempts: int
) -> None:
    reads_its_portfolio(bus)
    bus.api.get("/portfolios/bad/", status=status)
    for _ in range(6):
        (result,) = await asyncio.gather(*send_each(bus, ["bad"]))
        assert (result.outcome, result.reason, result.attempts) == ("dead", reason, attempts)
        assert not await closed(bus)


async def test_entities_that_are_refused_among_others_that_are_not_close_nothing(bus: Bus) -> None:
    reads_its_portfolio(bus)
    bus.api.get("/portfolios/good/", json={"id": "good"})
    for number in range(10):
        bus.api.get(f"/portfolios/bad{number}/", status=403)
        bad, good = await asyncio.gather(*send_each(bus, [f"bad{number}", "good"]))
        assert (bad.reason, good.outcome) == ("rejected", "done")
        assert not await closed(bus)


@pytest.mark.parametrize("settings", [{}, {"api": None}], ids=["with ctx.api", "without"])
async def test_a_handler_that_asks_by_a_client_of_its_own_and_calls_it_api_opens_the_gate_as_well(
    bus: Bus, settings: dict[str, Any]
) -> None:
    router, up = Router(), list[bool]()

    @router.on(PORTFOLIO, needs=("api",))
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if not up:
            raise Unavailable("api")

    bus.use(router, settings=settings)
    sending = send_each(bus, (f"P{number}" for number in range(100)))
    await bus.advance(60.0)
    assert await closed(bus)
    up.append(True)
    results = await asyncio.wait_for(asyncio.gather(*sending), 30.0)
    assert {result.outcome for result in results} == {"done"}
    assert not await closed(bus)


async def test_without_ctx_api_a_gate_called_api_opens_although_those_that_closed_it_have_gone(bus: Bus) -> None:
    router, up = Router(), list[bool]()

    @router.on(PORTFOLIO, needs=("api",))
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if not up:
            raise Unavailable("api")

    bus.use(router, settings={"api": None})
    sending = send_each(bus, (f"P{number}" for number in range(3)))
    await bus.advance(60.0)
    up.append(True)
    await bus.lose_lease()
    assert {result.outcome for result in await asyncio.gather(*sending)} == {"released"}
    await bus.advance(30.0)
    assert not await closed(bus)


@pytest.mark.parametrize("said", ["inf", "1e9999", "nan", "-7", "9" * 400])
async def test_an_outage_costs_no_attempt_whatever_its_retry_after_says(bus: Bus, said: str) -> None:
    reads_its_portfolio(bus)
    bus.api.get("/portfolios/P1/", status=503, headers={"Retry-After": said}, times=8, then={"id": "P1"})
    (result,) = await asyncio.gather(*send_each(bus, ["P1"]))
    assert (result.outcome, result.attempts) == ("done", 1)


@pytest.mark.parametrize(("said", "waited"), [("0", [1.0, 3.0, 9.0, 27.0]), ("5", [5.0, 5.0, 9.0, 27.0])])
async def test_one_entity_that_may_be_asked_at_once_is_not_given_up_at_once(bus: Bus, said: str, waited: list[float]) -> None:
    router = Router()

    @router.on(PORTFOLIO)
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        await ctx.api.get("/others/")
        await ctx.detail()

    bus.use(router)
    bus.api.get("/others/", json={})
    bus.api.get("/portfolios/P1/", status=503, headers={"Retry-After": said})
    (result,) = await asyncio.gather(*send_each(bus, ["P1"]))
    assert (result.outcome, result.reason, result.waited) == ("dead", "exhausted", waited)


def closed_gates(lanes: Lanes) -> set[str]:
    return {name for name, gate in lanes.gatehouse.gates.items() if gate.closed}


def test_a_gate_that_only_the_handler_names_opens_again() -> None:
    async def main() -> None:
        up: list[bool] = []

        async def handler(event: Event[Any], ctx: Context) -> None:
            if not up:
                raise Unavailable("core")

        lanes = Lanes(handler)  # no `needs`
        lanes.submit(*((f"k{number}", f"e{number}") for number in range(20)))
        await asyncio.sleep(30.0)
        assert closed_gates(lanes) == {"core"}
        up.append(True)
        await asyncio.sleep(11.0)  # two probe intervals
        assert closed_gates(lanes) == set()
        assert [what for _, what in lanes.endings] == ["Done"] * 20

    virtually(main)


def test_a_probe_that_never_asks_the_platform_does_not_open_its_gate() -> None:
    async def main() -> None:
        calls: list[float] = []

        async def handler(event: Event[Any], ctx: Context) -> None:
            if event.id.startswith("idle"):
                raise Reject("not interesting")
            calls.append(lanes.clock())
            raise ApiUnavailable("GET /x: HTTP 503")

        lanes = Lanes(handler, needs=("api",))
        lanes.gatehouse._hears_calls = True
        lanes.submit(*((f"k{number}", f"e{number}") for number in range(3)))
        await asyncio.sleep(1.0)
        assert closed_gates(lanes) == {"api"}
        calls.clear()
        lanes.submit(*((f"i{number}", f"idle{number}") for number in range(3)), *((f"m{n}", f"m{n}") for n in range(60)))
        await asyncio.sleep(40.0)
        assert closed_gates(lanes) == {"api"}
        assert 1 <= len(calls) <= 8, "calls in eight probe intervals"

    virtually(main)


def test_a_gate_is_probed_although_those_before_it_also_wait_for_a_second_one() -> None:
    """A is back and B is not: those that need A alone do not wait for B."""

    async def main() -> None:
        up: set[str] = set()

        async def asks_a(event: Event[Any], ctx: Context) -> None:
            if "A" not in up:
                raise Unavailable("A")

        async def asks_b(event: Event[Any], ctx: Context) -> None:
            raise Unavailable("B")

        async def asks_both(event: Event[Any], ctx: Context) -> None:
            await asks_a(event, ctx)
            await asks_b(event, ctx)

        lanes = Lanes(asks_both, needs=("A", "B"))
        gates = lanes.gatehouse.gates
        of_a = msgspec.structs.replace(lanes.route, call=asks_a, gates=(gates["A"],))
        of_b = msgspec.structs.replace(lanes.route, call=asks_b, gates=(gates["B"],))

        async def put(prefix: str, number: int, route: Route) -> None:
            works = [lanes.work(f"{prefix}{at}", f"{prefix}{at}") for at in range(number)]
            for work in works:
                work.route = route
            lanes.dispatcher.submit(works)
            await asyncio.sleep(2.0)

        await put("b", 3, of_b)
        await put("a", 3, of_a)
        assert closed_gates(lanes) == {"A", "B"}
        await put("both", 200, lanes.route)
        await put("late", 3, of_a)
        up.add("A")
        await asyncio.sleep(60.0)
        assert closed_gates(lanes) == {"B"}
        assert sorted(name for name, what in lanes.endings if what == "Done") == ["a0", "a1", "a2", "late0", "late1", "late2"]

    virtually(main)


def test_a_gate_is_probed_although_those_before_it_wait_for_the_end_of_a_pause() -> None:
    """In an outage somebody pauses one route, and the platform comes back: the other routes do not wait for its lanes."""

    async def main() -> None:
        up: list[bool] = []

        async def handler(event: Event[Any], ctx: Context) -> None:
            if not up:
                raise Unavailable("core")

        lanes = Lanes(handler, needs=("core",))
        pauses, held = lanes.dispatcher._pauses, msgspec.structs.replace(lanes.route, name="a.held")
        works = [lanes.work(f"h{number}", f"h{number}") for number in range(200)]
        for work in works:
            work.route = held
        lanes.dispatcher.submit(works)
        lanes.submit(*((f"k{number}", f"e{number}") for number in range(3)))
        await asyncio.sleep(12.0)
        assert closed_gates(lanes) == {"core"}
        pauses.set([Pause("a.held", "operator", "one thing after the other", "ann", datetime.now(UTC))])
        await asyncio.sleep(7.0)
        up.append(True)
        await asyncio.sleep(20.0)
        assert closed_gates(lanes) == set()
        assert sorted(lanes.endings) == [("e0", "Done"), ("e1", "Done"), ("e2", "Done")]
        pauses.set([])
        await lanes.idle(limit=30.0)
        assert {what for _, what in lanes.endings} == {"Done"}
        assert len(lanes.endings) == 203

    virtually(main)


@pytest.mark.parametrize("error", [lambda: Unavailable("core", after=600.0), lambda: Retry(after=3600.0)], ids=["gate", "timer"])
def test_events_that_went_back_with_their_lease_are_let_go_by_gates_and_timers(error: Callable[[], Exception]) -> None:
    """A lease that is lost every second while the wait is long: what still waits is bounded, and not what has waited."""

    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            raise error()

        lanes = Lanes(handler, needs=("core",))
        for _ in range(30):
            lease = lanes.new_lease()
            lanes.dispatcher.submit([lanes.work(f"k{number}", f"e{number}", lease) for number in range(200)])
            await asyncio.sleep(1.0)
            lease.lose()
        assert lanes.dispatcher.backlog.unfinished == 0
        gc.collect()
        held = sum(isinstance(one, Work) for one in gc.get_objects())
        assert held <= 2_000, f"{held} of 6000 events are still in memory"

    virtually(main)


def test_handlers_that_name_ever_more_gates_share_one_beyond_a_limit() -> None:
    async def main() -> None:
        up: list[bool] = []

        async def handler(event: Event[Any], ctx: Context) -> None:
            if not up:
                raise Unavailable(f"account {event.id}")

        lanes = Lanes(handler)
        lanes.submit(*((f"k{number}", str(number)) for number in range(3 * MOST_GATES)))
        await asyncio.sleep(2.5)
        assert len(lanes.gatehouse.gates) == MOST_GATES + 1
        assert OTHERS in closed_gates(lanes)
        up.append(True)
        await lanes.idle(limit=60.0)
        assert [what for _, what in lanes.endings] == ["Done"] * 3 * MOST_GATES
        assert closed_gates(lanes) == set()

    virtually(main)
