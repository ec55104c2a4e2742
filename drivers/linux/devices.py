"""Device names of the source machine, resolved by position to what stands there and to a name that lasts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from drivers.facts import GuestFacts, Partition
from p2v.core.drive_letters import drive_index

_LETTERED = re.compile(r"/dev/(?P<disk>(?P<class>sd|vd|xvd|hd)(?P<letters>[a-z]{1,3}))(?P<number>[1-9][0-9]{0,2})?")
_PIECE = r"(?:p(?P<number>[1-9][0-9]{0,2}))?"
_NVME = re.compile(r"/dev/(?P<disk>nvme(?P<controller>[0-9]{1,3})n(?P<namespace>[1-9][0-9]{0,2}))" + _PIECE)
_DASD = re.compile(r"/dev/(?P<disk>dasd(?P<letters>[a-z]{1,4}))(?P<number>[1-9])?")
_CCISS = re.compile(r"/dev/(?P<disk>cciss/c0d(?P<drive>[0-9]{1,2}))" + _PIECE)
_BY_PLACE = re.compile(r"/dev/disk/(?P<folder>by-id|by-path)/(?P<disk>.+?)(?:-part(?P<number>[1-9][0-9]{0,2}))?")
# by-id names that come from what is written on the disks, and so last
_LASTING_IDS = ("dm-", "md-", "lvm-pv-uuid-")

# multipath(8): a map's partitions are called mpatha1, mpathap1 or mpatha-part1
_MULTIPATH = re.compile(r"/dev/mapper/(?P<disk>mpath[a-z]{1,3}?)(?:(?:-part|p)?(?P<number>[1-9][0-9]{0,2}))?")

_PARTS_OF_VOLUMES = frozenset({"lvm2", "md", "zfs"})
_UUID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]*")

_ALIKE = (
    frozenset({"ext2", "ext3", "ext4"}),
    frozenset({"vfat", "msdos", "fat", "fat12", "fat16", "fat32", "exfat"}),
    frozenset({"ntfs", "ntfs3", "ntfs-3g", "fuseblk"}),
)
_ANY_TYPE = frozenset({"", "auto", "none"})


class Use(NamedTuple):
    """A device name in one of the guest's tables: where it is mounted (empty: nowhere), and what is expected on it."""

    name: str
    mountpoint: str = ""
    fstype: str = ""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a device name stands for. Without ``stable`` nothing lasting is known, and ``problem`` says why."""

    name: str
    partition: Partition | None
    stable: str | None
    """``UUID=...`` or ``PARTUUID=...``."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _DeviceName:
    """A machine-dependent name, taken apart: ``/dev/sdb2`` is class ``sd``, disk ``sdb``, position 1, number 2."""

    kind: str
    disk: str
    position: int | None
    """Which disk by order; None where the name does not say."""
    number: int


def device_path(stable: str) -> str:
    """The link that udev makes for a lasting name (``UUID=x`` -> ``/dev/disk/by-uuid/x``): understood by everything."""
    tag, _, value = stable.partition("=")
    return f"/dev/disk/by-{tag.lower()}/{value}"


class DeviceNames:
    """Resolves the guest's device names; built once for each plan.

    ``anchors`` holds disk names whose disk is known for certain (name -> index) although their position says
    otherwise; when there are any, positions are not believed. ``placed`` holds names without a position whose
    disk is known by what is on it. ``doubt`` says why no name is believed at all.
    """

    def __init__(
        self,
        disk_count: int,
        partitions: Iterable[Partition],
        root: Partition | None = None,
        anchors: Mapping[str, int] | None = None,
        doubt: str = "",
        placed: Mapping[str, int] | None = None,
    ) -> None:
        self.root = root
        self._disk_count = disk_count
        self._anchors = dict(anchors or {})
        self._placed = dict(placed or {})
        self._doubt = doubt
        self._partitions = {(p.disk, p.number): p for p in partitions}
        everywhere = self._partitions.values()
        self._uuids = Counter(p.filesystem.uuid.lower() for p in everywhere if p.filesystem and p.filesystem.uuid)
        self._partuuids = Counter(p.partuuid.lower() for p in everywhere if p.partuuid)

    @classmethod
    def of(cls, facts: GuestFacts, uses: Iterable[Use] = ()) -> DeviceNames:
        """For a guest; ``uses`` are of its tables, which tell which disk is which."""
        root = None
        # a volume's name does not depend on the machine, and the partition that carries it is not what is mounted
        if facts.root is not None and not facts.root.volume:
            place = (facts.root.disk, facts.root.partition)
            root = next((p for p in facts.partitions if (p.disk, p.number) == place), None)
        parsed = [(name, use) for use in uses if (name := _parsed(use.name))]
        named = [(name, use) for name, use in parsed if name.kind]
        anchors = {
            name.disk: root.disk
            for name, use in named
            if use.mountpoint == "/" and root and name.number == root.number and name.position != root.disk
        }
        kinds = sorted({name.kind for name, _ in named})
        doubt = ""
        if len(facts.disks) > 1 and len(kinds) > 1:
            doubt = f"the guest names disks of several kinds ({', '.join(kinds)}), so their order is not known"
        placed = _placed([pair for pair in parsed if not pair[0].kind], facts, root)
        return cls(len(facts.disks), facts.partitions, root, anchors, doubt, placed)

    def resolve(self, name: str, fstype: str = "") -> Resolution | None:
        """What a name stands for; None when the name does not depend on the machine, or is no disk's.

        ``fstype`` is what the guest expects there; something else there makes the name unresolved.
        """
        parsed = _parsed(name)
        if parsed is None:
            return None
        if self._doubt:
            return Resolution(name, None, None, self._doubt)
        disk = self._disk(parsed)
        if disk is None:
            return Resolution(name, None, None, self._why_no_disk(parsed))
        partition = self._partitions.get((disk, parsed.number))
        if partition is None:
            what = f"partition {parsed.number}" if parsed.number else "file system of its own"
            return Resolution(name, None, None, f"disk {disk + 1} has no {what}")
        kind = partition.filesystem.kind if partition.filesystem else "unknown"
        if not _fits(fstype, kind):
            return Resolution(name, partition, None, f"{fstype} is expected there, but {kind} was found")
        stable = self.stable(partition)
        problem = "" if stable else "what stands there has no UUID of its own"
        return Resolution(name, partition, stable, problem)

    def stable(self, partition: Partition) -> str | None:
        """``UUID=`` of the file system or swap area; ``PARTUUID=`` where another one has the same, or it has none."""
        system = partition.filesystem
        # udev makes no by-uuid name of what is a part of something larger
        uuid = system.uuid if system and system.kind not in _PARTS_OF_VOLUMES else None
        if uuid and _UUID.fullmatch(uuid) and self._uuids[uuid.lower()] == 1:
            return f"UUID={uuid}"
        return self.partuuid(partition)

    def partuuid(self, partition: Partition) -> str | None:
        """``PARTUUID=``, the only lasting name a kernel without initramfs understands; None when it is not unique."""
        partuuid = partition.partuuid
        if partuuid and _UUID.fullmatch(partuuid) and self._partuuids[partuuid.lower()] == 1:
            return f"PARTUUID={partuuid}"
        return None

    def _disk(self, parsed: _DeviceName) -> int | None:
        if parsed.disk in self._anchors:
            return self._anchors[parsed.disk]
        if not parsed.kind:
            return 0 if self._disk_count == 1 else self._placed.get(parsed.disk)
        if self._anchors or parsed.position is None or parsed.position >= self._disk_count:
            return None
        return parsed.position

    def _why_no_disk(self, parsed: _DeviceName) -> str:
        if self._anchors:
            known = ", ".join(f"{name} is disk {disk + 1}" for name, disk in self._anchors.items())
            return f"the disks are not in the order of their names ({known})"
        if parsed.position is None:
            return f"which of the {self._disk_count} disks {parsed.disk} is cannot be told from the name"
        return f"there is no disk {parsed.position + 1} among those given ({self._disk_count})"


