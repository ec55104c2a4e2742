"""Every file system that is understood, filled, emptied and fragmented: what arrives is the same tree, and sound.

The copies are those of ``p2v disk convert --used-blocks``, to raw and to qcow2. Trees are read in an appliance: names, modes,
owners, links, times, extended attributes and contents. What each cost is printed (``-rP``); docs/left-out.md has it.
"""

from __future__ import annotations

import json
import os
import random
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from converters.pieces import SUBPIECE_BYTES
from tests.converters.allocation import made
from tests.converters.allocation.made import KIB, MIB, NEEDS_MOUNTS, needs, run
from tests.converters.allocation.test_ext4 import VARIANTS as EXT
from tests.converters.allocation.test_ntfs import check as check_ntfs
from tests.converters.allocation.test_ntfs import free_by_ntfs3g
from tests.converters.allocation.test_xfs import VARIANTS as XFS
from tests.fixtures.appliance import launched, shell
from tests.pipeline.running import p2v

SMALL, LARGE = 96 * MIB, 320 * MIB
STATES = ("filled", "emptied", "fragmented")
BUDGET = 60 * MIB
NTFS_CLUSTERS = (4 * KIB, 16 * KIB, 64 * KIB)
OF_EXT = (
    "ext2", "ext3", "plain", "1k-blocks", "bigalloc", "meta_bg", "no-flex_bg", "32-bit", "uninit_bg", "sparse_super2",
    "inline_data", "no-journal",
)  # fmt: skip
OF_XFS = ("bare", "rmapbt-reflink", "nrext64", "1k-blocks")
# found only by an appliance: its kernel knows what this host's may not
IN_APPLIANCE: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "fat16": (SMALL, ("mkfs.vfat", "-F", "16")),
    "fat32": (SMALL, ("mkfs.vfat", "-F", "32", "-s", "1")),
    "exfat": (SMALL, ("mkfs.exfat", "-c", "4096")),
    "xfs-4": (LARGE, ("mkfs.xfs", "-q", "-K", "-m", "crc=0")),
}
LISTING = (
    # a root has no times on some, and the kernel makes them up
    "cd /sysroot && (find . -mindepth 1 -printf '%P|%M|%s|%U|%G|%n|%l|%T@\\n' | sort; "
    "find . -type f -o -type d | sort | tr '\\n' '\\0' | xargs -0 getfattr -P -h -d -m - -e hex -- 2>/dev/null; "
    "find . -type f | sort | tr '\\n' '\\0' | xargs -0 -r sha256sum --) | sha256sum"
)


@dataclass(frozen=True)
class Made:
    """A file system on a disk of its own: its name, how a checker is asked, and which ranges a witness calls free."""

    name: str
    path: Path
    check: Callable[[Path], object]
    free: Callable[[Path], list[tuple[int, int]]] | None = None


def fill(folder: Path, state: str, seed: int) -> None:
    """Something in every block, most of it deleted but where the state says otherwise; and files of every odd kind."""
    if state == "fragmented":
        made.scatter(folder, seed=seed, budget=BUDGET)
    else:
        made.write_files(folder / "first", random.Random(seed), BUDGET, 400 * KIB)
        os.sync()
    if state == "emptied":
        run("find", folder / "first", "-delete")
        return
    odd = folder / "odd"
    odd.mkdir()
    (odd / "link").symlink_to("a" * 80)
    (odd / "one").write_bytes(b"two names" * 1000)
    os.link(odd / "one", odd / "other")
    with (odd / "holes").open("wb") as file:
        for at in (0, 3 * MIB, 40 * MIB):
            file.seek(at)
            file.write(os.urandom(9000))
    for number in range(300):
        (odd / f"a folder of many names {number}").touch()


def attributes(folder: Path, largest: int = 2500) -> None:
    """In the inode, and in a block of their own."""
    for number, size in enumerate((5, 70, largest)):
        os.setxattr(folder / "odd" / "one", f"user.a{number}", bytes([65 + number]) * size)


def ext(folder: Path, name: str, state: str) -> Made:
    kind, *rest = EXT[name]
    path = made.poisoned(folder / f"{name}-{state}", SMALL)
    run("mke2fs", "-q", "-F", "-t", kind, "-E", "nodiscard", *rest, path)
    with made.mounted(path, "ext4") as mounted:
        fill(mounted, state, 1)
        if state != "emptied":
            attributes(mounted, largest=600)  # blocks may have 1 KiB
    return Made(f"{name} {state}", path, lambda copy: run("e2fsck", "-fn", copy), made.free_by_dumpe2fs)


def xfs(folder: Path, name: str, state: str) -> Made:
    path = made.poisoned(folder / f"xfs-{name}-{state}", LARGE)
    run("mkfs.xfs", "-q", "-f", "-K", *XFS[name], path)
    with made.mounted(path, "xfs", "nouuid") as mounted:
        fill(mounted, state, 2)
        if state != "emptied":
            attributes(mounted)
        if name == "rmapbt-reflink" and state != "emptied":
            run("cp", "--reflink=always", mounted / "odd" / "holes", mounted / "odd" / "shared")
    return Made(f"xfs {name} {state}", path, lambda copy: run("xfs_repair", "-n", "-f", copy), made.free_by_xfs_db)


