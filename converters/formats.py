"""The formats this version reads, in the order they are looked for: adding one is a module and a record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from converters import c_qcow2, c_qemu, c_vdi, c_vhd, c_vhdx, c_vmdk
from converters.mapped import MappedDisk
from converters.references import Opening
from converters.signatures import HEAD_BYTES, TAIL_BYTES, disk_contents
from converters.source_file import SourceFile
from converters.vmdk_descriptor import is_descriptor
from p2v.core.errors import Unreadable

_STEP_BYTES = 4096


@dataclass(frozen=True, slots=True)
class FileEnds:
    """The first and last bytes of a file (the same bytes twice where it is short), and its size."""

    head: bytes
    tail: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Match:
    """Why a file is taken for a format: its variant as far as the ends show it, and the sign."""

    variant: str
    why: str


@dataclass(frozen=True, slots=True)
class Format:
    """One format: ``probe`` judges a file's ends alone, ``reader`` names the module and function that open it."""

    id: str
    title: str
    suffixes: tuple[str, ...]
    probe: Callable[[FileEnds], Match | None]
    reader: str
    is_container: bool = True

    def open(self, file: SourceFile, opening: Opening) -> MappedDisk:
        """Open an image, taking over the file's ownership on success.

        A run reads one format or two, so a reader is imported when the first image of its format is met.
        """
        module, name = self.reader.split(":")
        reader: Callable[[SourceFile, Opening], MappedDisk] = getattr(import_module(f"converters.{module}"), name)
        return reader(file, opening)


def ends_of(file: SourceFile) -> FileEnds:
    """The ends of an open file. What cannot be read of a device is zeroes, but for its first bytes. Raises ReadFailed."""
    head = _end_of(file, HEAD_BYTES, 0)
    return FileEnds(head, _end_of(file, TAIL_BYTES, max(0, file.size - TAIL_BYTES)), file.size)


def _end_of(file: SourceFile, length: int, offset: int) -> bytes:
    try:
        return file.pread(length, offset)
    except Unreadable:
        # the format of a file may hang on any of it; a device has a table of partitions, and the copy of it at its end
        if not file.is_block_device:
            raise
    parts = []
    for at in range(offset, min(offset + length, file.size), _STEP_BYTES):
        count = min(_STEP_BYTES, offset + length - at, file.size - at)
        try:
            parts.append(file.pread(count, at))
        except Unreadable:
            if at == 0:
                raise
            parts.append(bytes(count))
    return b"".join(parts)


def _probe_qcow2(ends: FileEnds) -> Match | None:
    if not ends.head.startswith(c_qcow2.QCOW_MAGIC) or ends.head.startswith(c_qemu.QCOW1_MAGIC):
        return None
    return Match(f"version {int.from_bytes(ends.head[4:8], 'big')}", "it begins with a qcow2 header")


def _probe_vmdk(ends: FileEnds) -> Match | None:
    if ends.head.startswith(c_vmdk.SPARSE_MAGIC):
        return Match("sparse", "it begins with a sparse extent header")
    if ends.head.startswith((c_vmdk.COWD_MAGIC, c_vmdk.SESPARSE_MAGIC)):
        return Match("ESX snapshot extent", "it begins with the header of an ESX sparse extent")
    if is_descriptor(ends.head):
        return Match("descriptor", "it is a VMDK descriptor")
    return None


def _probe_vhdx(ends: FileEnds) -> Match | None:
    if not ends.head.startswith(c_vhdx.FILE_SIGNATURE):
        return None
    return Match("", "it begins with a VHDX file identifier")


def _probe_vhd(ends: FileEnds) -> Match | None:
    if ends.head.startswith(c_vhd.FOOTER_COOKIE):
        return Match("dynamic", "it begins with a copy of a VHD footer")
    if c_vhd.find_footer_offset(ends.size, ends.tail) is not None:
        return Match("fixed", "it ends with a VHD footer")
    return None


def _probe_vdi(ends: FileEnds) -> Match | None:
    if not ends.head.startswith(c_vdi.SIGNATURE, c_vdi.SIGNATURE_OFFSET):
        return None
    return Match("", f"it has a VDI signature at byte {c_vdi.SIGNATURE_OFFSET}")


def _probe_qcow1(ends: FileEnds) -> Match | None:
    if not ends.head.startswith(c_qemu.QCOW1_MAGIC):
        return None
    return Match("version 1", "it begins with a qcow header of version 1")


def _probe_qed(ends: FileEnds) -> Match | None:
    return Match("", "it begins with a QED header") if ends.head.startswith(c_qemu.QED_MAGIC) else None


def _probe_parallels(ends: FileEnds) -> Match | None:
    if not ends.head.startswith((c_qemu.PARALLELS_MAGIC, c_qemu.PARALLELS_EXT_MAGIC)):
        return None
    return Match("", "it begins with a Parallels header")


def _probe_raw(ends: FileEnds) -> Match | None:
    contents = disk_contents(ends.head)
    return None if contents is None else Match("", f"it begins with {contents}")


FORMATS: tuple[Format, ...] = (
    Format("qcow2", "QEMU copy-on-write image", (".qcow2",), _probe_qcow2, "qcow2:open_qcow2"),
    Format("vmdk", "VMware virtual disk", (".vmdk",), _probe_vmdk, "vmdk:open_vmdk"),
    Format("vhdx", "Hyper-V virtual disk, version 2", (".vhdx", ".avhdx"), _probe_vhdx, "vhdx:open_vhdx"),
    Format("vhd", "Virtual PC and Hyper-V virtual disk", (".vhd", ".vud", ".avhd", ".vpc"), _probe_vhd, "vhd:open_vhd"),
    Format("vdi", "VirtualBox virtual disk", (".vdi",), _probe_vdi, "vdi:open_vdi"),
    Format("qcow", "QEMU copy-on-write image, version 1", (".qcow",), _probe_qcow1, "qemu_reader:open_qcow1"),
    Format("qed", "QEMU enhanced disk", (".qed",), _probe_qed, "qemu_reader:open_qed"),
    Format("parallels", "Parallels virtual disk", (".parallels", ".hdd", ".hds"), _probe_parallels, "qemu_reader:open_parallels"),
    Format("raw", "raw disk", (".raw", ".img", ".iso"), _probe_raw, "raw:open_raw", is_container=False),
)
