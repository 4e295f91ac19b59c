"""The witness of RabbitMQ is checked: acks of every form are seen, and those that the broker threw away are not believed."""

import json

import pytest
from pika import BasicProperties, frame, spec  # type: ignore[import-untyped]  # it carries no type information

from tests.chaos.amqp_wire import Acks, Wire, frames


def delivered(wire: Wire, tag: int, event_id: str, returned: int = 0, channel: int = 1) -> None:
    body = json.dumps({"id": event_id, "data": "x" * 100}).encode()
    head = frame.Header(channel, len(body), BasicProperties(headers={"x-delivery-count": returned}))
    parts = [frame.Method(channel, spec.Basic.Deliver("c", tag, False, "", "q")), head]
    parts += [frame.Body(channel, body[start : start + 50]) for start in range(0, len(body), 50)]
    bytes_read, rest = frames(b"".join(part.marshal() for part in parts) + b"\x01\x00")
    assert rest == b"\x01\x00"
    for part in bytes_read:
        wire.from_broker(part)


@pytest.fixture
def acks() -> Acks:
    return Acks()


@pytest.fixture
def wire(acks: Acks) -> Wire:
    """With the events a, b, c in the client's hands, and another a on a second channel."""
    wire = Wire(acks)
    for tag, event_id in enumerate("abc", 1):
        delivered(wire, tag, event_id)
    delivered(wire, 1, "other", channel=2)
    return wire


@pytest.mark.parametrize(
    ("method", "settled"),
    [
        (spec.Basic.Ack(2), {"b"}),
        (spec.Basic.Ack(2, multiple=True), {"a", "b"}),
        (spec.Basic.Ack(0, multiple=True), {"a", "b", "c"}),
        (spec.Basic.Ack(9), set()),
        (spec.Basic.Nack(3, multiple=True), set()),
        (spec.Basic.Reject(1), set()),
    ],
)
def test_each_form_of_ack_settles_what_it_says(acks: Acks, wire: Wire, method: spec.Basic.Ack, settled: set[str]) -> None:
    wire.from_client(frame.Method(1, method))
    assert set(acks.settled) == settled


def test_what_was_given_back_is_not_settled_by_a_later_ack(acks: Acks, wire: Wire) -> None:
    wire.from_client(frame.Method(1, spec.Basic.Nack(2)))
    wire.from_client(frame.Method(1, spec.Basic.Ack(3, multiple=True)))
    assert set(acks.settled) == {"a", "c"}


def test_an_ack_right_before_the_end_is_not_believed_once_the_event_comes_again(acks: Acks, wire: Wire) -> None:
    times = iter([100.0, 101.5, 102.0])
    acks.now = times.__next__
    wire.from_client(frame.Method(1, spec.Basic.Ack(1)))
    wire.from_client(frame.Method(1, spec.Basic.Ack(2)))
    wire.end()
    again = Wire(acks)
    for tag, event_id in enumerate("ab", 1):
        delivered(again, tag, event_id, returned=1)
    assert acks.settled == {"a": 100.0}
    assert acks.returned == {"a": 1, "b": 1, "c": 0, "other": 0}


def test_an_event_that_comes_again_on_a_live_connection_was_settled(acks: Acks, wire: Wire) -> None:
    wire.from_client(frame.Method(1, spec.Basic.Ack(1)))
    delivered(wire, 4, "a")
    assert set(acks.settled) == {"a"}
