"""The log of the `file` transport on disk: what a line means, how lines get there and how they are read.

A line is a message body as it is, so `echo` can write the log and `jq` can read it. Headers, and bodies that a line
cannot hold, need the wrapped form `{"$raw": "BASE64", "$headers": {…}}`. One rule keeps the two apart: a body is
wrapped whenever its line would be read back as anything but that body.

A line exists from its line break on. What stands behind the last one is a write under way, or one that was cut off.
"""

import fcntl
import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from investbus.transport import Message
from investbus.transports.file_position import Position, sync_folder

CHUNK = 256 * 1024
_COUNT_AT_ONCE = 1024 * CHUNK  # some tenths of a second for a thread


class _Wrapped(msgspec.Struct, omit_defaults=True):
    raw: bytes = msgspec.field(name="$raw")
    headers: dict[str, str] = msgspec.field(name="$headers", default_factory=dict)


_MAY_BE_WRAPPED = re.compile(rb'\s*\{\s*"(?:\$|\\u0024)')  # spares ordinary events a second parsing
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_WRAPPED = msgspec.json.Decoder(_Wrapped)


def encode(message: Message) -> bytes:
    """The line that is read back as `message`."""
    if message.headers or not _fits_a_line(message.body):
        return msgspec.json.encode(_Wrapped(message.body, dict(message.headers))) + b"\n"
    return message.body + b"\n"


def _fits_a_line(body: bytes) -> bool:
    if b"\n" in body or not body.strip() or decode(body) != (body, {}, ""):
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode(line: bytes) -> tuple[bytes, Mapping[str, str], str]:
    """Body, headers and fault of a line without its line break. Raises nothing, whatever the bytes are."""
    if not _MAY_BE_WRAPPED.match(line):
        return line, {}, ""
    try:
        fields = _FIELDS.decode(line).keys()
        if "$raw" not in fields or fields - {"$raw", "$headers"}:
            return line, {}, ""
        wrapped = _WRAPPED.decode(line)
    except (ValueError, RecursionError):
        return line, {}, "json"
    return wrapped.raw, wrapped.headers, ""


def append(path: Path, lines: bytes) -> None:
    """Add `lines` behind those that other processes add, and return when they would outlive a power cut."""
    with open(path, "ab+", buffering=0, opener=_for_the_owner) as log:
        fcntl.flock(log, fcntl.LOCK_EX)  # closing lets go of it
        size = os.fstat(log.fileno()).st_size
        if size and os.pread(log.fileno(), 1, size - 1) != b"\n":
            lines = b"\n" + lines  # what was cut off stays a line of its own, and shows up as an undecodable event
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(log.fileno(), rest) :]
        os.fsync(log.fileno())
    if not size:
        sync_folder(path.parent)


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def read(path: Path, start: int) -> bytes:
    """Whole lines from byte `start` on, about CHUNK of them; empty if there is none yet.

    The log is opened by its name and looked at each time: one that was cut or replaced meanwhile raises `UnsafeStart`,
    at start and later alike.
    """
    try:
        log = path.open("rb", buffering=0)
    except FileNotFoundError:
        if start:
            raise Position(path).unsafe(f"the log is gone, but {start} bytes were read", "bring it back") from None
        return b""
    with log:
        size = os.fstat(log.fileno()).st_size
        if size < start:
            raise Position(path).unsafe(f"the log has {size} bytes, but {start} were read", "restore it whole")
        if start and os.pread(log.fileno(), 1, start - 1) != b"\n":
            raise Position(path).unsafe(f"no line ends at byte {start}, up to which it was read", "restore the log")
        length = CHUNK
        while True:
            chunk = os.pread(log.fileno(), length, start)
            if end := chunk.rfind(b"\n") + 1:
                return chunk[:end]
            if len(chunk) < length:
                return b""
            length *= 2  # a line that is longer


def count(path: Path, start: int) -> tuple[int, int]:
    """Some way on from byte `start`: how many events lie there, and up to which byte."""
    end, events = start, 0
    while end - start < _COUNT_AT_ONCE and (lines := read(path, end)):
        end += len(lines)
        events += sum(1 for line in lines.split(b"\n") if line.strip())
    return end, events
