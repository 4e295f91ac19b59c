"""Whether a dead letter can run again now, and as which event. Asked by the worker that replays it, and by `dlq replay --plan`."""

from collections.abc import Callable, Mapping

import msgspec

from investbus.errors import DecodeError
from investbus.event import Envelope
from investbus.router import RouteTable
from investbus.store import DeadLetter, State

Decode = Callable[[bytes, Mapping[str, str]], list[Envelope]]


class Refused(msgspec.Struct, frozen=True):
    """Why a letter does not run, and which state is the right one for it then, if it is another than it has."""

    reason: str
    becomes: State | None = None


class Redispatch:
    """Reads letters with the dialect and the handlers of now, which may not be those that they died of."""

    def __init__(self, decode: Decode, table: RouteTable) -> None:
        self._decode = decode
        self._table = table

    def event(self, letter: DeadLetter, *, done: bool, again: bool) -> Envelope | Refused:
        """The event to run, or why it does not run. `done`: the store knows that this very event was done after all."""
        if not again and letter.state not in ("open", "parked"):
            return Refused(f"already {letter.state}")
        if not again and done:
            return Refused("already done", becomes="replayed")  # else it would be asked for, or block its key, for ever
        found = self._found(letter)
        if isinstance(found, Envelope) and self._table.match(found.name).entry is None:
            found = "no handler now"
        if isinstance(found, str):
            # What is parked comes back by itself. What cannot is for a person, who looks at what is open.
            return Refused(found, becomes="open" if letter.state == "parked" else None)
        return found

    def _found(self, letter: DeadLetter) -> Envelope | str:
        """The letter's event among those of its message; several are one where nothing tells them apart."""
        try:
            envelopes = self._decode(letter.body, letter.headers)
        except DecodeError as error:
            return f"undecodable ({error.reason})"
        except Exception as error:  # a dialect of somebody's own
            return f"undecodable (the dialect failed with {type(error).__name__})"
        found = [one for one in envelopes if one.id == letter.event_id] if letter.event_id else envelopes
        if letter.event_id and len(found) > 1:
            found = [one for one in found if (one.name, one.created) == (letter.name, letter.created)][:1]
        return found[0] if len(found) == 1 else "undecodable (it holds other events than when it died)"
