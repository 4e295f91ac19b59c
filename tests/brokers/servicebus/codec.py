"""Just enough of the AMQP 1.0 encoding to take a message apart without changing a byte of what its sender wrote.

Decoding a message and encoding it again is not neutral: a uuid, a symbol and the width of an integer come back as something else.
So sections stay bytes, and only what the broker itself reads (numbers, names, times) is decoded. Compound values stay bytes too.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias
from uuid import UUID

Scalar: TypeAlias = bool | int | bytes | UUID | None

HEADER, ANNOTATIONS, PROPERTIES, APPLICATION, DATA = 0x70, 0x72, 0x73, 0x74, 0x75
NULL, TRUE, FALSE = b"\x40", b"\x41", b"\x42"
_WIDTH = (0, 0, 0, 0, 0, 1, 2, 4, 8, 16)  # of the value, by the first half of the constructor (AMQP 1.0, part 1, 1.2)
_EMPTY_LIST, _SMALL_LIST, _LIST, _SMALL_MAP, _MAP = 0x45, 0xC0, 0xD0, 0xC1, 0xD1
_UNSIGNED = frozenset((0x43, 0x44, 0x50, 0x52, 0x53, 0x60, 0x70, 0x80))
_SIGNED = frozenset((0x51, 0x54, 0x55, 0x61, 0x71, 0x81, 0x83))
_TEXT = frozenset((0xA0, 0xA1, 0xA3, 0xB0, 0xB1, 0xB3))
_CONSTANT: dict[int, bool | None] = {0x40: None, 0x41: True, 0x42: False}
_UUID = 0x98


class Section(NamedTuple):
    """One section of a message: `start` is where it begins, `value` where its value does."""

    code: int
    start: int
    value: int
    end: int


def end_of(data: bytes, at: int) -> int:
    """Where the value that starts at `at` ends; ValueError if it is cut short."""
    try:
        constructor = data[at]
        if constructor == 0:  # described: a descriptor, then the value
            return end_of(data, end_of(data, at + 1))
        half = constructor >> 4
        if half < len(_WIDTH):
            end = at + 1 + _WIDTH[half]
        elif half & 1:
            end = at + 5 + int.from_bytes(data[at + 1 : at + 5], "big")
        else:
            end = at + 2 + data[at + 1]
    except (IndexError, RecursionError):
        raise ValueError(f"AMQP value at byte {at} is cut short") from None
    if end > len(data):
        raise ValueError(f"AMQP value at byte {at} ends at {end}, of {len(data)}")
    return end


def decode(data: bytes, at: int) -> tuple[Scalar, int]:
    """The value at `at` and where it ends. Text and symbols come as bytes, and so does, unread, whatever is no scalar."""
    end = end_of(data, at)
    constructor = data[at]
    if constructor in _UNSIGNED:
        return int.from_bytes(data[at + 1 : end], "big"), end
    if constructor in _TEXT:
        return data[at + (2 if constructor < 0xB0 else 5) : end], end
    if constructor in _SIGNED:
        return int.from_bytes(data[at + 1 : end], "big", signed=True), end
    if constructor in _CONSTANT:
        return _CONSTANT[constructor], end
    if constructor == 0x56:
        return data[at + 1] == 1, end
    if constructor == _UUID:
        return UUID(bytes=data[at + 1 : end]), end
    return data[at:end], end


def content_of(data: bytes, at: int) -> tuple[int, int, int]:
    """Of the list or map at `at`: how many values it has, and where they begin and end."""
    end = end_of(data, at)
    constructor = data[at]
    if constructor == _EMPTY_LIST:
        return 0, end, end
    if constructor in (_SMALL_LIST, _SMALL_MAP) and end > at + 2:
        return data[at + 2], at + 3, end
    if constructor in (_LIST, _MAP) and end >= at + 9:
        return int.from_bytes(data[at + 5 : at + 9], "big"), at + 9, end
    raise ValueError(f"AMQP value at byte {at} is neither a list nor a map")


def fields(data: bytes, at: int, count: int) -> list[Scalar]:
    """The first `count` fields of the list at `at`; those that the sender left out are None."""
    present, position, _ = content_of(data, at)
    values: list[Scalar] = []
    for _ in range(min(present, count)):
        value, position = decode(data, position)
        values.append(value)
    return values + [None] * (count - len(values))


def entries(data: bytes, at: int) -> list[tuple[bytes, bytes]]:
    """Of the map at `at`: each key, as text, with key and value as they are encoded."""
    _, position, end = content_of(data, at)
    found = []
    while position < end:
        key, value = decode(data, position)
        following = end_of(data, value)
        found.append((key if isinstance(key, bytes) else data[position:value], data[position:following]))
        position = following
    return found


def sections(data: bytes) -> list[Section]:
    """The sections of a message, in order; ValueError if it is none."""
    found, start = [], 0
    while start < len(data):
        if data[start] != 0:
            raise ValueError(f"no section of a message at byte {start}")
        code, value = decode(data, start + 1)
        if not isinstance(code, int):
            raise ValueError(f"unknown section of a message at byte {start}")
        end = end_of(data, value)
        found.append(Section(code, start, value, end))
        start = end
    return found


def symbol(text: bytes) -> bytes:
    return b"\xa3" + bytes((len(text),)) + text


def string(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) < 256:
        return b"\xa1" + bytes((len(encoded),)) + encoded
    return b"\xb1" + struct.pack(">I", len(encoded)) + encoded


def unsigned(value: int) -> bytes:
    return b"\x70" + struct.pack(">I", value)


def mapping(pairs: Iterable[bytes], count: int) -> bytes:
    """A map of `count` keys and values, from its encoded pairs."""
    body = b"".join(pairs)
    return b"\xd1" + struct.pack(">II", len(body) + 4, count) + body
