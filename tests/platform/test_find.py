"""`find`: all that matches, over all pages, whatever the platform's pages say of themselves."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from investbus.errors import ApiError, ApiNotReady, ApiUnavailable
from investbus.platform.wire import Answer
from investbus.sandbox import CREDENTIALS, Platform, World
from tests.brokers.process import free_port
from tests.platform.rig import Rig, Sent, reply, virtual

QUERY = "config.manager_settings.policy_id eq {id}"


async def found(entities: AsyncIterator[dict[str, Any]]) -> list[Any]:
    return [entity["id"] async for entity in entities]


def paged(total: int, cap: int = 100, **changes: Any) -> Callable[[Sent], Any]:
    """A collection whose pages hold at most `cap`; `changes` replace fields of each page, and drop those that are `...`."""

    async def answer(sent: Sent) -> Answer:
        start, most = int(sent.query["offset"]), min(int(sent.query["limit"]), cap)
        page = {
            "next": "http://evil.invalid/portfolios/?offset=0",
            "count": total,
            "offset": str(start),
            "results": [{"id": number} for number in range(start, min(start + most, total))],
        }
        return reply(json={name: value for name, value in (page | changes).items() if value is not ...})

    return answer


@pytest.mark.parametrize("changes", [{}, {"count": "250"}, {"next": ..., "offset": ...}, {"count": ...}, {"count": None}])
@pytest.mark.parametrize("cap", [100, 50, 7])
@virtual
async def test_every_entity_comes_once_in_order(cap: int, changes: dict[str, Any]) -> None:
    rig = Rig(paged(250, cap, **changes))
    assert await found(rig.api.find("portfolios", QUERY, id="Y1")) == list(range(250))
    assert {sent.path for sent in rig.script.calls} == {"/portfolios/"}
    uncounted = changes.get("count", 250) in (..., None)  # then only an empty page tells that it was the last
    assert [int(sent.query["offset"]) for sent in rig.script.calls] == [*range(0, 250, cap), *([250] if uncounted else [])]


@pytest.mark.parametrize("total", [0, 1, 99, 100, 101, 200])
@virtual
async def test_no_page_too_few_or_too_many_is_asked_for(total: int) -> None:
    rig = Rig(paged(total))
    assert len(await found(rig.api.find("portfolios", QUERY, id="Y1"))) == total
    assert len(rig.script.calls) == max(1, -(-total // 100))


@virtual
async def test_values_are_quoted_and_the_query_encoded() -> None:
    rig = Rig(paged(0))
    query = "a.b eq {first} and c eq true and d eq {second}"
    await found(rig.api.find("/suitability-profiler/profiles/", query, first="N_1", second="x-2"))
    (sent,) = rig.script.calls
    assert sent.query["query"] == "a.b eq 'N_1' and c eq true and d eq 'x-2'"
    assert sent.url == (
        "https://platform.invalid/suitability-profiler/profiles/"
        "?query=a.b%20eq%20%27N_1%27%20and%20c%20eq%20true%20and%20d%20eq%20%27x-2%27&limit=100&offset=0"
    )


@pytest.mark.parametrize("values", [{}, {"id": "Y1", "other": "Z1"}, {"other": "Y1"}])
@virtual
async def test_values_and_query_have_to_fit(values: dict[str, str]) -> None:
    rig = Rig(paged(1))
    with pytest.raises(ValueError, match=r"takes the values \['id'\], and was given"):
        await found(rig.api.find("portfolios", QUERY, **values))
    assert rig.script.calls == []


@pytest.mark.parametrize(
    "answer", [reply(json={"message": "hello"}), reply(json={"results": {"id": 1}}), reply(json={"results": None})]
)
@virtual
async def test_what_is_no_page_is_not_taken_for_an_empty_one(answer: Answer) -> None:
    with pytest.raises(ApiError, match="no list of results"):
        await found(Rig(answer).api.find("portfolios", QUERY, id="Y1"))


@virtual
async def test_a_collection_is_never_too_young_to_be_there() -> None:
    rig = Rig(reply(404))
    with pytest.raises(ApiError):
        await found(rig.client.bound(float("inf")).find("portfolios", QUERY, id="Y1"))


@virtual
async def test_a_page_in_the_middle_that_fails_ends_it() -> None:
    for answer, meant in ((reply(503, retry_after="9"), ApiUnavailable), (reply(202), ApiNotReady), (reply(500), ApiError)):
        entities = Rig(paged(300), answer).api.find("portfolios", QUERY, id="Y1")
        assert [(await anext(entities))["id"] for _ in range(100)] == list(range(100))
        with pytest.raises(meant):
            await anext(entities)


async def test_over_real_pages_with_their_traps(connect: Callable[..., Rig]) -> None:
    """The pretend platform's `next` repeats the page, and its `offset` is a string, as documented."""
    async with Platform(World(seed=3, portfolios=230), port=free_port()) as platform:
        for portfolio in platform.world.portfolios.values():
            portfolio["external_id"] = "all"
        key_id, key = CREDENTIALS
        rig = connect(platform.url, access_key_id=key_id, secret_access_key=key)
        assert await found(rig.api.find("portfolios", "external_id eq {id}", id="all")) == list(platform.world.portfolios)
        assert platform.calls.counts["GET /portfolios/"] == 3
        assert await found(rig.api.find("portfolios", "external_id eq {id}", id="none")) == []
