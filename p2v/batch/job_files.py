"""The files that a conversion makes on its way, by their names: whose they are, and what each is for.

The names are those of ``p2v.migrate`` and what it stands on; a name that none of them gives belongs to somebody else.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from p2v.batch.trial import TRIAL
from p2v.core.workspace import PARTIAL

_JOURNAL = ".journal"
_LOCK = ".p2v-lock"
_FENCE = ".p2v-fence"
_UNDELIVERED = ".p2v-undelivered"
_WORK = ".partial.work"
_DISK = re.compile(r"(?:-disk[1-9][0-9]{0,3})?\.(?:qcow2|img|device)")
_TEXT = re.compile(
    r"\.(?:json|xml|sh|png|boot\.log|qm\.sh|qm\.conf|kubevirt\.yaml|kubevirt\.sh|openstack\.json|openstack\.sh)"
    r"|_VARS\.fd|-(?:cdrom|floppy)[1-9][0-9]{0,3}\.(?:iso|img)"
)


class FileKind(enum.Enum):
    """What a file is for. Only a copy, with its journal, is gone on from by the next run."""

    COPY = "unfinished copy"
    JOURNAL = "journal of a copy"
    TEXT = "unfinished file"
    RECORD = "record without its name"
    """It stands when everything is written: what is left are renames, which the next run finishes."""
    WORK = "work folder"
    LOCK = "lock file"
    FENCE = "fence"
    """The highest number of a lease that may give names there."""
    UNDELIVERED = "note of what libvirt is to be told"
    """The results are there; the next run tells libvirt of them."""
    TRIAL = "file of a look whether the storage takes anything"


_AROUND = {_LOCK: FileKind.LOCK, _FENCE: FileKind.FENCE, _UNDELIVERED: FileKind.UNDELIVERED, TRIAL: FileKind.TRIAL}
"""What files are for whose names are a machine's with this behind and a dot before."""


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file (or folder) of one machine's conversion. ``allocated``: bytes on its file system."""

    path: Path
    kind: FileKind
    machine: str
    allocated: int


def lock_path(folder: Path, machine: str) -> Path:
    """The lock that a conversion holds while it runs."""
    return folder / f".{machine}{_LOCK}"


def job_files(folder: Path, machines: Collection[str]) -> Iterator[JobFile]:
    """Every such file in a folder that belongs to one of the machines, by name. Raises OSError when the folder cannot be read."""
    named = frozenset(machines) - {""}
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda each: each.name)
    for entry in listed:
        found = told(entry.name, named)
        if found is None:
            continue
        machine, kind = found
        try:
            facts = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # its run has just ended
        # a conversion makes neither links nor folders of these names
        expected = stat.S_ISDIR if kind is FileKind.WORK else stat.S_ISREG
        if expected(facts.st_mode):
            yield JobFile(folder / entry.name, kind, machine, _allocated(folder / entry.name, facts))


def told(name: str, machines: Collection[str]) -> tuple[str, FileKind] | None:
    """The machine, of these, and the kind that a file's name tells; None: it is none of theirs."""
    for end, kind in _AROUND.items():
        if name.startswith(".") and name.endswith(end) and name[1 : -len(end)] in machines:
            return name[1 : -len(end)], kind
    if name.endswith(_WORK) and name[: -len(_WORK)] in machines:
        return name[: -len(_WORK)], FileKind.WORK
    if name.endswith(PARTIAL):
        return _told_by_output(name[: -len(PARTIAL)], machines)
    if name.endswith(PARTIAL + _JOURNAL):
        found = _told_by_output(name[: -len(PARTIAL + _JOURNAL)], machines)
        return (found[0], FileKind.JOURNAL) if found and found[1] is FileKind.COPY else None
    return None


def _told_by_output(output: str, machines: Collection[str]) -> tuple[str, FileKind] | None:
    # the longest name first: "web-disk2" may be a machine, too
    for end in range(len(output), 0, -1):
        rest = output[end:]
        if rest and output[:end] in machines:
            if _DISK.fullmatch(rest):
                return output[:end], FileKind.COPY
            if _TEXT.fullmatch(rest):
                return output[:end], FileKind.RECORD if rest == ".json" else FileKind.TEXT
    return None


def _allocated(path: Path, facts: os.stat_result) -> int:
    total = facts.st_blocks * 512
    if stat.S_ISDIR(facts.st_mode):
        for folder, _, names in os.walk(path):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total
