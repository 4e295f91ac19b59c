"""`run`, `check`, `routes` and `send`: the worker, and what one does before it runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from investbus.cli import settings
from investbus.cli.output import emit
from investbus.errors import ConfigError

if TYPE_CHECKING:
    from investbus.config import Settings
    from investbus.router import Entry, RouteTable

app = typer.Typer()


@app.command()
def run(
    ctx: typer.Context,
    until_idle: Annotated[
        float | None,
        typer.Option("--until-idle", metavar="SECONDS", min=0.1, help="Exit 0 when for so long nothing was received or left."),
    ] = None,
    max_events: Annotated[
        int | None, typer.Option("--max-events", metavar="N", min=1, help="Exit 0 when N deliveries were taken and finished.")
    ] = None,
) -> int:
    """Run the worker until SIGTERM.

    Example: investbus run --until-idle 30
    """
    from investbus import log, process

    loaded = settings(ctx).settings
    log.configure(loaded.log)
    return process.main(loaded, until_idle, max_events)


@app.command()
def check(
    ctx: typer.Context,
    connect: Annotated[bool, typer.Option("--connect", help="Also ask the bus, the API (a login) and the store.")] = False,
) -> int:
    """Check configuration, handlers, routes and timings; exit 1 if there are findings.

    Example: investbus check --connect
    """
    import asyncio

    from investbus.check import report
    from investbus.errors import UnsafeStart

    found = asyncio.run(report(settings(ctx).settings, connect))
    if ctx.obj.format == "json":
        emit(ctx, {"findings": found.findings, "guarantees": found.guarantees, "routes": found.routes})
    else:
        for name, promise in found.guarantees.items():
            print(f"{name}: {promise}")
        for line in found.findings:
            print(f"finding: {line}")
        hint = "" if connect else "; --connect also asks the other side"
        print(f"routes: {found.routes}, findings: {len(found.findings)}{hint}", flush=True)
    if found.failures:
        *others, last = sorted(found.failures, key=lambda failure: isinstance(failure, UnsafeStart))
        for failure in others:
            print(" ".join(str(failure).split()), file=sys.stderr)
        raise last
    return 1 if found.findings else 0


@app.command()
def routes(
    ctx: typer.Context, name: Annotated[str | None, typer.Argument(help="An event's name: which handler takes it, and why.")] = None
) -> int:
    """List the routes, or say which handler takes an event.

    Example: investbus routes portfolios.withdrawal
    """
    from investbus.assembly import route_table

    table = route_table(settings(ctx).settings)
    if name is None:
        emit(ctx, [_row(entry) for entry in table.entries] + _unhandled(ctx, table))
        return 0
    match = table.match(name)
    if match.entry is None:
        emit(ctx, {"name": name, "handler": None, "why": match.why})
        return 1
    entry = match.entry
    emit(ctx, {"name": name, "route": entry.name, "handler": entry.handler, "place": entry.place, "why": match.why})
    return 0


def _row(entry: "Entry") -> dict[str, Any]:
    from investbus.catalogue import known

    listed = known(entry.name)
    row = {"name": entry.name, "aliases": list(entry.aliases), "handler": entry.handler, "place": entry.place, "kind": entry.kind}
    return row | {"draft": bool(listed and listed.draft)}


def _unhandled(ctx: typer.Context, table: "RouteTable") -> list[dict[str, Any]]:
    """In text, also the events of the catalogue that no route takes; the JSON list holds routes alone."""
    from investbus.catalogue import all_known

    if ctx.obj.format == "json":
        return []
    return [
        {"name": one.name, "aliases": list(one.aliases), "handler": "-", "place": "", "kind": "no route", "draft": one.draft}
        for one in all_known()
        if table.match(one.name).entry is None
    ]


@app.command()
def send(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Name of the event, such as portfolios.status-update.")] = None,
    data: Annotated[str, typer.Option("--data", metavar="JSON|@FILE|-", help="The event's data.")] = "{}",
    event_id: Annotated[str | None, typer.Option("--id", help="Id of the event; else a new one for each.")] = None,
    created: Annotated[str | None, typer.Option("--created", help="Its time; else now.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, metavar="N", help="Send so many.")] = 1,
    raw: Annotated[Path | None, typer.Option("--raw", metavar="FILE", help="Publish this file's bytes as they are.")] = None,
) -> int:
    """Publish events to the configured bus.

    Example: investbus send portfolios.status-update --data '{"id": "P1", "value": "ACTIVE"}'
    """
    import asyncio

    from investbus import sending

    if (name is None) == (raw is None):
        raise ConfigError(["send: name an event, or give --raw FILE; one of the two"])
    if raw is not None:
        if data != "{}" or event_id is not None or created is not None:
            raise ConfigError(["send: --raw FILE is a whole message; leave out --data, --id and --created"])
        messages = [sending.raw_message(raw)] * count
    else:
        assert name is not None
        body = sending.read_data(data)
        messages = [sending.envelope_message(name, body, event_id, created) for _ in range(count)]
    published = asyncio.run(sending.publish(_configured(ctx), messages))
    emit(ctx, [{"event_id": one.id, "name": name or "", "bytes": len(one.message.body)} for one in published])
    return 0


def _configured(ctx: typer.Context) -> "Settings":
    return settings(ctx).settings
