"""What a target can be, and how its writer is to lay it out. No more than a table: every start of the command reads it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from p2v.core.disk import Codec
from p2v.core.errors import Usage
from p2v.core.units import GIB, KIB, MIB, TIB, format_bytes

DEFAULT_CLUSTER_BYTES = 64 * KIB
SMALLEST_CLUSTER_BYTES, LARGEST_CLUSTER_BYTES = 64 * KIB, 2 * MIB


class TargetFormat(enum.Enum):
    """What a target that we write ourselves can be."""

    QCOW2 = "qcow2"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class ForeignFormat:
    """A format as we and as QEMU call it, its variants with QEMU's options (the first is the default), its largest disk."""

    id: str
    qemu: str
    variants: Mapping[str, tuple[str, ...]]
    largest_bytes: int
    suffix: str


# Without force_size, QEMU makes the disk of a VHD as large as the next geometry that holds it. Limits: the VHD
# specification's 2040 GiB, the VHDX specification's 64 TiB (qemu-img holds both), and vSphere's 62 TiB for a disk.
FOREIGN_FORMATS: Mapping[str, ForeignFormat] = {
    known.id: known
    for known in (
        ForeignFormat(
            "vhd",
            "vpc",
            {
                "dynamic": ("subformat=dynamic", "force_size=on"),
                "fixed": ("subformat=fixed", "force_size=on"),
            },
            2040 * GIB,
            ".vhd",
        ),
        ForeignFormat(
            "vhdx", "vhdx", {"dynamic": ("subformat=dynamic",), "fixed": ("subformat=fixed",)}, 64 * TIB, ".vhdx"
        ),
        ForeignFormat(
            "vmdk",
            "vmdk",
            {
                "monolithicSparse": ("subformat=monolithicSparse",),
                "streamOptimized": ("subformat=streamOptimized",),
            },
            62 * TIB,
            ".vmdk",
        ),
    )
}


class Preallocation(enum.Enum):
    """What a target takes of its file system before it is written to; QEMU's words."""

    OFF = "off"
    METADATA = "metadata"
    """Every cluster has its place, side by side as in the disk; those without data are holes of the file."""
    FALLOC = "falloc"
    """The same, and the file system has reserved all of them."""


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """How a target is laid out. ``cluster_bytes`` and ``compression`` (deflate or zstd) are qcow2's."""

    cluster_bytes: int = DEFAULT_CLUSTER_BYTES
    preallocation: Preallocation = Preallocation.OFF
    compression: Codec | None = None
    shares: bool = True
    """Blocks of a plainly stored source are shared with it, where the file system can (reflink)."""

    def text(self, target_format: TargetFormat) -> str:
        """What a partial file is to become, as its journal says it: for another text, it is begun anew."""
        words = [target_format.value]
        if target_format is TargetFormat.QCOW2:
            words.append(f"cluster_size={self.cluster_bytes}")
        if self.preallocation is not Preallocation.OFF:
            words.append(f"preallocation={self.preallocation.value}")
        if self.compression is not None:
            words.append(f"compression={self.compression.value}")
        return " ".join(words)


PLAIN = TargetOptions()


def require_sensible(target_format: TargetFormat, options: TargetOptions) -> None:
    """Raise Usage for what a target of this format cannot have, and for what excludes each other."""
    size = options.cluster_bytes
    if target_format is not TargetFormat.QCOW2:
        if size != DEFAULT_CLUSTER_BYTES:
            raise Usage(f"a {target_format.value} target has no clusters", "Leave --cluster-size away, or make a qcow2.")
        if options.compression is not None:
            raise Usage(f"a {target_format.value} target cannot be compressed", "Leave --compress away, or make a qcow2.")
        if options.preallocation is Preallocation.METADATA:
            raise Usage(
                f"a {target_format.value} target has no metadata that could be made beforehand", "Say --preallocation falloc."
            )
    if not SMALLEST_CLUSTER_BYTES <= size <= LARGEST_CLUSTER_BYTES or size & (size - 1):
        raise Usage(f"clusters cannot have {format_bytes(size)}", "They have 64K, 128K, 256K, 512K, 1M or 2M.")
    if options.compression is not None and options.preallocation is not Preallocation.OFF:
        raise Usage(
            "compressed clusters take the place they need: there is none to preallocate",
            "Say either --compress or --preallocation.",
        )
