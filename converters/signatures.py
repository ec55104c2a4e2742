"""What a file's first bytes show: disk contents (for raw), and containers this version does not read."""

from __future__ import annotations

from collections.abc import Callable

# Probing looks at this much of a file's begin: the farthest sign is btrfs's superblock at 64 KiB.
HEAD_BYTES = 72 * 1024
TAIL_BYTES = 4096
MIN_DISK_BYTES = 512

_CONTENTS: tuple[tuple[str, tuple[tuple[int, bytes], ...]], ...] = (
    ("a GUID partition table", ((512, b"EFI PART"), (4096, b"EFI PART"))),
    ("an XFS file system", ((0, b"XFSB"),)),
    ("an ext file system", ((1080, b"\x53\xef"),)),
    ("a Btrfs file system", ((65600, b"_BHRfS_M"),)),
    ("an LVM physical volume", tuple((sector * 512, b"LABELONE") for sector in range(4))),
    ("a LUKS volume", ((0, b"LUKS\xba\xbe"),)),
    ("a BitLocker volume", ((3, b"-FVE-FS-"),)),
    ("an NTFS boot sector", ((3, b"NTFS    "),)),
    ("swap space", ((4086, b"SWAPSPACE2"), (4086, b"SWAP-SPACE"))),
    ("an ISO 9660 file system", ((32769, b"CD001"),)),
    ("an Apple partition map", ((512, b"PM\0\0"),)),
    ("a BSD disk label", ((512, b"\x57\x45\x56\x82"), (64, b"\x57\x45\x56\x82"))),
    ("a Sun disk label", ((508, b"\xda\xbe"),)),
    ("an SGI disk label", ((0, b"\x0b\xe5\xa9\x41"),)),
    ("a UFS file system", ((8192 + 1372, b"\x19\x54\x01\x19\0\0\0\0"),)),
)
# The last bytes of a boot sector: master boot record, FAT, and the boot sectors of OS/2 and others.
_BOOT_SIGNATURE = b"\x55\xaa"

_FOREIGN: tuple[tuple[str, int, bytes], ...] = (
    ("a Bochs image", 0, b"Bochs Virtual HD Image"),
    ("an EnCase image", 0, b"EVF\x09\x0d\x0a\xff\x00"),
    ("a gzip archive", 0, b"\x1f\x8b\x08"),
    ("an xz archive", 0, b"\xfd7zXZ\0"),
    ("a zstd archive", 0, b"\x28\xb5\x2f\xfd"),
    ("a bzip2 archive", 0, b"BZh"),
    ("a zip archive", 0, b"PK\x03\x04"),
    ("a 7-Zip archive", 0, b"7z\xbc\xaf\x27\x1c"),
    ("a tar archive (an OVA?)", 257, b"ustar"),
    ("a WIM archive", 0, b"MSWIM\0\0\0"),
)
_DMG_TRAILER = b"koly"
_DMG_TRAILER_FROM_END = 512


def disk_contents(head: bytes) -> str | None:
    """The partition table, boot sector or file system a disk begins with, in words."""
    for words, places in _CONTENTS:
        if any(head.startswith(sign, at) for at, sign in places):
            return words
    if head[510:512] == _BOOT_SIGNATURE:
        return "a boot sector"
    return None


def foreign_container(head: bytes, tail: bytes) -> str | None:
    """A container or archive that is known but not read, in words."""
    for words, at, sign in _FOREIGN:
        if head.startswith(sign, at):
            return words
    if tail[-_DMG_TRAILER_FROM_END:].startswith(_DMG_TRAILER):
        return "an Apple disk image (DMG)"
    return None


def nothing_known(head: bytes) -> str:
    """Why a file's first bytes are taken for no disk, in words that follow its name."""
    if not any(head):
        return "starts with zeroes only: with no partition table, boot sector or file system"
    looks: tuple[tuple[str, Callable[[bytes], bool]], ...] = (("is text; it ", _is_text), ("", lambda _: True))
    prefix = next(words for words, test in looks if test(head[:4096]))
    return f"{prefix}starts with no partition table, boot sector or file system"


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n\f" for byte in head)
