"""How often memory was short for us: what the kernel counts of the control group that this process and its children are in.

A container's limit of memory is one of its control group's. Where it is reached, the kernel ends one of the group's processes with
SIGKILL, and tells nobody but its own log, which a container does not see. What it counts is there to be read:
``memory.events`` (https://docs.kernel.org/admin-guide/cgroup-v2.html) and, in version 1, ``memory.oom_control``
(https://docs.kernel.org/admin-guide/cgroup-v1/memory.html).
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LONGEST_BYTES = 64 * 1024
_NO_LIMIT_BYTES = 1 << 60
"""Version 1 says about 2**63 where there is none."""
_MOST_PARENTS = 64


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A control group's folder, and the folder of the uppermost one that is seen here."""

    folder: Path
    top: Path
    is_unified: bool

    def kills(self) -> int:
        """How many of its processes the kernel has ended because memory was short, its own limit's or the host's."""
        text = _text(self.folder / ("memory.events" if self.is_unified else "memory.oom_control"))
        found = re.search(r"^oom_kill (\d{1,18})$", text, re.MULTILINE)
        return int(found[1]) if found else 0

    def limit(self) -> int | None:
        """The bytes that it may have, the least of its own and its parents' that are seen here; None: no limit is seen."""
        if not self.is_unified:
            return _bounded(_text(self.folder / "memory.stat"), r"^hierarchical_memory_limit (\d{1,20})$")
        limits, folder = [], self.folder
        for _ in range(_MOST_PARENTS):
            limits.append(_bounded(_text(folder / "memory.max"), r"^(\d{1,20})$"))
            if folder == self.top:
                break
            folder = folder.parent
        return min((each for each in limits if each is not None), default=None)


def memory_group(groups: str | None = None, mounts: str | None = None) -> MemoryGroup | None:
    """The one that this process is in; None where the kernel counts none, or none is seen here.

    ``groups``: what stands in /proc/self/cgroup (cgroups(7)); ``mounts``: in /proc/self/mountinfo (proc(5)).
    """
    groups = _text(Path("/proc/self/cgroup")) if groups is None else groups
    mounts = _text(Path("/proc/self/mountinfo")) if mounts is None else mounts
    # version 1 first: a host that has both counts memory there
    for name, kind, is_unified in ((r"\d+:(?:[^:\n]*,)?memory(?:,[^:\n]*)?", "cgroup", False), ("0:", "cgroup2", True)):
        found = re.search(rf"^{name}:(/.*)$", groups, re.MULTILINE)
        group = _seen(found[1], kind, is_unified, mounts) if found else None
        if group is not None:
            return group
    return None


def _seen(path: str, kind: str, is_unified: bool, mounts: str) -> MemoryGroup | None:
    """The group by its path, as far as it is below what is mounted here."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        words, about = before.split(" "), after.split(" ")
        if len(words) < 5 or len(about) < 3 or about[0] != kind:
            continue
        if not is_unified and "memory" not in about[2].split(","):
            continue
        root, top = _plain(words[3]), Path(_plain(words[4]))
        below = os.path.relpath(path, root) if root.startswith("/") else ".."
        if below == ".." or below.startswith("../"):
            continue
        folder = top / below
        if (folder / ("memory.events" if is_unified else "memory.oom_control")).is_file():
            return MemoryGroup(folder, top, is_unified)
    return None


def _plain(word: str) -> str:
    """A path of mountinfo, whose blanks are octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)


def _bounded(text: str, pattern: str) -> int | None:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found and int(found[1]) < _NO_LIMIT_BYTES else None


def _text(path: Path) -> str:
    """A small file of the kernel's; nothing where it cannot be read."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(_LONGEST_BYTES).decode("utf-8", "replace")
    return ""
