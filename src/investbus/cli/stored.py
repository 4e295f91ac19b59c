"""The configured store, open for the length of one command."""

import getpass
import os
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from investbus.cli import settings

if TYPE_CHECKING:
    from investbus.config import StoreSettings
    from investbus.store import Store

T = TypeVar("T")


def with_store(ctx: typer.Context, look: "Callable[[Store], Coroutine[Any, Any, T]]") -> T:
    """What `look` finds in the store. Raises ConfigError and StoreError."""
    import asyncio

    from investbus.assembly import make_store

    loaded = settings(ctx).settings
    store, made = make_store(loaded), _not_there(loaded.store)

    async def run() -> T:
        await store.open()
        if made is not None:
            typer.echo(f"note: there was no store at {made}; this one is new and empty. Is it the one of your workers?", err=True)
        try:
            return await look(store)
        finally:
            await store.close()

    return asyncio.run(run())


def _not_there(settings: "StoreSettings") -> Path | None:
    """The file that opening the store makes. To pause before the first start is no mistake, to do it in another folder is one."""
    from investbus.stores import store_url

    scheme, _, name = store_url(settings).partition(":///")
    path = Path(name).absolute()
    return path if scheme == "sqlite" and not path.exists() else None


def operator() -> str:
    """Who runs the command, for the audit: the user's name, or number where a container has no names."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid())


def now() -> datetime:
    return datetime.now(UTC)
