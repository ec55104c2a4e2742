"""A machine's description as it was found: its bytes, and the files that belong to it.

Descriptions are hostile input like images are: sizes are limited, and a name in one is followed only below the machine's
own folder and folders the user allowed. What stands in an archive names members of the archive and nothing else.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol

from converters.archives import member_names, open_source_or_member
from converters.references import NOTHING_SAID, Lookup, named_file
from converters.source_file import SourceFile, open_source, shown
from p2v.core.errors import BadDescription, BadImage, ForbiddenReference, NoSource, P2vError
from p2v.core.units import MIB, format_bytes

# The largest real ones (an OVF with its resource strings, a .vbox with a long tree of snapshots) have a few hundred KiB.
LARGEST_BYTES = 4 * MIB
_NAMES_AT_MOST = 4096
_FOLDERS_DEEP = 3


class Surroundings(Protocol):
    """The files among which a description stands. Names are paths from the machine's folder, with ``/``."""

    @property
    def home(self) -> str:
        """The folder of the description itself among the names; empty for the machine's own."""
        ...

    def names(self) -> tuple[str, ...]:
        """Every file's name, sorted; of a large folder the first few thousand."""
        ...

    def find(self, name: str) -> Path | None:
        """What the description means by a name, as a path that ``open_disk`` takes; None where there is none.

        Raises ForbiddenReference for a name that leads elsewhere.
        """
        ...

    def read(self, name: str) -> bytes | None:
        """A small file, by a name of ``names``; None where there is none or it is too large for a description."""
        ...


@dataclass(frozen=True, slots=True)
class Description:
    """One description: where it is, what it says, what stands around it."""

    path: Path
    data: bytes
    around: Surroundings
    lookup: Lookup = NOTHING_SAID

    def error(self, problem: str, advice: str = "") -> BadDescription:
        """An error about it; ``problem`` is a clause about "it"."""
        return BadDescription(self.path, problem, advice) if advice else BadDescription(self.path, problem)

    @property
    def name(self) -> str:
        """Its own name among those around it."""
        return posixpath.join(self.around.home, self.path.name)

    def beside(self) -> tuple[str, ...]:
        """What stands in its own folder or below, by names from there."""
        home = f"{self.around.home}/" if self.around.home else ""
        return tuple(name.removeprefix(home) for name in self.around.names() if name.startswith(home))

    def disk(self, name: str) -> Path | None:
        """The disk a name in it means; None when it is not there. Raises ForbiddenReference."""
        return self.around.find(name)


@dataclass(frozen=True)
class Folder:
    """The folder of the host that is the machine's, below which its description and disks lie."""

    root: Path
    description: Path
    lookup: Lookup = NOTHING_SAID

    @cached_property
    def _walked(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        # once: a machine's disks are looked for one by one, and its folder may be somebody's home
        return tuple(_walk(self.root))

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(sorted(posixpath.join(folder, name) for folder, names in self._walked for name in names))

    @property
    def home(self) -> str:
        """See ``Surroundings``."""
        folder = self.description.parent
        place = folder.relative_to(self.root).as_posix() if folder.is_relative_to(self.root) else "."
        return "" if place == "." else place

    def names(self) -> tuple[str, ...]:
        """See ``Surroundings``. Links to other folders are not followed."""
        return self._names

    def find(self, name: str) -> Path | None:
        """See ``Surroundings``: beside the description, below the machine's folder, in the folders the user named."""
        below = tuple(self.root / folder for folder, names in self._walked if names)
        wider = Lookup(folders=(*self.lookup.folders, *below), allowed=self.lookup.allowed)
        return named_file(self.description, name, wider, (self.root,))

    def read(self, name: str) -> bytes | None:
        """See ``Surroundings``."""
        try:
            return read_small(self.root / name)
        except (BadDescription, NoSource):
            return None


@dataclass(frozen=True, slots=True)
class Members:
    """The members of an archive; ``folder`` is where the description stands in it (empty: at its top)."""

    archive: Path
    members: tuple[str, ...]
    folder: str = ""

    @property
    def home(self) -> str:
        """See ``Surroundings``."""
        return self.folder

    def names(self) -> tuple[str, ...]:
        """See ``Surroundings``."""
        return tuple(sorted(self.members))[:_NAMES_AT_MOST]

    def find(self, name: str) -> Path | None:
        """See ``Surroundings``: the member of that name, or the only one with that last name."""
        if not name or "\0" in name:
            raise ForbiddenReference(self.archive, f"names the file {shown(name)}, which is no name")
        place = name.replace("\\", "/")
        last = PureWindowsPath(name).name if "\\" in name else PurePosixPath(place).name
        exact = posixpath.normpath(posixpath.join(self.folder, place))
        if exact in self.members:
            return self.archive / exact
        same = [member for member in self.members if PurePosixPath(member).name == last]
        return self.archive / same[0] if len(same) == 1 else None

    def read(self, name: str) -> bytes | None:
        """See ``Surroundings``."""
        if name not in self.members:
            return None
        try:
            return read_small(self.archive / name)
        except (BadDescription, NoSource):
            return None


def read_small(path: Path) -> bytes:
    """The whole of a description, which may be a member of an archive.

    Raises NoSource, NotPermitted, ReadFailed, BadDescription (too large), BadImage (a damaged archive).
    """
    with closing(opened(path)) as file:
        if file.size > LARGEST_BYTES:
            problem = f"has {format_bytes(file.size)}; descriptions of machines have at most {format_bytes(LARGEST_BYTES)}"
            raise BadDescription(path, problem)
        return file.pread(file.size, 0)


def archived(archive: Path) -> tuple[str, ...] | None:
    """The members of an archive; None when the file is none. Raises NoSource, NotPermitted, ReadFailed, BadImage."""
    try:
        return member_names(archive)
    except BadImage:
        raise
    except P2vError:
        return None


def opened(path: Path) -> SourceFile:
    """A file, which may be a member of an archive. Raises NoSource, NotPermitted, ReadFailed, BadImage."""
    return open_source(path) if is_file(path) else open_source_or_member(path, _any)


def is_file(path: Path) -> bool:
    """Whether a regular file is there, as far as we may see."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _any(_file: SourceFile) -> bool:
    return True


def _walk(root: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Folders below ``root`` and the names of the files in them, a few levels deep and a few thousand names."""
    left = _NAMES_AT_MOST
    for folder, below, names in os.walk(root):
        place = os.path.relpath(folder, root)
        depth = 0 if place == "." else place.count(os.sep) + 1
        below[:] = sorted(below)[:left] if depth < _FOLDERS_DEEP else []
        found = tuple(sorted(names)[:left])
        left -= len(found)
        yield "" if place == "." else place.replace(os.sep, "/"), found
        if left <= 0:
            return
