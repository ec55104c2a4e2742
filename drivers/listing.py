"""What a file system holds, as an appliance tells it: names with all that is recorded of them, and where contents stand.

The lists are made by programs of the appliance (``drivers/walk.py``); here they are parsed. They speak of hostile file
systems: anything that does not fit raises ``BadListing``, and no name is taken apart by what it contains.
"""

from __future__ import annotations

import os
import posixpath
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

NAMES_AT_MOST = 5_000_000
_STAT = re.compile(
    rb"(?P<inode>\d{1,20}) (?P<type>[-bcdlpsD])\S* (?P<mode>[0-7]{1,6}) "
    rb"(?P<uid>\d{1,20}) (?P<gid>\d{1,20}) (?P<links>\d{1,20}) (?P<size>\d{1,20}) "
    rb"(?P<atime>-?[\d.]{1,40}) (?P<mtime>-?[\d.]{1,40}) (?P<ctime>-?[\d.]{1,40}) (?P<device>\d{1,20})/(?P<path>.*)",
    re.DOTALL,
)
_FLAGS = re.compile(rb" *(\d{1,20}) +(\d{1,20}) +([-A-Za-z]{1,40}) (.*)", re.DOTALL)
# That contents stand in extents or in the inode, and that names have an index, the file system decides by itself.
_OWN_FLAGS = str.maketrans("", "", "-eIN")
_EXTENT = re.compile(rb" *\d{1,20}: *(\d{1,20})\.\. *(\d{1,20}): *(\d{1,20})\.\. *(\d{1,20}): *(\d{1,20}):(?: *\d{1,20}:)? *(.*)")
_FILE = re.compile(rb"File size of (.*) is \d{1,20} \(\d{1,20} blocks? of (\d{1,9}) bytes\)", re.DOTALL)
_COUNTED = re.compile(rb".*: \d{1,20} extents? found", re.DOTALL)
# where such an extent stands, its bytes do not: they are packed with others, encrypted by the file system, or nowhere yet
_ELSEWHERE = (b"inline", b"not_aligned", b"encoded", b"encrypted", b"tail_packed", b"delalloc", b"unknown_loc")


class BadListing(ValueError):
    """A list says what no file system can say."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A name and what is recorded of it.

    ``path``: from the root of its file system, ``/`` first, undecodable bytes as surrogates. ``type``: a letter of find's
    ``%y``; ``shown`` the same as its folder says it, where it contradicts the inode. Times in seconds with their fraction, as
    text, so that nothing is rounded. ``number``: of a device file, hexadecimal ``major:minor``.
    ``attributes``: extended ones, ACLs among them, values in hexadecimal. ``flags``,
    ``project`` and ``generation``: lsattr's, of files and folders.
    """

    path: str
    type: str
    mode: int
    uid: int
    gid: int
    links: int
    size: int
    inode: int
    atime: str
    mtime: str
    ctime: str
    target: str = ""
    number: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    flags: str = ""
    project: str = ""
    generation: str = ""
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """``length`` bytes of a file's contents that stand ``offset`` bytes into its file system's device.

    ``is_unwritten``: there is room for them, and zeroes are read.
    """

    logical: int
    offset: int
    length: int
    is_unwritten: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """A file system's names. ``places``: where the contents of files and folders stand; a path that is not there has its
    contents somewhere that is not known (in its inode, packed, or in a file system that does not tell).
    """

    entries: Mapping[str, Entry]
    places: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    subvolume: int = 0
    subvolumes: tuple[str, ...] = ()
    """Of Btrfs: the number of this one, and lines that tell of all."""
    not_listed: str = ""
    """Of a damaged file system: a digest of what was said of names that could not be listed; empty when all were."""

    def folder_of(self, path: str) -> Entry | None:
        """The folder that holds a name."""
        return self.entries.get(posixpath.dirname(path))

    def names_of(self, inode: int) -> tuple[str, ...]:
        """All names of one inode."""
        return tuple(path for path, entry in self.entries.items() if entry.inode == inode)


def parse_entries(stats: bytes, kinds: bytes, numbers: bytes, attributes: bytes, flags: bytes = b"") -> dict[str, Entry]:
    """Names by their path, from the lists of ``drivers.walk``. Raises BadListing."""
    of_devices, shown = _numbers(numbers), _kinds(kinds)
    extended, flagged = _attributes(attributes), _flags(flags)
    found: dict[str, Entry] = {}
    device = None
    fields = stats.split(b"\0")
    if fields.pop() or len(fields) % 2:
        raise BadListing("the list of names is cut off")
    if len(fields) // 2 > NAMES_AT_MOST:
        raise BadListing(f"it has more than {NAMES_AT_MOST} names")
    for line, target in zip(fields[::2], fields[1::2], strict=True):
        match = _STAT.fullmatch(line)
        if match is None:
            raise BadListing(f"a line is none: {line[:100]!r}")
        device = device or match["device"]
        if match["device"] != device:
            continue  # what is mounted there is looked at by itself
        path = "/" + os.fsdecode(match["path"])
        if path in found:
            raise BadListing(f"the name {path!a} is there twice")
        kind = match["type"].decode().replace("-", "f")
        letters = flagged.get(path, ("", "", ""))
        found[path] = Entry(
            path, kind, int(match["mode"], 8), int(match["uid"]), int(match["gid"]),
            int(match["links"]), int(match["size"]), int(match["inode"]),
            match["atime"].decode(), match["mtime"].decode(), match["ctime"].decode(),
            os.fsdecode(target), of_devices.get(path, ""), extended.get(path, ()),
            *letters, shown[path] if shown.get(path, kind) != kind else "",
        )  # fmt: skip
    return found


