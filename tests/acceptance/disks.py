"""Places for a store to fail in: a disk that becomes full, and one that may not be written.

Root may write everything and mount what it likes, anybody else neither; so each has another way to the same fault.
"""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = os.geteuid() == 0
SIZE = 64 * 2**20


class Disk(NamedTuple):
    """A folder, and the switches that take its room and give it back."""

    folder: Path
    fill: Callable[[], None]
    free: Callable[[], None]


@contextmanager
def _mounted(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # lazy: after a failure something may still be open there


def _remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


@contextmanager
def small_disk(parent: Path) -> Iterator[Disk]:
    """A file system of `SIZE` bytes, for root."""
    with _mounted(parent / "disk") as folder:

        def fill() -> None:
            room = os.statvfs(folder)
            (folder / "filler").write_bytes(b"x" * (room.f_bavail * room.f_frsize))

        yield Disk(folder, fill, (folder / "filler").unlink)


@contextmanager
def small_files(folder: Path) -> Iterator[Disk]:
    """A limit on the size of files that this process writes: the largest that lies in `folder` when it is set."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(path.stat().st_size for path in folder.iterdir()), hard))

    def free() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    try:
        yield Disk(folder, fill, free)
    finally:
        free()


@contextmanager
def read_only(parent: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A folder with an empty `state.db` that may not be written, and the switch after which it may."""
    if ROOT:
        with _mounted(parent / "disk") as folder:
            (folder / "state.db").touch(0o600)
            _remount(folder, "ro")
            yield folder, lambda: _remount(folder, "rw")
    else:
        (parent / "state.db").touch(0o400)
        yield parent, lambda: (parent / "state.db").chmod(0o600)
