"""What the engine does not tell, or does not forgive, of the frames that a client sends.

Proton hides the message-format of a transfer, and without it a batch cannot be told from a message. And it closes the connection
when two transfers have the same delivery-id: the SDK numbers them alike when two coroutines write at once, and the service does
not mind. So repeated ids get the next number here; `strict` leaves them, to find programs that share a sender or a receiver.
Nor does it forgive what the SDK says on a session that it has ended, so that is left out.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from tests.brokers.servicebus.codec import content_of, decode, unsigned

LARGEST_FRAME = 65536
_BEGIN, _TRANSFER, _END = b"\x00\x53\x11", b"\x00\x53\x14", b"\x00\x53\x17"
_OF_AMQP = b"\x02\x00"  # in the header of a frame: it has no extension, and does not belong to the login
_HANDLE, _DELIVERY_ID, _FORMAT, _MORE = 0, 1, 3, 5  # fields of a transfer (AMQP 1.0, part 2, 2.7.5)


class Piece(NamedTuple):
    """Bytes for the engine; of a transfer also its message-format."""

    data: bytes
    message_format: int | None


class _Begun(NamedTuple):
    """A delivery whose last transfer has not come yet."""

    sent: int
    given: int
    message_format: int


class FrameWalker:
    """One connection's incoming bytes. What cannot be a frame goes to the engine as it is: it knows how to refuse."""

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._rest = b""
        self._begun: dict[tuple[int, int], _Begun] = {}  # by channel and handle
        self._next: dict[int, int] = {}  # delivery-id by channel
        self._ended: set[bytes] = set()  # channels

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Whole frames, each transfer alone."""
        data = self._rest + data
        start = at = 0
        while size := _size(data, at):
            end, channel = at + size, data[at + 6 : at + 8]
            performative = data[at + 8 : at + 11] if data[at + 4 : at + 6] == _OF_AMQP and size > 11 else b""
            if performative == _BEGIN:
                self._ended.discard(channel)
            elif performative == _TRANSFER or channel in self._ended:
                if at > start:
                    yield Piece(data[start:at], None)
                if channel not in self._ended:
                    yield self._transfer(data[at:end])
                start = end
            elif performative == _END:
                self._ended.add(channel)
            at = end
        self._rest = data[at:]
        if at > start:
            yield Piece(data[start:at], None)

    def _transfer(self, frame: bytes) -> Piece:
        try:
            count, at, end = content_of(frame, 11)
            offsets, values = [at], []
            for _ in range(min(count, _MORE + 1)):
                value, at = decode(frame, at)
                values.append(value)
                offsets.append(at)
        except ValueError:
            return Piece(frame, None)
        values += [None] * (_MORE + 1 - len(values))
        channel, handle = int.from_bytes(frame[6:8], "big"), values[_HANDLE]
        if not isinstance(handle, int):
            return Piece(frame, None)
        begun = self._begun.get((channel, handle)) or self._begin(channel, values[_DELIVERY_ID], values[_FORMAT])
        if begun is None:
            return Piece(frame, None)
        if values[_MORE] is True:
            self._begun[channel, handle] = begun
        else:
            self._begun.pop((channel, handle), None)
        if values[_DELIVERY_ID] is not None and begun.sent != begun.given:
            before, after = frame[offsets[0] : offsets[_DELIVERY_ID]], frame[offsets[_DELIVERY_ID + 1] : end]
            frame = _rewritten(frame, count, before + unsigned(begun.given) + after, end)
        return Piece(frame, begun.message_format)

    def _begin(self, channel: int, sent: object, message_format: object) -> _Begun | None:
        if not isinstance(sent, int):
            return None
        expected = self._next.get(channel, sent)
        given = sent if self._strict else max(sent, expected)
        self._next[channel] = given + 1
        return _Begun(sent, given, message_format if isinstance(message_format, int) else 0)


def _size(data: bytes, at: int) -> int:
    """How long the frame at `at` is; 0 if not all of it is there. What cannot be a frame is all that is there."""
    if len(data) - at < 8:
        return 0
    size = 8 if data[at : at + 4] == b"AMQP" else int.from_bytes(data[at : at + 4], "big")
    if not 8 <= size <= LARGEST_FRAME:
        return len(data) - at
    return size if size <= len(data) - at else 0


def _rewritten(frame: bytes, count: int, values: bytes, end: int) -> bytes:
    performative = frame[4:11] + b"\xd0" + struct.pack(">II", len(values) + 4, count) + values
    return struct.pack(">I", 4 + len(performative) + len(frame) - end) + performative + frame[end:]
