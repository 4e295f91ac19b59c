"""Handlers of worker processes. What they do they append to one file, which outlives whoever is killed."""

import asyncio
import os
import time
from functools import cache
from pathlib import Path
from typing import Any

from investbus import Context, Event, Reject, Router

FOLDER = "ACCEPTANCE_FOLDER"
LEDGER, MENDED = "ledger", "mended"
letters, collapsing, crashing, steady = Router(), Router(), Router(), Router()


@cache
def _folder() -> Path:
    return Path(os.environ[FOLDER])


@cache
def _ledger() -> int:
    return os.open(_folder() / LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def note(what: str, event: Event[dict[str, Any]]) -> None:
    os.write(_ledger(), f"{what} {event.id} {os.getpid()} {time.time():.3f}\n".encode())


async def _booked(event: Event[dict[str, Any]]) -> None:
    await asyncio.sleep(0.02)
    note("effect", event)


def _broken(event: Event[dict[str, Any]]) -> bool:
    if (_folder() / MENDED).exists():
        return False
    note("refused", event)
    return True


@letters.on("portfolios.status-update")
async def book(event: Event[dict[str, Any]], ctx: Context) -> None:
    """Two of the three causes."""
    if _broken(event):
        if event.data["cause"] == "account":
            raise Reject("no account")
        raise ValueError("no price")
    await _booked(event)


@letters.on("portfolios.creation")
async def create(event: Event[dict[str, Any]], ctx: Context) -> None:
    """The third."""
    if _broken(event):
        raise LookupError("no customer")
    await _booked(event)


@collapsing.on("portfolios.status-update", collapse=True)
async def tell(event: Event[dict[str, Any]], ctx: Context) -> None:
    note("begin", event)
    await asyncio.sleep(1.5)
    note("end", event)


@crashing.on("portfolios.status-update")
async def survive(event: Event[dict[str, Any]], ctx: Context) -> None:
    note("begin", event)
    if event.data["value"] == "KILL":
        os._exit(139)
    await asyncio.sleep(0.05)
    note("end", event)


@steady.on("portfolios.status-update")
async def go_on(event: Event[dict[str, Any]], ctx: Context) -> None:
    note("begin", event)
