"""Messages and frames of the Service Bus emulator, byte by byte; Proton is the second opinion."""

import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.brokers.missing import Missing, refuse
from tests.brokers.servicebus.codec import content_of, decode, fields, sections
from tests.brokers.servicebus.frames import FrameWalker
from tests.brokers.servicebus.message import Content, Message
from tests.brokers.servicebus.sources import NO_ENGINE, has_engine


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    if not has_engine():
        refuse(Missing(NO_ENGINE))


text = st.text(max_size=300)
messages = st.fixed_dictionaries(
    {"body": st.binary(max_size=400) | st.dictionaries(text, st.integers(-(2**63), 2**63 - 1), max_size=3)},
    optional={
        "id": text.filter(bool) | st.uuids(),
        "group_id": st.text(min_size=1, max_size=20),
        "subject": text,
        "durable": st.booleans(),
        "priority": st.integers(0, 9),
        "ttl": st.integers(1, 10**6),
        "properties": st.dictionaries(text, text | st.integers(-5, 2**40) | st.booleans() | st.none(), max_size=4),
        "annotations": st.dictionaries(st.sampled_from(["x-opt-partition-key", "own"]), text),
    },
)


def encoded(fields: dict[str, Any]) -> bytes:
    from proton import Message as Encoder
    from proton import symbol

    annotations = {symbol(name): value for name, value in fields.get("annotations", {}).items()}
    return bytes(Encoder(inferred=True, **{**fields, "annotations": annotations}).encode())


def decoded(wire: bytes) -> Any:
    from proton import Message as Decoder

    message = Decoder()
    message.decode(wire)
    return message


@settings(deadline=None)
@given(messages, st.integers(0, 300))
def test_a_message_keeps_what_its_sender_wrote(written: dict[str, Any], count: int) -> None:
    wire = encoded(written)
    copy = Message(Content(wire), sequence=7, enqueued=1000.5, count=count).wire(locked_until=2000.25)
    sent, got = decoded(wire), decoded(copy)
    for name in ("id", "group_id", "subject", "durable", "priority", "ttl", "properties", "body"):
        assert getattr(got, name) == getattr(sent, name), name
    assert got.delivery_count == min(count, 255)
    said = {"x-opt-sequence-number": 7, "x-opt-enqueued-time": 1_000_500, "x-opt-locked-until": 2_000_250}
    assert got.annotations == {**(sent.annotations or {}), **said}
    assert Content(copy).bare == Content(wire).bare


@settings(deadline=None)
@given(messages, st.none() | st.text(min_size=1), st.none() | st.text(min_size=1))
def test_a_dead_letter_says_why_and_keeps_the_rest(written: dict[str, Any], reason: str | None, description: str | None) -> None:
    sent = decoded(encoded(written))
    got = decoded(Message(Content(encoded(written)).dead(reason, description), sequence=1, enqueued=0.0).wire())
    said = {"DeadLetterReason": reason, "DeadLetterErrorDescription": description}
    assert got.properties == {**(sent.properties or {}), **{name: text for name, text in said.items() if text is not None}}
    assert (got.id, got.group_id, got.subject, got.body, got.ttl) == (sent.id, sent.group_id, sent.subject, sent.body, 0)


def test_a_reason_that_a_sender_gave_is_replaced() -> None:
    dead = Content(encoded({"body": b"", "properties": {"DeadLetterReason": "forged", "other": "kept"}})).dead("true", None)
    assert (dead.bare.count(b"DeadLetterReason"), dead.bare.count(b"true"), dead.bare.count(b"kept")) == (1, 1, 1)


@settings(deadline=None)
@given(messages)
def test_sections_cover_every_byte(written: dict[str, Any]) -> None:
    wire = encoded(written)
    found = sections(wire)
    assert [section.start for section in found] + [len(wire)] == [0] + [section.end for section in found]


@settings(deadline=None)
@given(messages.map(encoded), st.data())
def test_what_is_no_message_is_a_value_error(wire: bytes, data: st.DataObject) -> None:
    broken = data.draw(st.binary(max_size=60) | st.integers(0, len(wire)).map(lambda end: wire[:end]))
    at = data.draw(st.integers(0, max(len(wire) - 1, 0)))
    changed = wire[:at] + data.draw(st.binary(min_size=1, max_size=3)) + wire[at + 1 :]
    assert complaint(sections, wire[:-1])
    for each in (broken, changed):
        why = complaint(Content, each)
        assert why != ""
        assert why is not None or complaint(sections, each) is None


def complaint(read: Callable[[bytes], object], wire: bytes) -> str | None:
    """Any other exception is a failure."""
    try:
        read(wire)
    except ValueError as error:
        return str(error)
    return None


def test_a_scheduled_message_is_refused() -> None:
    wire = encoded({"body": b"", "annotations": {"x-opt-scheduled-enqueue-time": 1}})
    with pytest.raises(ValueError, match="scheduled messages are not emulated"):
        Content(wire)


