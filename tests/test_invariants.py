"""Invariants of the design that are about the whole: who may settle, what is pure, what is bounded, what may show."""

import ast
import asyncio
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

import investbus
from investbus import Context, Event, Reject, Router, log
from investbus.config import Log
from investbus.transport import Message
from investbus.work import OVERHEAD
from tests.whole import at_rest, check_law, envelope, letters, publish, running, settings_in, until

SOURCE = Path(investbus.__file__).parent


def sources(*parts: str) -> Iterator[tuple[Path, ast.Module]]:
    for pattern in parts:
        for path in sorted(SOURCE.glob(pattern)):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_ack_and_release_have_one_caller_outside_transports() -> None:
    """Invariant 1."""
    callers = [
        (path.name, function.name, ast.unparse(node.func.value))
        for path, tree in sources("**/*.py")
        if "transports" not in path.parts and path.name != "transport.py"
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("ack", "release")
    ]
    assert callers == [("settle.py", "settle", "delivery"), ("settle.py", "settle", "delivery")]


def test_the_pure_machines_import_no_clock_no_chance_and_no_input_or_output() -> None:
    """Invariant 7: time, randomness and ids are passed in."""
    forbidden = {"time", "random", "uuid", "asyncio", "socket", "threading", "secrets", "structlog", "aiohttp", "pathlib", "io"}
    for path, tree in sources("retry.py", "watermark.py", "router.py", "gate.py", "outcome.py", "dialects/*.py", "catalogue/*.py"):
        imported = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
        assert not imported & forbidden, f"{path.name} imports {imported & forbidden}"
        called = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not [name for name in called if name in ("open", "print", "datetime.now", "datetime.utcnow")], path.name


async def test_memory_is_bounded_by_the_backlog_in_events_and_bytes(tmp_path: Path) -> None:
    """Invariant 9, for `backlog` and `backlog_bytes`, while no handler gets anywhere."""
    freed = asyncio.Event()
    router = Router()

    @router.on("portfolios.status-update")
    async def stuck(event: Event[dict[str, Any]], ctx: Context) -> None:
        await freed.wait()

    for fill, expected, bounds in ((10, 50, {"backlog": 50}), (20_000, 4, {"backlog_bytes": 100_000})):
        folder = tmp_path / str(fill)
        folder.mkdir()
        settings = settings_in(folder, dispatch={"slots": 2, "timeout": 60.0, **bounds})
        data = {"fill": "x" * fill}
        await publish(settings, *(envelope(event_id=f"e{n}", data={**data, "id": f"P{n}"}) for n in range(200)))
        async with running(settings, router) as parts:
            await until(lambda parts=parts: parts.worker.dispatcher.backlog.full)  # type: ignore[misc]  # mypy cannot type the default
            await asyncio.sleep(0.3)
            look = parts.console.look()
            assert look.in_flight == 2
            assert expected <= look.in_flight + look.backlog_events <= expected + 1
            assert look.backlog_bytes <= settings.dispatch.backlog_bytes + fill + OVERHEAD + 200
            assert look.paused == {"backlog"}
            freed.set()
            await until(at_rest(parts, 200))
            assert parts.console.look().backlog_bytes == 0
            check_law(parts)
        freed.clear()


CANARIES = ("canary-secret", "canary-person@example.com", "canary-header", "canary-amount")


async def test_no_secret_and_no_data_in_logs_metrics_status_or_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invariant 10."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    log.configure(Log(level="debug", format="json"))
    router = Router()

    @router.on("portfolios.status-update")
    async def fails(event: Event[dict[str, Any]], ctx: Context) -> None:
        if event.data["way"] == "reject":
            raise Reject(f"no account for {event.data['email']}")
        raise ValueError(event.data["email"])

    api = {"base_url": "http://127.0.0.1:1", "access_key_id": "canary-secret", "secret_access_key": "canary-secret"}
    settings = settings_in(tmp_path, api=api)
    data = {"email": "canary-person@example.com", "amount": "canary-amount"}
    bodies = [envelope(event_id=way, data={**data, "id": way, "way": way}) for way in ("reject", "raise")]
    try:
        await publish(settings, *(Message(body, {"trace": "canary-header"}) for body in bodies))
        await publish(settings, b'{"broken": "canary-person@example.com"', envelope("a.b", data=data))
        async with running(settings, router) as parts:
            await until(at_rest(parts, 4))
            shown = [parts.console.exposition("")[0].decode(), str(parts.console.status()), str(parts.console.readiness())]
    finally:
        structlog.reset_defaults()
    shown += [written.getvalue(), repr(settings), str(settings.model_dump())]
    found = await letters(settings)
    assert len(found) == 3
    shown += [f"{one.error} {one.place} {one.reason} {one.route}" for one in found]
    for canary in CANARIES:
        assert not [text for text in shown if canary in text], canary
    assert "connected" in written.getvalue(), "nothing was logged, so nothing was proved"


async def test_the_metrics_law_holds_at_rest(tmp_path: Path) -> None:
    """Invariant 11, over every way in which an event can end."""
    router = Router()

    @router.on("portfolios.status-update")
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        match event.data["way"]:
            case "reject":
                raise Reject("no")
            case "fail":
                raise ValueError("no")
            case "slow":
                await asyncio.sleep(0.5)

    settings = settings_in(tmp_path, dispatch={"slots": 2})
    ways = ("ok", "reject", "fail", "slow", "ok", "slow", "slow", "slow", "slow")
    bodies = [envelope(event_id=f"{way}{n}", data={"id": f"P{n % 4}", "way": way}) for n, way in enumerate(ways)]
    await publish(settings, *bodies, bodies[0], b"broken", b"", envelope("users.unknown"))
    async with running(settings, router) as parts:
        await until(at_rest(parts, 13))
        check_law(parts)
        counts = parts.worker.metrics.routes["portfolios.status-update"]
        assert counts.received == 10
        assert counts.outcomes == {"done": 7, "dead": 2, "ignored": 0, "duplicate": 1, "released": 0}
        await publish(settings, bodies[1])
        await until(lambda: counts.outcomes["duplicate"] == 2)
        check_law(parts)
        await publish(settings, *(envelope(event_id=f"late{n}", data={"id": f"P{n}", "way": "slow"}) for n in range(6)))
        await until(lambda: counts.received == 17 and not parts.worker.taking)
        check_law(parts)
    check_law(parts)
    assert counts.outcomes["released"] + counts.outcomes["done"] == 13
