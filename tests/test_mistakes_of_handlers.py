"""What handlers get wrong costs the event at hand and no other: unreadable exceptions, waits that are no numbers, exits."""

import asyncio
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from investbus import Context, Event, Reject, Retry, Router, Unavailable
from investbus.testing.bus import Bus


class UnreadableText(Exception):  # the mistake is the test
    def __str__(self) -> str:
        raise AttributeError("missing")


class UnreadableStatus(Exception):
    @property
    def status(self) -> int:
        raise KeyError("response")


class WaitOfText(Retry):
    def __init__(self) -> None:
        self.after: Any = "5"


class NameOfList(Unavailable):
    def __init__(self) -> None:
        self.dependency: Any = ["core"]


class Unnamed(Unavailable):
    def __init__(self) -> None: ...


class WaitOfNan(Retry):
    def __init__(self) -> None:
        self.after = float("nan")


class NameOfNone(Unavailable):
    def __init__(self) -> None:
        self.dependency: Any = None


def wrong(value: object) -> Any:
    """A value that a type checker would refuse, as it comes from code without one."""
    return value


MISTAKES: dict[str, tuple[Callable[[], BaseException], str]] = {
    "after text": (lambda: Retry(after=wrong("5")), "TypeError"),
    "after timedelta": (lambda: Retry(after=wrong(timedelta(seconds=5))), "TypeError"),
    "after decimal": (lambda: Retry(after=wrong(Decimal(5))), "TypeError"),
    "after bool": (lambda: Retry(after=wrong(True)), "TypeError"),
    "after nan": (lambda: Retry(after=float("nan")), "TypeError"),
    "after infinite": (lambda: Retry(after=float("inf")), "TypeError"),
    "unavailable after text": (lambda: Unavailable("core", after=wrong("5")), "TypeError"),
    "unavailable after nan": (lambda: Unavailable("core", after=float("nan")), "TypeError"),
    "unavailable without name": (lambda: Unavailable(""), "TypeError"),
    "unavailable by a list": (lambda: Unavailable(wrong(["core"])), "TypeError"),
    "a wait that is text": (WaitOfText, "WaitOfText"),
    "a wait that is no number": (WaitOfNan, "WaitOfNan"),
    "a name that is none": (NameOfNone, "TypeError"),
    "a name that is a list": (NameOfList, "TypeError"),
    "text that raises": (UnreadableText, "UnreadableText"),
    "status that raises": (UnreadableStatus, "UnreadableStatus"),
    "sys.exit": (lambda: SystemExit(0), "RuntimeError"),
    "cancelled": (asyncio.CancelledError, "RuntimeError"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_in_what_is_raised_costs_one_dead_letter_and_its_key_goes_on(bus: Bus, mistake: str) -> None:
    make, error = MISTAKES[mistake]
    router = Router()

    @router.on("a.b", needs=())
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if event.id == "bad":
            raise make()

    bus.use(router)
    sent = [("bad", "P1"), ("behind", "P1"), ("elsewhere", "P2")]
    results = await asyncio.gather(*(bus.send("a.b", {"id": key}, id=name) for name, key in sent))
    assert [result.outcome for result in results] == ["dead", "done", "done"]
    assert (results[0].reason, results[0].attempts) == ("exhausted", 5)
    (letter,) = bus.dead_letters
    assert letter.error == error
    assert len(letter.tries) == 5


async def test_an_error_without_readable_text_says_so_in_its_dead_letter(bus: Bus) -> None:
    router = Router()

    @router.on("a.b", needs=(), retry={"attempts": 1})
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        raise UnreadableText

    bus.use(router)
    await bus.send("a.b", {"id": "P1"})
    assert bus.dead_letters[0].message == "(its text cannot be read: AttributeError)"


async def test_an_error_that_says_very_much_is_cut(bus: Bus) -> None:
    """As those do that quote a page, or the statement with all its rows."""
    router = Router()

    @router.on("a.b", needs=(), retry={"attempts": 1})
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        raise ValueError(f"begins {'x' * 10_000_000}")

    bus.use(router)
    await bus.send("a.b", {"id": "P1"})
    (letter,) = bus.dead_letters
    assert letter.message.startswith("begins xxx")
    assert len(letter.message) + len(letter.stack) <= 50_000


async def test_a_package_that_is_half_uninstalled_costs_no_more_than_the_version_in_the_letter(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half-1.0.dist-info").mkdir()
    (tmp_path / "half-1.0.dist-info" / "RECORD").write_text("half.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    router = Router()

    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        raise Reject("no")

    handler.__module__ = "half"
    router.on("a.b", needs=())(handler)
    bus.use(router)
    assert (await bus.send("a.b", {"id": "P1"})).outcome == "dead"
    assert bus.dead_letters[0].handler_version == ""


GUARD = """
async def guard(event, ctx, call_next):
    try:
        raise PermissionError("no")
    except PermissionError as error:
        raise error from error
"""


async def test_an_error_that_is_its_own_cause_blocks_nothing(bus: Bus) -> None:
    """From a file other than the handler's, so that the place is looked for along its causes."""
    router, elsewhere = Router(), dict[str, Any]()
    exec(compile(GUARD, "guard.py", "exec"), elsewhere)  # noqa: S102
    router.middleware(elsewhere["guard"])

    @router.on("a.b", needs=(), retry={"attempts": 1})
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None: ...

    bus.use(router)
    await bus.send("a.b", {"id": "P1"})
    (letter,) = bus.dead_letters
    assert letter.error == "PermissionError"
    assert "test_mistakes_of_handlers.py:" in letter.place, "where the handler begins"


async def test_sys_exit_in_a_handler_neither_ends_the_worker_nor_the_event(bus: Bus) -> None:
    router = Router()

    @router.on("a.b", needs=())
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if ctx.attempt == 1:
            sys.exit()

    bus.use(router)
    result = await bus.send("a.b", {"id": "P1"})
    assert (result.outcome, result.attempts, result.waited) == ("done", 2, [1.0])


async def test_an_unavailable_that_does_not_say_what_waits_at_the_gate_of_the_unnamed(bus: Bus) -> None:
    router = Router()
    up: list[bool] = []

    @router.on("a.b", needs=())
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if event.id == "waits" and not up:
            raise Unnamed

    bus.use(router)
    waiting = asyncio.create_task(bus.send("a.b", {"id": "P1"}, id="waits"))
    await bus.advance(60.0)
    parts = await bus._started()
    assert parts.gatehouse.gates["unnamed"].closed
    assert (await bus.send("a.b", {"id": "P2"})).outcome == "done", "whoever never met it does not wait for it"
    up.append(True)
    assert (await waiting).outcome == "done"


async def test_a_key_function_that_fails_is_a_dead_letter_and_no_attempt(bus: Bus) -> None:
    router, ran = Router(), []

    @router.on("a.b", needs=(), key=lambda event: event.data["client"])
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        ran.append(event.key)

    bus.use(router)
    result = await bus.send("a.b", {"id": "P1"})
    assert (result.outcome, result.reason) == ("dead", "data_invalid")
    assert (await bus.send("a.b", {"id": "P1", "client": "C7"})).outcome == "done"
    assert ran == ["C7"]


async def test_a_key_that_is_no_text_is_a_dead_letter_and_no_lane_of_its_own(bus: Bus) -> None:
    router = Router()

    @router.on("a.b", needs=(), key=wrong(lambda event: [event.data["id"]]))
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None: ...

    bus.use(router)
    result = await bus.send("a.b", {"id": "P1"})
    assert (result.outcome, result.reason) == ("dead", "data_invalid")
    assert bus.dead_letters[0].message == "the route's key function gave no text but list"
