"""The resources: entities, pages, changes, money."""

from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from investbus.sandbox import Platform, World
from tests.sandbox.conftest import get, log_in, status_of

PROFILE = "config.manager_settings.suitability_profile_id"


async def test_entities_are_read_with_and_without_the_last_slash(platform: Platform, caller: aiohttp.ClientSession) -> None:
    portfolio = next(iter(platform.world.portfolios.values()))
    read = await get(caller, f"/portfolios/{portfolio['id']}/")
    assert read["version"] == portfolio["version"]
    assert read == await get(caller, f"/portfolios/{portfolio['id']}")
    profile_id = read["config"]["manager_settings"]["suitability_profile_id"]
    assert (await get(caller, f"/suitability-profiler/profiles/{profile_id}/"))["status"] == {"type": "ACCEPTED"}
    assert (await get(caller, f"/users/{read['owned_by_user_id']}/"))["id"] == read["owned_by_user_id"]
    assert platform.calls.counts["GET /portfolios/{id}/"] == 2


async def test_what_is_not_there_is_404_with_a_request_id(caller: aiohttp.ClientSession) -> None:
    for path in ("/portfolios/P1/", "/portfolios/P1/optimizations/O1/", "/users/U1/", "/nowhere/"):
        async with caller.get(path) as answer:
            assert answer.status == 404
            assert "request_id" in await answer.json()
    async with caller.delete("/portfolios/") as answer:
        assert answer.status == 405


async def test_own_offset_reaches_all_and_next_reaches_nothing(platform: Platform, caller: aiohttp.ClientSession) -> None:
    first = await get(caller, "/portfolios/")
    assert first.keys() == {"next", "count", "offset", "results", "_embedded"}
    assert (first["count"], first["offset"], len(first["results"])) == (45, "0", 20)
    assert first["next"].startswith("http://")
    async with caller.get(first["next"]) as answer:
        assert (await answer.json())["results"] == first["results"]
    pages = [await get(caller, "/portfolios/", limit="20", offset=str(offset)) for offset in (0, 20, 40, 60)]
    assert [each["id"] for page in pages for each in page["results"]] == list(platform.world.portfolios)
    assert [page["next"] is None for page in pages] == [False, False, True, True]


async def test_the_documented_query_finds_the_portfolio_of_a_profile(platform: Platform, caller: aiohttp.ClientSession) -> None:
    portfolio = next(iter(platform.world.portfolios.values()))
    profile_id = portfolio["config"]["manager_settings"]["suitability_profile_id"]
    found = await get(caller, "/portfolios/", query=f"{PROFILE} eq '{profile_id}'")
    assert [each["id"] for each in found["results"]] == [portfolio["id"]]
    assert (await get(caller, "/portfolios/", query=f"{PROFILE} eq 'N0'"))["results"] == []
    archived = await get(caller, "/portfolios/", query="archived eq true and status eq 'ACTIVE'")
    assert {each["archived"] for each in archived["results"]} == {True}


@pytest.mark.parametrize(
    ("query", "status"),
    [({"limit": "101"}, 422), ({"limit": "0"}, 422), ({"offset": "-1"}, 422), ({"query": "a eq b"}, 400)],
)
async def test_a_page_that_makes_no_sense_is_refused(caller: aiohttp.ClientSession, query: dict[str, str], status: int) -> None:
    async with caller.get("/portfolios/", params=query) as answer:
        assert answer.status == status


async def test_a_patch_is_a_new_version_and_replaces_holdings_whole(platform: Platform, caller: aiohttp.ClientSession) -> None:
    before = dict(next(iter(platform.world.portfolios.values())))
    path = f"/portfolios/{before['id']}/"
    changes = {"portfolio": {"$EUR": 12.5}, "config": {"manager_settings": {"divest_amount": 0}}}
    async with caller.patch(path, json=changes) as answer:
        after = await answer.json()
    assert after["version"] == before["version"] + 1
    assert after["portfolio"] == {"$EUR": 12.5}
    assert after["config"]["manager_settings"]["divest_amount"] == 0
    assert after["config"]["manager"] == before["config"]["manager"]
    refusals: list[Any] = [{"money_type": "PAPER_MONEY"}, [], {"config": 1}]
    for refused in refusals:
        async with caller.patch(path, json=refused) as answer:
            assert answer.status == 422
    assert (await get(caller, path))["version"] == after["version"]


