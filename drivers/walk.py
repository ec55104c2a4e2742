"""Lists all that a file system holds, in an appliance and by the appliance's own programs: a few seconds, whatever its size.

A file system is mounted by itself, read-only, at the root, so that nothing is hidden below what is mounted elsewhere. No text of
the guest's gets into a script, and what a script finds comes back packed and in pieces.
"""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from drivers import ext4_layout
from drivers.appliance import NTFS_OWNERS, Appliance
from drivers.appliance_tree import ApplianceTree
from drivers.appliance_values import ApplianceFailed, ApplianceStopped
from drivers.listing import BadListing, Listing, parse_entries, parse_places
from p2v.core.units import GIB, KIB, MIB

WALK_SECONDS = 3600.0
_LISTING_BYTES = 2 * GIB
# libguestfs' messages have at most 4 MiB, and base64 makes 4 bytes of 3
_PIECE_BYTES = 2 * MIB
# one argument of a program has at most 128 KiB
_GIVEN_BYTES = 60 * KIB
_TELLS_PLACES = (*ext4_layout.KINDS, "xfs")
_HAVE_FLAGS = ("xfs", "btrfs", "f2fs")
_FORGETS_INODES = ("vfat", "msdos", "exfat")

# %P is empty for the root, "%D/" ends the numbers
_NAMES = r"find . -xdev -printf '%i %M %m %U %G %n %s %A@ %T@ %C@ %D/%P\0%l\0'"
# where no inode has to be looked at, %y is what the folder says
_KINDS = r"find . -xdev -printf '%y%P\0'"
_DEVICE_NUMBERS = r"find . -xdev '(' -type b -o -type c ')' -print0 | xargs -0 -r stat --printf '%t:%T %n\0'"
_ATTRIBUTES = r"find . -xdev -print0 | xargs -0 -r getfattr -P -h -d -m - -e hex --absolute-names --"
# What a folder says of a name's kind may be wrong (-xtype looks), and filefrag would wait for who writes to a pipe.
_FILES_AND_FOLDERS = (
    "line=$(printf '\\nx'); line=${line%x}; find . -xdev '(' -type f -xtype f -o -type d -xtype d ')' "
)
# A name with a newline in it could pose as another file's line: such files are read instead, and have their flags one by one.
_PLACES = _FILES_AND_FOLDERS + '! -path "*$line*" -print0 | xargs -0 -r filefrag -v --'
_FLAGS = (
    f"""{_FILES_AND_FOLDERS} ! -path "*$line*" -print0 | xargs -0 -r lsattr -d -p -v --; """
    f"""{_FILES_AND_FOLDERS} -path "*$line*" -printf '\\0%P\\0' -exec lsattr -d -p -v -- {{}} ';'"""
)
_SUBVOLUMES = "btrfs inspect-internal rootid . && btrfs subvolume get-default . && btrfs subvolume list -p -g -u -q ."
_NOTHING = ":"
# lists of which a part is no list
_COMPLETE = 5
_LIST = "/tmp/p2v-list"
_DIGESTS = "xargs -0 -r sha256sum -b -z -- < /tmp/p2v-names"


@dataclass(frozen=True, slots=True)
class WalkedFileSystem:
    """A file system to list: the appliance's ``device``, its kind, and what of it is mounted (``subvol=@``)."""

    device: str
    kind: str
    options: str = ""
    is_dirty: bool = False
    """Its journal had to be replayed, so that its structures cannot be compared as they stand."""

    @property
    def tells_places(self) -> bool:
        """Whether it says where on its device a file's contents stand."""
        return self.kind in _TELLS_PLACES

    @property
    def has_flags(self) -> bool:
        """Whether chattr's flags have to be listed: clean ext's are compared with all else that is in its inodes."""
        return self.kind in _HAVE_FLAGS or (self.is_dirty and self.kind in ext4_layout.KINDS)

    @property
    def keeps_inodes(self) -> bool:
        """Whether inode numbers are its own, and not made up while it is mounted."""
        return self.kind not in _FORGETS_INODES


