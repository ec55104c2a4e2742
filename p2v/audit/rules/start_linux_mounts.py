"""What a Linux guest mounts on its way up: the root that its kernel is told of, and what fstab asks for.

A name is held against what stands on the machine's disks. Where something on them was not opened, what is not found may be in
there, so that nothing is claimed.

Sources: fstab(5), systemd.mount(5) and systemd-fstab-generator(8) (nofail, _netdev, x-systemd.automount, what a missing device
does to local-fs.target), bootparam(7), init/do_mounts.c (which names a kernel without initramfs understands).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from drivers.facts import BootEntry, GuestFacts, Partition, Volume
from drivers.layout import CARRIERS, Device, Layout, Sources, place
from drivers.linux.crypttab import CRYPTTAB
from drivers.linux.devices import DeviceNames
from drivers.linux.fstab import FSTAB, FstabEntry, named_devices, parse_fstab
from drivers.linux.planning import device_names
from p2v.audit.chain import Judged, at_file, at_text, finding, shown, told_by_plan
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding, Evidence, Severity
from p2v.audit.rules.start_linux_files import starting_entry, starting_kernel
from p2v.machine import DiskBus

LINES_AT_MOST = 1000
_CLOSED = CARRIERS | {"zfs", "bcache", "drbd"}
_TOLD_ROOT = ("linux.boot-loader.root-unresolved", "linux.boot.root-name-fixed", "linux.unified.names-device")
_TAGS = ("UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=")
_BY_TAG = re.compile(r"/dev/disk/by-(?:uuid|label|partuuid|partlabel)/[^/]+")
_NOT_GROUPS = "disk/|mapper/|md/|cciss/|drbd|zvol/|block/|loop|input/"
_VOLUME = re.compile(rf"/dev/(?:mapper/[^/]+|(?!{_NOT_GROUPS})[^/]+/[^/]+)|/dev/md(?:/[^/]+|[0-9]+)")
# what the kernel makes a device of by itself
_KERNELS_OWN = re.compile(r"/dev/(?!disk/|mapper/)|PARTUUID=|PARTLABEL=|[0-9A-Fa-f]{3,5}\Z|[0-9]+:[0-9]+\Z")
_ON_SD = frozenset({DiskBus.SATA, DiskBus.VIRTIO_SCSI})
_NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre", "gpfs", "9p", "virtiofs", "davfs",
    "curlftpfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "ocfs2", "gfs", "gfs2", "beegfs", "pvfs2",
})  # fmt: skip
_IN_MEMORY = frozenset({
    "tmpfs", "ramfs", "proc", "sysfs", "devpts", "devtmpfs", "cgroup", "cgroup2", "debugfs", "tracefs", "configfs", "securityfs",
    "selinuxfs", "efivarfs", "hugetlbfs", "mqueue", "pstore", "bpf", "usbfs", "usbdevfs", "binfmt_misc", "rpc_pipefs", "fusectl",
    "nfsd", "autofs", "overlay", "aufs", "rootfs",
})  # fmt: skip
_SHARED = frozenset(
    {"vmhgfs", "fuse.vmhgfs-fuse", "vboxsf", "prl_fs", "fuse.prl_fsd", "xenfs", "fuse", "fuseblk.vmhgfs-fuse"}
)
_DRIVES = ("/dev/sr", "/dev/scd", "/dev/cdrom", "/dev/dvd", "/dev/fd", "/dev/floppy")
_OPTICAL = frozenset({"iso9660", "udf"})
_FAMILIES = (
    {"ext2", "ext3", "ext4", "ext4dev"},
    {"vfat", "msdos", "fat", "fat12", "fat16", "fat32", "exfat"},
    {"ntfs", "ntfs3", "ntfs-3g", "fuseblk"},
)
_NOT_NEEDED = frozenset({
    "noauto", "nofail", "_netdev", "x-systemd.automount", "comment=systemd.automount", "bind", "rbind", "nobootwait", "optional",
})  # fmt: skip
# they go on when a mount fails, unless its check was to come before it
_GO_ON = frozenset({"sysv", "openrc", "runit"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a name: what it leads to, or why it leads nowhere (``problem``), or why that is not known (``doubt``)."""

    device: Device | None = None
    problem: str = ""
    doubt: str = ""
    other_type: str = ""
    """What stands there, where something else is expected."""


