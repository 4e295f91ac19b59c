"""`demo` and `sandbox`: everything to see at once, and the pretend platform alone."""

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from investbus.cli import PROGRAM, settings
from investbus.cli.output import emit
from investbus.errors import ConfigError

if TYPE_CHECKING:
    import asyncio

    from investbus.demo.folder import Folder
    from investbus.demo.stage import Stage
    from investbus.demo.summary import Summary

app = typer.Typer()


@app.command()
def demo(
    ctx: typer.Context,
    events: Annotated[int, typer.Option("--events", min=1, metavar="N", help="So many messages, some of them bad.")] = 300,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up afterwards, with a slow stream, until Ctrl-C.")] = False,
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where configuration, log and store stay.")] = Path(".demo"),
) -> int:
    """Show the main job with nothing else installed: a platform in trouble, its events, and a worker that loses none.

    Example: investbus demo --keep
    """
    from investbus import process
    from investbus.demo.folder import claim

    if ctx.obj.config or ctx.obj.sets:
        raise ConfigError(["demo: writes a configuration of its own; leave out -c and --set"])
    return process.leave(_perform(ctx, events, keep, claim(folder)))


@app.command()
def sandbox(
    ctx: typer.Context,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where the API listens, on 127.0.0.1; 0: any.")] = 8901,
    rate: Annotated[float, typer.Option("--rate", min=0.01, metavar="N", help="So many events a second.")] = 2.0,
    portfolios: Annotated[int, typer.Option("--portfolios", min=1, max=10_000, metavar="N", help="How many to begin with.")] = 50,
) -> int:
    """Run only the pretend platform: its API on this machine, its events to the configured bus, until Ctrl-C.

    Example: investbus sandbox --rate 10 --set file.path=events.ndjson
    """
    from investbus import log, process
    from investbus.demo.alone import stand_alone

    loaded = settings(ctx).settings
    log.configure(loaded.log)
    return process.leave(stand_alone(loaded, port, rate, portfolios, lambda value: emit(ctx, value)))


async def _perform(ctx: typer.Context, events: int, keep: bool, folder: "Folder") -> int:
    import asyncio

    from investbus import process
    from investbus.demo.progress import progress
    from investbus.demo.stage import play, staged
    from investbus.demo.summary import summed_up

    shown = progress(events)
    async with staged(folder, shown) as stage:
        serving = asyncio.create_task(process.serve(stage.parts))
        playing = asyncio.create_task(play(stage, events, shown))
        try:
            with shown:
                await asyncio.wait((serving, playing), return_when="FIRST_COMPLETED")
            if serving.done():
                serving.result()
                print(f"stopped early: {stage.look().ended} of {events} messages had ended", file=sys.stderr)
                return process.STOPPED_SHORT
            summary = await summed_up(stage.parts, stage.plan.endings, events, playing.result())
            _tell(ctx, summary, folder, _urls(stage) if keep else {})
            if keep:
                await _stay(stage, serving)
            stage.parts.worker.stop()
            return await serving or int(bool(summary.findings))
        finally:
            playing.cancel()
            serving.cancel()


async def _stay(stage: "Stage", serving: "asyncio.Task[int]") -> None:
    """Go on, slowly, until somebody stops the worker."""
    import asyncio

    from investbus.demo.stage import TRICKLE

    before = stage.look().ended
    trickling = asyncio.create_task(stage.feed.run(TRICKLE))
    await asyncio.wait((serving, trickling), return_when="FIRST_COMPLETED")
    trickling.cancel()
    print(f"stopped; {stage.look().ended - before} more events have ended", file=sys.stderr)


def _urls(stage: "Stage") -> dict[str, str]:
    ops = stage.parts.worker.settings.ops
    pages = {page: f"http://{ops.host}:{ops.port}/{page}" for page in ("livez", "readyz", "metrics", "status")}
    return {"platform": stage.platform.url, **pages}


def _tell(ctx: typer.Context, summary: "Summary", folder: "Folder", urls: Mapping[str, str]) -> None:
    """The summary on stdout, what does not agree on stderr."""
    import msgspec

    failed, more = _commands(summary, folder)
    if ctx.obj.format == "json":
        places = {"config": str(folder.config), "commands": failed + more, "urls": dict(urls)}
        emit(ctx, msgspec.to_builtins(summary) | places)
    else:
        print(
            f"{summary.events} messages in {summary.seconds:g} s ({summary.events_per_second:g} a second), "
            f"{summary.duplicates_skipped} duplicates skipped, gate closed {_times(summary.gate_closures)}, "
            f"logged in {_times(summary.logins)}"
        )
        _titled(ctx, "Events by route and outcome", list(_route_rows(summary)))
        _titled(ctx, "How the messages ended, and how they should have", list(_ending_rows(summary)))
        _titled(ctx, "Calls of the platform", msgspec.to_builtins(summary.api_calls))
        _listed("What failed, grouped by cause, and one of them with all that is known of it", failed)
        _listed("What to try next", more)
        if urls:
            print("\nUp until Ctrl-C, with two events a second:")
            emit(ctx, urls)
    sys.stdout.flush()
    for line in summary.findings:
        print(f"finding: {line}", file=sys.stderr)
    if summary.findings:
        print(f"the demo has failed; what the worker says of it: {folder.worker_log}", file=sys.stderr)


def _commands(summary: "Summary", folder: "Folder") -> tuple[list[str], list[str]]:
    """What lists the failures, and what to try next: each a command that can be pasted."""
    found = shutil.which(PROGRAM)
    on_path = found is not None and Path(found).resolve() == Path(sys.argv[0]).resolve()
    program = PROGRAM if on_path else shlex.quote(sys.argv[0])
    config = shlex.quote(str(folder.config))
    failed = [f"{program} dlq list --group -c {config}"]
    if summary.sample:
        failed.append(f"{program} dlq show {summary.sample} -c {config}")
    more = [
        f"{program} routes portfolios.withdrawal -c {config}",
        f"{program} check -c {config}",
        f"{program} demo --keep --dir {shlex.quote(str(folder.path))}",
    ]
    return failed, more


def _route_rows(summary: "Summary") -> Iterator[dict[str, Any]]:
    from investbus.demo.summary import OUTCOMES

    shown = [name for name in OUTCOMES if any(row.outcomes.get(name) for row in summary.routes)]
    for row in summary.routes:
        yield {"route": row.route, "received": row.received} | {name: row.outcomes.get(name) for name in shown}
    total = sum(row.received for row in summary.routes)
    yield {"route": "total", "received": total} | {name: sum(row.outcomes.get(name, 0) for row in summary.routes) for name in shown}


def _ending_rows(summary: "Summary") -> Iterator[dict[str, Any]]:
    for name in sorted(summary.planned | summary.counted):
        kind = "dead letter: " if name in summary.dead_letters else ""
        yield {"ending": kind + name, "planned": summary.planned.get(name, 0), "counted": summary.counted.get(name, 0)}


def _titled(ctx: typer.Context, title: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        print(f"\n{title}:")
        emit(ctx, rows)


def _listed(title: str, commands: Sequence[str]) -> None:
    print(f"\n{title}:")
    for command in commands:
        print(f"  {command}")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
