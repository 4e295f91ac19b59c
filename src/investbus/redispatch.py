"""Whether a dead letter can run again now, and as which event. Asked by the worker that replays it, and by `dlq replay --plan`."""

from collections.abc import Callable, Mapping

from investbus.errors import DecodeError
from investbus.event import Envelope
from investbus.router import RouteTable
from investbus.store import DeadLetter

Decode = Callable[[bytes, Mapping[str, str]], list[Envelope]]


class Redispatch:
    """Reads letters with the dialect and the handlers of now, which may not be those that they died of."""

    def __init__(self, decode: Decode, table: RouteTable) -> None:
        self._decode = decode
        self._table = table

    def event(self, letter: DeadLetter, *, done: bool, again: bool) -> Envelope | str:
        """The event to run, or why it does not run. `done`: the store knows that this very event was done after all."""
        if not again and letter.state not in ("open", "parked"):
            return f"already {letter.state}"
        if not again and done:
            return "already done"
        try:
            envelopes = self._decode(letter.body, letter.headers)
        except DecodeError as error:
            return f"undecodable ({error.reason})"
        found = [one for one in envelopes if one.id == letter.event_id] if letter.event_id else envelopes
        if len(found) != 1:
            return "undecodable (it holds other events than when it died)"
        if self._table.match(found[0].name).entry is None:
            return "no handler now"
        return found[0]
