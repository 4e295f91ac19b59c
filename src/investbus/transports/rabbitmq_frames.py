"""Messages that aiormq cannot read, made readable: with their body, and without what stands beside it.

A producer may send properties that no Python value can hold, such as a time in nanoseconds or a text that is not UTF-8. aiormq
decodes them with the frame, and ends the connection if it cannot. The message is still on the queue then, and ends every further
connection too. So after such an end the frames are read through this.
"""

from asyncio import StreamReader

import pamqp.frame
from pamqp.constants import FRAME_HEADER, FRAME_HEADER_SIZE, FRAME_METHOD

DELIVER = bytes((0, 60, 0, 60))  # class and method of basic.deliver
HEADER_KEPT = 12  # class, weight and size of the body
TAG_AND_FLAG = 9  # the delivery tag, and whether it was delivered before


class LenientReader:
    """What aiormq needs of a stream: the head of each frame in two pieces, then its rest."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self._head = b""  # of the frame that is being read

    def at_eof(self) -> bool:
        return self._reader.at_eof()

    async def read(self) -> bytes:
        return await self._reader.read()

    async def readexactly(self, count: int) -> bytes:
        data = await self._reader.readexactly(count)
        if len(self._head) < FRAME_HEADER_SIZE:
            self._head += data
            return data
        head, self._head = self._head, b""
        return readable(head, data)


def readable(head: bytes, rest: bytes) -> bytes:
    """The rest of a frame; if it cannot be decoded, one of the same length that can."""
    try:
        pamqp.frame.unmarshal(head + rest)
    except Exception:  # whatever untrusted bytes can make a decoder raise, recursion included
        payload, end = rest[:-1], rest[-1:]
        if head[0] == FRAME_HEADER:
            kept = payload[:HEADER_KEPT]
        elif head[0] == FRAME_METHOD and payload.startswith(DELIVER):
            consumer_tag_ends = len(DELIVER) + 1 + payload[len(DELIVER)]
            kept = payload[: consumer_tag_ends + TAG_AND_FLAG]
        else:
            return rest
        return kept.ljust(len(payload), b"\0") + end  # no property set, and empty names
    return rest