def ntfs(folder: Path, cluster: int, state: str) -> Made:
    path = made.poisoned(folder / f"ntfs-{cluster}-{state}", SMALL)
    run("mkntfs", "-q", "-F", "-Q", "-c", str(cluster), path)
    with made.mounted_ntfs(path) as mounted:
        fill(mounted, state, 3)
    if state != "emptied":
        with made.mounted_ntfs(path, "streams_interface=xattr") as mounted:
            os.setxattr(mounted / "odd" / "one", "user.stream", os.urandom(60_000))
    return Made(f"ntfs {cluster // KIB}K {state}", path, check_ntfs, free_by_ntfs3g)


def by_appliance(folder: Path) -> list[Made]:
    """Those that the appliance fills, all in one launch."""
    checks: Mapping[str, Callable[[Path], object]] = {
        "fat16": lambda copy: run("fsck.fat", "-n", copy),
        "fat32": lambda copy: run("fsck.fat", "-n", copy),
        "exfat": lambda copy: run("fsck.exfat", "-n", copy),
        "xfs-4": lambda copy: run("xfs_repair", "-n", "-f", copy),
    }
    found = []
    for name, (size, maker) in IN_APPLIANCE.items():
        for state in STATES:
            path = made.poisoned(folder / f"{name}-{state}", size)
            run(*maker, path)
            free = made.free_by_xfs_db if name == "xfs-4" else None
            found.append(Made(f"{name} {state}", path, checks[name], free))
    made.write_files(folder / "files", random.Random(4), 20 * MIB, 400 * KIB)
    with tarfile.open(folder / "files.tar", "w") as archive:
        archive.add(folder / "files", "files")
    with launched([each.path for each in found]) as appliance:
        for device, each in zip(appliance.list_devices(), found, strict=True):
            appliance.mount(device, "/")
            for copy in ("one", "two"):
                appliance.mkdir(f"/{copy}")
                appliance.tar_in(str(folder / "files.tar"), f"/{copy}")
            if each.name.endswith("fragmented"):
                shell(appliance, "cd /sysroot/one/files && find . -name 'file*[02468]' -delete && sync")
            if each.name.endswith("emptied"):
                shell(appliance, "cd /sysroot && rm -r one two && sync")
            appliance.umount_all()
    return found


def written_at_most(path: Path, free: Sequence[tuple[int, int]]) -> int:
    """All pieces of 64 KiB with anything in them that is in use, or free in a run too short to be left out."""
    size, gone = path.stat().st_size, 0
    for offset, length in made.long_runs(free):
        first, last = -(-offset // SUBPIECE_BYTES), (offset + length) // SUBPIECE_BYTES
        gone += max(0, last - first)
    return size - gone * SUBPIECE_BYTES


def convert(source: Path, target: Path) -> int:
    """Bytes written, as the program says."""
    ran = p2v("disk", "convert", source, target, "--input-format", "raw", "--used-blocks", "--json", "--progress", "none")
    assert ran.status == 0, ran.err
    said = json.loads(ran.out)
    assert not said["copied_whole"], said["copied_whole"]
    return int(said["written_bytes"])


def digests(disks: Sequence[Path]) -> list[str]:
    """Of each disk's tree."""
    found = []
    with launched(disks) as appliance:
        for device in appliance.list_devices():
            kind = appliance.vfs_type(device)
            appliance.mount_options("ro,nouuid" if kind == "xfs" else "ro", device, "/")
            found.append(shell(appliance, LISTING))
            appliance.umount_all()
    return found


MAKERS: Mapping[str, Callable[[Path], list[Made]]] = {
    "ext": lambda folder: [ext(folder, name, state) for name in OF_EXT for state in STATES],
    "xfs": lambda folder: [xfs(folder, name, state) for name in OF_XFS for state in STATES],
    "ntfs": lambda folder: [ntfs(folder, cluster, state) for cluster in NTFS_CLUSTERS for state in STATES],
    "in-appliance": by_appliance,
}


@pytest.fixture
def made_all(tmp_path: Path, kind: str) -> Iterator[list[Made]]:
    found = MAKERS[kind](tmp_path)
    yield found
    for each in found:
        made.removed(each.path, each.path.with_suffix(".img"), each.path.with_suffix(".qcow2"))


@pytest.mark.matrix
@pytest.mark.appliance
@pytest.mark.timeout(7200)
@NEEDS_MOUNTS
@needs("mkntfs", "ntfs-3g", "mkfs.xfs", "mkfs.exfat", "fsck.exfat", "mkfs.vfat", "qemu-img")
@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_copied_of_every_file_system_is_the_same_tree_and_sound(made_all: list[Made]) -> None:
    copies = []
    for each in made_all:
        raw, qcow2 = each.path.with_suffix(".img"), each.path.with_suffix(".qcow2")
        written = convert(each.path, raw)
        assert convert(each.path, qcow2) == written
        run("qemu-img", "check", "-q", "-f", "qcow2", qcow2)
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, qcow2)
        qcow2.unlink()
        each.check(raw)
        copies.append(raw)
        if each.free is not None:
            free = each.free(each.path)
            used = each.path.stat().st_size - sum(length for _, length in free)
            assert written <= written_at_most(each.path, free), each.name
            print(f"{each.name:<28} used {used / MIB:6.1f} MiB, written {written / MIB:6.1f} MiB, {written / used:5.3f} of used")
        else:
            print(f"{each.name:<28} written {written / MIB:6.1f} MiB of {each.path.stat().st_size / MIB:.0f}")
    found = digests([path for each, copy in zip(made_all, copies, strict=True) for path in (each.path, copy)])
    for number, each in enumerate(made_all):
        assert found[2 * number] == found[2 * number + 1], each.name
    assert len(set(found)) > len(made_all) // 2, "the listing tells nothing"
