"""`dlq replay`, `dlq discard` and `replays`: dead letters are chosen once, and a running worker does the rest.

The list is frozen when it is asked for, so nothing that fails later is swept along. What goes to the store is a request; the worker
that takes it runs the letters in its own lanes, and nothing goes back to the bus.
"""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from investbus.cli.dlq import verbs
from investbus.cli.filters import Wanted, filtered, words
from investbus.cli.output import emit
from investbus.cli.plan import plan_of
from investbus.cli.stored import now, operator, with_store
from investbus.errors import ConfigError

if TYPE_CHECKING:
    from investbus.mailbox import Reason, Replay
    from investbus.store import Filter, Store

app = typer.Typer()
runs = typer.Typer(help="Replays: what became of dead letters that were run again.")
app.add_typer(runs, name="replays")

FOLLOW_EVERY = 0.5  # seconds
NOTHING, STOPPED_SHORT = 1, 4

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of dead letters, from dlq list.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@verbs.command()
@filtered
def replay(
    ctx: typer.Context,
    wanted: Wanted,
    ids: Ids = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would run, and what not and why.")] = False,
    rate: Annotated[float, typer.Option("--rate", min=0.01, help="At most so many per second.")] = 5.0,
    stop_after: Annotated[int, typer.Option("--stop-after", min=1, help="Stop when so many have died again.")] = 3,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why, for those who look later.")] = "",
    yes: Yes = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was replayed or done already.")] = False,
    wait: Annotated[
        float | None, typer.Option("--wait", metavar="SECONDS", min=0.0, help="Follow it for so long; exit 4 if it goes on then.")
    ] = None,
) -> int:
    """Run dead letters again: a running worker takes the request.

    Example: investbus dlq replay --route portfolios.creation --note "core is back" --wait 60

    The oldest goes first and alone; if it dies again, the replay stops. Without a filter for the state only open ones are chosen.
    """
    import msgspec

    from investbus.store import Filter

    if not ids and not plan and wanted == Filter():
        raise ConfigError(["dlq replay: name dead letters by their id, or choose them by a filter; all: --state open"])
    if wanted.state is None and not again and not ids:
        wanted = msgspec.structs.replace(wanted, state="open")

    async def ask(store: "Store") -> int:
        chosen = await _select(store, wanted, ids)
        if not chosen:
            return NOTHING
        if plan or not yes:
            planned = await plan_of(ctx, store, wanted, chosen, again)
            if plan:
                emit(ctx, planned)
                return 0
            for row in planned["not_eligible"]:
                typer.echo(f"not eligible: {row['count']}, {row['reason']}; such as {row['sample']}", err=True)
            if not planned["eligible"]:
                return NOTHING
            _confirm(f"replay {planned['eligible']} of {len(chosen)} dead letters?")
        asked = _request(wanted, ids, rate, stop_after, note, again)
        await store.ask_replay(asked, chosen)
        if wait is not None:
            return await _follow(ctx, store, asked.id, wait)
        emit(ctx, _row(msgspec.structs.replace(asked, planned=len(chosen))))
        typer.echo(f"asked for; a running worker takes it. Next: investbus replays show {asked.id}", err=True)
        return 0

    return with_store(ctx, ask)


@verbs.command()
@filtered
def discard(
    ctx: typer.Context,
    wanted: Wanted,
    ids: Ids = None,
    note: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Why; required.")] = None,
    yes: Yes = False,
) -> int:
    """Close dead letters that need nothing more. They stay in the store, as discarded.

    Example: investbus dlq discard 3f7k2m9c --note "booked by hand"
    """
    from investbus.store import Filter

    reason = required(note)
    if not ids and wanted == Filter():
        raise ConfigError(["dlq discard: name dead letters by their id, or choose them by a filter; all: --state open"])

    async def close(store: "Store") -> int:
        chosen = await _select(store, wanted, ids)
        if not chosen:
            return NOTHING
        if not yes:
            _confirm(f"discard {len(chosen)} dead letters?")
        count = await store.discard(chosen, _chosen(wanted, ids), operator(), reason, now())
        emit(ctx, {"discarded": count, "note": reason})
        return 0 if count else NOTHING

    return with_store(ctx, close)


@runs.command("list")
def show_list(ctx: typer.Context, limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20) -> int:
    """List replays, newest first.

    Example: investbus replays list
    """

    async def look(store: "Store") -> "list[Replay]":
        return await store.list_replays(limit)

    rows = [_row(one) for one in with_store(ctx, look)]
    if rows or ctx.obj.format == "json":
        emit(ctx, rows)
    else:
        print("no replays")
    return 0


