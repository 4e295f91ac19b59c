"""`dlq list`, `show` and `export`: what failed, grouped by cause, and everything about one failure.

Lists never show `data`, and an error in them is a class with an HTTP status, never a message: messages can hold anything.
"""

import base64
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from investbus.cli.filters import Wanted, filtered
from investbus.cli.output import emit
from investbus.cli.stored import with_store
from investbus.errors import ConfigError

if TYPE_CHECKING:
    from investbus.store import DeadLetter, Store

COLUMNS = ("id", "event_id", "route", "name", "key", "reason", "error", "state", "attempts", "first_at", "last_at", "origin")
WIDE = 180  # columns of a terminal that has room for all of them
NARROW = ("id", "route", "key", "error", "state", "last_at")

app = typer.Typer()
verbs = typer.Typer(help="Dead letters: events that failed for good.")
app.add_typer(verbs, name="dlq")

@verbs.command("list")
@filtered
def show_list(
    ctx: typer.Context,
    wanted: Wanted,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 100,
    group: Annotated[bool, typer.Option("--group", help="One row per route, error and place in the handler.")] = False,
) -> int:
    """List dead letters, newest first, or their causes.

    Example: investbus dlq list --group
    """
    narrow = ctx.obj.format != "json" and sys.stdout.isatty() and shutil.get_terminal_size().columns < WIDE
    shown = NARROW if narrow else COLUMNS

    async def look(store: "Store") -> list[dict[str, Any]]:
        if group:
            return [_plain(row) for row in await store.group_dead(wanted)][:limit]
        return [_row(letter, shown) for letter in await store.list_dead(wanted, limit)]

    rows = with_store(ctx, look)
    if rows or ctx.obj.format == "json":
        emit(ctx, rows)
    else:
        print("no dead letters" if wanted == type(wanted)() else "no dead letters match")
    return 0


@verbs.command()
def show(
    ctx: typer.Context,
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the dead letter, from dlq list.")],
    data: Annotated[bool, typer.Option("--data", help="Also the body, as it came.")] = False,
) -> int:
    """Show one dead letter: attempts, headers, error and stack.

    Example: investbus dlq show 3f7k2m9c
    """

    async def look(store: "Store") -> "DeadLetter | None":
        return await store.get_dead(letter_id)

    letter = with_store(ctx, look)
    if letter is None:
        typer.echo(f"there is no dead letter {letter_id}; investbus dlq list shows which there are", err=True)
        return 1
    emit(ctx, _whole(letter) | ({"body": letter.body.decode("utf-8", "backslashreplace")} if data else {}))
    return 0


@verbs.command()
@filtered
def export(
    ctx: typer.Context,
    wanted: Wanted,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Where to write, readable by you alone; else standard output.")
    ] = None,
) -> int:
    """Write dead letters with their original bytes, one JSON object a line, oldest first.

    Example: investbus dlq export --route portfolios.creation --output dead.ndjson
    """
    import msgspec

    target = _private(output) if output is not None else nullcontext(sys.stdout.buffer)

    async def write(store: "Store") -> int:
        written = 0
        with target as file:
            async for letter in store.export_dead(wanted):
                body = base64.b64encode(letter.body).decode()
                file.write(msgspec.json.encode(_whole(letter) | {"body_base64": body}) + b"\n")
                written += 1
        return written

    count = with_store(ctx, write)
    typer.echo(f"{count} dead letters written to {output or 'standard output'}", err=True)
    return 0


def _private(path: Path) -> BinaryIO:
    """A new file for its owner alone: it holds what events hold."""
    try:
        return open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600))
    except OSError as failure:
        raise ConfigError([f"--output: {path}: {failure.strerror}"]) from None


def _plain(value: Any) -> dict[str, Any]:
    import msgspec

    row: dict[str, Any] = msgspec.to_builtins(value)
    return row


def _row(letter: "DeadLetter", names: Sequence[str] = COLUMNS) -> dict[str, Any]:
    return {name: getattr(letter, name) for name in names}


def _whole(letter: "DeadLetter") -> dict[str, Any]:
    return _row(letter) | {
        "headers": dict(letter.headers),
        "message": letter.message,
        "stack": letter.stack,
        "tries": [{"at": one.at, "seconds": one.seconds, "error": one.error} for one in letter.tries],
        "handler": letter.handler,
        "handler_version": letter.handler_version,
        "created": letter.created,
        "place": letter.place,
    }
