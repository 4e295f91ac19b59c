"""What is wrong with one portfolio, or with the key of all, is told apart over real HTTP."""

from pathlib import Path
from typing import Any

import pytest

from investbus import Context, Event, Router
from investbus.config import Settings
from investbus.sandbox import Fault, Platform, World
from tests.acceptance.served import api_of
from tests.whole import at_rest, check_law, envelope, letters, publish, running, settings_in, until

NAME = "portfolios.status-update"
FAILURES = 3


def reading() -> tuple[Router, list[str]]:
    """A handler that reads its portfolio; the keys that it was run for."""
    router, ran = Router(), list[str]()

    @router.on(NAME)
    async def read(event: Event[dict[str, Any]], ctx: Context) -> None:
        ran.append(event.key)
        await ctx.api.portfolio(event.key)

    return router, ran


def settings_for(platform: Platform, folder: Path) -> Settings:
    return settings_in(folder, api=api_of(platform), gate={"failures": FAILURES, "probe_every": 0.3})


def updates(keys: list[str]) -> list[bytes]:
    return [envelope(NAME, f"of-{key}", data={"id": key}) for key in keys]


async def test_a_portfolio_that_always_answers_500_does_not_keep_the_gate_closed_after_an_outage(tmp_path: Path) -> None:
    """It stands first among those that wait, so the first probe after the outage is its."""
    world = World(seed=3, portfolios=20)
    bad, *good = world.portfolios
    router, ran = reading()
    async with Platform(world) as platform:
        settings = settings_for(platform, tmp_path)
        platform.faults.down = True
        async with running(settings, router) as parts:
            await publish(settings, *updates([bad, *good]))
            gate = parts.gatehouse.gates["api"]
            await until(lambda: gate.closed and len(ran) >= 20 + 2)  # all have tried or wait, and two probes have failed
            platform.faults.clear()
            platform.faults.add(Fault(path=f"/portfolios/{bad}/", status=500))
            await until(at_rest(parts, 20))
            assert not gate.closed
            check_law(parts)
            assert gate.closures == 1, "neither does it close the gate again"
    assert [(letter.key, letter.reason, letter.attempts) for letter in await letters(settings)] == [(bad, "exhausted", 3)]


@pytest.mark.parametrize(
    ("fault", "most"),
    [(Fault(path="/auth/*/", status=401), 0), (Fault(path="/portfolios/*/", status=403), FAILURES - 1)],
    ids=["the login is refused", "every call is refused"],
)
async def test_a_revoked_key_dead_letters_less_than_closes_the_gate(fault: Fault, most: int, tmp_path: Path) -> None:
    world = World(seed=3, portfolios=40)
    keys = list(world.portfolios)
    router, ran = reading()
    async with Platform(world) as platform:
        settings = settings_for(platform, tmp_path)
        async with running(settings, router) as parts:
            await publish(settings, *updates(keys[:10]))
            await until(at_rest(parts, 10))
            platform.faults.add(fault)
            platform.sessions.revoke()
            before = len(ran)
            await publish(settings, *updates(keys[10:]))
            gate = parts.gatehouse.gates["api"]
            await until(lambda: gate.closed and len(ran) >= before + FAILURES + 3)  # and some probes have been refused
            assert len(await letters(settings)) <= most
            platform.faults.clear()  # somebody has put it right
            await until(at_rest(parts, 40))
            check_law(parts)
            assert not gate.closed
    died = [letter.key for letter in await letters(settings)]
    assert len(died) <= most
    assert set(keys) == set(ran)