async def test_amounts_keep_their_digits_and_the_sentinel(platform: Platform, caller: aiohttp.ClientSession) -> None:
    portfolio = next(iter(platform.world.portfolios.values()))
    path = f"/portfolios/{portfolio['id']}/"
    async with caller.patch(path, data=b'{"portfolio": {"$EUR": 1234567890123456.123, "$USD": 1e100}}') as answer:
        text = await answer.text()
    assert '"$EUR":1234567890123456.123' in text
    assert '"$USD":1E+100' in text


async def test_an_optimization_is_202_until_it_is_computed() -> None:
    now = datetime(2025, 3, 1, tzinfo=UTC)
    world = World(seed=1, portfolios=1, clock=lambda: now, computing=2.0)
    portfolio = next(iter(world.portfolios.values()))
    made = [world.add_optimization(portfolio, recommended=True) for _ in range(50)]
    optimization = next(each for each in made if world.computing(each))
    path = f"/portfolios/{portfolio['id']}/optimizations/{optimization['id']}"
    async with Platform(world) as platform, aiohttp.ClientSession(platform.url) as caller:
        caller.headers["Authorization"] = f"Bearer {(await log_in(caller))['access_token']}"
        async with caller.get(path) as answer:
            assert answer.status == 202
            assert (await answer.json()).keys() == {"message", "details", "optimization_hash"}
        assert await status_of(caller, f"/portfolios/P1/optimizations/{optimization['id']}/") == 404
        now += timedelta(seconds=2)
        for spelling in (path, path + "/"):
            assert (await get(caller, spelling))["portfolio_update"]["is_recommended"] is True


def money(platform: Platform, **changes: Any) -> dict[str, Any]:
    portfolio = next(iter(platform.world.portfolios))
    return {"data": {"amount": "1000.50", "currency": "USD", "portfolio": portfolio, **changes}}


async def announce(caller: aiohttp.ClientSession, kind: str, body: Any, key: str | None) -> tuple[int, Any]:
    headers = {} if key is None else {"Idempotency-Key": key}
    async with caller.post(f"/events/{kind}/", json=body, headers=headers) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize("kind", ["deposit", "withdraw"])
async def test_a_key_has_one_effect_however_often_it_is_sent(platform: Platform, caller: aiohttp.ClientSession, kind: str) -> None:
    answers = [await announce(caller, kind, money(platform), "LVRYWG833Vp2FIIG") for _ in range(3)]
    assert answers[0][0] == 201
    assert answers == [answers[0]] * 3
    (effect,) = platform.effects.all
    assert (effect.kind, effect.key, effect.repeats, len(effect.times)) == (kind, "LVRYWG833Vp2FIIG", 2, 3)
    assert effect.body == money(platform)["data"]
    assert platform.calls.recent[-1].idempotency_key == "LVRYWG833Vp2FIIG"


async def test_a_key_belongs_to_one_kind_and_one_body(platform: Platform, caller: aiohttp.ClientSession) -> None:
    await announce(caller, "deposit", money(platform), "K")
    assert (await announce(caller, "withdraw", money(platform), "K"))[0] == 201
    assert (await announce(caller, "deposit", money(platform, amount="2"), "K"))[0] == 409
    assert [(each.kind, each.conflicts) for each in platform.effects.all] == [("deposit", 1), ("withdraw", 0)]


async def test_without_a_key_every_call_is_an_effect(platform: Platform, caller: aiohttp.ClientSession) -> None:
    for _ in range(2):
        assert (await announce(caller, "deposit", money(platform), None))[0] == 201
    assert [effect.key for effect in platform.effects.all] == [None, None]


@pytest.mark.parametrize(
    "changes", [{"amount": "1E+2"}, {"amount": 10}, {"amount": "-1"}, {"currency": "eur"}, {"portfolio": "P1"}, {"x": 1}]
)
async def test_money_that_makes_no_sense_is_refused(
    platform: Platform, caller: aiohttp.ClientSession, changes: dict[str, Any]
) -> None:
    status, answer = await announce(caller, "deposit", money(platform, **changes), "K")
    assert status == 422
    assert answer.keys() == {"title", "detail", "status", "body"}
    assert platform.effects.all == []
