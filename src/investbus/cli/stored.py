"""The configured store, open for the length of one command."""

import getpass
import os
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from investbus.cli import settings

if TYPE_CHECKING:
    from investbus.store import Store

T = TypeVar("T")


def with_store(ctx: typer.Context, look: "Callable[[Store], Coroutine[Any, Any, T]]") -> T:
    """What `look` finds in the store. Raises ConfigError and StoreError."""
    import asyncio

    from investbus.assembly import make_store

    store = make_store(settings(ctx).settings)

    async def run() -> T:
        await store.open()
        try:
            return await look(store)
        finally:
            await store.close()

    return asyncio.run(run())


def operator() -> str:
    """Who runs the command, for the audit: the user's name, or number where a container has no names."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid())


def now() -> datetime:
    return datetime.now(UTC)
