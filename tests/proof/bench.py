"""A machine of one small disk on this host: its file system is mounted here, where an appliance would mount it.

So the lists come from the same programs by the same scripts, in a fraction of a second, and each corruption can have a test of its
own. Needs root and loop devices.
"""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from converters.compare import compare_disks
from converters.digest import digest_range
from converters.image import open_disk
from drivers.appliance import Appliance
from drivers.appliance_values import ApplianceFailed
from drivers.apply import apply_changes
from drivers.caps import GuestCaps
from drivers.changes import Change
from drivers.facts import Disk, FileSystem, GuestFacts, Mount, Partition, ReadBy
from drivers.plan import GuestPlan
from drivers.tree import FileType, Stat
from drivers.writable import Space
from p2v.core.events import silent
from p2v.core.units import KIB, MIB
from p2v.proof.disks import Compared, compare
from p2v.proof.guest import GuestProof, WalkedSide, systems_of
from p2v.record import ChangedRange, DiskRecord
from p2v.record.proof import FileSystemProof
from tests import loop_devices

CLUSTER_BYTES = 64 * KIB
PARTITION_OFFSET = 1 * MIB
ROOM = 1 * MIB
"""Behind the partition."""


def run(*words: str | Path, text: str | None = None) -> str:
    """A program of this host; its standard output."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, input=text, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}{done.stdout}"
    return done.stdout


def copied(image: Path, to: Path) -> Path:
    """A copy with its holes."""
    run("cp", "--sparse=always", image, to)
    return to


@contextmanager
def on_loop(image: Path) -> Iterator[Path]:
    """The partition of an image as a block device of this host, writable also where it is mounted read-only."""
    if problem := loop_devices.why_not():
        pytest.skip(problem)
    size = image.stat().st_size - PARTITION_OFFSET - ROOM
    where = ("--offset", str(PARTITION_OFFSET), "--sizelimit", str(size))
    with loop_devices.loop_device(image, options=where) as device:
        yield device


@functools.cache
def why_no_mounts(kind: str) -> str:
    """Why this host cannot mount file systems of a kind; empty when it can."""
    if problem := loop_devices.why_not():
        return problem
    if kind not in {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}:
        subprocess.run(["modprobe", "-q", kind], check=False)
    if kind not in {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}:
        return f"this kernel has no {kind}"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True, text=True, check=False)
        if done.returncode:
            return f"this host may not mount: {done.stderr.strip()}"
        run("umount", folder)
    return ""


@contextmanager
def mounted(image: Path, kind: str, folder: Path, options: str = "") -> Iterator[Path]:
    """The partition of an image, mounted read-write at a new folder. Skips the test where this host cannot do that."""
    if problem := why_no_mounts(kind):
        pytest.skip(problem)
    with on_loop(image) as device:
        with loop_devices.mounted(device, folder, "-t", kind, *(["-o", options] if options else [])):
            yield folder
    folder.rmdir()


@dataclass
class HostAppliance:
    """Stands for ``drivers.appliance.Appliance`` with the two images as its disks."""

    images: Sequence[Path]
    kind: str
    scratch: Path
    _mounted: ExitStack = field(default_factory=ExitStack)

    @property
    def root(self) -> Path:
        """Where it mounts."""
        return self.scratch / "sysroot"

    def device_of(self, mount: Mount) -> str:
        """See ``Appliance.device_of``."""
        return str(mount.disk)

    def call(self, operation: str, *arguments: Any, **options: Any) -> Any:
        """The calls that ``drivers.walk`` makes."""
        match operation, arguments:
            case "mount_options", (chosen, device, "/"):
                try:
                    self._mounted.enter_context(mounted(self.images[int(device)], self.kind, self.root, chosen))
                except subprocess.CalledProcessError as error:
                    raise ApplianceFailed("mount_options", str(error)) from error
                return None
            case "debug", ("sh", [script]):
                here = script.replace("/sysroot", str(self.root)).replace("/tmp/p2v-", f"{self.scratch}/p2v-")
                return run("sh", "-c", here)
            case "statns", (path,):
                found = (self.root / path.lstrip("/")).stat()
                return {"st_mode": found.st_mode, "st_size": found.st_size}
            case "pread", (path, length, offset):
                with (self.root / path.lstrip("/")).open("rb") as file:
                    file.seek(offset)
                    return file.read(length)
        raise AssertionError(operation)

    def umount(self) -> None:
        """See ``Appliance.umount``."""
        self._mounted.close()
        self._mounted = ExitStack()


@dataclass(frozen=True)
class HostGuest:
    """Implements ``drivers.writable.WritableGuest`` over a folder of this host."""

    root: Path

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def read(self, path: str, limit: int = 4 * MIB) -> bytes:
        return self.at(path).read_bytes()[:limit]

    def read_range(self, path: str, length: int, offset: int) -> bytes:
        return self.at(path).read_bytes()[offset : offset + length]

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.at(path))

    def list(self, path: str) -> tuple[str, ...]:
        return tuple(sorted(os.listdir(self.at(path))))

    def lstat(self, path: str) -> Stat:
        found = os.lstat(self.at(path))
        kind = FileType.SYMLINK if self.at(path).is_symlink() else FileType.DIRECTORY if self.at(path).is_dir() else FileType.FILE
        return Stat(kind, found.st_size, found.st_mode & 0o7777, found.st_uid, found.st_gid)

    def readlink(self, path: str) -> str:
        return os.readlink(self.at(path))

    def write(self, path: str, data: bytes) -> None:
        self.at(path).write_bytes(data)

    def append(self, path: str, data: bytes) -> None:
        with self.at(path).open("ab") as file:
            file.write(data)

    def patch(self, path: str, data: bytes, offset: int) -> None:
        with self.at(path).open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def patch_volume(self, path: str, data: bytes, offset: int) -> None:
        raise NotImplementedError

    def create(self, path: str, data: bytes, mode: int) -> None:
        self.write(path, data)
        self.at(path).chmod(mode)

    def make_folder(self, path: str, mode: int) -> None:
        self.at(path).mkdir()
        self.at(path).chmod(mode)

    def make_symlink(self, path: str, target: str) -> None:
        self.at(path).symlink_to(target)

    def remove(self, path: str) -> None:
        self.at(path).unlink()

    def label(self, path: str) -> bytes | None:
        try:
            return os.getxattr(self.at(path), "security.selinux", follow_symlinks=False)
        except OSError:
            return None

    def set_label(self, path: str, label: bytes) -> None:
        os.setxattr(self.at(path), "security.selinux", label, follow_symlinks=False)

    def space(self, path: str) -> Space:
        return Space("/", 16 * MIB, 1000)

    def sync(self) -> None:
        os.sync()


@dataclass
class Bench:
    """``before`` and ``after``: whole disks with one partition of ``kind``; ``changes``: what was planned."""

    before: Path
    after: Path
    kind: str
    changes: tuple[Change, ...]
    scratch: Path
    labels: dict[str, str] = field(default_factory=dict)

    def carry_out(self, supplements: dict[str, bytes] | None = None) -> None:
        """Make the changes, as the appliance would."""
        with self.on_result() as root:
            apply_changes(HostGuest(root), self.changes, supplements or {}, labels=self.labels)

    @contextmanager
    def on_result(self, options: str = "noatime") -> Iterator[Path]:
        """The result, mounted read-write."""
        with mounted(self.after, self.kind, self.scratch / "result", options) as root:
            yield root

    def facts(self) -> GuestFacts:
        """What inspection would say."""
        size = self.before.stat().st_size
        part = Partition(0, 1, PARTITION_OFFSET, size - PARTITION_OFFSET - ROOM, "83", filesystem=FileSystem(self.kind))
        root = Mount("/", 0, 1)
        return GuestFacts(ReadBy.HOST, (Disk(0, size, "mbr"),), (part,), root=root, mounts=(root,))

    def plan(self) -> GuestPlan:
        """The plan that was carried out."""
        return GuestPlan(self.changes, (), (), GuestCaps(("virtio-blk",), ("virtio",), "bios", "x86_64"), self.labels)

    def record(self) -> DiskRecord:
        """What the conversion would have recorded of the disk as it is now: clusters that differ, and their digests."""
        with open_disk(self.before, "raw") as one, open_disk(self.after, "raw") as other:
            size = one.virtual_size
            runs = compare_disks(one, other, ranges_kept=1_000_000).ranges
            clusters = sorted({
                number for offset, length in runs
                for number in range(offset // CLUSTER_BYTES, (offset + length - 1) // CLUSTER_BYTES + 1)
            })  # fmt: skip
            found = tuple(
                ChangedRange(at, length, digest_range(one, at, length), digest_range(other, at, length))
                for at in (number * CLUSTER_BYTES for number in clusters)
                for length in [min(CLUSTER_BYTES, size - at)]
            )
        return DiskRecord(str(self.before), str(self.after), size, 0, 0, 0, found, cast(Any, None))

    def compare(self, record: DiskRecord) -> Compared:
        """Compare the disks alone."""
        with open_disk(self.before, "raw") as one, open_disk(self.after, "raw") as other:
            return compare(one, other, record, 1, silent, "compare")

    def prove(self, record: DiskRecord | None = None) -> tuple[Compared, FileSystemProof]:
        """Compare the disks and walk the file system."""
        with ExitStack() as stack:
            one, other = (stack.enter_context(open_disk(path, "raw")) for path in (self.before, self.after))
            compared = compare(one, other, record or self.record(), 1, silent, "compare")
            # mounting, even read-only, may replay: never on what is compared
            copies = [copied(path, self.scratch / f"copy{n}") for n, path in enumerate((self.before, self.after))]
            appliance = HostAppliance(copies, self.kind, self.scratch)
            sides = [WalkedSide(cast(Appliance, appliance), number) for number in (0, 1)]
            guest = GuestProof(self.facts(), self.plan(), (sides[0], sides[1]), [compared.runs], ([one], [other]))
            (system,) = systems_of(self.facts(), self.plan())
            return compared, guest.prove(system)


MAKERS: dict[str, Callable[[Path, Path, int], None]] = {
    "ext4": lambda image, tree, size: _ext(image, tree, size, "ext4"),
    "ext3": lambda image, tree, size: _ext(image, tree, size, "ext3"),
    "xfs": lambda image, tree, size: _by_mounting(image, tree, "xfs"),
    "btrfs": lambda image, tree, size: _by_mounting(image, tree, "btrfs"),
}
_SIZES = {"ext4": 24 * MIB, "ext3": 24 * MIB, "xfs": 320 * MIB, "btrfs": 128 * MIB}


def make_disk(image: Path, tree: Path, kind: str) -> None:
    """A disk with one partition that holds a tree."""
    size = _SIZES[kind]
    with image.open("wb") as file:
        file.truncate(PARTITION_OFFSET + size + ROOM)
        # something in the gap before the partition that nobody may change
        file.seek(512)
        file.write(b"boot loader " * 100)
    MAKERS[kind](image, tree, size)


def _ext(image: Path, tree: Path, size: int, kind: str) -> None:
    offset = f"offset={PARTITION_OFFSET}"
    run("mke2fs", "-q", "-F", "-t", kind, "-b", "1024", "-d", tree, "-E", offset, image, f"{size // KIB}k")


def _by_mounting(image: Path, tree: Path, kind: str) -> None:
    with on_loop(image) as device:
        run(f"mkfs.{kind}", "-q", "-f", device)
    with mounted(image, kind, image.with_name("filling")) as root:
        run("cp", "-a", f"{tree}/.", root)
