"""Which system without Linux in it a machine's disks hold: by partition types, file systems, and what stands in FAT and UFS roots.

To be used inside ``confined``. Sources of the type numbers: the systems' own partition tools and "Properties of partition tables"
(A. Brouwer) for MBR, the systems' headers for GPT.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from drivers.facts import OperatingSystem, Partition, TextFile
from drivers.layout import Layout, place
from drivers.offline import OfflineTree, UnreadableVolume, open_volume
from drivers.other.bsd_label import read_label
from drivers.other.profiles import PROFILES
from drivers.systems import read_architecture
from drivers.tree import GuestTree, text_of
from drivers.ufs import read_superblock
from p2v.core.disk import DiskReader
from p2v.core.units import KIB

KIND = FAMILY = "other"

_MBR_TYPES = {
    "a5": "freebsd", "a6": "openbsd", "a9": "netbsd", "bf": "solaris", "eb": "haiku", "64": "netware", "65": "netware",
    "63": "unix", "0a": "os2", "35": "os2", "a8": "macos", "af": "macos", "81": "minix", "fb": "esxi",
}  # fmt: skip
_GPT_TYPES = {
    "83bd6b9d-7f41-11dc-be0b-001560b84f0f": "freebsd", "516e7cb4-6ecf-11d6-8ff8-00022d09712b": "freebsd",
    "516e7cb5-6ecf-11d6-8ff8-00022d09712b": "freebsd", "516e7cb6-6ecf-11d6-8ff8-00022d09712b": "freebsd",
    "516e7cba-6ecf-11d6-8ff8-00022d09712b": "freebsd", "824cc7a0-36a8-11e3-890a-952519ad3f61": "openbsd",
    "49f48d5a-b10e-11dc-b99b-0019d1879648": "netbsd", "49f48d32-b10e-11dc-b99b-0019d1879648": "netbsd",
    "6a82cb45-1dd2-11b2-99a6-080020736631": "solaris", "42465331-3ba3-10f1-802a-4861696b7521": "haiku",
    "48465300-0000-11aa-aa11-00306543ecac": "macos", "7c3457ef-0000-11aa-aa11-00306543ecac": "macos",
    "aa31e02a-400f-11db-9590-000c2911d1b8": "esxi",
}  # fmt: skip
_FILE_SYSTEMS = {
    "hpfs": "os2", "befs": "haiku", "hfsplus": "macos", "apfs": "macos", "vmfs": "esxi", "netware": "netware",
    "nss": "netware", "vxfs": "unix",
}  # fmt: skip
_SLICES = frozenset({"a5", "a6", "a9"})
# The texts that name disks and network cards.
_TEXTS = ("/etc/fstab", "/etc/rc.conf", "/boot/loader.conf", "/etc/vfstab")
_NIC_FILES = re.compile(r"(?:hostname|ifconfig)\.[a-z]+[0-9]+")
_TEXT_BYTES_AT_MOST = 256 * KIB
_TEXTS_AT_MOST = 64
_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)?")
# regf's minor version: NT 3.1 writes 1, 3.5 and 3.51 write 2, NT 4 and later 3 and more
_FIRST_HIVE_OF_NT4 = 3
_WINNT_FOLDERS = ("WINNT", "WINNT35", "WINDOWS")


@dataclass(frozen=True, slots=True)
class OtherGuest:
    """A system that is recognised: who it is, how that was told, and the texts that name its devices."""

    system: OperatingSystem
    why: str
    texts: dict[str, TextFile]


def recognise_other(layout: Layout, readers: Sequence[DiskReader]) -> OtherGuest | None:
    """The system of a machine in which no Linux was found; None where nothing tells.

    What stands in a file system's root tells more than a partition's type, and that more than nothing.
    """
    return next(chain(_by_contents(layout, readers), _by_types(layout)), None)


def system_by_type(partition: Partition) -> str | None:
    """The id of the system that a partition's type names; None for types that Linux has, or that many have."""
    return _MBR_TYPES.get(partition.type_id) or _GPT_TYPES.get(partition.type_id)


def _by_types(layout: Layout) -> Iterator[OtherGuest]:
    for partition in layout.partitions:
        kind = partition.filesystem.kind if partition.filesystem else ""
        known = _FILE_SYSTEMS.get(kind) or system_by_type(partition)
        if known is not None:
            what = f"{kind} in it" if kind in _FILE_SYSTEMS else f"a partition of the type {partition.type_id}"
            yield OtherGuest(_system(known), f"{place(partition)}: {what}", {})


def _by_contents(layout: Layout, readers: Sequence[DiskReader]) -> Iterator[OtherGuest]:
    for partition in layout.partitions:
        kind = partition.filesystem.kind if partition.filesystem else ""
        if kind == "vfat":
            found = _in_fat(_tree("vfat", readers[partition.disk], partition.offset, partition.length))
            if found is not None:
                yield OtherGuest(found, f"the files at the root of {place(partition)}", {})
        for tree in _ufs_trees(partition, kind, readers):
            guest = _in_ufs(tree, partition)
            if guest is not None:
                yield guest


