"""Plans of every kind of change, carried out on every kind of file system that guests have: all proven."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.changes import (
    CarryFile,
    Change,
    CopyFile,
    DeleteFile,
    DeleteSymlink,
    EditFile,
    ExtendInitramfs,
    InitramfsFile,
    MakeSymlink,
    WriteFile,
)
from drivers.linux.cpio import NewEntry, write_archive
from drivers.linux.inflate import lz4_legacy
from p2v.core.units import KIB, MIB
from tests.proof.bench import PARTITION_OFFSET, ROOM, Bench, copied, mounted, on_loop, run

_DEAD = "/nowhere/" + "long" * 30
_CARRIED = b"carried" * 999
_MODULE = b"module" * 1000
# of such lengths that what is appended has to be aligned
_PLAIN, _LZ4 = b"0707" * 250 + b"x", b"\x02\x21\x4c\x18" + b"pack" * 3000
_LABEL = "system_u:object_r:etc_t:s0"
_POLICY = {"/etc/new": "a:b:new_t:s0", "/etc/new/deep/file": "a:b:c:s0", "/etc/longlink": "a:b:d:s0"}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _grow(tree: Path) -> None:
    for folder in ("etc", "lib/modules/6.1/kernel", "boot", "full", "acl", "data"):
        (tree / folder).mkdir(parents=True)
    texts = {
        "fstab": "old\n" * 3, "big": "line\n" * 2000, "small": "s\n", "gone": "gone", "twice": "one", "tiny": "t", "done": "new",
    }  # fmt: skip
    for name, text in texts.items():
        (tree / "etc" / name).write_text(text)
    (tree / "etc/link").symlink_to("old")
    (tree / "etc/dead").symlink_to(_DEAD)
    (tree / "boot/initrd.img").write_bytes(_PLAIN)
    (tree / "boot/initrd.lz4").write_bytes(_LZ4)
    (tree / "lib/modules/6.1/kernel/v.ko").write_bytes(_MODULE)
    (tree / "boot/grubx64.efi").write_bytes(b"MZ" * 3000)
    for number in range(60):
        (tree / f"full/{'x' * 10}{number}").write_text("")
    for number in range(20):
        (tree / f"data/{number}").write_bytes(b"data%d" % number * 100)
    os.link(tree / "etc/fstab", tree / "etc/fstab.same")
    os.link(tree / "etc/gone", tree / "data/gone.other")


def _changes(host_file: Path) -> tuple[Change, ...]:
    host_file.write_bytes(_CARRIED)
    return (
        EditFile("/etc/fstab", "old\n" * 3, "new\n" * 4, "it has two names"),
        EditFile("/etc/big", "line\n" * 2000, "line\n" * 9000, "it grows"),
        EditFile("/etc/small", "s\n", "s\n" * 3000, "it outgrows its inode"),
        EditFile("/etc/tiny", "t", "", "nothing is left"),
        EditFile("/etc/twice", "one", "two", "first"),
        EditFile("/etc/twice", "two", "three", "second"),
        EditFile("/etc/done", "old", "new", "it is so already"),
        WriteFile("/etc/new/deep/file", "hello", 0o600, "new, with its folders"),
        EditFile("/etc/new/deep/file", "hello", "world", "and edited"),
        DeleteFile("/etc/gone", _sha256(b"gone"), "its other name stays"),
        WriteFile("/etc/gone", "again", 0o644, "in its place"),
        DeleteFile("/data/3", _sha256(b"data3" * 100), "gone"),
        DeleteFile("/data/never", _sha256(b""), "it is gone already"),
        MakeSymlink("/etc/link", "new", "old", "in another's place"),
        MakeSymlink("/etc/longlink", "/a/" + "b" * 100, None, "too long for an inode"),
        DeleteSymlink("/etc/dead", _DEAD, "gone"),
        CopyFile("/boot/grubx64.efi", 6000, _sha256(b"MZ" * 3000), "/boot/EFI/BOOT/BOOTX64.EFI", 0o755, "copied"),
        CarryFile(str(host_file), len(_CARRIED), _sha256(_CARRIED), "/var/lib/x/agent", 0o755, "carried"),
        *(WriteFile(f"/full/{'y' * 100}{number}", "", 0o644, "a folder that gets an index") for number in range(40)),
        WriteFile("/acl/file", "x", 0o640, "below a default access list"),
        WriteFile("/acl/sub/file", "y", 0o644, "the same in a new folder"),
        MakeSymlink("/acl/link", "x", None, "links have no list"),
    )


def _access_list(root: Path) -> None:
    run("setfacl", "-d", "-m", "u:1000:rwx", root / "acl")


def _labelled(root: Path) -> None:
    _access_list(root)
    for path in (root, *root.rglob("*")):
        os.setxattr(path, "security.selinux", _LABEL.encode() + b"\0", follow_symlinks=False)


def _bench(tmp_path: Path, kind: str, size: int, mkfs: tuple[str, ...]) -> Bench:
    """A disk whose file system is made with some options and filled by mounting it."""
    _grow(tmp_path / "tree")
    image = tmp_path / "before.img"
    with image.open("wb") as file:
        file.truncate(PARTITION_OFFSET + size + ROOM)
    if kind.startswith("ext"):
        where = ("-E", f"offset={PARTITION_OFFSET}", image, f"{size // KIB}k")
        run("mke2fs", "-q", "-F", "-t", kind, "-d", tmp_path / "tree", *mkfs, *where)
    else:
        with on_loop(image) as device:
            run(f"mkfs.{kind}", "-q", "-f", *mkfs, device)
        with mounted(image, kind, tmp_path / "filling") as root:
            run("cp", "-a", f"{tmp_path / 'tree'}/.", root)
    return Bench(image, tmp_path / "after.img", kind, _changes(tmp_path / "agent"), tmp_path)


def _converted(bench: Bench, prepare: Callable[[Path], object], supplements: dict[str, bytes] | None = None) -> None:
    with mounted(bench.before, bench.kind, bench.scratch / "preparing", "noatime") as root:
        prepare(root)
    copied(bench.before, bench.after)
    bench.carry_out(supplements)


_EXT_SIZE, _XFS_SIZE, _BTRFS_SIZE = 24 * MIB, 320 * MIB, 128 * MIB
VARIANTS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "4 KiB blocks": ("ext4", _EXT_SIZE, ("-b", "4096")),
    "64bit, many groups": ("ext4", _EXT_SIZE, ("-b", "1024", "-g", "1024", "-O", "64bit")),
    "meta_bg": ("ext4", _EXT_SIZE, ("-b", "1024", "-g", "512", "-O", "meta_bg,^resize_inode")),
    "no extents, no flex_bg": ("ext4", _EXT_SIZE, ("-b", "1024", "-O", "^extent,^64bit,^flex_bg")),
    "inline_data": ("ext4", _EXT_SIZE, ("-b", "1024", "-I", "256", "-O", "inline_data")),
    "orphan_file, seed": ("ext4", _EXT_SIZE, ("-b", "1024", "-O", "orphan_file,metadata_csum_seed")),
    "mmp, uninit_bg": ("ext4", _EXT_SIZE, ("-b", "1024", "-O", "mmp,^metadata_csum,uninit_bg")),
    "small inodes, sparse_super2": ("ext4", _EXT_SIZE, ("-b", "1024", "-I", "128", "-O", "sparse_super2,^resize_inode")),
    "no journal": ("ext2", _EXT_SIZE, ("-b", "1024")),
    "rmapbt": ("xfs", _XFS_SIZE, ("-m", "rmapbt=1,bigtime=1")),
    "no reflink": ("xfs", _XFS_SIZE, ("-m", "reflink=0,bigtime=0")),
    "btrfs": ("btrfs", _BTRFS_SIZE, ()),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_change_is_proven(tmp_path: Path, variant: str) -> None:
    bench = _bench(tmp_path, *VARIANTS[variant])
    _converted(bench, _access_list)
    compared, walked = bench.prove()
    assert not compared.problems
    assert walked.unexplained == ()
    assert not [note for note in walked.notes if "not understood" in note]


@pytest.mark.parametrize(
    ("kind", "size", "policy"), [("ext4", _EXT_SIZE, _POLICY), ("ext4", _EXT_SIZE, {}), ("xfs", _XFS_SIZE, _POLICY)]
)
def test_labels_by_policy_or_by_folder_are_proven(tmp_path: Path, kind: str, size: int, policy: dict[str, str]) -> None:
    bench = _bench(tmp_path, kind, size, ())
    bench.labels = policy
    _converted(bench, _labelled)
    assert bench.prove()[1].unexplained == ()
    with bench.on_result() as root:
        os.setxattr(root / "etc/longlink", "security.selinux", b"a:b:evil:s0\0", follow_symlinks=False)
    assert "/etc/longlink" in {each.path for each in bench.prove()[1].unexplained}


def test_new_files_are_packed_as_their_folder_says(tmp_path: Path) -> None:
    bench = _bench(tmp_path, "btrfs", _BTRFS_SIZE, ())

    def pack(root: Path) -> None:
        run("btrfs", "property", "set", root / "etc", "compression", "zstd")
        run("chattr", "+C", root / "full")

    _converted(bench, pack)
    assert bench.prove()[1].unexplained == ()
    with bench.on_result() as root:
        run("btrfs", "property", "set", root / "acl/file", "compression", "zstd")
    assert {each.path for each in bench.prove()[1].unexplained} == {"/acl/file"}


def test_clusters_are_not_understood_and_the_names_are_compared(tmp_path: Path) -> None:
    bench = _bench(tmp_path, "ext4", _EXT_SIZE, ("-b", "1024", "-O", "bigalloc", "-C", "8192"))
    _converted(bench, _access_list)
    walked = bench.prove()[1]
    assert walked.unexplained == ()
    assert any("bigalloc" in note for note in walked.notes)


def _images(bench: Bench) -> dict[str, bytes]:
    texts = (InitramfsFile("etc/x", "before", "after"),)
    where = ("6.1", "/lib/modules/6.1")
    bench.changes = (
        ExtendInitramfs("/boot/initrd.img", len(_PLAIN), _sha256(_PLAIN), *where, (), "lib/modules/6.1", "none", "why", texts),
        ExtendInitramfs("/boot/initrd.lz4", len(_LZ4), _sha256(_LZ4), *where, ("kernel/v.ko",), "lib/modules/6.1", "lz4", "why"),
    )
    plain = write_archive([NewEntry("etc", 0o40755), NewEntry("etc/x", 0o100644, b"after")])
    modules = write_archive([
        *(NewEntry(name, 0o40755) for name in ("lib", "lib/modules", "lib/modules/6.1", "lib/modules/6.1/kernel")),
        NewEntry("lib/modules/6.1/kernel/v.ko", 0o100644, _MODULE),
        NewEntry("lib/modules/6.1/modules.dep", 0o100644, b"kernel/v.ko:\n"),
    ])  # fmt: skip
    return {"/boot/initrd.img": bytes(-len(_PLAIN) % 4) + plain, "/boot/initrd.lz4": lz4_legacy(bytes(2) + modules)}


@pytest.mark.parametrize(("kind", "size"), [("ext4", _EXT_SIZE), ("xfs", _XFS_SIZE)])
def test_initramfs_images_that_were_extended_are_proven(tmp_path: Path, kind: str, size: int) -> None:
    bench = _bench(tmp_path, kind, size, ())
    _converted(bench, lambda root: None, _images(bench))
    walked = bench.prove()[1]
    assert walked.unexplained == ()
    assert {"/boot/initrd.img", "/boot/initrd.lz4"} <= {each.path for each in walked.explained}
