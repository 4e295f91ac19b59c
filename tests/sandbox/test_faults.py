"""Every kind of fault, ordered in the process and over HTTP."""

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from investbus.sandbox import Fault, Faults, Platform
from tests.sandbox.conftest import get, log_in, status_of

USERS = "/users/*/"


@pytest.fixture
def user(platform: Platform) -> str:
    return f"/users/{next(iter(platform.world.users))}/"


@pytest.mark.parametrize("status", [202, 404, 429, 500, 503])
async def test_a_status_as_often_as_ordered(platform: Platform, caller: aiohttp.ClientSession, user: str, status: int) -> None:
    platform.faults.add(Fault(path=USERS, status=status, headers={"Retry-After": "7"}, times=2))
    async with caller.get(user) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (status, "7")
        assert "request_id" in await answer.json()
    assert await status_of(caller, "/portfolios/") == 200
    assert [await status_of(caller, user) for _ in range(2)] == [status, 200]


def test_a_fault_ends_after_its_seconds() -> None:
    now = 50.0
    faults = Faults(clock=lambda: now)
    faults.add(Fault(status=500, seconds=3.0))
    assert faults.take("GET", "/portfolios/") is not None
    now += 3.0
    assert faults.take("GET", "/portfolios/") is None
    assert faults.active() == []


@pytest.mark.parametrize(
    ("fault", "path", "matches"),
    [
        (Fault(), "/anything/at/all", True),
        (Fault(path="/portfolios/*/"), "/portfolios/P1", True),
        (Fault(path="/portfolios/*/"), "/portfolios/P1/optimizations/O1/", False),
        (Fault(path="/portfolios/P0*/"), "/portfolios/P1/", False),
        (Fault(method="POST"), "/portfolios/", False),
    ],
)
def test_a_pattern_is_compared_part_by_part(fault: Fault, path: str, matches: bool) -> None:
    assert fault.matches("GET", path) is matches


def test_the_oldest_fault_is_used_first() -> None:
    faults = Faults()
    faults.add(Fault(status=500, times=1))
    faults.add(Fault(status=429, times=1))
    taken = [faults.take("GET", "/") for _ in range(3)]
    assert [each and each.status for each in taken] == [500, 429, None]


async def test_down_is_for_all_and_for_logins(platform: Platform, caller: aiohttp.ClientSession, user: str) -> None:
    platform.faults.down = True
    assert [await status_of(caller, path) for path in (user, "/portfolios/", "/nowhere")] == [503, 503, 503]
    assert (await log_in(caller))["title"] == "Ordered fault"
    assert await status_of(caller, "/_sandbox/calls") == 200
    platform.faults.clear()
    assert await status_of(caller, user) == 200


async def test_a_delay_comes_before_the_real_answer(platform: Platform, caller: aiohttp.ClientSession, user: str) -> None:
    platform.faults.add(Fault(path=USERS, delay=0.2, times=1))
    began = time.monotonic()
    assert (await get(caller, user))["status"] == "ACTIVE"
    assert 0.2 <= time.monotonic() - began < 2.0