def _ufs_trees(partition: Partition, kind: str, readers: Sequence[DiskReader]) -> Iterator[OfflineTree]:
    reader = readers[partition.disk]

    def at(offset: int) -> Iterator[OfflineTree]:
        found = read_superblock(lambda length, place: reader.pread(length, offset + place))
        end = partition.offset + partition.length
        tree = _tree(found.kind, reader, offset, end - offset) if found is not None else None
        if tree is not None:
            yield tree

    if kind in ("ufs1", "ufs2"):
        yield from at(partition.offset)
    if partition.type_id in _SLICES or partition.number == 0:
        label = read_label(lambda length, place: reader.pread(length, partition.offset + place), partition.offset)
        for inner in label:
            if inner.kind == "ufs" and 0 < inner.offset < partition.length:
                yield from at(partition.offset + inner.offset)


def _tree(kind: str, reader: DiskReader, offset: int, length: int) -> OfflineTree | None:
    try:
        return OfflineTree(open_volume(kind, reader, offset, length))
    except UnreadableVolume:
        return None


def _in_ufs(tree: OfflineTree, partition: Partition) -> OtherGuest | None:
    release = text_of(tree, "/etc/release", _TEXT_BYTES_AT_MOST) or ""
    if tree.exists("/bin/freebsd-version") or tree.exists("/boot/kernel/kernel"):
        version = _version_in(text_of(tree, "/bin/freebsd-version", _TEXT_BYTES_AT_MOST) or "", "USERLAND_VERSION")
        found = _system("freebsd", version)
    elif tree.exists("/bsd"):
        found = _system("openbsd", _version_in(text_of(tree, "/etc/motd", _TEXT_BYTES_AT_MOST) or "", "OpenBSD"))
    elif tree.exists("/netbsd") or "NetBSD" in release:
        found = _system("netbsd", _version_in(release, "NetBSD"))
    elif "Solaris" in release or tree.exists("/kernel/genunix"):
        found = _system("solaris", _version_in(release, "Solaris"))
    elif partition.type_id in _SLICES and tree.exists("/etc/fstab"):
        found = _system(_MBR_TYPES[partition.type_id])
    else:
        return None
    system = replace(found, arch=read_architecture(tree) or found.arch)
    return OtherGuest(system, f"the files in {place(partition)}", _device_texts(tree))


def _version_in(text: str, word: str) -> str:
    """The first number behind a word of a text."""
    behind = text.partition(word)[2][:200]
    match = _VERSION.search(behind) or re.search(r"\d+", behind)
    return match[0] if match else ""


def _device_texts(tree: GuestTree) -> dict[str, TextFile]:
    names = [f"/etc/{name}" for name in tree.list("/etc") if _NIC_FILES.fullmatch(name)][:_TEXTS_AT_MOST]
    texts = ((path, text_of(tree, path, _TEXT_BYTES_AT_MOST)) for path in (*_TEXTS, *names))
    return {path: TextFile(path, path, text) for path, text in texts if text is not None}


def _in_fat(tree: OfflineTree | None) -> OperatingSystem | None:
    if tree is None:
        return None
    names = {name.upper() for name in tree.list("/")}
    if names & {"OS2KRNL", "OS2LDR", "OS2BOOT"}:
        return _system("os2")
    if "NTLDR" in names:
        return _system("nt3") if _has_old_hive(tree, names) else None
    if {"IO.SYS", "MSDOS.SYS"} <= names:
        text = (text_of(tree, "/MSDOS.SYS", _TEXT_BYTES_AT_MOST) or "").upper()
        return _system("win9x" if "[PATHS]" in text or "[OPTIONS]" in text else "dos")
    if names & {"KERNEL.SYS", "IBMBIO.COM", "DRBIOS.SYS", "IO.SYS"} and "COMMAND.COM" in names:
        return _system("dos")
    return None


def _has_old_hive(tree: OfflineTree, names: set[str]) -> bool:
    for folder in _WINNT_FOLDERS:
        if folder not in names:
            continue
        try:
            head = tree.read_range(f"/{folder}/SYSTEM32/CONFIG/SOFTWARE", 32, 0)
        except (FileNotFoundError, ValueError):
            continue
        if head[:4] == b"regf":
            return int.from_bytes(head[24:28], "little") < _FIRST_HIVE_OF_NT4
    return False


def _system(id_: str, version: str = "") -> OperatingSystem:
    profile = PROFILES[id_]
    return OperatingSystem(KIND, id_, version, f"{profile.name} {version}".strip(), profile.arch, FAMILY)
