"""What a plan's changes leave behind, name by name, and whether what differs in a guest is that and nothing else. Pure.

A plan names paths of the guest's tree; differences are told by file system. ``Outcomes`` are given with the paths that the file
system has itself, one of them for each file system that is looked at.
"""

from __future__ import annotations

import enum
import hashlib
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from drivers.access_lists import ACCESS_LIST, DEFAULT_LIST, inherited
from drivers.changes import (
    CarryFile,
    Change,
    CopyFile,
    DeleteFile,
    DeleteSymlink,
    DiscardHibernation,
    EditBootSector,
    EditFile,
    EditHive,
    ExtendInitramfs,
    MakeSymlink,
    WriteFile,
    summary,
)
from drivers.differences import CONTENTS, Difference, words
from drivers.expectations import encoded, parents
from drivers.listing import Entry, Listing
from drivers.windows.reg_text import in_short

_SELINUX = "security.selinux"
_EDITS_NAMED = 20
_FOLDER_MODE = 0o755
# what writing a file's contents changes of its inode
_OF_WRITING = frozenset({"size", "mtime", "ctime", CONTENTS})
_OF_NAMES_IN_FOLDER = frozenset({"size", "mtime", "ctime"})
_OF_LOSING_A_NAME = frozenset({"links", "ctime"})
# the same lists, shown by XFS under the names of what it keeps them in
_MIRRORED = {ACCESS_LIST: "trusted.SGI_ACL_FILE", DEFAULT_LIST: "trusted.SGI_ACL_DEFAULT"}
# flags that a folder does not hand on
_NOT_HANDED_ON = frozenset("ai")


