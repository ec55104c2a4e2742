"""Building what is appended to initramfs images, in a process of its own that may do little else.

It reads the guest through the same C libraries as inspection does and runs the host's depmod on the guest's
modules, so it works as nobody, without a network, within limits, and writes only into the folder it was given.
Unlike the child of ``drivers.confinement`` it may start a program and write files; so it is a fresh process
(``python -m p2v.supplements``), not a fork of ours.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Sequence
from pathlib import Path

from drivers.changes import ExtendInitramfs
from drivers.confinement import NOBODY, drop_privileges, forbid_new_privileges, limit
from drivers.facts import GuestFacts
from drivers.linux.supplement import build_supplement
from drivers.offline import OfflineTree, open_device
from drivers.tree import GuestTree
from p2v.core.disk import DiskReader
from p2v.core.errors import GuestNotUnderstood
from p2v.core.run import Runner
from p2v.core.units import GIB

_CPU_SECONDS = 300
_MEMORY_BYTES = 2 * GIB
_LARGEST_FILE_BYTES = 1 * GIB
_PROCESSES = 64
_OPEN_FILES = 256


def build_all(
    readers: Sequence[DiskReader],
    facts: GuestFacts,
    changes: Sequence[ExtendInitramfs],
    folder: Path,
    runner: Runner,
) -> None:
    """Build each change's supplement into ``folder`` as ``0``, ``1``, ... in their order.

    The process has no privileges afterwards. Raises what ``build_supplement`` raises, GuestNotUnderstood when the
    guest's files cannot be read on this host.
    """
    confine(folder)
    _build(mounted(readers, facts), changes, folder, runner)


def build_over(tree: GuestTree, changes: Sequence[ExtendInitramfs], folder: Path, runner: Runner) -> None:
    """The same from a tree that somebody else reads for us (``RemoteTree``)."""
    confine(folder)
    _build(tree, changes, folder, runner)


def _build(tree: GuestTree, changes: Sequence[ExtendInitramfs], folder: Path, runner: Runner) -> None:
    for index, change in enumerate(changes):
        (folder / str(index)).write_bytes(build_supplement(change, tree, folder, runner))


def confine(folder: Path) -> None:
    """Give up everything that building does not need; ``folder`` becomes the new user's own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    drop_privileges(libc)
    forbid_new_privileges(libc)
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE_BYTES),
        (resource.RLIMIT_NPROC, _PROCESSES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
    ):
        limit(kind, value)
    os.chdir(folder)


def mounted(readers: Sequence[DiskReader], facts: GuestFacts) -> OfflineTree:
    """The guest's tree as the facts say it is mounted, by the readers of this host."""
    partitions = {(p.disk, p.number): p for p in facts.partitions}
    volumes = {volume.device: volume for volume in facts.volumes}
    tree: OfflineTree | None = None
    for mount in sorted(facts.mounts, key=lambda m: (m.mountpoint != "/", len(m.mountpoint))):
        device = volumes[mount.volume] if mount.volume else partitions[mount.disk, mount.partition]
        filesystem = device.filesystem
        if filesystem is None or filesystem.why_not_host:
            continue
        volume = open_device(device, readers, mount.folder)
        if tree is None:
            if mount.mountpoint != "/":
                break
            tree = OfflineTree(volume)
        else:
            tree.mount(mount.mountpoint, volume)
    if tree is None:
        raise GuestNotUnderstood(str(readers[0].files[0]), "its root cannot be read on this host")
    return tree
