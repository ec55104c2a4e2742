"""What is signed at the begin of a partition, and what each signature says of the place it stands in.

Several in one place are no contradiction to a reader of bytes: which of them is left over, rules decide. Sources: the kernel's
ext4 documentation (super.rst), xfs_format.h (xfs_dsb), btrfs_tree.h (btrfs_super_block, btrfs_dev_item), bcache's
uapi/linux/bcache.h, mkswap's swapheader; LVM2's lib/format_text/layout.h; Microsoft's fatgen103 and exFAT specification; the
Linux-NTFS project's "Boot sector"; DRBD's drbd_meta_data.h for the place of its magic number, 4 KiB before the end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from drivers.sights.edges import Edges
from drivers.sights.values import Signature
from p2v.core import lvm, md
from p2v.core.units import KIB, SECTOR_BYTES

_HEAD_BYTES = 8 * KIB
_FAR, _FAR_BYTES = 64 * KIB, 512
_BOOT_SIGNATURE = b"\x55\xaa"
_SECTOR_SIZES = frozenset({512, 1024, 2048, 4096})
_SWAP_PAGE = 4 * KIB
_BCACHE_AT = 4 * KIB
_BCACHE = bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")
_BCACHEFS = bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef")
_DRBD_FROM_END, _DRBD_MAGIC_AT = 4 * KIB, 60
_DRBD = frozenset({0x8374026B, 0x8374026C, 0x8374026D})
_UNKNOWN_FREE = 0xFFFFFFFF
_XFS_BLOCKS = frozenset(1 << bit for bit in range(9, 17))


@dataclass(frozen=True, slots=True)
class _Head:
    """The first bytes of a place, padded with zeroes, and where they stand on the disk."""

    raw: bytes
    at: int
    length: int

    def number(self, form: str, at: int) -> int:
        return int(struct.unpack_from(form, self.raw, at)[0])


Probe = Callable[[_Head], "Signature | None"]


def look_at_place(disk: Edges, offset: int, length: int) -> tuple[Signature, ...]:
    """Every signature of a place, none where it lies outside of the disk. Two or three small reads."""
    length = min(length, disk.virtual_size - offset)
    if length < SECTOR_BYTES or offset < 0:
        return ()
    head = _Head(disk.pread(min(_HEAD_BYTES, length), offset).ljust(_HEAD_BYTES, b"\0"), offset, length)
    found = [signature for probe in _PROBES if (signature := probe(head)) is not None]
    if length >= _FAR + _FAR_BYTES:
        far = _Head(disk.exactly(_FAR_BYTES, offset + _FAR), offset + _FAR, length)
        found += [signature for probe in _FAR_PROBES if (signature := probe(far)) is not None]
    return (*found, *_drbd(disk, offset, length))


def look_at_end(disk: Edges) -> tuple[Signature, ...]:
    """The superblock that a member of an array of whole disks has at its end (versions 1.0 and 0.90 of md)."""
    newer, older = md.places(disk.virtual_size)[-1], md.old_place(disk.virtual_size)
    found = []
    is_signed = newer >= 0 and disk.exactly(8, newer) == struct.pack("<II", md.MAGIC, 1)
    # a superblock says in which sector it stands: that of a partition's own end says another
    if is_signed and struct.unpack("<Q", disk.exactly(8, newer + 144))[0] * SECTOR_BYTES == newer:
        found.append(Signature("md", newer))
    if older >= 0 and disk.exactly(8, older) in (struct.pack("<II", md.MAGIC, 0), struct.pack(">II", md.MAGIC, 0)):
        found.append(Signature("md", older))
    return tuple(found)


# --- boot sectors ----------------------------------------------------------------------------------------


def _ntfs(head: _Head) -> Signature | None:
    sector_bytes = head.number("<H", 11)
    if head.raw[3:11] != b"NTFS    " or head.raw[510:512] != _BOOT_SIGNATURE or sector_bytes not in _SECTOR_SIZES:
        return None
    stated = head.number("<Q", 40) * sector_bytes
    return Signature("ntfs", head.at, stated, head.at + 40, sector_bytes, head.number("<I", 28))


def _exfat(head: _Head) -> Signature | None:
    shift = head.raw[108]
    if head.raw[3:11] != b"EXFAT   " or not 9 <= shift <= 12:
        return None
    return Signature("exfat", head.at, head.number("<Q", 72) << shift, head.at + 72, 1 << shift)


def _fat(head: _Head) -> Signature | None:
    raw, sector_bytes = head.raw, head.number("<H", 11)
    is_32 = raw[82:87] == b"FAT32"
    is_fat = is_32 or raw[54:59] in (b"FAT12", b"FAT16")
    if not is_fat or raw[510:512] != _BOOT_SIGNATURE or sector_bytes not in _SECTOR_SIZES:
        return None
    if raw[13] not in (1, 2, 4, 8, 16, 32, 64, 128) or raw[16] not in (1, 2) or not head.number("<H", 14):
        return None
    few = head.number("<H", 19)
    sectors, at = (few, 19) if few else (head.number("<I", 32), 32)
    free = _fat_free(head, raw[13] * sector_bytes, sectors * sector_bytes) if is_32 else None
    return Signature("fat", head.at, sectors * sector_bytes, head.at + at, sector_bytes, head.number("<I", 28), free)


def _fat_free(head: _Head, cluster_bytes: int, total: int) -> int | None:
    at = head.number("<H", 48) * head.number("<H", 11)
    if not at or at + SECTOR_BYTES > len(head.raw) or head.raw[at : at + 4] != b"RRaA":
        return None
    clusters = head.number("<I", at + 488)
    return clusters * cluster_bytes if clusters != _UNKNOWN_FREE and clusters * cluster_bytes <= total else None


# --- superblocks and containers --------------------------------------------------------------------------


def _luks(head: _Head) -> Signature | None:
    return Signature("luks", head.at) if head.raw[:6] == b"LUKS\xba\xbe" else None


def _bitlocker(head: _Head) -> Signature | None:
    return Signature("bitlocker", head.at) if head.raw[3:11] == b"-FVE-FS-" else None


def _xfs(head: _Head) -> Signature | None:
    block_bytes, blocks = struct.unpack_from(">IQ", head.raw, 4)
    sector_bytes = head.number(">H", 102)
    if head.raw[:4] != b"XFSB" or block_bytes not in _XFS_BLOCKS or sector_bytes not in _XFS_BLOCKS or not blocks:
        return None
    return Signature("xfs", head.at, blocks * block_bytes, head.at + 8, sector_bytes)


def _ext(head: _Head) -> Signature | None:
    inodes, blocks = struct.unpack_from("<II", head.raw, KIB)
    first, log_block = struct.unpack_from("<I", head.raw, KIB + 20)[0], head.number("<I", KIB + 24)
    revision, per_group = head.number("<I", KIB + 76), head.number("<I", KIB + 40)
    if head.raw[KIB + 56 : KIB + 58] != b"\x53\xef" or log_block > 6 or first > 1 or revision > 1:
        return None
    if not inodes or not blocks or not per_group:
        return None
    if head.number("<I", KIB + 96) & 0x80:  # 64bit: the number of blocks has an upper half
        blocks |= head.number("<I", KIB + 0x150) << 32
    return Signature("ext", head.at + KIB, blocks * (KIB << log_block), head.at + KIB + 4, KIB << log_block)


def _swap(head: _Head) -> Signature | None:
    if head.raw[_SWAP_PAGE - 10 : _SWAP_PAGE] != b"SWAPSPACE2":
        return None
    stated = (head.number("<I", KIB + 4) + 1) * _SWAP_PAGE if head.number("<I", KIB) == 1 else None
    return Signature("swap", head.at + _SWAP_PAGE - 10, stated, head.at + KIB + 4)


def _lvm2(head: _Head) -> Signature | None:
    label = lvm.find_label(lambda length, offset: head.raw[offset : offset + length])
    if label is None:
        return None
    at, header = head.raw.index(label), lvm.header_at(label)
    if header + 40 > len(label):
        return Signature("lvm2", head.at + at)
    # zero: as long as what it stands in
    size = struct.unpack_from("<Q", label, header + 32)[0]
    return Signature("lvm2", head.at + at, size or None, head.at + at + header + 32)


def _md(head: _Head) -> Signature | None:
    for at in (4 * KIB, 0):
        if head.raw[at : at + 8] == struct.pack("<II", md.MAGIC, 1):
            return Signature("md", head.at + at)
    return None


def _bcache(head: _Head) -> Signature | None:
    magic = head.raw[_BCACHE_AT + 24 : _BCACHE_AT + 40]
    if magic == _BCACHEFS:
        return Signature("bcachefs", head.at + _BCACHE_AT)
    if magic == _BCACHE and head.number("<Q", _BCACHE_AT + 8) * SECTOR_BYTES == _BCACHE_AT:
        return Signature("bcache", head.at + _BCACHE_AT)
    return None


def _btrfs(head: _Head) -> Signature | None:
    sector_bytes = head.number("<I", 144)
    if head.raw[64:72] != b"_BHRfS_M" or sector_bytes not in _XFS_BLOCKS:
        return None
    # of this device, and not of all that the file system has
    return Signature("btrfs", head.at, head.number("<Q", 209), head.at + 209, sector_bytes)


def _reiserfs(head: _Head) -> Signature | None:
    block_bytes = head.number("<H", 44)
    if head.raw[52:61] not in (b"ReIsErFs\0", b"ReIsEr2Fs", b"ReIsEr3Fs") or block_bytes not in _XFS_BLOCKS:
        return None
    return Signature("reiserfs", head.at, head.number("<I", 0) * block_bytes, head.at, block_bytes)


def _drbd(disk: Edges, offset: int, length: int) -> Iterator[Signature]:
    at = offset + length - _DRBD_FROM_END
    if length >= 64 * KIB and struct.unpack(">I", disk.exactly(4, at + _DRBD_MAGIC_AT))[0] in _DRBD:
        yield Signature("drbd", at)


_PROBES: tuple[Probe, ...] = (_luks, _bitlocker, _md, _lvm2, _ntfs, _exfat, _fat, _xfs, _ext, _swap, _bcache)
_FAR_PROBES: tuple[Probe, ...] = (_btrfs, _reiserfs)
