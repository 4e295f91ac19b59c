"""One table: what can go wrong in a handler, and what becomes of its event, through the whole worker in virtual time.

Jitter is 0, so the waits are those of the documentation: 1, 3, 9 and 27 seconds between five attempts. What costs no attempt waits
in its own way: one second for "not yet", the probe interval at a closed gate.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from investbus import Context, Event, Reject, Retry, Router, Unavailable
from investbus.errors import ApiError, ApiNotReady, ApiUnavailable
from investbus.platform.wire import Answer, NoAnswer
from investbus.testing import STARTED_AT
from investbus.testing.bus import Bus

NAME = "portfolios.status-update"
PORTFOLIO = {"id": "P1", "status": "ACTIVE"}
LADDER = (40.0, 40.0)  # 1 + 3 + 9 + 27
NO_WAIT = (0.0, 0.0)


class Kind(msgspec.Struct, frozen=True):
    """`fails` is raised by the handler, so often; `status` is what the platform answers instead, so often."""

    outcome: str
    reason: str
    attempts: int
    waited: tuple[float, float]
    fails: Callable[[], BaseException] | None = None
    status: int | None = None
    times: int | None = None
    headers: dict[str, str] = {}
    body: Any = None
    old: bool = False
    does: str = ""


KINDS = {
    # answers of the platform
    "200": Kind("done", "", 1, NO_WAIT, status=200, body=PORTFOLIO),
    "200 without JSON": Kind("dead", "exhausted", 5, LADDER, status=200),
    "202 three times, of a fresh event": Kind("done", "", 1, (3.0, 3.0), status=202, times=3),
    "202 for ever": Kind("dead", "exhausted", 5, (60.0, 71.0), status=202),
    "202 of an old event": Kind("dead", "exhausted", 5, LADDER, status=202, old=True),
    "301": Kind("dead", "exhausted", 5, LADDER, status=301, headers={"Location": "https://elsewhere.invalid/"}),
    "400": Kind("dead", "rejected", 1, NO_WAIT, status=400),
    "401 once": Kind("done", "", 1, NO_WAIT, status=401, times=1),
    "401 for ever": Kind("dead", "rejected", 1, NO_WAIT, status=401),
    "403 for ever": Kind("dead", "rejected", 1, NO_WAIT, status=403),
    "404 twice, of a fresh event": Kind("done", "", 1, (2.0, 2.0), status=404, times=2),
    "404 of an old event": Kind("dead", "exhausted", 5, LADDER, status=404, old=True),
    "404 of an old event, twice": Kind("done", "", 3, (4.0, 4.0), status=404, times=2, old=True),
    "409": Kind("dead", "exhausted", 5, LADDER, status=409),
    "422": Kind("dead", "rejected", 1, NO_WAIT, status=422),
    "429 with Retry-After": Kind("done", "", 1, (180.0, 180.0), status=429, times=9, headers={"Retry-After": "20"}),
    "500 for ever": Kind("dead", "exhausted", 5, LADDER, status=500),
    "500 twice": Kind("done", "", 3, (4.0, 4.0), status=500, times=2),
    "502": Kind("done", "", 1, (5.0, 80.0), status=502, times=40),
    "503": Kind("done", "", 1, (5.0, 80.0), status=503, times=40),
    "504": Kind("done", "", 1, (5.0, 80.0), status=504, times=40),
    "501": Kind("dead", "exhausted", 5, LADDER, status=501),
    "no connection": Kind("done", "", 1, (5.0, 80.0), times=40, does="no answer"),
    # what a handler does by itself
    "ValueError": Kind("dead", "exhausted", 5, LADDER, fails=lambda: ValueError("x")),
    "KeyError twice": Kind("done", "", 3, (4.0, 4.0), fails=lambda: KeyError("x"), times=2),
    "OSError": Kind("dead", "exhausted", 5, LADDER, fails=lambda: OSError("x")),
    "RecursionError": Kind("dead", "exhausted", 5, LADDER, fails=lambda: RecursionError("x")),
    "MemoryError": Kind("dead", "exhausted", 5, LADDER, fails=MemoryError),
    "ExceptionGroup": Kind("dead", "exhausted", 5, LADDER, fails=lambda: ExceptionGroup("x", [ValueError("y")])),
    "AssertionError": Kind("dead", "exhausted", 5, LADDER, fails=lambda: AssertionError("x")),
    "a TimeoutError of its own": Kind("dead", "exhausted", 5, LADDER, fails=lambda: TimeoutError("x")),
    "a CancelledError of its own": Kind("dead", "exhausted", 5, LADDER, fails=asyncio.CancelledError),
    "sys.exit": Kind("dead", "exhausted", 5, LADDER, fails=lambda: SystemExit(3)),
    "too slow": Kind("dead", "exhausted", 5, (40.0, 41.0), does="sleep"),
    "Retry": Kind("dead", "exhausted", 5, LADDER, fails=Retry),
    "Retry after 7 s, twice": Kind("done", "", 3, (14.0, 14.0), fails=lambda: Retry(after=7.0), times=2),
    "Reject": Kind("dead", "rejected", 1, NO_WAIT, fails=lambda: Reject("no")),
    "Unavailable for a while": Kind("done", "", 1, (5.0, 80.0), fails=lambda: Unavailable("core"), times=6),
    "ApiUnavailable for a while": Kind("done", "", 1, (5.0, 80.0), fails=lambda: ApiUnavailable("x"), times=6),
    "ApiNotReady for a while": Kind("done", "", 1, (3.0, 3.0), fails=lambda: ApiNotReady("GET /x", 202), times=3),
    "ApiError 409 once": Kind("done", "", 2, (1.0, 1.0), fails=lambda: ApiError("GET /x", 409), times=1),
    "ApiError 422": Kind("dead", "rejected", 1, NO_WAIT, fails=lambda: ApiError("GET /x", 422)),
}


def test_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 25


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_a_failure_has_the_documented_outcome_and_waits(bus: Bus, kind: Kind) -> None:
    router, left = Router(), [10**9 if kind.times is None else kind.times]

    def fails() -> bool:
        left[0] -= 1
        return left[0] >= 0

    @router.on(NAME, timeout=5.0)
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if kind.does == "sleep":
            await asyncio.sleep(60.0)
        if kind.fails is not None and fails():
            raise kind.fails()
        await ctx.detail()

    bus.use(router)
    if kind.status is None:
        bus.api.get("/portfolios/P1/", json=PORTFOLIO)
    else:
        more = {} if kind.times is None else {"times": kind.times, "then": PORTFOLIO}
        bus.api.get("/portfolios/P1/", status=kind.status, json=kind.body, headers=kind.headers, **more)
    if kind.does == "no answer":
        real = bus.api.send

        async def send(method: str, url: str, headers: Any, body: bytes | None) -> Answer:
            if "/auth/" not in url and fails():
                raise NoAnswer("connection refused")
            return await real(method, url, headers, body)

        bus.api.send = send  # type: ignore[method-assign] # below the real client there is nothing else to fail
    created = STARTED_AT - timedelta(hours=1) if kind.old else None
    result = await bus.send(NAME, {"id": "P1", "value": "ACTIVE"}, created=created)
    assert (result.outcome, result.reason, result.attempts) == (kind.outcome, kind.reason, kind.attempts)
    low, high = kind.waited
    assert low <= sum(result.waited) <= high


async def test_a_clock_that_is_set_back_makes_no_event_fresh_for_longer(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an hour, while an event waits for an entity that never comes."""
    router, set_back = Router(), [0.0]

    @router.on(NAME)
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        await ctx.detail()

    monkeypatch.setattr(bus, "_wall", lambda: STARTED_AT.timestamp() + asyncio.get_running_loop().time() - set_back[0])
    bus.use(router)
    bus.api.get("/portfolios/P1/", status=404)
    sending = asyncio.create_task(bus.send(NAME, {"id": "P1"}))
    await bus.advance(10.0)
    set_back[0] = 3600.0
    result = await asyncio.wait_for(sending, 120.0)
    assert (result.outcome, result.reason, result.attempts) == ("dead", "exhausted", 5)
