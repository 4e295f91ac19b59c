"""Which mount holds a path, read from tables as kernels write them."""

from pathlib import Path

import pytest

from investbus.stores import mounts
from investbus.stores.mounts import Mount, mount_of, network_mount

TABLE = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
41 27 0:40 / /data rw,relatime shared:7 master:1 - nfs4 filer:/export rw,vers=4.2
42 41 8:1 / /data/local rw,relatime shared:8 - xfs /dev/sdb1 rw
43 27 0:41 / /mnt/my\040share rw - cifs //server/share rw
44 27 0:42 / /mnt/over rw - nfs filer:/old rw
45 44 0:43 / /mnt/over rw - tmpfs tmpfs rw
46 27 0:44 / /home/me/back\134slash rw - fuse.sshfs me@host: rw
"""


@pytest.mark.parametrize(
    ("path", "point", "kind"),
    [
        ("/var/lib/investbus/state.db", "/", "ext4"),
        ("/", "/", "ext4"),
        ("/data/state.db", "/data", "nfs4"),
        ("/data", "/data", "nfs4"),
        ("/database/state.db", "/", "ext4"),
        ("/data/local/deep/state.db", "/data/local", "xfs"),
        ("/data/localhost/state.db", "/data", "nfs4"),
        ("/mnt/my share/state.db", "/mnt/my share", "cifs"),
        ("/mnt/over/state.db", "/mnt/over", "tmpfs"),
        (r"/home/me/back\slash/state.db", r"/home/me/back\slash", "fuse.sshfs"),
    ],
)
def test_the_longest_mount_point_above_a_path_holds_it(path: str, point: str, kind: str) -> None:
    assert mount_of(Path(path), TABLE) == Mount(Path(point), kind)


def test_nothing_holds_a_path_in_an_empty_table() -> None:
    assert mount_of(Path("/data"), "") is None


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "glusterfs"])
def test_network_file_systems_are_known(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / "mountinfo")
    mounts.MOUNTINFO.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n41 27 0:40 / {tmp_path} rw - {kind} x rw\n")
    assert network_mount(tmp_path / "state.db") == Mount(tmp_path, kind)
    assert network_mount(tmp_path.parent / "state.db") is None


def test_a_link_is_followed_to_the_file_system_that_it_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far, near = tmp_path / "far", tmp_path / "near"
    far.mkdir()
    near.mkdir()
    (near / "state.db").symlink_to(far / "state.db")
    monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / "mountinfo")
    mounts.MOUNTINFO.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n41 27 0:40 / {far} rw - nfs4 x rw\n")
    assert network_mount(near / "state.db") == Mount(far, "nfs4")


def test_where_no_kernel_tells_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / "missing")
    assert network_mount(tmp_path / "state.db") is None


def test_this_machine_has_a_table_that_is_understood(tmp_path: Path) -> None:
    mount = mount_of(tmp_path.resolve(), mounts.MOUNTINFO.read_text())
    assert mount is not None
    assert tmp_path.resolve().is_relative_to(mount.point)
