"""A whole worker in this process, on the `file` transport with a SQLite store: for tests that look at what comes out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from investbus.assembly import Assembled, assembled, make_store, make_transport
from investbus.config import Settings
from investbus.platform.wire import Wire
from investbus.router import Router, RouteTable
from investbus.store import DeadLetter, Filter
from investbus.stores import open_store
from investbus.transport import Message


def settings_in(folder: Path, **changes: Any) -> Settings:
    """Settings of a worker whose log and store lie in `folder`; retries are quick."""
    base: dict[str, Any] = {
        "handlers": ["tests:router"],
        "transport": "file",
        "file": {"path": str(folder / "events.ndjson")},
        "store": {"url": f"sqlite:///{folder / 'state.db'}"},
        "retry": {"attempts": 3, "first": 0.05, "factor": 1.0},
        "ops": {"port": 0},
        "shutdown": {"grace": 5.0},
    }
    for name, value in changes.items():
        base[name] = {**base[name], **value} if isinstance(base.get(name), dict) and isinstance(value, dict) else value
    return Settings(**base)


def envelope(name: str = "portfolios.status-update", event_id: str = "e1", **changes: Any) -> bytes:
    """An event of the platform; `changes` replace fields, and drop those that are `...`."""
    subject, _, action = name.partition(".")
    fields: dict[str, Any] = {
        "id": event_id,
        "created": "2026-11-21T10:00:00Z",
        "version": "1.0.0",
        "subject": subject,
        "action": action,
        "data": {"id": "P1", "value": "ACTIVE"},
    }
    return msgspec.json.encode({name: value for name, value in {**fields, **changes}.items() if value is not ...})


@asynccontextmanager
async def running(
    settings: Settings, router: Router, *, wire: Wire | None = None, state: Any = None
) -> AsyncIterator[Assembled]:
    """A worker at work for as long as the block lasts."""
    table = RouteTable(list(router.found()))
    states = dict.fromkeys((entry.found.home for entry in table.entries), state)
    async with assembled(settings, table, make_transport(settings), make_store(settings), wire=wire, states=states) as parts:
        task = asyncio.create_task(parts.worker.run())
        try:
            yield parts
            parts.worker.stop()
            assert await asyncio.wait_for(task, 30) is True
        finally:
            task.cancel()


async def publish(settings: Settings, *bodies: bytes | Message) -> None:
    """Put messages on the configured bus."""
    transport = make_transport(settings)
    await transport.publish([body if isinstance(body, Message) else Message(body) for body in bodies])
    await transport.close(1.0)


async def until(holds: Callable[[], bool], limit: float = 20.0) -> None:
    """Wait until something holds; fails when it does not within `limit` seconds."""
    for _ in range(int(limit / 0.02)):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"it did not hold within {limit:g} s")


def at_rest(parts: Assembled, received: int) -> Callable[[], bool]:
    """Whether so many deliveries were taken and all of them have ended."""
    return lambda: parts.worker.taken >= received and parts.worker.idle


async def letters(settings: Settings) -> list[DeadLetter]:
    """The dead letters in the store, oldest first, read as another process would."""
    assert settings.store.url is not None
    store = open_store(settings.store.url)
    await store.open()
    found = [letter async for letter in store.export_dead(Filter())]
    await store.close()
    return found


def check_law(parts: Assembled) -> None:
    """The metrics law of the contract, at rest: what was received has ended, runs or waits."""
    look, routes = parts.console.look(), parts.worker.metrics.routes.values()
    received = sum(counts.received for counts in routes)
    ended = sum(sum(counts.outcomes.values()) for counts in routes)
    assert received == ended + look.in_flight + look.backlog_events
