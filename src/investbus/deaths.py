"""Dead letters in the log: the first of a kind at once, the others of the next minute as a number.

A kind is what `dlq list --group` shows as one line, so a log line leads to the letters. A bad deploy writes one, not thousands.
"""

import asyncio

import structlog

from investbus.records import DeadLetter

log = structlog.get_logger("investbus.dead")
EVERY = 60.0  # seconds
Kind = tuple[str, str, str, str]  # route, reason, error, place


class Deaths:
    """Tells them; inside the event loop."""

    def __init__(self) -> None:
        self._since: dict[Kind, int] = {}  # how many came after the line that was written less than a minute ago

    def tell(self, letter: DeadLetter) -> None:
        kind = (letter.route, letter.reason, letter.error, letter.place)
        if kind in self._since:
            self._since[kind] += 1
            return
        self._begin(kind)
        log.warning("dead letter", **_named(kind), attempts=letter.attempts, event_id=letter.event_id, letter=letter.id)

    def _begin(self, kind: Kind) -> None:
        self._since[kind] = 0
        asyncio.get_running_loop().call_later(EVERY, self._sum_up, kind)

    def _sum_up(self, kind: Kind) -> None:
        if more := self._since.pop(kind):
            self._begin(kind)
            log.warning("more dead letters of one kind", **_named(kind), letters=more, seconds=EVERY)


def _named(kind: Kind) -> dict[str, str]:
    return dict(zip(("route", "reason", "error", "place"), kind, strict=True))