def _parsed(name: str) -> _DeviceName | None:
    if match := _LETTERED.fullmatch(name):
        return _DeviceName(match["class"], match["disk"], drive_index(match["letters"]), int(match["number"] or 0))
    if match := _NVME.fullmatch(name):
        controller, namespace = int(match["controller"]), int(match["namespace"])
        # one namespace a controller, or all of them on the first: else the order is anybody's guess
        position = controller if namespace == 1 else namespace - 1 if controller == 0 else None
        return _DeviceName("nvme", match["disk"], position, int(match["number"] or 0))
    if match := _DASD.fullmatch(name):
        return _DeviceName("dasd", match["disk"], drive_index(match["letters"]), int(match["number"] or 0))
    if match := _CCISS.fullmatch(name):
        return _DeviceName("cciss", match["disk"], int(match["drive"]), int(match["number"] or 0))
    if match := _MULTIPATH.fullmatch(name):
        return _DeviceName("", match["disk"], None, int(match["number"] or 0))
    match = _BY_PLACE.fullmatch(name)
    if match is None or (match["folder"] == "by-id" and match["disk"].startswith(_LASTING_IDS)):
        return None
    return _DeviceName("", match["disk"], None, int(match["number"] or 0))


def _placed(
    uses: Iterable[tuple[_DeviceName, Use]], facts: GuestFacts, root: Partition | None
) -> dict[str, int]:
    """Which disk each name without a position is: the only one that has every partition so named, with what is expected there.

    Names that would then share a partition are not believed: one of their disks is not among those given.
    """
    wanted: dict[str, list[tuple[int, Use]]] = {}
    for name, use in uses:
        wanted.setdefault(name.disk, []).append((name.number, use))
    partitions = {(partition.disk, partition.number): partition for partition in facts.partitions}
    found: dict[str, int] = {}
    for disk, claims in wanted.items():
        fitting = [
            index
            for index in range(len(facts.disks))
            if all(_may_be(partitions.get((index, number)), use, root) for number, use in claims)
        ]
        if len(fitting) == 1:
            found[disk] = fitting[0]
    shared = Counter((index, number) for disk, index in found.items() for number in {number for number, _ in wanted[disk]})
    return {
        disk: index for disk, index in found.items() if all(shared[(index, number)] == 1 for number, _ in wanted[disk])
    }


def _may_be(partition: Partition | None, use: Use, root: Partition | None) -> bool:
    if partition is None:
        return False
    kind = partition.filesystem.kind if partition.filesystem else "unknown"
    is_root = partition == root
    if use.mountpoint == "/":
        return (is_root or root is None) and _fits(use.fstype, kind)
    # only Btrfs is mounted at several places
    return not (is_root and use.mountpoint.startswith("/") and kind != "btrfs") and _fits(use.fstype, kind)


def _fits(fstype: str, kind: str) -> bool:
    if kind == "unknown":
        return True
    # mount(8) takes a list of types and tries them in turn
    for wanted in fstype.split(","):
        if wanted in _ANY_TYPE or wanted == kind or any({wanted, kind} <= alike for alike in _ALIKE):
            return True
    return False
