"""What happens to a portfolio, as an endless generator of facts: each is told at the moment when the world has changed.

A story is causal by construction: an optimization is there before its owner decides on it, a withdrawal is asked for
before cash is found, and every amount of a withdrawal is the total of what is still asked for. Stories of different
portfolios know nothing of each other; the stream deals them out.
"""

from collections.abc import Iterator
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

from investbus.sandbox.world import Entity, World, timestamp

EVERYTHING = 1e100  # the platform's word for a full withdrawal
ADVISORY, SELF_INVESTOR = "ROBO_ADVISOR_ADVISORY", "USER_MANAGED"
CHOICES = ("ACCEPT", "REJECT", "REOPTIMIZE", "IGNORED")


class Fact(NamedTuple):
    """One event to be: `key` is what the platform's events are ordered by."""

    subject: str
    action: str
    key: str
    data: dict[str, Any]


Story = Iterator[Fact]


def life(world: World, portfolio: Entity, rng: Random) -> Story:
    """Everything that happens to `portfolio`, from wherever it stands."""
    if portfolio["status"] == "WAITING_FOR_POLICY":
        yield from beginning(world, portfolio, rng)
    robo = portfolio["config"]["manager"] != SELF_INVESTOR
    chapters = (rebalancing, withdrawal, reassessment, interruption)
    weights = (40, 35, 12, 13) if robo else (0, 0, 1, 2)
    while True:
        yield from rng.choices(chapters, weights)[0](world, portfolio, rng)


def beginning(world: World, portfolio: Entity, rng: Random) -> Story:
    """From creation until the first money is invested."""
    yield Fact("portfolios", "creation", portfolio["id"], _about(world, portfolio))
    profile = world.link_profile(portfolio)
    yield Fact("portfolios", "profile-created-for-portfolio", portfolio["id"], _about_profile(world, portfolio))
    yield from assessment(world, profile, rng)
    yield status(world, portfolio, "WAITING_FOR_ACCOUNT")
    world.change(portfolio, brokerage_account={"id": f"broker-{profile['id'][-6:]}"})
    yield status(world, portfolio, "WAITING_FOR_FUNDS")
    world.fund(portfolio)
    yield status(world, portfolio, "ACTIVE")


def rebalancing(world: World, portfolio: Entity, rng: Random) -> Story:
    """An optimization; with an advised owner, what the owner says to it."""
    recommended = rng.random() < 0.7
    optimization = world.add_optimization(portfolio, recommended=recommended)
    yield _optimization(optimization, "status-update", "SUCCESS", is_recommended=recommended)
    if recommended and portfolio["config"]["manager"] == ADVISORY:
        choice = rng.choices(CHOICES, (6, 2, 1, 1))[0]
        world.change(optimization, owner_choice=choice)
        yield _optimization(optimization, "owner-choice-update", choice)


def withdrawal(world: World, portfolio: Entity, rng: Random) -> Story:
    """Money asked for, perhaps more while the first is under way; cash found; and the request taken back to nothing."""
    total = Decimal(rng.randrange(50_000, 2_000_000)) / 1000
    yield divest(world, portfolio, total)
    while rng.random() < 0.35:
        total += Decimal(rng.randrange(10_000, 500_000)) / 1000
        yield divest(world, portfolio, total)
    if rng.random() < 0.15:
        yield divest(world, portfolio, EVERYTHING)
    for _ in range(rng.randint(1, 2)):  # announced again with every change of the holdings
        about = _about(world, portfolio) | {"currency": portfolio["base_currency"]}
        yield Fact("portfolios", "cash-available-for-withdrawal", portfolio["id"], about)
    yield divest(world, portfolio, rng.choice((0, None)))


def reassessment(world: World, portfolio: Entity, rng: Random) -> Story:
    """The owner's answers have expired and are given again."""
    profile = world.profiles[portfolio["config"]["manager_settings"]["suitability_profile_id"]]
    yield assess(world, profile, "EXPIRED", rng)
    yield from assessment(world, profile, rng)
    yield Fact("portfolios", "profile-updated-for-portfolio", portfolio["id"], _about_profile(world, portfolio))


def interruption(world: World, portfolio: Entity, _rng: Random) -> Story:
    """Out of use and back."""
    yield status(world, portfolio, "INACTIVE")
    yield status(world, portfolio, "ACTIVE")


def assessment(world: World, profile: Entity, rng: Random) -> Story:
    """From the first question to the accepted result; some have to cool down first."""
    yield assess(world, profile, "IN_PROGRESS", rng)
    if rng.random() < 0.1:
        yield assess(world, profile, "COOLDOWN", rng)
        yield assess(world, profile, "IN_PROGRESS", rng)
    yield assess(world, profile, "COMPLETED", rng)
    yield assess(world, profile, "ACCEPTED", rng)


def status(world: World, portfolio: Entity, value: str) -> Fact:
    world.change(portfolio, status=value)
    return Fact("portfolios", "status-update", portfolio["id"], _about(world, portfolio) | {"value": value})


def divest(world: World, portfolio: Entity, total: Decimal | float | None) -> Fact:
    world.change_settings(portfolio, divest_amount=total)
    about = _about(world, portfolio) | {"divest_amount": total, "currency": portfolio["base_currency"]}
    return Fact("portfolios", "divest-amount-update", portfolio["id"], about)


def assess(world: World, profile: Entity, value: str, rng: Random) -> Fact:
    world.assess(profile, value)
    questionnaire = profile["assessments"][0]["questionnaire_id"]
    if rng.random() < 0.2:
        questionnaire = rng.randint(1, 99)  # "internal id" is all that the documentation says of it
    data = {"profile_id": profile["id"], "questionnaire_id": questionnaire, "value": value}
    if value == "ACCEPTED":
        data["accepted_datetime"] = timestamp(world.clock())
    return Fact("assessments", "assessment-status-update", profile["id"], data)


def _about(world: World, portfolio: Entity) -> dict[str, Any]:
    """What every event of a portfolio says. The owner's external id came later and is left out where there is none."""
    owner = world.users[portfolio["owned_by_user_id"]]
    about = {"id": portfolio["id"], "external_id": portfolio["external_id"], "owned_by_user_id": owner["id"]}
    return about if owner["external_id"] is None else about | {"owned_by_external_user_id": owner["external_id"]}


def _about_profile(world: World, portfolio: Entity) -> dict[str, Any]:
    profile_id = portfolio["config"]["manager_settings"]["suitability_profile_id"]
    return _about(world, portfolio) | {"suitability_profile_id": profile_id}


def _optimization(optimization: Entity, action: str, value: str, **more: Any) -> Fact:
    about = {"id": optimization["id"], "portfolio_id": optimization["portfolio_id"]}
    about |= {"external_id": optimization["external_id"], "value": value}
    return Fact("optimizations", action, optimization["portfolio_id"], about | more)
