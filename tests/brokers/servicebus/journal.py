"""What a namespace has confirmed, on disk: one record for each change, appended before the change is confirmed.

Written straight to the file, without fsync: a kill of the process loses nothing, a power cut may. A kill in the middle of a
record leaves half of one at the end; it was not confirmed, and it is cut off before the next is appended.

Locks are not in it. After a restart every message is there to be received at once, where the service would keep it locked.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from tests.brokers.servicebus.settings import Entities


class Created(msgspec.Struct, tag="created", array_like=True):
    """At run time, beside what the configuration says."""

    entities: Entities


class Stored(msgspec.Struct, tag="stored", array_like=True):
    queue: str
    sequence: int
    enqueued: float
    wire: bytes


class Failed(msgspec.Struct, tag="failed", array_like=True):
    queue: str
    sequence: int
    count: int


class Gone(msgspec.Struct, tag="gone", array_like=True):
    queue: str
    sequence: int


class StateSet(msgspec.Struct, tag="state", array_like=True):
    """The state of a session."""

    queue: str
    session: str
    state: bytes | None


Record: TypeAlias = Created | Stored | Failed | Gone | StateSet


class Journal:
    """Read it once, then append."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encoder = msgspec.msgpack.Encoder()
        self._file = path.open("ab", buffering=0)

    def read(self) -> Iterator[Record]:
        """What was appended in earlier lives, in order. Read it to the end before appending."""
        decoder = msgspec.msgpack.Decoder(Record)
        data, at = self._path.read_bytes(), 0
        while len(data) - at >= 4:
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            if end > len(data):
                break
            yield decoder.decode(data[at + 4 : end])
            at = end
        if at < len(data):
            self._file.truncate(at)

    def append(self, record: Record) -> None:
        encoded = self._encoder.encode(record)
        self._file.write(struct.pack(">I", len(encoded)) + encoded)

    def close(self) -> None:
        self._file.close()
