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

from p2v.core.block_devices import kernel_text, mounts_in
from p2v.core.units import format_bytes

_NO_LIMIT_BYTES = 1 << 60
"""Version 1 says about 2**63 where there is none."""
_MOST_PARENTS = 64
_SOONER, _SOONEST = 500, 1000
"""In thousandths of the memory that there is (proc_pid_oom_score_adj(5)): as if it had so much more than it has."""


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A control group's folder, and the folder of the uppermost one that is seen here."""

    folder: Path
    top: Path
    is_unified: bool

    def kills(self) -> int:
        """How many of its processes the kernel has ended because memory was short, its own limit's or the host's."""
        found = re.search(r"^oom_kill (\d{1,18})$", kernel_text(self.folder / _counts(self.is_unified)), re.MULTILINE)
        return int(found[1]) if found else 0

    def limit(self) -> int | None:
        """The bytes that it may have, the least of its own and its parents' that are seen here; None: no limit is seen."""
        if not self.is_unified:
            return _bounded(kernel_text(self.folder / "memory.stat"), r"^hierarchical_memory_limit (\d{1,20})$")
        limits, folder = [], self.folder
        for _ in range(_MOST_PARENTS):
            limits.append(_bounded(kernel_text(folder / "memory.max"), r"^(\d{1,20})$"))
            if folder == self.top:
                break
            folder = folder.parent
        return min((each for each in limits if each is not None), default=None)


def memory_group(groups: str | None = None, mounts: str | None = None) -> MemoryGroup | None:
    """The one that this process is in; None where the kernel counts none, or none is seen here.

    ``groups``: what stands in /proc/self/cgroup (cgroups(7)); ``mounts``: in /proc/self/mountinfo (proc(5)).
    """
    groups = kernel_text(Path("/proc/self/cgroup")) if groups is None else groups
    mounts = kernel_text(Path("/proc/self/mountinfo")) if mounts is None else mounts
    # version 1 first: a host that has both counts memory there
    for name, kind, is_unified in ((r"\d+:(?:[^:\n]*,)?memory(?:,[^:\n]*)?", "cgroup", False), ("0:", "cgroup2", True)):
        found = re.search(rf"^{name}:(/.*)$", groups, re.MULTILINE)
        group = _seen(found[1], kind, is_unified, mounts) if found else None
        if group is not None:
            return group
    return None


@dataclass(frozen=True, slots=True)
class MemoryWatch:
    """From when it is made on: whether memory was short for this process's group."""

    group: MemoryGroup | None
    before: int

    @classmethod
    def begun(cls) -> MemoryWatch:
        """From now on."""
        group = memory_group()
        return cls(group, group.kills() if group is not None else 0)

    def words(self) -> str:
        """What the kernel ended meanwhile because memory was short; empty: nothing, as far as is known."""
        ended = self.group.kills() - self.before if self.group is not None else 0
        if self.group is None or ended <= 0:
            return ""
        limit = self.group.limit()
        share = (
            f", which have {format_bytes(limit)} together (the limit of the container or of its like)" if limit else ""
        )
        which = "a process" if ended == 1 else f"{ended} processes"
        return f"memory was short: meanwhile the kernel ended {which} of those that run here{share}"


def _seen(path: str, kind: str, is_unified: bool, mounts: str) -> MemoryGroup | None:
    """The group by its path, as far as it is below what is mounted here."""
    for mount in mounts_in(mounts):
        if mount.kind != kind or not (is_unified or "memory" in mount.options):
            continue
        below = os.path.relpath(path, mount.root)
        folder = Path(mount.point, below)
        if not below.startswith("..") and (folder / _counts(is_unified)).is_file():
            return MemoryGroup(folder, Path(mount.point), is_unified)
    return None


def _counts(is_unified: bool) -> str:
    return "memory.events" if is_unified else "memory.oom_control"


def _bounded(text: str, pattern: str) -> int | None:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found and int(found[1]) < _NO_LIMIT_BYTES else None


def ended_first(pid: int) -> None:
    """Have the kernel end this process, and what it starts from now on, rather than us and others when memory is short.

    What can be begun again is to go before those who would begin it: else the kernel takes the largest.
    """
    path = Path("/proc", str(pid), "oom_score_adj")
    with suppress(OSError, ValueError):  # it is gone, or the kernel does not do so
        path.write_text(str(min(_SOONEST, int(kernel_text(path)) + _SOONER)))
