"""Which file system a path lies on.

SQLite's WAL needs locks and shared memory that network file systems promise and do not keep: two replicas on one NFS
volume both believe that they hold the lock, and the file is damaged without an error. So the question is asked before
the file is touched.
"""

import re
from pathlib import Path
from typing import NamedTuple

MOUNTINFO = Path("/proc/self/mountinfo")

# fmt: off
NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.davfs2", "fuse.glusterfs", "fuse.rclone",
    "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb2", "smb3",
    "smbfs",
})
# fmt: on


class Mount(NamedTuple):
    """Where a file system is mounted, and its type as the kernel calls it."""

    point: Path
    kind: str


def mount_of(path: Path, mountinfo: str) -> Mount | None:
    """What holds the absolute `path`: the longest mount point above it, of those mounted over each other the latest."""
    best: Mount | None = None
    for line in mountinfo.splitlines():
        where, _, what = line.partition(" - ")  # the number of fields before the dash varies
        mount = Mount(Path(_unescaped(where.split(" ")[4])), what.split(" ")[0])
        if path.is_relative_to(mount.point) and (best is None or len(mount.point.parts) >= len(best.point.parts)):
            best = mount
    return best


def network_mount(path: Path) -> Mount | None:
    """The network file system that holds `path`, if one does. Where no kernel tells (no Linux) nothing is refused."""
    parent = path.resolve().parent  # before the table is read: looking at an automounted folder is what mounts it
    try:
        mountinfo = MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None
    mount = mount_of(parent, mountinfo)
    return mount if mount is not None and mount.kind in NETWORK else None


def _unescaped(field: str) -> str:
    r"""Blank, tab, line break and backslash stand as \040, \011, \012 and \134."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
