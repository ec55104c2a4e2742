"""A file that was cut in parts (NAME.001, NAME.002, ...; an OVF's chunks NAME.000000000, ...) read as the whole it was.

The parts are joined before anything asks what the file is, so every format and every archive may come in parts.
"""

from __future__ import annotations

import itertools
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path, PurePosixPath

from converters import c_vhd
from converters.formats import FORMATS, Match, ends_of
from converters.references import open_part
from converters.source_file import NO_MORE_DATA, SourceFile
from p2v.core.disk import StoredAt
from p2v.core.errors import AmbiguousFormat, BadImage, ReadFailed

_FIRST_PART = re.compile(r"(.+)\.(00+[01])", re.DOTALL)
_PARTS_AT_MOST = 10_000
# So many numbers behind the last part are looked for, to tell a missing part from the end.
_LOOKED_AHEAD = 2


class JoinedFile(SourceFile):
    """Parts, one behind the other, as one source file below the first one's path; owns them. Safe for threads if they are."""

    def __init__(self, parts: tuple[SourceFile, ...], path: Path) -> None:
        super().__init__(path, -1, sum(p.size for p in parts), max(p.mtime_ns for p in parts), is_block_device=False)
        self._parts = parts
        self._begins: list[int] = []
        begin = 0
        for part in parts:
            self._begins.append(begin)
            begin += part.size

    @property
    def parts(self) -> tuple[SourceFile, ...]:
        """The parts in order."""
        return self._parts

    @property
    def host_path(self) -> Path:
        """The file on the host that holds the first part."""
        return self._parts[0].host_path

    @property
    def host_sources(self) -> tuple[SourceFile, ...]:
        """Those of all parts."""
        return tuple(source for part in self._parts for source in part.host_sources)

    def next_data(self, offset: int) -> tuple[int, int] | None:
        """As the parts' file systems tell; a part of which nothing is told is all data."""
        for part, begin, within in self._from(offset):
            found = part.next_data(within)
            start, end = (within, part.size) if found is None else found
            if start < part.size:
                return begin + start, begin + min(end, part.size)
        return NO_MORE_DATA

    def places(self, offset: int, length: int) -> Iterator[tuple[int, StoredAt | None]]:
        """Those in the parts, one behind the other."""
        for part, _, within in self._from(offset):
            if length <= 0:
                return
            count = min(length, part.size - within)
            yield from part.places(within, count)
            length -= count

    def pread(self, length: int, offset: int) -> bytes:
        """See ``SourceFile.pread``."""
        found = []
        for part, _, within in self._from(offset):
            if length <= 0:
                break
            count = min(length, part.size - within)
            data = part.pread(count, within)
            if len(data) != count:
                raise ReadFailed(str(part.path), f"was cut while it was open: byte {within + len(data)} of {part.size} is gone")
            found.append(data)
            length -= count
        return b"".join(found)

    def close(self) -> None:
        """Close all parts."""
        for part in self._parts:
            part.close()

    def _from(self, offset: int) -> Iterator[tuple[SourceFile, int, int]]:
        """Parts from an offset on: the part, where it begins, and where in it to go on."""
        if offset >= self.size:
            return
        for index in range(bisect_right(self._begins, offset) - 1, len(self._parts)):
            begin = self._begins[index]
            yield self._parts[index], begin, max(0, offset - begin)


def joined_beside(file: SourceFile) -> SourceFile:
    """The whole of which a file of the host is the first part, with the parts beside it; the file itself if it is none.

    Takes over ``file`` on success. Raises BadImage for parts that do not fit together, AmbiguousFormat, ForbiddenReference, and
    what opening a file raises.
    """
    if file.is_block_device or file.path != file.host_path:
        return file
    return joined(
        file,
        file.path.name,
        lambda name: os.path.lexists(file.path.with_name(name)),
        lambda name: open_part(file, name),
    )


def following_parts(first: str) -> Iterator[str]:
    """The names of the parts behind the first, without end."""
    match = _FIRST_PART.fullmatch(first)
    if match is not None:
        for number in itertools.count(int(match[2]) + 1):
            yield f"{match[1]}.{number:0{len(match[2])}d}"


def joined(
    first: SourceFile, name: str, is_there: Callable[[str], bool], open_part: Callable[[str], SourceFile]
) -> SourceFile:
    """As ``joined_beside``, for a first part called ``name`` among others that ``is_there`` and ``open_part`` know."""
    match = _FIRST_PART.fullmatch(name)
    if match is None:
        return first
    _refuse_second_part(first, match, is_there)
    parts = [first]
    names = following_parts(name)
    with ExitStack() as on_failure:
        for following in names:
            if not is_there(following):
                break
            _require_length(parts[-1], len(parts), first, exactly=True)
            if len(parts) == _PARTS_AT_MOST:
                raise BadImage(first.path, f"has more than {_PARTS_AT_MOST} parts")
            parts.append(open_part(following))
            on_failure.callback(parts[-1].close)
            _require_length(parts[-1], len(parts), first, exactly=False)
        if any(is_there(ahead) for ahead in itertools.islice(names, _LOOKED_AHEAD)):
            raise BadImage(first.path, f"is the first part of a split file, of which {PurePosixPath(following).name} is missing")
        if len(parts) == 1:
            return first
        _refuse_disks_of_their_own(first, parts[1])
        on_failure.pop_all()
    return JoinedFile(tuple(parts), first.path / PurePosixPath(match[1]).name)


def _refuse_second_part(first: SourceFile, match: re.Match[str], is_there: Callable[[str], bool]) -> None:
    before = f"{match[1]}.{'0' * len(match[2])}"
    if int(match[2]) == 1 and is_there(before):
        name = PurePosixPath(before).name
        raise BadImage(first.path, f"is the second part of a split file, which begins with {name}", f"Name {name}.")


def _require_length(part: SourceFile, number: int, first: SourceFile, *, exactly: bool) -> None:
    """The last part may be shorter than the first, no other, and none may be longer or empty."""
    if part.size == 0:
        raise BadImage(part.path, f"is part {number} of a split file and is empty")
    if part.size > first.size or (exactly and part.size != first.size):
        problem = f"is part {number} of a split file and has {part.size} bytes instead of {first.size}"
        raise BadImage(part.path, problem, "Every part but the last is as long as the first.")


def _refuse_disks_of_their_own(first: SourceFile, second: SourceFile) -> None:
    """Copies of a disk may be numbered as well; then the second has a header or footer as the first has."""
    # where a disk is a multiple of the parts, a fixed VHD's footer is a part by itself
    found = _container(second) if second.size > c_vhd.FOOTER_BYTES else None
    # The last part of a split VHD ends with the disk's footer; only where the first ends with one too it is another disk's.
    if found is None or (not _container(second, head_only=True) and _container(first) != found):
        return
    problem = f"is called as the first part of a split file, but {second.path.name} looks like a disk of its own: {found.why}"
    raise AmbiguousFormat(first.path, problem, "Give the disk a name that does not end with a number, if it is whole.")


def _container(file: SourceFile, *, head_only: bool = False) -> Match | None:
    ends = ends_of(file)
    if head_only:
        ends = replace(ends, tail=b"")
    matches = (known.probe(ends) for known in FORMATS if known.is_container)
    return next((match for match in matches if match is not None), None)
