"""The sample handlers, on entities of a world and on the stream's own facts."""

from decimal import Decimal
from random import Random
from typing import Any

import pytest

from investbus.sandbox import World, story
from investbus.sandbox.answers import encode
from investbus.sandbox.core_banking import CoreBanking
from investbus.sandbox.handlers import router
from investbus.sandbox.world import Entity
from investbus.testing.bus import Bus, Result

WITHDRAW = "/events/withdraw/"


@pytest.fixture
def core(bus: Bus) -> CoreBanking:
    core = CoreBanking()
    bus.use(router, state={"core": core})
    return core


@pytest.fixture
def world() -> World:
    return World(seed=11, portfolios=20)


def portfolio_with(world: World, **fields: Any) -> Entity:
    return next(each for each in world.portfolios.values() if fields.items() <= each.items() and each["status"] == "ACTIVE")


def ordinary(world: World) -> Entity:
    return portfolio_with(world, archived=False, money_type="REAL_MONEY")


async def tell(bus: Bus, fact: story.Fact) -> Result:
    return await bus.send(f"{fact.subject}.{fact.action}", fact.data)


async def ask_for(bus: Bus, world: World, portfolio: Entity, total: Decimal | float | None) -> Result:
    fact = story.divest(world, portfolio, total)
    bus.api.get(f"/portfolios/{portfolio['id']}/", json=portfolio)
    bus.api.post(WITHDRAW, json={})
    return await tell(bus, fact)


def paid(bus: Bus) -> list[Decimal]:
    return [Decimal(call.json["data"]["amount"]) for call in bus.api.calls if call.path == WITHDRAW]


async def test_only_real_money_gets_an_account(bus: Bus, core: CoreBanking, world: World) -> None:
    for portfolio in (ordinary(world), portfolio_with(world, money_type="PAPER_MONEY")):
        bus.api.get(f"/portfolios/{portfolio['id']}/", json=portfolio)
        created = next(story.beginning(world, portfolio, Random(1)))
        assert (await tell(bus, created)).outcome == "done"
    assert core.accounts == {ordinary(world)["id"]: ordinary(world)["base_currency"]}


async def test_the_customer_is_told_and_an_unknown_one_uses_up_all_attempts(bus: Bus, core: CoreBanking, world: World) -> None:
    nobody = {user["id"] for user in world.users.values() if user["external_id"] is None}
    told = await tell(bus, story.status(world, ordinary(world), "INACTIVE"))
    assert (told.outcome, core.messages.total()) == ("done", 1)
    orphan = next(each for each in world.portfolios.values() if each["owned_by_user_id"] in nobody)
    untold = await tell(bus, story.status(world, orphan, "INACTIVE"))
    assert (untold.outcome, untold.attempts, bus.dead_letters[0].reason) == ("dead", 5, "exhausted")


async def test_the_running_total_is_paid_and_closed(bus: Bus, core: CoreBanking, world: World) -> None:
    portfolio = ordinary(world)
    for total in (Decimal(100), Decimal("150.5"), 0, Decimal(20)):
        assert (await ask_for(bus, world, portfolio, total)).outcome == "done"
    assert paid(bus) == [Decimal(100), Decimal("50.5"), Decimal(20)]


async def test_everything_is_the_cash_that_is_left(bus: Bus, core: CoreBanking, world: World) -> None:
    portfolio = ordinary(world)
    cash = portfolio["portfolio"][f"${portfolio['base_currency']}"]
    await ask_for(bus, world, portfolio, Decimal(100))
    await ask_for(bus, world, portfolio, story.EVERYTHING)
    assert paid(bus) == [Decimal(100), cash - 100]


async def test_a_payment_whose_answer_was_lost_is_repeated_under_its_key(bus: Bus, core: CoreBanking, world: World) -> None:
    portfolio = ordinary(world)
    fact = story.divest(world, portfolio, Decimal(70))
    bus.api.get(f"/portfolios/{portfolio['id']}/", json=portfolio)
    bus.api.post(WITHDRAW, status=500, times=1, then={})
    assert (await tell(bus, fact)).attempts == 2
    calls = [call for call in bus.api.calls if call.path == WITHDRAW]
    assert len({(call.idempotency_key, encode(call.json)) for call in calls}) == 1 < len(calls)
    assert list(core.payments.values()) == [Decimal(70)]


async def test_an_archived_portfolio_is_a_dead_letter_at_once(bus: Bus, core: CoreBanking, world: World) -> None:
    result = await ask_for(bus, world, portfolio_with(world, archived=True), Decimal(5))
    assert (result.outcome, result.attempts, bus.dead_letters[0].reason) == ("dead", 1, "rejected")
    assert paid(bus) == []


async def optimized(bus: Bus, world: World, manager: str, *, recommended: bool) -> tuple[Entity, Entity]:
    portfolio = next(each for each in world.portfolios.values() if each["config"]["manager"] == manager)
    optimization = world.add_optimization(portfolio, recommended=recommended)
    bus.api.get(f"/portfolios/{portfolio['id']}/", json=portfolio)
    bus.api.get(f"/portfolios/{portfolio['id']}/optimizations/{optimization['id']}/", json=optimization)
    about = {"id": optimization["id"], "portfolio_id": portfolio["id"]}
    await bus.send("optimizations.status-update", {**about, "value": "SUCCESS", "is_recommended": recommended})
    return optimization, about


async def test_only_what_is_recommended_is_executed(bus: Bus, core: CoreBanking, world: World) -> None:
    for recommended in (False, True):
        await optimized(bus, world, "ROBO_ADVISOR_DISCRETIONARY", recommended=recommended)
        assert len(core.orders) == recommended


async def test_an_advised_owner_has_to_accept(bus: Bus, core: CoreBanking, world: World) -> None:
    optimization, about = await optimized(bus, world, "ROBO_ADVISOR_ADVISORY", recommended=True)
    for choice, executed in (("REJECT", 0), ("ACCEPT", 1)):
        await bus.send("optimizations.owner-choice-update", {**about, "value": choice})
        assert len(core.orders) == executed
    (orders,) = core.orders.values()
    assert orders.keys() == optimization["portfolio_update"]["orders"].keys()


async def test_a_verdict_reaches_every_portfolio_of_the_profile(bus: Bus, core: CoreBanking, world: World) -> None:
    first, second = list(world.portfolios.values())[:2]
    bus.api.get("/portfolios/", json={"results": [first, second], "count": 2, "offset": "0", "next": None})
    profile = world.profiles[first["config"]["manager_settings"]["suitability_profile_id"]]
    assert (await tell(bus, story.assess(world, profile, "ACCEPTED", Random(1)))).outcome == "done"
    assert core.verdicts == {first["id"]: "ACCEPTED", second["id"]: "ACCEPTED"}
    assert bus.api.calls[0].query["query"].endswith(f"eq '{profile['id']}'")


async def test_what_no_handler_names_is_watched(bus: Bus, core: CoreBanking) -> None:
    assert (await bus.send("portfolios.funding", {"id": "P1", "value": 1})).outcome == "done"
