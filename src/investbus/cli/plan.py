"""What a replay would do: asked before it, with the handlers that are configured here."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import typer

from investbus.cli import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from investbus.redispatch import Redispatch
    from investbus.store import DeadLetter, Filter, Store

PAGE = 50  # letters that are in memory at once


async def plan_of(ctx: typer.Context, store: "Store", wanted: "Filter", chosen: list[str], again: bool) -> dict[str, Any]:
    """What would run by route, and what would not by reason; each with one letter to look at."""
    from investbus.redispatch import Refused

    redispatch = _redispatch(ctx)
    routes, reasons, samples = Counter[str](), Counter[str](), dict[str, str]()
    async for letters in _pages(store, wanted, chosen):
        done = set() if again else await store.done_among(letters)
        for letter in letters:
            found = redispatch.event(letter, done=letter.id in done, again=again)
            counts, of = (reasons, found.reason) if isinstance(found, Refused) else (routes, letter.route)
            counts[of] += 1
            samples.setdefault(of, letter.id)
    return {
        "planned": len(chosen),
        "eligible": routes.total(),
        "routes": [{"route": name, "count": count, "sample": samples[name]} for name, count in routes.most_common()],
        "not_eligible": [{"reason": why, "count": count, "sample": samples[why]} for why, count in reasons.most_common()],
    }


def _redispatch(ctx: typer.Context) -> "Redispatch":
    from investbus.assembly import route_table
    from investbus.plugins import load_dialect
    from investbus.redispatch import Redispatch

    chosen = settings(ctx).settings
    return Redispatch(load_dialect(chosen.dialect), route_table(chosen))


async def _pages(store: "Store", wanted: "Filter", chosen: list[str]) -> "AsyncIterator[list[DeadLetter]]":
    """The letters, a few at a time: each may be as large as the largest event."""
    if len(chosen) <= PAGE:
        for letter_id in chosen:
            if (found := await store.get_dead(letter_id)) is not None:
                yield [found]
        return
    among, page = set(chosen), list["DeadLetter"]()
    async for letter in store.export_dead(wanted):  # a question for each would take a minute for a hundred thousand
        if letter.id in among:
            page.append(letter)
        if len(page) == PAGE:
            yield page
            page = []
    yield page
