"""What goes over a connection to RabbitMQ: which events are in the client's hands, and which it has settled.

Read by pika's decoder, which shares no code with the client of the product. RabbitMQ throws last acks away: a quorum queue forgets
those that it has not applied when their channel ends (rabbitmq-server#10327). Such a message comes again, and only that tells.
"""

import time
from collections.abc import Callable
from typing import Any

import msgspec
from pika import frame, spec  # type: ignore[import-untyped]  # it carries no type information

from tests.chaos.history import NEVER, Head

APPLIED_WITHIN = 1.0  # seconds for a busy quorum queue; what was acked so long before its connection ended is settled


class Coming(msgspec.Struct):
    """A delivery whose body is not whole yet."""

    tag: int
    size: int = 0
    returned: int = 0
    body: bytes = b""


class Acks:
    """What all connections have settled. `returned`: the highest x-delivery-count that each event was seen with."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.settled: dict[str, float] = {}
        self.returned: dict[str, int] = {}
        self._by: dict[str, Wire] = {}

    def settle(self, event_id: str, by: "Wire") -> None:
        if event_id not in self.settled:
            self.settled[event_id], self._by[event_id] = self.now(), by

    def delivered(self, event_id: str, returned: int) -> None:
        self.returned[event_id] = max(returned, self.returned.get(event_id, 0))
        if event_id in self.settled and self._by[event_id].ended - self.settled[event_id] < APPLIED_WITHIN:
            del self.settled[event_id]


class Wire:
    """One connection: which events are in the client's hands, by channel and delivery tag."""

    def __init__(self, acks: Acks) -> None:
        self.ended = NEVER
        self._acks = acks
        self._held: dict[int, dict[int, str]] = {}
        self._coming: dict[int, Coming] = {}

    def from_broker(self, part: Any) -> None:
        match part:
            case frame.Method(method=spec.Basic.Deliver() as deliver):
                self._coming[part.channel_number] = Coming(deliver.delivery_tag)
            case frame.Header() if (coming := self._coming.get(part.channel_number)) is not None:
                coming.size = part.body_size
                coming.returned = int((part.properties.headers or {}).get("x-delivery-count", 0))
            case frame.Body() if (coming := self._coming.get(part.channel_number)) is not None:
                coming.body += part.fragment
                if len(coming.body) == coming.size:
                    self._delivered(part.channel_number, self._coming.pop(part.channel_number))

    def _delivered(self, channel: int, whole: Coming) -> None:
        event_id = msgspec.json.decode(whole.body, type=Head).id
        self._held.setdefault(channel, {})[whole.tag] = event_id
        self._acks.delivered(event_id, whole.returned)

    def from_client(self, part: Any) -> None:
        match part:
            case frame.Method(method=spec.Basic.Ack() as ack):
                for event_id in self._taken(part.channel_number, ack.delivery_tag, ack.multiple):
                    self._acks.settle(event_id, self)
            case frame.Method(method=spec.Basic.Nack() as nack):
                self._taken(part.channel_number, nack.delivery_tag, nack.multiple)
            case frame.Method(method=spec.Basic.Reject() as reject):
                self._taken(part.channel_number, reject.delivery_tag, False)

    def end(self) -> None:
        self.ended = min(self.ended, self._acks.now())

    def _taken(self, channel: int, tag: int, multiple: bool) -> list[str]:
        """Out of the client's hands; with `multiple` every tag up to this one, where 0 is the last."""
        held = self._held.get(channel, {})
        tags = [each for each in held if each <= tag or not tag] if multiple else [tag]
        return [held.pop(each) for each in tags if each in held]


def frames(data: bytes) -> tuple[list[Any], bytes]:
    """The whole frames at the beginning of `data`, and what is left over."""
    found: list[Any] = []
    at = 0
    while True:
        used, part = frame.decode_frame(data[at:])
        if part is None:
            return found, data[at:]
        found.append(part)
        at += used
