"""The pytest fixture `bus`: handlers under the real rules, without network, broker or waiting.

Router, dispatcher, retry, gate, store rules and API client are the ones that run in production; only the clock, the bus and the
platform's answers are stand-ins. Time is virtual: the loop's clock jumps to the next timer whenever nothing else is left to do.
Installing investbus is enough, the fixture comes as a pytest plug-in; tests are plain `async def`.
"""

import asyncio
import functools
import inspect
import selectors
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from types import MethodType
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from investbus.testing.bus import Bus

STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)


class _Jumping(selectors.DefaultSelector):
    """A selector that never waits for a timer: it moves the clock instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which an hour of waiting takes no time."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since the loop was made, in virtual time."""
        return self._jumping.now


@pytest.fixture
def bus() -> "Bus":
    """A bus, a platform and a clock for handlers: see the README, "Testing handlers"."""
    from investbus.testing.bus import Bus

    return Bus()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Async tests that use `bus` run on a virtual loop of their own, whatever other plug-ins do with async tests."""
    for at, item in enumerate(items):
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj) and _uses_bus(item):
            items[at] = _on_virtual_loop(item)


def _uses_bus(item: pytest.Function) -> bool:
    """Whether `bus` is the fixture above, and not one of the project's own."""
    found = item._fixtureinfo.name2fixturedefs.get("bus") or ()  # noqa: SLF001 - pytest has no public way to ask
    return any(inspect.unwrap(one.func).__module__ == __name__ for one in found[-1:])


def _on_virtual_loop(item: pytest.Function) -> pytest.Function:
    test = item.obj

    @functools.wraps(test)
    def run(*_self: object, **fixtures: Any) -> None:
        _run(cast("Bus", replaced.funcargs["bus"]), test, fixtures)

    replaced: pytest.Function = pytest.Function.from_parent(
        item.parent,
        name=item.name,
        callspec=getattr(item, "callspec", None),
        callobj=run if item.cls is None else MethodType(run, item.instance),  # setup_method must see the same instance
        keywords={mark.name: mark for mark in item.own_markers},
        fixtureinfo=item._fixtureinfo,  # noqa: SLF001 - from_parent takes it and nothing gives it
        originalname=item.originalname,
    )
    replaced.own_markers[:] = [mark for mark in item.own_markers if mark.name != "asyncio"]
    return replaced


def _run(bus: "Bus", test: Callable[..., Coroutine[Any, Any, None]], fixtures: Mapping[str, Any]) -> None:
    async def within() -> None:
        try:
            await test(**fixtures)
        finally:
            await bus.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(within())