@runs.command()
def show(ctx: typer.Context, replay_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the replay.")]) -> int:
    """Show how far one replay is.

    Example: investbus replays show 7f3k2m9c
    """

    async def look(store: "Store") -> "tuple[Replay | None, list[Reason]]":
        return await store.get_replay(replay_id), await store.reasons(replay_id)

    found, reasons = with_store(ctx, look)
    if found is None:
        typer.echo(f"there is no replay {replay_id}; investbus replays list shows which there are", err=True)
        return NOTHING
    emit(ctx, _whole(found) | {"reasons": reasons})
    return 0


@runs.command()
def cancel(ctx: typer.Context, replay_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the replay.")]) -> int:
    """Stop a replay; what of it runs now ends, and nothing more is begun.

    Example: investbus replays cancel 7f3k2m9c
    """

    async def stop(store: "Store") -> bool:
        return await store.cancel_replay(replay_id, operator(), now())

    if not with_store(ctx, stop):
        typer.echo(f"there is no replay {replay_id} that has not ended; see investbus replays list", err=True)
        return NOTHING
    typer.echo(f"cancelled; what has run so far: investbus replays show {replay_id}", err=True)
    return 0


def required(note: str | None) -> str:
    """The note of an action that nobody should take without one."""
    if not note or not note.strip():
        raise ConfigError(["--note: missing; say why, for those who look later"])
    return note.strip()


async def _select(store: "Store", wanted: "Filter", ids: list[str] | None) -> list[str]:
    """Which letters the request is about; says what matches none."""
    chosen = await store.select_dead(wanted, ids)
    if not chosen:
        typer.echo("no dead letter matches; investbus dlq list shows which there are", err=True)
    elif missing := set(ids or ()).difference(chosen):
        typer.echo(f"no dead letter matches {', '.join(sorted(missing))}", err=True)
    return chosen


def _request(wanted: "Filter", ids: list[str] | None, rate: float, stop_after: int, note: str, again: bool) -> "Replay":
    import secrets

    from investbus.mailbox import Replay

    return Replay(
        id=secrets.token_hex(5),
        note=note,
        who=operator(),
        at=now(),
        wanted=_chosen(wanted, ids),
        rate=rate,
        stop_after=stop_after,
        again=again,
    )


def _chosen(wanted: "Filter", ids: list[str] | None) -> str:
    said = [f"{len(ids)} by id"] if ids else []
    return " ".join((*said, words(wanted)))


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigError(["--yes: missing; without a terminal there is nobody to ask"])
    typer.confirm(question, abort=True, err=True)


async def _follow(ctx: typer.Context, store: "Store", replay_id: str, seconds: float) -> int:
    """Look at the replay until it has ended, with a bar on a terminal."""
    import asyncio

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from investbus.mailbox import ACTIVE

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("pending", total=None, said="")
        try:
            async with asyncio.timeout(seconds):
                while True:
                    now_at = await _found(store, replay_id)
                    ended = now_at.done + now_at.dead + now_at.skipped
                    said = f"{now_at.done} done, {now_at.dead} dead, {now_at.skipped} skipped"
                    progress.update(bar, description=now_at.state, total=now_at.planned, completed=ended, said=said)
                    if now_at.state not in ACTIVE:
                        break
                    await asyncio.sleep(FOLLOW_EVERY)
        except TimeoutError:
            now_at = await _found(store, replay_id)
        except asyncio.CancelledError:  # Ctrl-C
            typer.echo(f"the replay goes on: investbus replays show {replay_id}, or cancel {replay_id}", err=True)
            raise
    emit(ctx, _row(now_at))
    if now_at.state == "pending":
        held = next((f"everything is paused ({one.reason}: {one.note})" for one in await store.pauses() if not one.route), None)
        why = held or "no worker on this store has taken it"
        typer.echo(f"it has not begun within {seconds:g} s: {why}; it waits: investbus replays show {replay_id}", err=True)
    elif now_at.state in ACTIVE:
        typer.echo(f"it has not ended within {seconds:g} s, and goes on: investbus replays show {replay_id}", err=True)
    elif now_at.reason:
        typer.echo(f"stopped: {now_at.reason}", err=True)
    return 0 if now_at.state == "done" else STOPPED_SHORT


async def _found(store: "Store", replay_id: str) -> "Replay":
    found = await store.get_replay(replay_id)
    assert found is not None
    return found


def _row(one: "Replay") -> dict[str, Any]:
    names = ("id", "state", "note", "planned", "done", "dead", "skipped")
    return {name: getattr(one, name) for name in names}


def _whole(one: "Replay") -> dict[str, Any]:
    names = ("reason", "who", "at", "wanted", "rate", "stop_after", "again")
    return _row(one) | {name: getattr(one, name) for name in names}
