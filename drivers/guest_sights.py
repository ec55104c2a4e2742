"""What an audit looks at inside a Linux guest besides its facts: programs, lines that go by the machine, files nobody may change.

Facts hold what planning needs; nothing here changes a plan. Of a Windows its facts tell all that is told of it here too
(``drivers.programs.programs_of_windows``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from drivers.confinement import DEFAULT_LIMITS, Limits, confined, disks_name
from drivers.hard_names import SeenLine, find_lines
from drivers.inode_flags import InodeFlags
from drivers.inspection import open_linux
from drivers.linux import paths, reading, rpm_database
from drivers.linux.network import network_texts
from drivers.linux.packages import DPKG_STATUS, installed_packages
from drivers.offline import OfflineTree
from drivers.program_catalogue import PROGRAMS
from drivers.programs import FoundProgram, programs_of_linux
from drivers.tree import GuestTree
from p2v.core import jsonio
from p2v.core.disk import DiskReader
from p2v.core.errors import ReaderCrashed

FLAGGED_AT_MOST = 100
_LOOKED_AT_AT_MOST = 2000
_DATABASES = (
    DPKG_STATUS, *(f"{folder}/{name}" for folder in rpm_database.FOLDERS for name in ("rpmdb.sqlite", "Packages.db", "Packages")),
    "/lib/apk/db/installed", "/usr/lib/apk/db/installed", "/var/lib/pacman/local", "/var/db/pkg", "/var/db/xbps",
    "/var/lib/pkgtools/packages", "/var/log/packages",
)  # fmt: skip
# what plans append to, and folders that they make names in
_CHANGED = ("/boot/init*", "/boot/*.img", "/boot/loader/entries/*")

Flags = Callable[[str], str | None]
"""From a resolved path to the letters of ``InodeFlags.letters``."""


@dataclass(frozen=True, slots=True)
class FlaggedFile:
    """A file or folder that plans may change, and its flags: ``i`` (immutable), ``a`` (append only), or both."""

    path: str
    flags: str


@dataclass(frozen=True, slots=True)
class GuestSights:
    """What was seen. ``is_seen``: a Linux was there and could be looked at; without that all else is empty.

    ``packages``: how many are installed, by ``database``; 0: no list of them could be read. ``lines_left_out``: files that were not
    looked into for want of room. ``flagged``: of the files that plans change. ``flags_unread``: why they could not be told.
    """

    is_seen: bool = False
    packages: int = 0
    database: str = ""
    programs: tuple[FoundProgram, ...] = ()
    lines: tuple[SeenLine, ...] = ()
    lines_left_out: int = 0
    flagged: tuple[FlaggedFile, ...] = ()
    flags_unread: str = ""


def look_confined(
    readers: Sequence[DiskReader], limits: Limits = DEFAULT_LIMITS, keep_fds: Sequence[int] = ()
) -> GuestSights:
    """``look_at`` in a child without privileges (see ``confined``). Raises ReaderCrashed."""
    data = confined(lambda disks: encoded(look_at(disks)), readers, limits=limits, keep_fds=keep_fds)
    return decoded(data, disks_name(readers))


def look_at(readers: Sequence[DiskReader]) -> GuestSights:
    """Look into the one Linux on these disks, by the readers of this host; inside ``confined`` only."""
    return look_over_host(open_linux(readers))


def look_over_host(tree: OfflineTree | None) -> GuestSights:
    """The same once its files are open; None where no Linux was found."""
    return look_over(tree, InodeFlags(tree).letters) if tree is not None else GuestSights()


def look_over(tree: GuestTree, flags: Flags | None = None) -> GuestSights:
    """The same over a tree that is mounted already. ``flags``: None where whoever reads it cannot tell them."""
    packages = installed_packages(tree)
    database = next((path for path in _DATABASES if tree.exists(path)), "")
    lines = find_lines(tree)
    flagged, unread = (
        _flagged(tree, flags) if flags is not None else ((), "whoever read it cannot tell the flags of files")
    )
    return GuestSights(
        is_seen=True,
        packages=len(packages),
        database=database,
        programs=programs_of_linux(tree, PROGRAMS, packages, database),
        lines=lines.lines,
        lines_left_out=lines.left_out,
        flagged=flagged,
        flags_unread=unread,
    )


def encoded(sights: GuestSights) -> Any:
    """Plain JSON data."""
    return jsonio.encode(jsonio.converter(), sights)


def decoded(data: Any, name: str) -> GuestSights:
    """What JSON data says was seen. Raises ReaderCrashed where it is none: a child may have been taken over."""
    try:
        return jsonio.decode(jsonio.converter(), data, GuestSights)
    except jsonio.BadDocument as error:
        raise ReaderCrashed(name, f"gave sights that are none: {str(error)[:200]}") from error


def _flagged(tree: GuestTree, flags: Flags) -> tuple[tuple[FlaggedFile, ...], str]:
    found: list[FlaggedFile] = []
    unread = 0
    looked_at = tuple(_may_be_changed(tree))
    for path in looked_at:
        letters = flags(path)
        if letters is None:
            unread += 1
        elif letters and len(found) < FLAGGED_AT_MOST:
            found.append(FlaggedFile(path, letters))
    # vfat has none: what stands on it, the boot loader's files for EFI, says nothing about the rest
    is_told = unread < len(looked_at) or not looked_at
    return tuple(found), "" if is_told else "its file system does not tell the flags of files"


def _may_be_changed(tree: GuestTree) -> Sequence[str]:
    """Resolved paths of what planning reads to change it, and of the folders above."""
    patterns = (*reading.TEXTS, *reading.FOLDERS, *_CHANGED)
    named = [path for pattern in patterns for path in paths.matching(tree, pattern)]
    named += [file.path for file in network_texts(tree)]
    found: dict[str, None] = {}
    for path in islice(dict.fromkeys(named), _LOOKED_AT_AT_MOST):
        resolved = paths.resolve(tree, path)
        if resolved is not None:
            found |= {resolved: None, resolved.rpartition("/")[0] or "/": None}
    return tuple(found)
