"""The storages that a batch's results go to: which folders are on one, and whether all that goes there has room."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from p2v.batch.jobs import Batch
from p2v.batch.planned import MachinePlan, StoragePlan
from p2v.core.workspace import existing_parent, free_bytes
from p2v.rewriting import OVERLAY_BYTES

_NETWORKS = re.compile(
    r"nfs4?|cifs|smb3|smbfs|9p|ceph|glusterfs|lustre|gpfs|afs|beegfs|fuse\.(sshfs|glusterfs|s3fs|rclone)"
)
_ESCAPED = re.compile(r"\\([0-7]{3})")


def device_of(folder: Path) -> int:
    """What tells one storage from another: the device that a folder is on, or will be when it is made."""
    return os.stat(existing_parent(folder)).st_dev


def storages_of(batch: Batch, machines: Sequence[MachinePlan]) -> tuple[StoragePlan, ...]:
    """The storages of those machines that may be converted, the fullest first."""
    by_device: dict[int, list[MachinePlan]] = {}
    for each in machines:
        if not each.left_alone and not each.is_blocked:
            by_device.setdefault(device_of(each.folder), []).append(each)
    found = [_storage(each, batch.budget.jobs) for each in by_device.values()]
    return tuple(sorted(found, key=lambda each: each.free_bytes - each.needed_bytes - each.work_bytes))


def _storage(machines: Sequence[MachinePlan], jobs: int) -> StoragePlan:
    folders = tuple(dict.fromkeys(each.folder for each in machines))
    return StoragePlan(
        folders=folders,
        machines=len(machines),
        copy_bytes=sum(each.copy_bytes or 0 for each in machines),
        needed_bytes=sum(each.write_bytes or 0 for each in machines),
        work_bytes=OVERLAY_BYTES * min(jobs, len(machines)),
        free_bytes=free_bytes(folders[0]),
        unknown=sum(each.write_bytes is None for each in machines),
    )


def network_file_system(folder: Path, mounts: str | None = None) -> str:
    """The kind of a network's file system that a folder is on; empty where it is on none, or nobody can tell.

    ``mounts``: what stands in /proc/self/mountinfo (https://docs.kernel.org/filesystems/proc.html, section 3.5).
    """
    try:
        text = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape") if mounts is None else mounts
    except OSError:
        return ""
    path, best = os.path.realpath(folder), ("", "")
    for point, kind in _mounts(text):
        inside = point == "/" or path == point or path.startswith(f"{point}/")
        # the last of several at one place hides the others
        if inside and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1] if _NETWORKS.fullmatch(best[1]) else ""


def _mounts(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        first, _, rest = line.partition(" - ")
        fields, kind = first.split(" "), rest.split(" ")[0]
        if len(fields) > 4 and kind:
            yield _ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[4]), kind
