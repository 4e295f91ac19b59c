"""A whole worker in this process together with its pages: what a probe says over HTTP is part of what is accepted."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from investbus.assembly import Assembled, assembled, make_store, make_transport
from investbus.config import Settings
from investbus.ops import OpsServer
from investbus.router import Router, RouteTable
from investbus.sandbox import CREDENTIALS, Platform
from tests.brokers.kafka import Kafka
from tests.whole import settings_in


def on_kafka(kafka: Kafka, topic: str, folder: Path, group: str | None = None, **changes: Any) -> Settings:
    """Settings of a worker on `topic`, in a group of its own unless one is named; a SQLite store in `folder`."""
    section: dict[str, Any] = {"bootstrap_servers": [kafka.bootstrap], "topic": topic, "session_timeout": 6.0}
    section["group"] = group or f"g-{uuid.uuid4().hex[:8]}"
    return settings_in(folder, transport="kafka", kafka=section, **changes)


def api_of(platform: Platform, **changes: Any) -> dict[str, Any]:
    """The section `api` for the pretend platform."""
    login = {"base_url": platform.url, "access_key_id": CREDENTIALS[0], "secret_access_key": CREDENTIALS[1]}
    return login | {"timeout": 5.0} | changes


@asynccontextmanager
async def served(settings: Settings, router: Router) -> AsyncIterator[tuple[Assembled, str]]:
    """A worker at work for as long as the block lasts, and the address of its pages."""
    table = RouteTable(list(router.found()))
    async with assembled(settings, table, make_transport(settings), make_store(settings)) as parts:
        server = OpsServer(settings.ops, parts.console)
        await server.start()
        watching = asyncio.create_task(parts.console.watch())
        working = asyncio.create_task(parts.worker.run())
        try:
            yield parts, f"http://127.0.0.1:{server.port}"
            parts.worker.stop()
            assert await asyncio.wait_for(working, 60) is True
        finally:
            working.cancel()
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await server.stop()


async def not_ready(url: str) -> list[str]:
    """The checks of /readyz that fail; none while it answers 200."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as response:
        answer = await response.json()
        failing = [name for name, check in answer["checks"].items() if not check["ok"]]
        assert response.status == (503 if failing else 200)
        return failing


async def until_not_ready(url: str, failing: list[str], limit: float = 60.0) -> None:
    """Wait until exactly these checks fail."""
    async with asyncio.timeout(limit):
        while await not_ready(url) != failing:
            await asyncio.sleep(0.1)