@dataclass(frozen=True, slots=True)
class Walk:
    """File systems of one machine in a running appliance."""

    appliance: Appliance

    def listing(self, system: WalkedFileSystem, *, is_damaged: bool = False) -> Listing:
        """All names of a file system; where it ``is_damaged``, all that can be listed. Raises BadListing, ApplianceFailed."""
        self._mount(system)
        try:
            # what filefrag and lsattr cannot tell of a file is not known, and its contents are read; names must be complete
            wanted = [_NAMES, _KINDS, _DEVICE_NUMBERS, _ATTRIBUTES, _SUBVOLUMES if system.kind == "btrfs" else _NOTHING]
            wanted += [_FLAGS if system.has_flags else _NOTHING, _PLACES if system.tells_places else _NOTHING]
            complete = 0 if is_damaged else _COMPLETE
            names, kinds, numbers, attributes, subvolumes, flags, places = self._lists(wanted, complete)
            not_listed = self._not_listed() if is_damaged else ""
        finally:
            self.appliance.umount()
        entries = parse_entries(names, kinds, numbers, attributes, flags)
        return Listing(entries, parse_places(places), *_parse_subvolumes(subvolumes), not_listed=not_listed)

    def digests(self, system: WalkedFileSystem, paths: Sequence[str]) -> dict[str, str]:
        """SHA-256 (hexadecimal) of the contents of files; those that cannot be read are not there.

        Raises BadListing, ApplianceFailed.
        """
        if not paths:
            return {}
        self._mount(system)
        try:
            self._give(paths)
            return _parse_digests(self._lists([_DIGESTS])[0])
        finally:
            self.appliance.umount()

    def digest_of_beginning(self, system: WalkedFileSystem, path: str, length: int) -> str:
        """SHA-256 (hexadecimal) of a file's first bytes; empty where it cannot be read. Raises ApplianceFailed."""
        self._mount(system)
        try:
            self._give([path])
            script = f"cd /sysroot && xargs -0 -r head -q -c {length} -- < /tmp/p2v-names | sha256sum"
            return self._run(script).partition(" ")[0]
        finally:
            self.appliance.umount()

    def read(self, system: WalkedFileSystem, path: str, offset: int, length: int) -> bytes:
        """Bytes of one file. Raises FileNotFoundError where there is none, ApplianceFailed."""
        self._mount(system)
        try:
            return ApplianceTree(self.appliance).read_range(path, length, offset)
        finally:
            self.appliance.umount()

    def _mount(self, system: WalkedFileSystem) -> None:
        # the copy of a file system has its UUID, which XFS would refuse while the kernel remembers the other
        of_kind = {"xfs": ["nouuid"], "ntfs": [NTFS_OWNERS]}.get(system.kind, [])
        options = ["ro", "noatime", *of_kind, *filter(None, [system.options])]
        try:
            self.appliance.call("mount_options", ",".join(options), system.device, "/")
        except ApplianceStopped:
            raise
        except ApplianceFailed as error:
            raise BadListing(f"it cannot be mounted: {error.message}") from error

    def _lists(self, scripts: Sequence[str], complete: int = 0) -> list[bytes]:
        """What each script prints; they run at the same time. Of the first ``complete`` any error raises BadListing."""
        files = [f"{_LIST}{number}" for number in range(len(scripts))]
        jobs = "".join(
            f"({{ {script}; echo $? >{file}-status; }} 2>{file}-errors | gzip -1 >{file}) & "
            for script, file in zip(scripts, files, strict=True)
        )
        statuses = "".join(f"cat {file}-status; " for file in files[:complete])
        said = self._run(f"cd /sysroot && {{ {jobs} wait; stat -c %s {' '.join(files)}; {statuses} }}").split()
        sizes, ended = said[: len(files)], said[len(files) :]
        if len(sizes) != len(files) or len(ended) != complete or not all(number.isdigit() for number in said):
            raise ApplianceFailed("list the guest's files", " ".join(said) or "it said nothing")
        for file, status in zip(files[:complete], ended, strict=True):
            if status != "0":
                raise BadListing(f"it cannot be listed whole: {self._run(f'tail -c 300 {file}-errors')}")
        return [self._unpacked(file, int(size)) for file, size in zip(files, sizes, strict=True)]

    def _not_listed(self) -> str:
        """A digest of what the lists that are to be complete said was wrong, in no matter what order; empty: nothing."""
        errors = " ".join(f"{_LIST}{number}-errors" for number in range(_COMPLETE))
        count, _, digest = self._run(f"cat {errors} | wc -l; cat {errors} | LC_ALL=C sort | sha256sum").partition("\n")
        return "" if count.strip() == "0" else digest.strip()

    def _unpacked(self, file: str, size: int) -> bytes:
        packed = b"".join(self._fetched(file, size))
        unpacker = zlib.decompressobj(wbits=31)
        try:
            text = unpacker.decompress(packed, _LISTING_BYTES)
        except zlib.error as error:
            raise BadListing(f"what the appliance packed cannot be unpacked: {error}") from error
        if not unpacker.eof:
            raise BadListing(f"a list of more than {_LISTING_BYTES} bytes, or one that is cut off")
        return text

    def _fetched(self, file: str, size: int) -> Iterator[bytes]:
        if size > _LISTING_BYTES:
            raise BadListing(f"a list of {size} bytes")
        for number in range(-(-size // _PIECE_BYTES)):
            said = self._run(f"dd if={file} bs={_PIECE_BYTES} skip={number} count=1 2>/dev/null | base64 -w0")
            try:
                yield base64.b64decode(said, validate=True)
            except ValueError as error:
                raise BadListing("a piece of a list is no base64") from error

    def _give(self, paths: Iterable[str]) -> None:
        """Names to the appliance, each ended by NUL."""
        names = b"".join(b"." + os.fsencode(path) + b"\0" for path in paths)
        self._run(": >/tmp/p2v-names")
        for start in range(0, len(names), _GIVEN_BYTES):
            piece = base64.b64encode(names[start : start + _GIVEN_BYTES]).decode()
            self._run(f"echo {piece} | base64 -d >>/tmp/p2v-names")

    def _run(self, script: str) -> str:
        return str(self.appliance.call("debug", "sh", [script], seconds=WALK_SECONDS)).strip()


def _parse_subvolumes(text: bytes) -> tuple[int, tuple[str, ...]]:
    """The number of the one that is mounted, and lines that tell of all."""
    if not text:
        return 0, ()
    own, *lines = text.decode("utf-8", "surrogateescape").split("\n")
    if not own.isdigit():
        raise BadListing(f"a subvolume has the number {own[:100]!a}")
    return int(own), tuple(filter(None, lines))


def _parse_digests(text: bytes) -> dict[str, str]:
    found = {}
    for line in text.split(b"\0"):
        digest, mark, path = line.partition(b" *")
        if not line:
            continue
        if not mark or len(digest) != 64 or not path.startswith(b"./"):
            raise BadListing(f"a digest is none: {line[:100]!r}")
        found["/" + os.fsdecode(path[2:])] = digest.decode("ascii", "replace")
    return found