class Fate(enum.Enum):
    """What becomes of a name."""

    FILE = "a new file"
    FOLDER = "a new folder"
    LINK = "a new link"
    CONTENTS = "other contents"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What stands at a path when all changes are made. ``why``: the changes that do it, each as ``summary`` says it.

    ``sha256`` of the contents; None where they are told otherwise (an extended initramfs, an edited hive). ``replaces``: what stood
    there was removed first.
    """

    fate: Fate
    why: tuple[str, ...]
    sha256: str | None = None
    mode: int = 0
    target: str = ""
    extends: ExtendInitramfs | None = None
    edits: EditHive | None = None
    replaces: bool = False


@dataclass
class Outcomes:
    """Outcomes by path. ``entered``: folders in which names appear or vanish."""

    of: dict[str, Outcome] = field(default_factory=dict)
    entered: set[str] = field(default_factory=set)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Explained:
    """A difference that a change accounts for. ``is_new``: what stands there was made, also where something stood before."""

    path: str
    what: str
    why: str
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Unexplained:
    """Something that no change accounts for, or that a change should have done and did not."""

    path: str
    problem: str


def outcomes(changes: Iterable[Change], before: Listing, labels: Mapping[str, str]) -> Outcomes:
    """What the changes, made in order, leave in a file system that holds ``before``."""
    found = Outcomes(labels=labels)
    for change in changes:
        _add(found, change, before)
    return found


def _add(found: Outcomes, change: Change, before: Listing) -> None:
    path, why = change.path, summary(change)
    old = found.of.get(path)
    reasons = (*(old.why if old else ()), why)
    removed = old is not None and (old.replaces or old.fate is Fate.GONE)
    match change:
        case WriteFile(content=content, mode=mode):
            outcome = Outcome(Fate.FILE, reasons, _sha256(encoded(content)), mode, replaces=removed)
        case CopyFile(sha256=sha256, mode=mode) | CarryFile(sha256=sha256, mode=mode):
            outcome = Outcome(Fate.FILE, reasons, sha256, mode, replaces=removed)
        case EditFile(after=after):
            outcome = Outcome(Fate.CONTENTS, reasons, _sha256(encoded(after)))
            if old is not None and old.fate is Fate.FILE:
                # a file that an earlier change made stays one that is new
                outcome = replace(old, why=reasons, sha256=outcome.sha256)
        case ExtendInitramfs():
            outcome = Outcome(Fate.CONTENTS, reasons, extends=change)
        case EditHive(edits=edits):
            named = tuple(in_short(edit) for edit in edits[:_EDITS_NAMED])
            more = (f"and {len(edits) - _EDITS_NAMED} more",) if len(edits) > _EDITS_NAMED else ()
            outcome = Outcome(Fate.CONTENTS, (*reasons, *named, *more), edits=change)
        case MakeSymlink(target=target, replaces=replaced):
            outcome = Outcome(Fate.LINK, reasons, target=target, replaces=removed or replaced is not None)
        case DeleteFile() | DeleteSymlink() | DiscardHibernation():
            outcome = Outcome(Fate.GONE, reasons)
        case EditBootSector():
            # NTFS lists no files of its own; that change is read back where it is made
            return
    found.of[path] = outcome
    if outcome.fate is Fate.CONTENTS:
        return
    found.entered.add(posixpath.dirname(path))
    if outcome.fate is not Fate.GONE:
        _add_folders(found, path, reasons, before)


def _add_folders(found: Outcomes, path: str, why: tuple[str, ...], before: Listing) -> None:
    for folder in parents(path):
        if folder not in before.entries and folder not in found.of:
            found.of[folder] = Outcome(Fate.FOLDER, why, mode=_FOLDER_MODE)
            found.entered.add(posixpath.dirname(folder))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Account:
    """Differences held against outcomes."""

    explained: tuple[Explained, ...]
    unexplained: tuple[Unexplained, ...]


@dataclass(frozen=True, slots=True)
class Accounting:
    """Everything that is needed to tell: listings before and after, and digests of what was read after."""

    planned: Outcomes
    before: Listing
    after: Listing
    digests: Mapping[str, str]
    extended: frozenset[str] = frozenset()
    """Images that begin as they were and have behind that what was planned, and nothing else."""
    edited: frozenset[str] = frozenset()
    """Hives that hold what they held, but for what was planned."""
    has_owners: bool = True
    """Whether the file system keeps owners and modes; FAT does not."""
    _renamed: set[str] = field(default_factory=set)
    """Folders in which planned names differ."""

    def account(self, found: Sequence[Difference]) -> Account:
        """Hold differences against what was planned."""
        self._renamed.update(
            posixpath.dirname(d.path) for d in found if d.path in self.planned.of and _is_another_name(d)
        )
        explained: list[Explained] = []
        unexplained: list[Unexplained] = []
        for difference in found:
            problems = self._problems(difference)
            unexplained += [Unexplained(difference.path, problem) for problem in problems]
            if not problems:
                explained.append(self._explained(difference))
        seen = {difference.path for difference in found}
        unexplained += [
            Unexplained(path, f"is not as planned: {outcome.fate.value} ({'; '.join(outcome.why)})")
            for path, outcome in self.planned.of.items()
            if path not in seen and not self._stands(path, outcome)
        ]
        return Account(tuple(explained), tuple(unexplained))

    def _stands(self, path: str, outcome: Outcome) -> bool:
        """Whether a path that does not differ is as the changes leave it: they were made before, or had nothing to do."""
        entry = self.after.entries.get(path)
        match outcome.fate:
            case Fate.GONE:
                return entry is None
            case Fate.LINK:
                return entry is not None and entry.target == outcome.target
            case Fate.FOLDER:
                return entry is not None and entry.type == "d"
            case Fate.FILE | Fate.CONTENTS:
                if outcome.extends is not None:
                    return path in self.extended
                if outcome.edits is not None:
                    return path in self.edited
                return entry is not None and outcome.sha256 is not None and self.digests.get(path) == outcome.sha256

    def _explained(self, difference: Difference) -> Explained:
        outcome = self.planned.of.get(difference.path)
        if outcome is not None:
            is_new = outcome.fate in (Fate.FILE, Fate.FOLDER, Fate.LINK)
            return Explained(difference.path, outcome.fate.value, "; ".join(outcome.why), is_new)
        if difference.before is not None and difference.before.type == "d":
            return Explained(difference.path, "names in it", "changes of what is in it")
        return Explained(difference.path, "another name of the same file", "a change of its other name")

    def _problems(self, difference: Difference) -> list[str]:
        old, new = difference.before, difference.after
        outcome = self.planned.of.get(difference.path)
        if old is None and new is not None:
            return self._of_new(new, outcome)
        if new is None:
            return [] if outcome is not None and outcome.fate is Fate.GONE else ["is gone, and nobody planned that"]
        if old is not None and outcome is not None and outcome.replaces and not _stood(old, outcome):
            # a link that another takes the place of
            return self._of_new(new, outcome)
        return self._of_changed(difference, outcome)

    def _of_new(self, new: Entry, outcome: Outcome | None) -> list[str]:
        kinds = {Fate.FILE: "f", Fate.FOLDER: "d", Fate.LINK: "l"}
        if outcome is None or outcome.fate not in kinds:
            return ["is new, and nobody planned it"]
        problems = []
        if new.type != kinds[outcome.fate]:
            problems.append(f"is of kind {new.type!r} instead of {outcome.fate.value}")
        if self.has_owners and new.type != "l" and new.mode != outcome.mode:
            problems.append(f"has the mode {new.mode:04o} instead of {outcome.mode:04o}")
        if self.has_owners and (new.uid, new.gid) != (0, 0):
            problems.append(f"belongs to {new.uid}:{new.gid} instead of root")
        if outcome.fate is Fate.LINK and new.target != outcome.target:
            problems.append(f"leads to {new.target!a} instead of {outcome.target!a}")
        if outcome.fate is Fate.FILE and self.digests.get(new.path) != outcome.sha256:
            problems.append("has other contents than planned")
        return problems + self._of_flags(new) + self._of_attributes(new)

    def _of_flags(self, new: Entry) -> list[str]:
        """A new name has no flags but those that its folder hands on, and it is the only one of its inode."""
        folder = self.after.folder_of(new.path)
        handed_on = set(folder.flags) - _NOT_HANDED_ON if folder else set()
        project = folder.project if folder and "P" in folder.flags else "0"
        problems = []
        if odd := "".join(sorted(set(new.flags) - handed_on)):
            problems.append(f"has the flags {odd}, and nobody planned that")
        if new.project not in ("", project):
            problems.append(f"is of the project {new.project} instead of {project}")
        if new.type != "d" and new.links != 1:
            problems.append(f"is one of {new.links} names of a file")
        if new.shown:
            problems.append(f"is of kind {new.type!r}, and its folder says {new.shown!r}")
        return problems

    def _of_attributes(self, new: Entry) -> list[str]:
        """A new name has the planned label, its folder's where none is planned, and the folder's default access list."""
        folder = self.after.folder_of(new.path)
        of_folder = dict(folder.attributes) if folder else {}
        has = dict(new.attributes)
        label = of_folder.get(_SELINUX)
        if label is not None and new.path in self.planned.labels:
            label = _hexadecimal(self.planned.labels[new.path])
        problems = []
        if has.pop(_SELINUX, None) != label:
            problems.append("has another SELinux label than planned")
        expected = {}
        if DEFAULT_LIST in of_folder and new.type != "l":
            try:
                expected = inherited(of_folder[DEFAULT_LIST], new.mode, is_folder=new.type == "d")
            except ValueError as error:
                return [f"cannot be told what its folder hands on: {error}"]
        for mirror in expected.keys() & _MIRRORED.keys():
            has.pop(_MIRRORED[mirror], None)
        problems += [f"lacks the attribute {name}, which its folder hands on" for name in expected if name not in has]
        # Btrfs hands on how contents are packed
        expected |= {name: value for name, value in of_folder.items() if name.startswith("btrfs.")}
        odd = (name for name, value in has.items() if expected.get(name) != value)
        return problems + [f"has the attribute {name}, and nobody planned that" for name in odd]

    def _of_changed(self, difference: Difference, outcome: Outcome | None) -> list[str]:
        path = difference.path
        allowed: set[str] = set()
        if outcome is not None and outcome.fate is Fate.CONTENTS and (CONTENTS in difference.what or len(outcome.why) > 1):
            # one that had its contents before is not written to
            allowed |= _OF_WRITING
        if path in self.planned.entered and path in self._renamed:
            allowed |= _OF_NAMES_IN_FOLDER | ({"links"} if self._has_so_many_folders(difference) else set())
        allowed |= self._of_other_names(difference)
        told = (words(replace(difference, what=(name,))) for name in difference.what if name not in allowed)
        problems = [f"{text}, and nobody planned that" for text in told]
        if outcome is not None and not self._stands(path, outcome):
            problems.append("has other contents than planned")
        return problems

    def _has_so_many_folders(self, difference: Difference) -> bool:
        """Whether each new folder in a folder counts as one more name of it. (Btrfs does not count them.)"""
        old, new = difference.before, difference.after
        if old is None or new is None:
            return False
        made = [
            path for path, outcome in self.planned.of.items()
            if outcome.fate is Fate.FOLDER and posixpath.dirname(path) == difference.path
        ]  # fmt: skip
        return new.links - old.links == len(made)

    def _of_other_names(self, difference: Difference) -> frozenset[str]:
        """A file with several names changes under all of them."""
        old = difference.before
        if old is None or old.links < 2 or old.type == "d":
            return frozenset()
        found: frozenset[str] = frozenset()
        for other in self.before.names_of(old.inode):
            outcome = self.planned.of.get(other)
            if outcome is not None:
                found |= _OF_WRITING if outcome.fate is Fate.CONTENTS else _OF_LOSING_A_NAME
        return found


def _is_another_name(difference: Difference) -> bool:
    """Whether a name appeared, vanished, or leads to another inode than before."""
    old, new = difference.before, difference.after
    return old is None or new is None or "inode" in difference.what or old.target != new.target


def _stood(old: Entry, outcome: Outcome) -> bool:
    """Whether there was nothing to do: a link that led there already."""
    return outcome.fate is Fate.LINK and old.type == "l" and old.target == outcome.target


def _hexadecimal(label: str) -> str:
    # as libselinux stores them, with a NUL
    return "0x" + (label.encode("ascii") + b"\0").hex()
