"""A dead letter from an event that died: everything that somebody needs who has never seen it run."""

import traceback
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import packages_distributions, version

from investbus.outcome import Dead, error_name, error_text
from investbus.store import DeadLetter, letter_id
from investbus.work import Route, Work

LONGEST_STACK, LONGEST_MESSAGE = 20_000, 20_000  # characters


def dead_letter(work: Work, dead: Dead, source: str, now: float) -> DeadLetter:
    """The letter for `work`, which ended in `dead` at unix time `now`."""
    event, route, error = work.event, work.route, dead.error
    died = datetime.fromtimestamp(now, UTC)
    return DeadLetter(
        id=letter_id(source, route.name, event, work.delivery.origin),
        source=source,
        origin=work.delivery.origin,
        event_id=event.id,
        created=event.created_raw,
        route=route.name,
        name=event.name,
        key=event.key if event.id else "",
        reason=dead.reason,
        error=error_name(error),
        message=error_text(error)[:LONGEST_MESSAGE],
        stack="".join(traceback.format_exception(error))[-LONGEST_STACK:],
        place=_place(error, route),
        attempts=len(work.tries),
        tries=work.tries,
        first_at=work.tries[0].at if work.tries else died,
        last_at=died,
        headers=dict(work.delivery.headers),
        body=event.raw,
        handler=route.handler,
        handler_version=_version(route.handler.partition(":")[0]),
        state="parked" if dead.parked else "open",
        entity=work.entity,
    )


def _place(error: BaseException, route: Route) -> str:
    """file:line of the innermost frame in the handler's own file; where the handler begins if there is none."""
    file = route.place.rpartition(":")[0]
    place = route.place
    chain: BaseException | None = error
    seen = set[int]()  # an error may be its own cause
    while chain is not None and id(chain) not in seen and place == route.place:
        seen.add(id(chain))
        for frame in traceback.extract_tb(chain.__traceback__):
            if file and frame.filename.endswith(file):
                place = f"{file}:{frame.lineno}"
        chain = chain.__cause__
    return place


@cache
def _version(module: str) -> str:
    """Distribution and version that `module` came with; "" for a plain file."""
    for distribution in packages_distributions().get(module.partition(".")[0], ()):
        with suppress(Exception):  # what is half installed, or half removed, raises all kinds of errors
            return f"{distribution} {version(distribution)}"
    return ""
