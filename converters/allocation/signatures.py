"""What stands in a volume, by its signatures: kinds whose allocation is read, and others that only have a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from converters.allocation import exfat, ext4, fat, lvm, md, ntfs, swap, xfs
from converters.allocation.runs import Runs
from converters.allocation.volume import Volume
from p2v.core.units import KIB, MIB


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of volume whose free space is known. ``what``: what is left out of it, as people say it."""

    name: str
    is_there: Callable[[Volume], bool]
    free_runs: Callable[[Volume], Runs]
    what: str


KINDS = (
    Kind("ext2/3/4", ext4.is_ext, ext4.free_runs, "free blocks of ext2/3/4"),
    Kind("XFS", xfs.is_xfs, xfs.free_runs, "free blocks of XFS"),
    Kind("NTFS", ntfs.is_ntfs, ntfs.free_runs, "free clusters of NTFS"),
    Kind("exFAT", exfat.is_exfat, exfat.free_runs, "free clusters of exFAT"),
    Kind("FAT", fat.is_fat, fat.free_runs, "free clusters of FAT"),
    Kind("swap", swap.is_swap, swap.free_runs, "contents of swap"),
)
LVM, RAID = "LVM", "RAID"

# name, offset (from the end where negative), bytes
_OTHERS: tuple[tuple[str, int, bytes], ...] = (
    ("LUKS", 0, b"LUKS\xba\xbe"), ("BitLocker", 3, b"-FVE-FS-"),
    # To Go begins like FAT, which what is locked goes beyond; the second is of volumes of which only used space was encrypted
    ("BitLocker", 424, bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")),
    ("BitLocker", 424, bytes.fromhex("3b4da89280dd0e4d9e4eb1e3284eaed8")),
    ("Btrfs", 64 * KIB + 64, b"_BHRfS_M"),
    ("bcache", 4 * KIB + 24, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")), ("F2FS", KIB, b"\x10\x20\xf5\xf2"),
    ("JFS", 32 * KIB, b"JFS1"), ("ReiserFS", 64 * KIB + 52, b"ReIsEr"), ("HFS+", KIB, b"H+\0\x04"), ("HFSX", KIB, b"HX\0\x05"),
    ("APFS", 32, b"NXSB"), ("UFS2", 64 * KIB + 1372, b"\x19\x01\x54\x19"), ("UFS1", 8 * KIB + 1372, b"\x54\x19\x01\x00"),
    ("ISO 9660", 32 * KIB + 1, b"CD001"), ("VMFS", MIB, b"\x0d\xd0\x01\xc0"), ("SquashFS", 0, b"hsqs"),
    ("NILFS2", KIB + 6, b"\x34\x34"), ("OCFS2", 8 * KIB, b"OCFSV2"), ("GFS2", 64 * KIB, b"\x01\x16\x19\x70"),
    ("dm-integrity", 0, b"integrt\0"), ("Stratis", 528, b"!Stra0tis\x86\xff\x02^Arh"),
    ("VDO", 0, b"dmvdo001"), ("ReFS", 3, b"ReFS"), ("firmware RAID", -1024, b"Intel Raid ISM Cfg Sig."),
    ("firmware RAID", -512, b"\xde\x11\xde\x11"), ("firmware RAID", -512, b"\x11\xde\x11\xde"),
)  # fmt: skip
_ZFS_MAGICS = (b"\x0c\xb1\xba\x00\0\0\0\0", b"\0\0\0\0\x00\xba\xb1\x0c")
_ZFS_FIRST, _ZFS_LAST, _ZFS_STEP = 128 * KIB, 256 * KIB, KIB


def recognise(volume: Volume) -> list[Kind | str]:
    """Everything that a volume has the signature of: known kinds, and names of others. More than one is a contradiction."""
    found: list[Kind | str] = [kind for kind in KINDS if kind.is_there(volume)]
    if md.is_member(volume):
        found.append(RAID)
    if lvm.has_label(volume):
        found.append(LVM)
    for name, offset, magic in _OTHERS:
        if volume.peek(len(magic), offset if offset >= 0 else volume.size + offset) == magic and name not in found:
            found.append(name)
    if _is_zfs(volume):
        found.append("ZFS")
    return found


def _is_zfs(volume: Volume) -> bool:
    """Whether there is an uberblock in the first label."""
    raw = volume.peek(_ZFS_LAST - _ZFS_FIRST, _ZFS_FIRST)
    return any(raw[at : at + 8] in _ZFS_MAGICS for at in range(0, len(raw), _ZFS_STEP))


def starts_volume(found: list[Kind | str]) -> bool:
    """Whether one of the signatures is of a kind that begins with a boot sector."""
    names = {kind if isinstance(kind, str) else kind.name for kind in found}
    return bool(names & {"NTFS", "exFAT", "FAT", "BitLocker", "ReFS"})
