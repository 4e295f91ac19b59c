"""The handler under chaos: reads the portfolio, writes down when it began and ended, and rejects what is doomed."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from investbus import Context, Event, Reject, Router
from tests.chaos.ledger import Ledger

FOLDER = "CHAOS_FOLDER"
router = Router()


@router.lifespan
@asynccontextmanager
async def ledger() -> AsyncIterator[Ledger]:
    yield Ledger(Path(os.environ[FOLDER]))


@router.on("portfolios.status-update")
async def look(event: Event[dict[str, Any]], ctx: Context) -> None:
    step = (event.id, event.data["id"], event.data["seq"])
    ctx.state.note("begin", *step)
    portfolio = await ctx.detail()
    assert portfolio["id"] == event.data["id"]
    ctx.state.note("end", *step)
    if event.data["doomed"]:
        raise Reject("planned")
