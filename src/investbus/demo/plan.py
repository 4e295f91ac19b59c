"""What should become of every message of the demo, worked out without the worker.

The stream knows which bad messages it made. Which of the good ones fail follows from the two things that the sample handlers do on
purpose: they refuse withdrawals from archived portfolios, and they cannot reach a customer whom the bank does not know.
"""

from collections import Counter
from collections.abc import Iterator

import msgspec

from investbus.catalogue import canonical
from investbus.sandbox import Stream, World
from investbus.transport import Message

OF_MISCHIEF = {
    "broken-json": "undecodable",
    "wrong-version": "undecodable",
    "missing-id": "undecodable",
    "misfit": "data_invalid",
    "unknown-name": "ignored",
    "tombstone": "ignored",
    "duplicate": "duplicate",
}


class Plan:
    """The messages of a stream, one after the other, and the endings that were due up to here."""

    def __init__(self, world: World, stream: Stream) -> None:
        self._world = world
        self._stream = stream
        self._good: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Message]:
        made = self._stream.made
        for message in self._stream:
            if made.names.total() > self._good.total():
                self._good[self._ending(message)] += 1
            yield message

    @property
    def endings(self) -> dict[str, int]:
        """How many messages should end how: done, ignored, duplicate, or the reason of a dead letter."""
        due = Counter(self._good)
        for kind, count in self._stream.made.mischief.items():
            due[OF_MISCHIEF[kind]] += count
        return dict(due)

    def _ending(self, message: Message) -> str:
        envelope = msgspec.json.decode(message.body)
        data = envelope["data"]
        match canonical(f"{envelope['subject']}.{envelope['action']}"):
            case "portfolios.status-update" if "owned_by_external_user_id" not in data:
                return "exhausted"
            case "portfolios.divest-amount-update" if data["divest_amount"] and self._world.portfolios[data["id"]]["archived"]:
                return "rejected"
        return "done"
