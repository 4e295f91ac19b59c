"""What a call tries again by itself, within its one deadline, and what it must not."""

import asyncio
from typing import Any

import pytest

from investbus.errors import ApiUnavailable
from investbus.platform.wire import Answer, NoAnswer
from tests.platform.rig import OLD, Rig, Sent, fate, never, reply, virtual

RESET = NoAnswer("ClientOSError: Connection reset by peer")
OUTAGES = [reply(502), reply(503), reply(504), RESET]
BARE = [("POST", None), ("PATCH", None), ("DELETE", None), ("PATCH", "k1"), ("DELETE", "k1")]


async def call(rig: Rig, method: str, key: str | None = None) -> Any:
    return await rig.client.call(method, "/things/{id}/", {"id": "T1"}, fresh_until=OLD, idempotency_key=key)


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize(("method", "key"), [("GET", None), ("POST", "k1")])
@virtual
async def test_a_short_outage_is_bridged(method: str, key: str | None, outage: Any) -> None:
    rig = Rig(outage, outage, reply())
    assert await call(rig, method, key) == {"ok": True}
    assert len(rig.script.calls) == 3
    assert {sent.headers.get("Idempotency-Key") for sent in rig.script.calls} == {key}
    assert len({(sent.url, sent.body) for sent in rig.script.calls}) == 1
    assert rig.clock() > 0.5, "it waits in between"


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize(("method", "key"), BARE)
@virtual
async def test_a_write_that_may_have_happened_is_never_sent_again(method: str, key: str | None, outage: Any) -> None:
    rig = Rig(outage, reply())
    with pytest.raises(ApiUnavailable):
        await call(rig, method, key)
    assert len(rig.script.calls) == 1


@pytest.mark.parametrize("outage", OUTAGES)
@virtual
async def test_a_long_outage_is_told_after_three_tries(outage: Any) -> None:
    rig = Rig(outage)
    with pytest.raises(ApiUnavailable) as caught:
        await call(rig, "GET")
    assert len(rig.script.calls) == 3
    assert (caught.value.status, caught.value.after) == (getattr(outage, "status", None), None)
    assert rig.answered == 0


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize(
    ("said", "after"),
    [("120", 120.0), ("0", 0.0), ("1.5", 1.5), ("Thu, 01 Jan 2026 00:02:00 GMT", 120.0), ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0)],
)
@virtual
async def test_a_platform_that_says_when_is_not_asked_before(status: int, said: str, after: float) -> None:
    rig = Rig(reply(status, retry_after=said), reply())
    with pytest.raises(ApiUnavailable) as caught:
        await call(rig, "GET")
    assert caught.value.after == pytest.approx(after, abs=0.01)
    assert len(rig.script.calls) == 1


@virtual
async def test_a_platform_that_is_full_is_not_asked_again_within_the_call() -> None:
    rig = Rig(reply(429), reply())
    with pytest.raises(ApiUnavailable) as caught:
        await call(rig, "GET")
    assert (caught.value.status, caught.value.after) == (429, None)
    assert len(rig.script.calls) == 1


@pytest.mark.parametrize("status", [400, 404, 409, 422, 500, 501])
@virtual
async def test_an_error_of_the_call_is_not_tried_again(status: int) -> None:
    rig = Rig(reply(status), reply())
    (met,) = await fate([call(rig, "GET")])
    assert met.status == status
    assert len(rig.script.calls) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
@virtual
async def test_a_platform_that_hangs_is_given_up_at_the_deadline(method: str) -> None:
    rig = Rig(never, timeout=4.0)
    with pytest.raises(ApiUnavailable, match=f"{method} /things/{{id}}/: no answer within 4 s"):
        await call(rig, method)
    assert rig.clock() == pytest.approx(4.0)
    assert rig.statuses() == {(f"{method} /things/{{id}}/", "error"): 1}


@virtual
async def test_the_deadline_covers_the_retries() -> None:
    async def slow_outage(sent: Sent) -> Answer:
        await asyncio.sleep(1.5)
        return reply(503)

    rig = Rig(slow_outage, timeout=4.0)
    with pytest.raises(ApiUnavailable, match="within 4 s"):
        await call(rig, "GET")
    assert rig.clock() == pytest.approx(4.0)
    assert len(rig.script.calls) == 3


@virtual
async def test_the_deadline_covers_the_wait_for_room() -> None:
    """Else a platform that hangs would cost the second batch of handlers their own time-outs, and those are attempts."""
    rig = Rig(never, timeout=4.0, concurrency=2)
    met = await fate([call(rig, "GET") for _ in range(7)])
    assert all(isinstance(error, ApiUnavailable) for error in met)
    assert rig.clock() == pytest.approx(4.0)


@virtual
async def test_tries_of_concurrent_calls_do_not_mix() -> None:
    """jd/tenacity#93: callers that share a retrying object share its count."""
    seen: dict[str, int] = {}

    async def third_time(sent: Sent) -> Answer:
        seen[sent.path] = seen.get(sent.path, 0) + 1
        await asyncio.sleep(0.01 * len(sent.path))
        return reply(json={"try": seen[sent.path]}) if seen[sent.path] == 3 else reply(503)

    rig = Rig(third_time, concurrency=100)
    answers = await fate([rig.api.portfolio("P" * length) for length in range(1, 61)])
    assert answers == [{"try": 3}] * 60
    assert set(seen.values()) == {3}


@pytest.mark.parametrize("reached", [0.05, 0.3], ids=["while sending", "between tries"])
@virtual
async def test_a_cancelled_call_is_not_tried_again(reached: float) -> None:
    """jd/tenacity#529: a retry by exclusion takes even a CancelledError for a failure."""

    async def answer(sent: Sent) -> Answer:
        await asyncio.sleep(0.2)
        return reply(503)

    rig = Rig(answer)
    task = asyncio.create_task(call(rig, "GET"))
    await asyncio.sleep(reached)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(60)
    assert len(rig.script.calls) == 1