class Lookup:
    """Names of a guest's devices, held against its disks as they will be on KVM."""

    def __init__(self, examined: Examined) -> None:
        facts = examined.document.facts
        file = facts.texts.get(FSTAB)
        uses = named_devices(parse_fstab(file.text)) if file is not None else ()
        self._names: DeviceNames = device_names(facts)
        self._sources = Sources(Layout.of(facts), _root_device(facts), uses)
        self._bus = examined.document.hardware.disk_bus
        self._closed = closed(facts)
        self._made = _made_at_start(facts)

    def answer(self, name: str, fstype: str = "") -> Answer:
        """What a name of fstab's or of ``root=`` leads to."""
        by_position = self._names.resolve(name, fstype)
        if by_position is not None:
            keeps = name.startswith("/dev/sd") and self._bus in _ON_SD
            if by_position.stable is None and not (by_position.partition is not None and keeps):
                return Answer(problem=by_position.problem)
            return Answer(by_position.partition)
        if not (name.startswith(_TAGS) or _BY_TAG.fullmatch(name) or _VOLUME.fullmatch(name)):
            return Answer(doubt="that name is not one that can be held against the disks")
        device, problem = self._sources.find(name)
        if device is not None:
            return Answer(device, other_type=_other_type(device, fstype))
        made = self._made.get(name)
        if made is not None:
            return Answer() if made else Answer(doubt=f"{CRYPTTAB} opens it")
        if problem.startswith(("no ", "it is not")) or not problem:
            if self._closed:
                return Answer(doubt=f"nothing that was seen has it; it may be in {self._closed}, which was not opened")
            return Answer(problem="nothing on its disks has it")
        return Answer(doubt=problem)


def closed(facts: GuestFacts) -> str:
    """The first device in which more may stand than was seen; empty where there is none."""
    layout = Layout.of(facts)
    for device in layout.devices:
        kind = device.filesystem.kind if device.filesystem is not None else ""
        unmapped = isinstance(device, Volume) and kind in ("", "unknown")
        if (kind in _CLOSED and not layout.is_opened(device)) or unmapped:
            return place(device)
    return ""


def _made_at_start(facts: GuestFacts) -> dict[str, bool]:
    """The devices that crypttab makes, and whether each is made anew at every start."""
    file = facts.texts.get(CRYPTTAB)
    fields = (line.split() for line in file.text.splitlines()[:LINES_AT_MOST]) if file is not None else ()
    lines = (words for words in fields if len(words) >= 2 and not words[0].startswith("#"))
    return {
        f"/dev/mapper/{words[0]}": not {"swap", "tmp", "plain"}.isdisjoint(
            words[3].split(",") if len(words) > 3 else ()
        )
        for words in lines
    }


def _root_device(facts: GuestFacts) -> Device | None:
    root = facts.root
    if root is None:
        return None
    if root.volume:
        return next((each for each in facts.volumes if root.volume in (each.device, *each.aliases)), None)
    return next((each for each in facts.partitions if (each.disk, each.number) == (root.disk, root.partition)), None)


def _other_type(device: Device, fstype: str) -> str:
    """What stands on a device where another type is expected; empty where both agree, or nothing is known."""
    kind = device.filesystem.kind if device.filesystem is not None else "unknown"
    wanted = set(fstype.split(",")) - {""}
    alike = next((each for each in _FAMILIES if kind in each), {kind})
    if kind == "unknown" or not wanted or wanted & {"auto", "none"} or wanted & alike:
        return ""
    return kind


# --- root --------------------------------------------------------------------------------------------------


def root_link(examined: Examined) -> Judged:
    """The root that the kernel is told of is on these disks, and is the one that was found."""
    facts = examined.document.facts
    entry, told = starting_entry(facts), told_by_plan(examined, "linux.root-missing", *_TOLD_ROOT)
    if entry is None:
        return Judged("root", "", unseen="without a boot entry it is not known what root the kernel is told of")
    spec = root_argument(entry)
    evidence = at_text(facts, entry.source or facts.boot_loader.config, f"root={spec}" if spec else "")
    device = _root_device(facts)
    where = f"; it is {place(device)}" if device is not None else ""
    findings = () if told else tuple(_root_findings(examined, entry, spec, evidence))
    return Judged("root", f"root={shown(spec)} is on its disks{where}", (evidence,), findings, told)


def root_argument(entry: BootEntry) -> str:
    """What an entry's arguments name as the root; the last counts. Empty where they name none."""
    named = [word.partition("=")[2] for word in entry.arguments.split() if word.startswith("root=")]
    return named[-1].strip("\"'") if named else ""


