"""Many calls at once: never more than configured, and none that is given up takes anything with it."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from investbus.errors import ApiUnavailable
from investbus.platform.wire import Answer
from tests.platform.raw import Raw, Seen, http
from tests.platform.rig import OLD, Rig, Sent, fate, reply, virtual

POOL = 16


@virtual
async def test_no_more_calls_run_than_configured() -> None:
    running, most = 0, 0

    async def answer(sent: Sent) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.1)
        running -= 1
        return reply()

    rig = Rig(answer, concurrency=POOL)
    assert await fate([rig.api.portfolio("P1") for _ in range(10 * POOL)]) == [{"ok": True}] * 10 * POOL
    assert most == POOL
    assert rig.clock() == pytest.approx(1.0)


@virtual
async def test_a_failure_gives_its_room_back() -> None:
    async def answer(sent: Sent) -> Answer:
        match sent.path.strip("/").split("/")[1]:
            case "HANG":
                await asyncio.Event().wait()
            case "DOWN":
                return reply(503)
            case "BUG":
                raise KeyError("a bug in the wire")
        return reply()

    rig = Rig(answer, concurrency=1, timeout=5.0)
    for name, meant in [("HANG", ApiUnavailable), ("DOWN", ApiUnavailable), ("BUG", KeyError)] * 3:
        with pytest.raises(meant):
            await rig.api.portfolio(name)
    assert await rig.api.portfolio("P1") == {"ok": True}


async def test_a_storm_of_cancelled_calls_leaves_the_client_whole(connect: Callable[..., Rig]) -> None:
    """encode/httpcore#1093: a pool whose slots leak with each cancelled call ends in nothing but time-outs."""

    async def respond(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.002)
        writer.write(http())

    chance, loop, cancelled, kept = random.Random(5), asyncio.get_running_loop(), 0, 0
    async with Raw(respond) as server:
        rig = connect(server.url, concurrency=POOL)
        while cancelled < 5000:
            calls = [asyncio.create_task(rig.api.portfolio("P1")) for _ in range(2 * POOL)]
            doomed = set(chance.sample(calls, POOL + POOL // 2))
            for task in doomed:
                loop.call_later(chance.random() * 0.012, task.cancel)
            met = await asyncio.gather(*calls, return_exceptions=True)
            assert [each for task, each in zip(calls, met, strict=True) if task not in doomed] == [{"ok": True}] * (POOL // 2)
            cancelled, kept = cancelled + sum(isinstance(each, asyncio.CancelledError) for each in met), kept + POOL // 2
        assert await fate([rig.api.portfolio("P1") for _ in range(10 * POOL)]) == [{"ok": True}] * 10 * POOL
        assert server.logins <= 2 * POOL
        assert rig.counted("api_requests_total", operation="GET /portfolios/{id}/", status="2xx") >= 10 * POOL + kept


async def test_all_calls_cancelled_at_once_leave_the_client_whole(connect: Callable[..., Rig]) -> None:
    """As a shutdown or a lost lease does it: 5,000 at once, most of them waiting for room."""
    hanging = asyncio.Event()

    async def respond(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await hanging.wait()
        writer.write(http())

    async with Raw(respond) as server:
        rig = connect(server.url, concurrency=POOL, timeout=30.0)
        calls = [asyncio.create_task(rig.api.portfolio("P1")) for _ in range(5000)]
        async with asyncio.timeout(8.0):
            while len(server.seen) < POOL:
                await asyncio.sleep(0.01)
        for task in calls:
            task.cancel()
        assert all(isinstance(met, asyncio.CancelledError) for met in await asyncio.gather(*calls, return_exceptions=True))
        assert len(server.seen) == POOL
        hanging.set()
        assert await fate([rig.api.portfolio("P1") for _ in range(4 * POOL)]) == [{"ok": True}] * 4 * POOL


@virtual
async def test_a_cancelled_call_raises_nothing_else() -> None:
    """A deadline that passes at the same moment does not turn a cancellation into an outage: the worker would go on."""

    async def stuck(sent: Sent) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1.0)  # the connection takes its time to close, past the deadline
        raise AssertionError

    rig = Rig(stuck, timeout=5.0)
    call: asyncio.Task[Any] = asyncio.create_task(rig.client.call("GET", "/things/{id}/", {"id": "T1"}, fresh_until=OLD))
    await asyncio.sleep(4.5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