def _kinds(text: bytes) -> dict[str, str]:
    """What folders say of their names' kinds: a letter and the path, ended by NUL."""
    return {"/" + os.fsdecode(line[1:]): line[:1].decode("ascii", "replace") for line in text.split(b"\0") if line}


def _numbers(text: bytes) -> dict[str, str]:
    """Device files' numbers: ``major:minor ./path`` each, ended by NUL."""
    found = {}
    for line in text.split(b"\0"):
        number, blank, path = line.partition(b" ")
        if blank:
            found[_path(path)] = number.decode("ascii", "replace")
    return found


def _flags(text: bytes) -> dict[str, tuple[str, str, str]]:
    """What ``lsattr -p -v`` prints: project, generation, letters, the path; NUL and the path around those with a newline in it."""
    found = {}
    plain, *others = text.split(b"\0")
    for line in filter(None, plain.split(b"\n")):
        match = _flag_line(line)
        found[_path(match[4])] = _letters(match)
    if len(others) % 2:
        raise BadListing("the list of flags is cut off")
    for path, line in zip(others[::2], others[1::2], strict=True):
        if line:  # else it has none
            found[_path(path)] = _letters(_flag_line(line))
    return found


def _flag_line(line: bytes) -> re.Match[bytes]:
    match = _FLAGS.fullmatch(line)
    if match is None:
        raise BadListing(f"a line of flags is none: {line[:100]!r}")
    return match


def _letters(match: re.Match[bytes]) -> tuple[str, str, str]:
    return match[3].decode("ascii").translate(_OWN_FLAGS), match[1].decode("ascii"), match[2].decode("ascii")


def _attributes(text: bytes) -> dict[str, tuple[tuple[str, str], ...]]:
    """What getfattr dumps: blocks of ``# file: NAME`` and ``name=0xVALUE`` lines; newlines in names are escaped by it."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for block in text.split(b"\n\n"):
        lines = [line for line in block.split(b"\n") if line]
        if not lines:
            continue
        if not lines[0].startswith(b"# file: "):
            raise BadListing(f"attributes of nothing: {lines[0][:100]!r}")
        pairs = (line.partition(b"=") for line in lines[1:])
        path = _path(_unescaped(lines[0].removeprefix(b"# file: ")))
        found[path] = tuple(sorted((os.fsdecode(name), value.decode("ascii", "replace")) for name, _, value in pairs))
    return found


def _unescaped(text: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8) & 0xFF]), text)


def _path(relative: bytes) -> str:
    return "/" + os.fsdecode(relative.removeprefix(b".").removeprefix(b"/"))


def parse_places(text: bytes) -> dict[str, tuple[Place, ...]]:
    """Where contents stand, from ``filefrag -v``. Raises BadListing.

    A file is left out when any extent of it stands nowhere plainly. Sources: filefrag(8), the kernel's fiemap.rst.
    """
    found: dict[str, tuple[Place, ...]] = {}
    for header, lines in _files(text):
        path, block_bytes = header
        places = _extents(lines, block_bytes)
        if places is not None:
            found[path] = places
    return found


def _files(text: bytes) -> Iterator[tuple[tuple[str, int], list[bytes]]]:
    """What is told of each file to its end; one that is left without a count could not be looked at."""
    header: tuple[str, int] | None = None
    lines: list[bytes] = []
    for line in text.split(b"\n"):
        if line.startswith(b"File size of "):
            match = _FILE.fullmatch(line)
            if match is None or not int(match[2]):
                raise BadListing(f"a file's line is none: {line[:100]!r}")
            header, lines = (_path(match[1]), int(match[2])), []
        elif line.startswith(b" "):
            lines.append(line)
        elif header is not None and _COUNTED.match(line):
            yield header, lines
            header = None


def _extents(lines: Sequence[bytes], block_bytes: int) -> tuple[Place, ...] | None:
    found = []
    for line in lines:
        if line.startswith(b" ext:"):
            continue
        match = _EXTENT.fullmatch(line)
        if match is None:
            raise BadListing(f"an extent is none: {line[:100]!r}")
        if any(flag in match[6] for flag in _ELSEWHERE):
            return None
        first, last, physical, _, blocks = (int(match[number]) for number in range(1, 6))
        if last - first + 1 != blocks:
            raise BadListing(f"an extent's numbers contradict each other: {line[:100]!r}")
        found.append(Place(first * block_bytes, physical * block_bytes, blocks * block_bytes, b"unwritten" in match[6]))
    return tuple(found)


class Runs:
    """Ranges (offset, length) that can be asked whether a range touches any of them."""

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        self._ranges = sorted(ranges)
        self._starts = [start for start, _ in self._ranges]

    def touched(self, offset: int, length: int) -> bool:
        """Whether any byte of the range is in one."""
        index = bisect_right(self._starts, offset + length - 1) - 1
        # ranges do not overlap, so the last one that begins before the end is the only one that matters
        return index >= 0 and sum(self._ranges[index]) > offset