def test_identifiers_keep_their_type() -> None:
    name = uuid4()
    assert decoded(Message(Content(encoded({"id": name})), sequence=1, enqueued=0.0).wire()).id == name


class Transfer(NamedTuple):
    """One frame of a delivery; all that follow the first of its delivery leave out id and format."""

    channel: int
    handle: int
    number: int
    message_format: int
    parts: tuple[bytes, ...]
    wide: bool

    def frames(self) -> list[bytes]:
        return [self._frame(place, payload) for place, payload in enumerate(self.parts)]

    def _frame(self, place: int, payload: bytes) -> bytes:
        first, more = place == 0, place < len(self.parts) - 1
        number = b"\x70" + struct.pack(">I", self.number) if first else b"\x40"
        kind = b"\x70" + struct.pack(">I", self.message_format) if first else b"\x40"
        values = bytes((0x52, self.handle)) + number + b"\xa0\x01t" + kind + b"\x42" + (b"\x41" if more else b"\x42")
        size = struct.pack(">II", len(values) + 4, 6) if self.wide else bytes((len(values) + 1, 6))
        body = b"\x02\x00" + struct.pack(">H", self.channel) + b"\x00\x53\x14" + (b"\xd0" if self.wide else b"\xc0") + size + values
        return struct.pack(">I", len(body) + len(payload) + 4) + body + payload


transfers = st.builds(
    Transfer,
    channel=st.integers(0, 1),
    handle=st.integers(0, 2),
    number=st.integers(0, 5),
    message_format=st.sampled_from([0, 0x80013700]),
    parts=st.lists(st.binary(max_size=20), min_size=1, max_size=3).map(tuple),
    wide=st.booleans(),
)
HEARTBEAT = b"\x00\x00\x00\x08\x02\x00\x00\x00"


def chunks(data: bytes, sizes: list[int]) -> list[bytes]:
    cuts = sorted({0, len(data), *(size % (len(data) + 1) for size in sizes)})
    return [data[start:end] for start, end in pairwise(cuts)]


@settings(deadline=None)
@given(st.lists(transfers, max_size=8), st.lists(st.integers(0, 2000), max_size=8), st.booleans())
def test_the_walker_does_not_mind_how_bytes_arrive(sent: list[Transfer], sizes: list[int], strict: bool) -> None:
    data = b"AMQP\x00\x01\x00\x00" + HEARTBEAT.join(frame for each in sent for frame in each.frames())
    whole, cut = FrameWalker(strict=strict), FrameWalker(strict=strict)
    at_once = b"".join(piece.data for piece in whole.feed(data))
    assert b"".join(piece.data for chunk in chunks(data, sizes) for piece in cut.feed(chunk)) == at_once
    if strict:
        assert at_once == data


@settings(deadline=None)
@given(st.lists(transfers, max_size=8))
def test_deliveries_get_rising_numbers_and_keep_all_else(sent: list[Transfer]) -> None:
    walker = FrameWalker()
    last: dict[int, int] = {}
    for each in sent:
        for place, (frame, payload) in enumerate(zip(each.frames(), each.parts, strict=True)):
            [piece] = walker.feed(frame)
            handle, number, _, message_format, _, more = fields(piece.data, 11, 6)
            _, _, end = content_of(piece.data, 11)
            assert (piece.data[end:], handle, more) == (payload, each.handle, place < len(each.parts) - 1)
            assert piece.message_format == each.message_format
            assert int.from_bytes(piece.data[:4], "big") == len(piece.data)
            if place == 0:
                assert isinstance(number, int)
                assert number == max(each.number, last.get(each.channel, -1) + 1)
                assert message_format == each.message_format
                last[each.channel] = number


def test_what_follows_the_end_of_a_session_is_left_out_until_the_next_begins() -> None:
    def frame(code: int, channel: int) -> bytes:
        return b"\x00\x00\x00\x0c\x02\x00" + struct.pack(">H", channel) + bytes((0x00, 0x53, code, 0x45))

    begin, detach, end = 0x11, 0x16, 0x17
    said = [frame(end, 1), frame(detach, 1), frame(detach, 2), HEARTBEAT, frame(begin, 1), frame(detach, 1)]
    passed = b"".join(piece.data for piece in FrameWalker().feed(b"".join(said)))
    assert passed == b"".join(said[:1] + said[2:])


def test_what_cannot_be_a_frame_goes_to_the_engine_at_once() -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # a client that speaks TLS to a port that does not
    assert [piece.data for piece in FrameWalker().feed(hello)] == [hello]


def test_compound_values_stay_bytes() -> None:
    assert decode(b"\xc0\x02\x01\x41", 0) == (b"\xc0\x02\x01\x41", 4)
