"""What is wrong with a registration is said at the start, with its place: no event comes to harm by it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from investbus import Context, Event, Router
from investbus.check import offline
from investbus.errors import ConfigError
from investbus.platform.wire import Answer
from investbus.router import RouteTable
from investbus.testing.bus import Bus


def test_a_key_that_is_async_is_refused_at_start() -> None:
    """Its result would be a coroutine: a key of its own for each event, and no order."""
    router = Router()

    async def by_client(event: Event[Any]) -> str:
        return "client"

    wrong: dict[str, Any] = {"key": by_client}

    @router.on("a.b", **wrong)
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None: ...

    with pytest.raises(ConfigError, match="key= must be a plain function of the event, not an async one"):
        RouteTable(list(router.found()))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "key of text": ({"key": "portfolio_id"}, "key= must be a function of the event, and is str"),
    "time-out of text": ({"timeout": "20"}, "timeout= must be a positive number of seconds, and is '20'"),
    "time-out of nan": ({"timeout": float("nan")}, "timeout= must be a positive number of seconds, and is nan"),
    "endless time-out": ({"timeout": float("inf")}, "timeout= must be a positive number of seconds, and is inf"),
    "time-out of a timedelta": ({"timeout": timedelta(seconds=5)}, "timeout= must be a positive number of seconds, and is "),
    "no time": ({"timeout": 0}, "timeout= must be a positive number of seconds, and is 0"),
    "negative time": ({"timeout": -1.0}, "timeout= must be a positive number of seconds, and is -1.0"),
    "needs of a number": ({"needs": [7]}, "needs= must be a list of names, such as "),
    "needs of nothing": ({"needs": [""]}, "needs= must be a list of names, such as "),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_a_decorator_cannot_mean_is_refused_at_start(mistake: str) -> None:
    """Left alone, each of them makes a dead letter of every event, waits at gates that nobody closes, or ends the worker."""
    said, line = REFUSED[mistake]
    router = Router()

    @router.on("a.b", **said)
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None: ...

    with pytest.raises(ConfigError) as caught:
        RouteTable(list(router.found()))
    assert f"handler of a.b: {line}" in str(caught.value)


def plain(event: Any, ctx: Any, call_next: Any) -> None: ...


async def of_two(event: Any, ctx: Any) -> None: ...


async def generator(event: Any, ctx: Any, call_next: Any) -> AsyncIterator[None]:
    yield


class Timed:
    async def __call__(self, event: Any, ctx: Any, call_next: Any) -> None:
        await call_next(event, ctx)


@pytest.mark.parametrize(
    ("middleware", "line"),
    [
        (plain, "middleware plain is no async function; write: async def plain(event, ctx, call_next)"),
        (generator, "middleware generator is no async function; write: async def generator(event, ctx, call_next)"),
        (7, "middleware 7 is no async function; write: async def middleware(event, ctx, call_next)"),
        (of_two, "middleware of_two must take three arguments: (event, ctx, call_next)"),
    ],
)
def test_what_is_no_middleware_is_refused_at_start_and_once(middleware: Any, line: str) -> None:
    """Each event would else be a dead letter, handled or not."""
    router = Router()
    router.middleware(middleware)
    for name in ("a.b", "a.c"):

        @router.on(name)
        async def handler(event: Event[dict[str, Any]], ctx: Context) -> None: ...

    with pytest.raises(ConfigError) as caught:
        RouteTable(list(router.found()))
    (said,) = caught.value.lines
    assert said.endswith(f": {line}")


async def test_middleware_may_be_any_object_that_is_called_as_one(bus: Bus) -> None:
    router, ran = Router(), []
    router.middleware(Timed())

    @router.on("a.b", needs=())
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        ran.append(event.id)

    bus.use(router)
    assert (await bus.send("a.b", {"id": "P1"}, id="e1")).outcome == "done"
    assert ran == ["e1"]


async def test_needs_of_text_is_one_gate_and_not_one_for_each_letter(bus: Bus) -> None:
    router = Router()

    @router.on("a.b", needs="core")
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None: ...

    bus.use(router)
    await bus.send("a.b", {"id": "P1"})
    assert set((await bus._started()).gatehouse.gates) == {"api", "core"}


@pytest.mark.parametrize(
    ("timeout", "needs", "found"), [(9.0, None, 1), (10.1, None, 0), (5.0, ["core"], 0), (5.0, ["api", "core"], 1)]
)
async def test_a_time_out_that_ends_before_the_call_it_waits_for_is_found_by_check(
    bus: Bus, timeout: float, needs: list[str] | None, found: int
) -> None:
    """Nobody would tell the gate that the platform does not answer."""
    router = Router()

    @router.on("a.b", timeout=timeout, needs=needs)
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        await ctx.api.get("/things/")

    said = [line for line in offline(bus._configuration(), RouteTable(list(router.found()))) if "api.timeout" in line]
    assert len(said) == found

    async def never(method: str, url: str, headers: Any, body: bytes | None) -> Answer:
        await asyncio.sleep(3600.0)
        raise AssertionError

    bus.api.send = never  # type: ignore[method-assign]  # a platform that takes calls and does not answer
    bus.use(router)
    sending = asyncio.create_task(bus.send("a.b", {"id": "P1"}))
    await bus.advance(600.0)
    assert [letter.error for letter in bus.dead_letters] == ["AttemptTimeout"] * (timeout <= 10.0)
    sending.cancel()
