"""How far the `file` log was handled, kept beside it, and the lock that leaves it to one worker.

The position is replaced whole and never written in place, so after a crash or a power cut it is the older one or the
newer one. It is never guessed: one that is too high would skip events without a word, so a damaged one refuses the
start.
"""

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from investbus.errors import UnsafeStart


class _Saved(msgspec.Struct, forbid_unknown_fields=True):
    position: int


_SAVED = msgspec.json.Decoder(_Saved)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable; a file's own fsync does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Position:
    """`PATH.position`: the byte offset up to which every line is finished."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.path = log.with_name(f"{log.name}.position")

    def lock(self) -> BinaryIO:
        """Keep other workers out until the returned file is closed, or until the process is gone, however it went."""
        path = self.path.with_name(f"{self.path.name}.lock")
        lock = path.open("ab", buffering=0)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise UnsafeStart(f"{self._log}: another worker reads this log and holds {path}; stop one of them") from None
        except OSError:
            lock.close()
            raise
        return lock

    def load(self) -> int:
        """The saved position, 0 if none was ever saved."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return 0
        try:
            position = _SAVED.decode(content).position
        except ValueError as error:
            raise self.unsafe(f"{self.path} is damaged ({error})", "restore that file") from None
        if position < 0:
            raise self.unsafe(f"{self.path} is damaged ({position} is below 0)", "restore that file")
        return position

    def save(self, position: int) -> None:
        # The log first: somebody may have written it without a sync, and a position behind the end of what a power cut
        # left would refuse the next start.
        with self._log.open("rb", buffering=0) as log:
            os.fsync(log.fileno())
        temporary = self.path.with_name(f"{self.path.name}.tmp")
        with temporary.open("wb", buffering=0) as file:
            file.write(msgspec.json.encode(_Saved(position)))
            os.fsync(file.fileno())
        temporary.replace(self.path)
        sync_folder(self.path.parent)

    def unsafe(self, what: str, remedy: str) -> UnsafeStart:
        """`what` is wrong, and the two ways out of it."""
        way_out = f"{remedy}, or delete {self.path} to read the log from its beginning (its events then come again)"
        return UnsafeStart(f"{self._log}: {what}; {way_out}")
