"""Configuration that goes by the old machine's devices, and files that nobody may change. Pure.

What planning edits or tells of itself (fstab, boot loaders, LVM, mdadm, hdparm, smartd, the network's own files) is not looked at.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping

from drivers.changes import Change, DeleteFile, DeleteSymlink, DiscardHibernation, ExtendInitramfs, MakeSymlink, NewName
from drivers.hard_names import LineKind, SeenLine
from p2v.audit.catalogue_file import found
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind
from p2v.core.text import listed
from p2v.machine import DiskBus

FILES_AT_MOST = 40
_NAMES_AT_MOST = 5

_TELLINGS: Mapping[LineKind, tuple[str, str]] = {
    LineKind.DISK: (
        "device-name.disk",
        "{path} names disks of the old machine ({names}), which are called otherwise on KVM",
    ),
    LineKind.IDENTITY: (
        "device-name.identity",
        "{path} knows disks by what the old ones say of themselves ({names}), which KVM's do not",
    ),
    LineKind.INTERFACE: (
        "device-name.interface",
        "{path} names network cards ({names}) that no network configuration has, so nothing keeps these names on KVM",
    ),
    LineKind.DEVICE: (
        "device-name.device",
        "{path} names devices of the old machine ({names}), which KVM does not have by itself",
    ),
    LineKind.MODULE: (
        "device-name.driver-options",
        "{path} has options for drivers of hardware ({names}) that is not there on KVM",
    ),
}


def check_device_names(examined: Examined) -> Iterator[AuditFinding]:
    """One finding for each file and kind of name, with every line of it."""
    sights = examined.inside
    if sights is None:
        return
    keeps = _keeping(examined)
    files: dict[tuple[LineKind, str], list[SeenLine]] = {}
    for line in sights.lines:
        if line.kind in _TELLINGS and not keeps(line):
            files.setdefault((line.kind, line.path), []).append(line)
    for (kind, path), lines in list(files.items())[:FILES_AT_MOST]:
        rule, sentence = _TELLINGS[kind]
        names = list(dict.fromkeys(line.name for line in lines))
        told = listed(names, _NAMES_AT_MOST)
        evidence = (Evidence(EvidenceKind.FILE, path, line=line.number, text=line.text) for line in lines)
        yield found(examined.rules[rule], sentence.format(path=path, names=told), *evidence)
    left = max(0, len(files) - FILES_AT_MOST) + sights.lines_left_out
    if left:
        message = f"{left} further files that may name devices of the old machine are not told of: there are too many"
        yield found(examined.rules["device-name.left-out"], message)


def check_immutable(examined: Examined) -> Iterator[AuditFinding]:
    """Files that the plan changes and that even root may not change."""
    sights = examined.inside
    changes = examined.document.plan.changes
    if sights is None or not sights.is_seen or not changes:
        return
    if sights.flags_unread:
        message = f"whether files that are to be changed are immutable could not be seen: {sights.flags_unread}"
        yield found(examined.rules["software.flags-unread"], message)
    flagged = {file.path: file.flags for file in sights.flagged}
    told = {path: flagged[path] for change in changes for path in _refused(change, flagged)}
    words = {"i": "immutable", "a": "append only"}
    for path, flags in list(told.items())[:FILES_AT_MOST]:
        how = " and ".join(words[flag] for flag in flags if flag in words)
        message = f"{path} is {how} (chattr), and the conversion has to change it or what is in it"
        yield found(
            examined.rules["software.immutable-file"], message, Evidence(EvidenceKind.FILE, path, text=f"flags {flags}")
        )


def _refused(change: Change, flagged: Mapping[str, str]) -> Iterator[str]:
    """The paths whose flags keep a change from being made: the file's own, or its folder's where a name is made or removed.

    ioctl_iflags(2): what is append only can be appended to, and names can be made in such a folder but not removed.
    """
    folder = posixpath.dirname(change.path)
    of_folder, own = flagged.get(folder, ""), flagged.get(change.path, "")
    replaces = isinstance(change, MakeSymlink) and change.replaces is not None
    removes = replaces or isinstance(change, DeleteFile | DeleteSymlink | DiscardHibernation)
    if (removes and of_folder) or (isinstance(change, NewName) and "i" in of_folder):
        yield folder
    if "i" in own or (own and not isinstance(change, ExtendInitramfs)):
        yield change.path


def _keeping(examined: Examined) -> Callable[[SeenLine], bool]:
    """Whether a name means the same on KVM."""
    cards = {interface.name for interface in examined.document.facts.network.interfaces}
    # on any bus but virtio-blk's Linux calls them sd, in the same order
    keeps_sd = examined.document.hardware.disk_bus is not DiskBus.VIRTIO_BLK

    def keeps(line: SeenLine) -> bool:
        if line.kind is LineKind.INTERFACE:
            return line.name in cards
        return line.kind is LineKind.DISK and keeps_sd and line.name.startswith("/dev/sd")

    return keeps


CHECKS = (check_device_names, check_immutable)
