"""`pause` and `resume`: through the store, so that they reach all replicas and outlive restarts."""

from typing import TYPE_CHECKING, Annotated

import typer

from investbus.cli import settings
from investbus.cli.output import emit
from investbus.cli.replay import NOTHING, required
from investbus.cli.stored import now, operator, with_store
from investbus.errors import ConfigError

if TYPE_CHECKING:
    from investbus.mailbox import Pause
    from investbus.store import Store

app = typer.Typer()

Route = Annotated[str | None, typer.Option("--route", metavar="NAME", help="Only this route; else everything.")]
Note = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Why; required.")]


@app.command()
def pause(ctx: typer.Context, route: Route = None, note: Note = None) -> int:
    """Start no more handlers, of one route or of all, on every replica; what runs may end.

    Example: investbus pause --note "core banking is being moved"
    """
    from investbus.mailbox import Pause

    name, mistake = _named(ctx, route)
    if mistake:  # such a pause would hold nothing
        raise ConfigError([mistake])
    held = Pause(name, "operator", required(note), operator(), now())

    async def hold(store: "Store") -> None:
        await store.pause(held)

    with_store(ctx, hold)
    emit(ctx, {"paused": held.route or "everything", "note": held.note})
    flag = f" --route {held.route}" if held.route else ""
    typer.echo(f"workers follow within seconds; to go on: investbus resume{flag} --note TEXT", err=True)
    return 0


@app.command()
def resume(ctx: typer.Context, route: Route = None, note: Note = None) -> int:
    """End a pause, or the one that a flood of dead letters has set.

    Example: investbus resume --note "mended"
    """
    (name, mistake), why = _named(ctx, route), required(note)

    async def lift(store: "Store") -> "tuple[list[Pause], list[Pause]]":
        return await store.resume(name, operator(), why, now()), await store.pauses()

    lifted, left = with_store(ctx, lift)
    for one in left:
        typer.echo(f"still paused: {one.route or 'everything'} ({one.reason}: {one.note})", err=True)
    if mistake and not lifted:  # a pause of a route that has gone since can be ended all the same
        raise ConfigError([mistake])
    if not lifted:
        typer.echo(f"{name or 'the worker'} was not paused", err=True)
    if lifted or ctx.obj.format == "json":
        emit(ctx, [{"resumed": one.route or "everything", "reason": one.reason, "note": one.note} for one in lifted])
    return 0 if lifted else NOTHING


def _named(ctx: typer.Context, route: str | None) -> tuple[str, str]:
    """The route by its registered name; and what is wrong with it where no handler has it."""
    from investbus.assembly import route_table
    from investbus.catalogue import canonical
    from investbus.mailbox import EVERYTHING
    from investbus.plugins import near

    if route is None:
        return EVERYTHING, ""
    table = route_table(settings(ctx).settings)
    if (entry := table.named(route)) is not None:
        return entry.name, ""
    meant = near(canonical(route), (one.name for one in table.entries))
    hint = f"; did you mean {meant}?" if meant else ""
    return canonical(route), f'--route: no handler is registered for "{route}"{hint}'
