"""The options that choose dead letters, said once for all commands that take them."""

import inspect
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from investbus.errors import ConfigError

if TYPE_CHECKING:
    from investbus.store import Filter

Wanted = Any  # a `Filter`, put there by `filtered`; the options that it is made of are what the command line shows

REASONS = "undecodable, data_invalid, rejected, exhausted, crashed or unrouted."
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str) -> datetime:
    """`2h` ago, or a date, or a time; UTC where it has no zone."""
    try:
        if ago := re.fullmatch(r"(\d+)([smhd])", text):
            return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f'"{text}" is no time; write 2h, 30m or 7d (ago), 2026-11-21, or 2026-11-21T12:30Z') from None


OPTIONS: dict[str, Any] = {
    "route": Annotated[str | None, typer.Option("--route", help="Of this route.")],
    "reason": Annotated[str | None, typer.Option("--reason", help=REASONS)],
    "error": Annotated[str | None, typer.Option("--error", help='With this error, such as "ApiError 500".')],
    "since": Annotated[
        datetime | None,
        typer.Option("--since", metavar="TIME", parser=moment, help="Died at or after this time, or 2h ago; UTC without a zone."),
    ],
    "until": Annotated[
        datetime | None, typer.Option("--until", metavar="TIME", parser=moment, help="Died before this time; UTC without a zone.")
    ],
    "event_id": Annotated[str | None, typer.Option("--event-id", help="Of this event.")],
    "key": Annotated[str | None, typer.Option("--key", help="Of this ordering key.")],
    "state": Annotated[str | None, typer.Option("--state", help="open, replayed, discarded, parked or superseded.")],
}


def filtered(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of a filter in the place of its parameter `wanted`."""

    @wraps(command)
    def run(*given: Any, **named: Any) -> int:
        chosen = {name: named.pop(name) for name in OPTIONS}
        return command(*given, wanted=_filter(**chosen), **named)

    keyword = inspect.Parameter.KEYWORD_ONLY
    own = inspect.signature(command).parameters.values()
    before = [one for one in own if one.default is inspect.Parameter.empty and one.name != "wanted"]
    after = [one.replace(kind=keyword) for one in own if one.default is not inspect.Parameter.empty]
    options = [inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in OPTIONS.items()]
    parameters = [*before, *options, *after]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what Typer reads
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def words(wanted: "Filter") -> str:
    """The filter as it is remembered with a request."""
    import msgspec

    given = {name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not None}
    return " ".join(f"{name}={value}" for name, value in given.items())


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
        since=since,
        until=until,
        event_id=event_id,
        key=key,
        state=next((one for one in STATES if one == state), None),
    )