def _root_findings(examined: Examined, entry: BootEntry, spec: str, evidence: Evidence) -> Iterator[AuditFinding]:
    facts, kernel = examined.document.facts, starting_kernel(examined.document.facts)
    if not spec:
        message = f"the boot entry {shown(entry.title)} names no root, so what its initramfs takes for it is not known"
        yield finding(examined, "start.linux.root-unseen", message, evidence)
        return
    if kernel is not None and kernel.initramfs is None and not _KERNELS_OWN.match(spec):
        message = (
            f"root={shown(spec)} is understood by an initramfs only, and the boot entry {shown(entry.title)} loads none"
        )
        yield finding(examined, "start.linux.root-needs-initramfs", message, evidence)
        return
    answer = Lookup(examined).answer(spec)
    if answer.problem:
        message = f"the boot entry {shown(entry.title)} has root={shown(spec)}, and {shown(answer.problem)}"
        yield finding(examined, "start.linux.root-missing", message, evidence)
    elif answer.doubt:
        message = f"root={shown(spec)} could not be held against the disks: {shown(answer.doubt)}"
        yield finding(examined, "start.linux.root-unseen", message, evidence)
    elif answer.device is not None:
        yield from _elsewhere(examined, spec, answer.device, _root_device(facts), evidence)


def _elsewhere(
    examined: Examined, spec: str, device: Device, root: Device | None, evidence: Evidence
) -> Iterator[AuditFinding]:
    if root is None or device == root or _are_members(device, root):
        return
    message = f"root={shown(spec)} is {place(device)}, and the system was found on {place(root)}"
    # of a container and what is in it one may stand for the other
    are_alike = isinstance(device, Partition) == isinstance(root, Partition)
    yield finding(examined, "start.linux.root-elsewhere" if are_alike else "start.linux.root-unseen", message, evidence)


def _are_members(device: Device, root: Device) -> bool:
    """Whether two devices are of one file system of several."""
    one, other = device.filesystem, root.filesystem
    return one is not None and other is not None and one.kind == other.kind == "btrfs" and one.uuid == other.uuid


# --- fstab -------------------------------------------------------------------------------------------------


def mounts_link(examined: Examined) -> Judged:
    """Every file system without which the start ends is on these disks."""
    facts = examined.document.facts
    file, told = facts.texts.get(FSTAB), told_by_plan(examined, "linux.fstab.root-unresolved")
    if file is None:
        return Judged("file systems", f"{FSTAB} asks for nothing more")
    entries = [entry for entry in parse_fstab(file.text)[:LINES_AT_MOST] if _is_local(entry)]
    lookup = Lookup(examined)
    found = tuple(each for entry in entries if (each := _line_finding(examined, lookup, entry)) is not None)
    return Judged(
        "file systems", f"the {len(entries)} that {FSTAB} asks for are on its disks", (at_file(FSTAB),), found, told
    )


def _is_local(entry: FstabEntry) -> bool:
    """Whether a start needs the line, and looks for it on the machine's own disks."""
    types = set(entry.fstype.split(","))
    elsewhere = bool(types & (_NETWORK | _IN_MEMORY | _SHARED | _OPTICAL)) or entry.spec.startswith(_DRIVES)
    is_device = entry.spec.startswith("/dev/") or entry.spec.startswith(_TAGS)
    words = {option.partition("=")[0] for option in entry.options.split(",")} | set(entry.options.split(","))
    return is_device and not elsewhere and _NOT_NEEDED.isdisjoint(words)


def _line_finding(examined: Examined, lookup: Lookup, entry: FstabEntry) -> AuditFinding | None:
    if entry.mountpoint == "/":
        # what the kernel was told of is mounted there already; the line is checked and its options taken
        return None
    answer = lookup.answer(entry.spec, entry.fstype)
    evidence = at_file(FSTAB, entry.line_number, f"{entry.spec} {entry.mountpoint} {entry.fstype} {entry.options}")
    what = f"{FSTAB} line {entry.line_number}: {shown(entry.spec)} for {shown(entry.mountpoint)}"
    if entry.fstype == "swap":
        problem = answer.problem or answer.doubt
        return finding(examined, "start.linux.swap-missing", f"{what}: {shown(problem)}", evidence) if problem else None
    if answer.problem:
        severity = None if _stops(examined, entry) else Severity.WARNING
        return finding(
            examined, "start.linux.mount-missing", f"{what}: {shown(answer.problem)}", evidence, severity=severity
        )
    if answer.doubt:
        return finding(examined, "start.linux.mount-unseen", f"{what}: {shown(answer.doubt)}", evidence)
    if answer.other_type:
        message = f"{what}: {shown(entry.fstype)} is expected there, and {answer.other_type} was found"
        return finding(examined, "start.linux.mount-other-type", message, evidence)
    return None


def _stops(examined: Examined, entry: FstabEntry) -> bool:
    system = examined.document.facts.os
    return system is None or system.init not in _GO_ON or entry.passno != 0
