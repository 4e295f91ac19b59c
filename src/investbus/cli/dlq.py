"""`dlq list`, `show` and `export`: what failed, grouped by cause, and everything about one failure.

Lists never show `data`, and an error in them is a class with an HTTP status, never a message: messages can hold anything.
"""

import base64
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeVar

import typer

from investbus.cli import settings
from investbus.cli.output import emit
from investbus.errors import ConfigError

if TYPE_CHECKING:
    from investbus.store import DeadLetter, Filter, Store

app = typer.Typer()
verbs = typer.Typer(help="Dead letters: events that failed for good.")
app.add_typer(verbs, name="dlq")

T = TypeVar("T")
Route = Annotated[str | None, typer.Option("--route", help="Of this route.")]
REASONS = "undecodable, data_invalid, rejected, exhausted, crashed or unrouted."
Reason = Annotated[str | None, typer.Option("--reason", help=REASONS)]
Error = Annotated[str | None, typer.Option("--error", help='With this error, such as "ApiError 500".')]
TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"]
Since = Annotated[
    datetime | None, typer.Option("--since", metavar="TIME", formats=TIMES, help="Died at or after this time; UTC without a zone.")
]
Until = Annotated[
    datetime | None, typer.Option("--until", metavar="TIME", formats=TIMES, help="Died before this time; UTC without a zone.")
]
EventId = Annotated[str | None, typer.Option("--event-id", help="Of this event.")]
Key = Annotated[str | None, typer.Option("--key", help="Of this ordering key.")]
State = Annotated[str | None, typer.Option("--state", help="open, replayed, discarded, parked or superseded.")]


@verbs.command("list")
def show_list(
    ctx: typer.Context,
    route: Route = None,
    reason: Reason = None,
    error: Error = None,
    since: Since = None,
    until: Until = None,
    event_id: EventId = None,
    key: Key = None,
    state: State = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 100,
    group: Annotated[bool, typer.Option("--group", help="One row per route, error and place in the handler.")] = False,
) -> int:
    """List dead letters, newest first, or their causes.

    Example: investbus dlq list --group
    """
    wanted = _filter(route, reason, error, since, until, event_id, key, state)

    async def look(store: "Store") -> list[dict[str, Any]]:
        if group:
            return [_plain(row) for row in await store.group_dead(wanted)][:limit]
        return [_row(letter) for letter in await store.list_dead(wanted, limit)]

    rows = _with_store(ctx, look)
    if rows or ctx.obj.format == "json":
        emit(ctx, rows)
    else:
        print("no dead letters")
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

    letter = _with_store(ctx, look)
    if letter is None:
        typer.echo(f"there is no dead letter {letter_id}; investbus dlq list shows which there are", err=True)
        return 1
    emit(ctx, _whole(letter) | ({"body": letter.body.decode("utf-8", "backslashreplace")} if data else {}))
    return 0


@verbs.command()
def export(
    ctx: typer.Context,
    route: Route = None,
    reason: Reason = None,
    error: Error = None,
    since: Since = None,
    until: Until = None,
    event_id: EventId = None,
    key: Key = None,
    state: State = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Where to write, readable by you alone; else standard output.")
    ] = None,
) -> int:
    """Write dead letters with their original bytes, one JSON object a line, oldest first.

    Example: investbus dlq export --route portfolios.creation --output dead.ndjson
    """
    import msgspec

    wanted = _filter(route, reason, error, since, until, event_id, key, state)
    target = _private(output) if output is not None else nullcontext(sys.stdout.buffer)

    async def write(store: "Store") -> int:
        written = 0
        with target as file:
            async for letter in store.export_dead(wanted):
                body = base64.b64encode(letter.body).decode()
                file.write(msgspec.json.encode(_whole(letter) | {"body_base64": body}) + b"\n")
                written += 1
        return written

    count = _with_store(ctx, write)
    typer.echo(f"{count} dead letters written to {output or 'standard output'}", err=True)
    return 0


def _private(path: Path) -> BinaryIO:
    """A new file for its owner alone: it holds what events hold."""
    try:
        return open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600))
    except OSError as failure:
        raise ConfigError([f"--output: {path}: {failure.strerror}"]) from None


def _filter(
    route: str | None,
    reason: str | None,
    error: str | None,
    since: datetime | None,
    until: datetime | None,
    event_id: str | None,
    key: str | None,
    state: str | None,
) -> "Filter":
    from investbus.catalogue import canonical
    from investbus.outcome import DEAD_REASONS
    from investbus.store import STATES, Filter

    for name, value, known in (("reason", reason, DEAD_REASONS), ("state", state, STATES)):
        if value is not None and value not in known:
            raise ConfigError([f'--{name}: "{value}" is none of {", ".join(known)}'])
    return Filter(
        route=None if route is None else canonical(route),
        reason=reason,
        error=error,
        since=None if since is None else _utc(since),
        until=None if until is None else _utc(until),
        event_id=event_id,
        key=key,
        state=next((one for one in STATES if one == state), None),
    )


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _with_store(ctx: typer.Context, look: "Callable[[Store], Coroutine[Any, Any, T]]") -> T:
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


def _plain(value: Any) -> dict[str, Any]:
    import msgspec

    row: dict[str, Any] = msgspec.to_builtins(value)
    return row


def _row(letter: "DeadLetter") -> dict[str, Any]:
    names = ("id", "event_id", "route", "name", "key", "reason", "error", "state", "attempts", "first_at", "last_at", "origin")
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