async def test_a_hung_call_is_never_answered_and_does_not_keep_the_platform_open(
    platform: Platform, caller: aiohttp.ClientSession, user: str
) -> None:
    platform.faults.add(Fault(path=USERS, ending="hang"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await status_of(caller, user)
    began = time.monotonic()
    await platform.__aexit__(None, None, None)
    assert time.monotonic() - began < 2.0


async def test_a_reset_after_the_effect_hides_that_it_took_place(platform: Platform, caller: aiohttp.ClientSession) -> None:
    body = {"data": {"amount": "5", "currency": "EUR", "portfolio": next(iter(platform.world.portfolios))}}
    for fault in (Fault(path="/events/deposit/", ending="reset", times=1, apply=apply) for apply in (False, True)):
        platform.faults.add(fault)
        with pytest.raises(aiohttp.ClientConnectionError):
            await caller.post("/events/deposit/", json=body, headers={"Idempotency-Key": "K"})
        assert len(platform.effects.all) == fault.apply
        assert platform.calls.recent[-1].status == 0
    async with caller.post("/events/deposit/", json=body, headers={"Idempotency-Key": "K"}) as answer:
        assert answer.status == 201
    (effect,) = platform.effects.all
    assert effect.repeats == 1


async def test_an_error_can_hide_an_effect_too(platform: Platform, caller: aiohttp.ClientSession) -> None:
    body = {"data": {"amount": "5", "currency": "EUR", "portfolio": next(iter(platform.world.portfolios))}}
    platform.faults.add(Fault(path="/events/*/", method="POST", status=500, apply=True))
    async with caller.post("/events/withdraw/", json=body) as answer:
        assert answer.status == 500
    assert len(platform.effects.all) == 1


async def test_a_slow_answer_arrives_whole(platform: Platform, caller: aiohttp.ClientSession, user: str) -> None:
    whole = await get(caller, user)
    platform.faults.add(Fault(path=USERS, drip=0.001))
    began = time.monotonic()
    assert await get(caller, user) == whole
    assert time.monotonic() - began > 0.1


async def test_a_page_in_place_of_data(platform: Platform, caller: aiohttp.ClientSession, user: str) -> None:
    page = "<html>Back soon</html>"
    platform.faults.add(Fault(path=USERS, status=200, body=page, headers={"Content-Type": "text/html"}))
    async with caller.get(user) as answer:
        assert (answer.status, answer.content_type, await answer.text()) == (200, "text/html", page)


async def test_a_redirect_to_another_place(platform: Platform, caller: aiohttp.ClientSession, user: str) -> None:
    platform.faults.add(Fault(path=USERS, status=302, headers={"Location": "http://127.0.0.1:9/"}))
    async with caller.get(user, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "http://127.0.0.1:9/")


async def order(session: aiohttp.ClientSession, **content: Any) -> tuple[int, Any]:
    async with session.post("/_sandbox/faults", json=content) as answer:
        return answer.status, await answer.json()


async def test_other_processes_order_over_http(platform: Platform, caller: aiohttp.ClientSession, user: str) -> None:
    status, standing = await order(caller, faults=[{"path": USERS, "status": 503, "times": 1}], token_seconds=9)
    assert (status, standing["faults"][0]["path"]) == (200, USERS)
    assert [await status_of(caller, user) for _ in range(2)] == [503, 200]
    assert (await log_in(caller))["expires_in"] == "9"
    await order(caller, down=True)
    assert await status_of(caller, user) == 503
    assert (await order(caller, clear=True, revoke="all"))[1] == {"down": False, "faults": []}
    assert await status_of(caller, user) == 401


@pytest.mark.parametrize("wrong", [{"fault": []}, {"faults": [{"status": 700}]}, {"faults": [{"ending": "explode"}]}])
async def test_an_order_that_is_not_understood_says_so(caller: aiohttp.ClientSession, wrong: dict[str, Any]) -> None:
    status, answer = await order(caller, **wrong)
    assert status == 400
    assert answer["description"]


async def test_calls_and_effects_are_read_over_http(platform: Platform, caller: aiohttp.ClientSession, user: str) -> None:
    await get(caller, user)
    body = {"data": {"amount": "5", "currency": "EUR", "portfolio": next(iter(platform.world.portfolios))}}
    await caller.post("/events/deposit/", json=body, headers={"Idempotency-Key": "K"})
    noted = await get(caller, "/_sandbox/calls")
    assert noted["counts"] == {"POST /auth/login/": 1, "GET /users/{id}/": 1, "POST /events/deposit/": 1}
    last = noted["calls"][-1]
    assert (last["method"], last["path"], last["status"], last["idempotency_key"]) == (
        "POST", "/events/deposit/", 201, "K",
    )  # fmt: skip
    assert last["started"] <= last["ended"]
    (effect,) = await get(caller, "/_sandbox/effects")
    assert (effect["key"], effect["repeats"]) == ("K", 0)
