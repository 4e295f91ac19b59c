"""What operators see of the calls, and what the gate hears of them."""

import asyncio
from typing import Any

import pytest

from investbus.errors import InvestbusError
from investbus.metrics import MOST_OPERATIONS, OTHERS
from investbus.platform.wire import Answer, NoAnswer
from tests.platform.rig import OLD, Rig, Sent, never, reply, tokens, virtual

OPERATION = "GET /things/{id}/"
RESET = NoAnswer("ServerDisconnectedError")


async def call(rig: Rig, id: str = "T1") -> Any:
    try:
        return await rig.client.call("GET", "/things/{id}/", {"id": id}, fresh_until=OLD)
    except InvestbusError as error:
        return error


@pytest.mark.parametrize(
    ("answer", "label", "requests", "answered"),
    [
        (reply(200), "2xx", 1, 1),
        (reply(204, body=b""), "2xx", 1, 1),
        (reply(202), "202", 1, 1),
        (reply(302), "error", 1, 1),
        (reply(400), "4xx", 1, 1),
        (reply(404), "404", 1, 1),
        (reply(409), "4xx", 1, 1),
        (reply(422), "4xx", 1, 1),
        (reply(401), "401", 2, 0),
        (reply(403), "4xx", 2, 0),
        (reply(429), "429", 1, 0),
        (reply(500), "5xx", 1, 0),
        (reply(502), "5xx", 3, 0),
        (reply(503, retry_after="5"), "5xx", 1, 0),
        (RESET, "error", 3, 0),
        (never, "error", 1, 0),
    ],
)
@virtual
async def test_each_request_is_counted_under_its_status(answer: Any, label: str, requests: int, answered: int) -> None:
    rig = Rig(answer)
    await call(rig)
    assert rig.statuses() == {(OPERATION, label): requests}
    assert rig.counted("api_request_seconds_count", operation=OPERATION) == requests
    assert rig.answered == answered, "the gate may open at answers below 500 that are neither 429 nor a refusal"


@virtual
async def test_a_refusal_that_a_new_token_mends_is_one_answer() -> None:
    rig = Rig(reply(401), reply())
    await call(rig)
    assert rig.statuses() == {(OPERATION, "401"): 1, (OPERATION, "2xx"): 1}
    assert rig.answered == 1
    assert rig.logins() == (2, 0, 0)


@virtual
async def test_a_login_is_no_answer_and_no_request_of_a_handler() -> None:
    rig = Rig()
    await rig.client.log_in()
    assert rig.answered == 0
    assert rig.statuses() == {}
    assert rig.logins() == (1, 0, 0)


@virtual
async def test_login_results_stand_at_zero_from_the_start() -> None:
    rig = Rig()
    samples = [sample for family in rig.metrics.registry.collect() for sample in family.samples]
    rows = {sample.labels["result"]: sample.value for sample in samples if sample.name == "investbus_api_logins_total"}
    assert rows == {"ok": 0, "refused": 0, "error": 0}


@virtual
async def test_every_login_ends_in_one_result() -> None:
    rig = Rig(logins=(tokens("t1", refresh=None), reply(500), RESET, reply(401), tokens("t2")))
    rig.script.plan = [reply(401), reply()]
    met = [await call(rig) for _ in range(2)]
    assert [str(each) for each in met[:1]] == ["api is not available: the login is refused: HTTP 401"]
    assert met[1] == {"ok": True}
    assert rig.logins() == (2, 1, 2)


@virtual
async def test_durations_are_those_of_the_requests() -> None:
    async def slow(sent: Sent) -> Answer:
        await asyncio.sleep(3.0)
        return reply()

    rig = Rig(slow, concurrency=1)
    await asyncio.gather(call(rig), call(rig))
    assert rig.counted("api_request_seconds_sum", operation=OPERATION) == pytest.approx(6.0)


@virtual
async def test_labels_are_templates_and_never_ids() -> None:
    rig = Rig()
    for number in range(50):
        await rig.api.optimization(f"P{number}", f"O{number}")
    assert rig.statuses() == {("GET /portfolios/{portfolio_id}/optimizations/{id}/", "2xx"): 50}


@virtual
async def test_handlers_that_write_ids_into_templates_share_one_label_beyond_a_limit() -> None:
    """Each label is kept, and shown at every scrape, for as long as the worker lives."""
    rig = Rig()
    for number in range(3 * MOST_OPERATIONS):
        await rig.api.get(f"/portfolios/P{number}/")
    await rig.api.get("/portfolios/P1/")
    statuses = rig.statuses()
    assert len(statuses) == MOST_OPERATIONS + 1
    assert statuses["GET /portfolios/P1/", "2xx"] == 2
    assert statuses[OTHERS, "2xx"] == 2 * MOST_OPERATIONS
    assert rig.counted("api_request_seconds_count", operation=OTHERS) == 2 * MOST_OPERATIONS
