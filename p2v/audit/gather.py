"""What there is to audit below the paths that a user names: descriptions, packages, inventories, loose disks."""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.formats import FORMATS
from p2v.audit.document import LeftAside
from p2v.audit.same_file import file_key
from p2v.core.errors import NoSource
from p2v.sources.recognition import may_describe

FILES_AT_MOST = 1_000_000
ADVICE = "Name disks, machines' descriptions, folders of both, block devices, or an RVTools export."
_ARCHIVES = (".ova", ".tar", ".tgz", ".tar.gz", ".zip")
# a name that is a disk image's; .gz, .tar and the like are looked into first
_DISKS = tuple(suffix for known in FORMATS for suffix in known.suffixes)
# optical discs are media, not machines; what is half written has no final name yet
_NOT_DISKS = (".iso", ".partial")
_INVENTORIES = (".xlsx", ".xls")


class SubjectKind(enum.Enum):
    """What a path is taken for until it was opened."""

    NAMED = "named"
    """What the user named himself: whatever it is, he wants to hear of it."""
    DESCRIPTION = "description"
    DISK = "disk"
    INVENTORY = "inventory"


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to look at. ``certain``: the user named it, so an answer is owed; otherwise its name alone suggests it."""

    path: Path
    kind: SubjectKind
    more: tuple[Path, ...] = ()
    """The further disks of the same machine, where the user says that they are."""

    @property
    def certain(self) -> bool:
        """Whether the user named it himself."""
        return self.kind is SubjectKind.NAMED


@dataclass(frozen=True, slots=True)
class Gathered:
    """Subjects in the order of their paths, and what was left aside with the reason."""

    subjects: tuple[Subject, ...]
    left_aside: tuple[LeftAside, ...] = ()
    unread: tuple[LeftAside, ...] = ()
    """Folders that were not walked, or not wholly: there may be machines in them."""


def gather(paths: Sequence[Path]) -> Gathered:
    """Walk what was named. Links to folders are not followed, so nothing is walked twice.

    Raises NoSource for a path that is not there. Folders that may not be entered are told of, with the reason.
    """
    subjects: list[Subject] = []
    aside: list[LeftAside] = []
    unread: list[LeftAside] = []
    for path in paths:
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            # a member of an archive is named by a path that is none
            if not any(above.is_file() for above in path.parents):
                raise NoSource(str(path), error.strerror or "cannot be looked at", ADVICE) from error
            mode = stat.S_IFREG
        if stat.S_ISDIR(mode):
            subjects += _below(path, unread)
        else:
            subjects.append(Subject(path, SubjectKind.NAMED))
    once = list(_once(subjects))
    return Gathered(tuple(_without_links(once, aside)), tuple(aside), tuple(unread))


def together(paths: Sequence[Path]) -> Gathered:
    """The one machine whose disks, in boot order, the paths are. Raises NoSource."""
    for path in paths:
        if not path.exists():
            raise NoSource(str(path), "is not there", ADVICE)
    return Gathered((Subject(paths[0], SubjectKind.NAMED, tuple(paths[1:])),))


def _once(subjects: Iterable[Subject]) -> Iterator[Subject]:
    """Each path once: what was named keeps that it was named."""
    best: dict[str, Subject] = {}
    for each in subjects:
        # by its folder's real place, its own name as it stands: a link to a disk is the disk under another name
        key = os.path.join(os.path.realpath(each.path.parent), each.path.name)
        known = best.get(key)
        if known is None or (each.certain and not known.certain):
            best[key] = each
    yield from best.values()


def _without_links(subjects: Sequence[Subject], aside: list[LeftAside]) -> Iterator[Subject]:
    """Without the loose disks that are another one under a second name, by a link of either kind."""
    disks = [each for each in subjects if each.kind is SubjectKind.DISK]
    first: dict[str, Subject] = {}
    for each in sorted(disks, key=lambda each: each.path.is_symlink()):
        first.setdefault(file_key(str(each.path)), each)
    for each in subjects:
        same = first[file_key(str(each.path))] if each.kind is SubjectKind.DISK else each
        if same is each:
            yield each
        else:
            aside.append(LeftAside(str(each.path), f"is the same file as {same.path}"))


def _below(folder: Path, unread: list[LeftAside]) -> Iterator[Subject]:
    names = _names(folder, unread)
    for each in may_describe(names):
        yield Subject(folder / each, SubjectKind.DESCRIPTION)
    for each in names:
        lower = each.lower()
        if lower.endswith(_NOT_DISKS):
            continue
        if lower.endswith(_INVENTORIES) or _is_export(lower):
            yield Subject(folder / each, SubjectKind.INVENTORY)
        elif lower.endswith((*_ARCHIVES, *_DISKS)):
            yield Subject(folder / each, SubjectKind.DISK)


def _is_export(lower: str) -> bool:
    """Whether a name is that of the table of machines among an RVTools export's CSV files."""
    return lower.endswith("vinfo.csv")


def _names(folder: Path, unread: list[LeftAside]) -> list[str]:
    names: list[str] = []

    def refused(error: OSError) -> None:
        unread.append(LeftAside(str(error.filename), error.strerror or "cannot be read"))

    for where, folders, files in os.walk(folder, onerror=refused):
        folders.sort()
        relative = os.path.relpath(where, folder)
        prefix = "" if relative == "." else f"{relative}/"
        names += [prefix + name for name in sorted(files) if _is_a_file(os.path.join(where, name))]
        if len(names) > FILES_AT_MOST:
            unread.append(LeftAside(str(folder), f"has more than {FILES_AT_MOST} files: the rest was not looked at"))
            break
    return names[:FILES_AT_MOST]


def _is_a_file(path: str) -> bool:
    """Whether it is a regular file (or leads to one): a pipe would never answer, and devices are audited when named."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
