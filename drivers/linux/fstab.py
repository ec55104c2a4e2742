"""/etc/fstab: reading it, and naming by UUID what it names by device (fstab(5), getmntent(3))."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from drivers.changes import EditFile
from drivers.facts import GuestFacts, TextFile
from drivers.linux.contribution import Contribution
from drivers.linux.devices import DeviceNames, Resolution, Use
from drivers.linux.splice import Splice, lines_of, spliced
from drivers.plan import Finding

FSTAB = "/etc/fstab"
WHY = "device names change with the machine; UUIDs name the same file systems on every machine"
WHY_SHARED = "what the old hypervisor shared is not there on KVM, and a line that fails stops the start"

_FIELD = re.compile(r"[^ \t\r]+")
_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")
_NUMBER = re.compile(r"[0-9]{1,9}")
# a CD drive may be called like a disk (/dev/hdc)
_OPTICAL = frozenset({"iso9660", "udf"})
# file systems that only the hypervisor they belong to serves: VMware's and VirtualBox' shared folders, Parallels', Xen's own
_SHARED = frozenset({"vmhgfs", "fuse.vmhgfs-fuse", "vboxsf", "prl_fs", "fuse.prl_fsd", "xenfs"})
_NOT_AT_START = frozenset({"noauto", "x-systemd.automount", "comment=systemd.automount"})
_OPTION_DEVICE = re.compile(r"(?:^|,)[A-Za-z0-9_.-]+=(/dev/[^,]+)")


@dataclass(frozen=True, slots=True)
class FstabEntry:
    """One line of the table, octal escapes undone; ``line_number`` counts from 1."""

    spec: str
    mountpoint: str
    fstype: str
    options: str
    dump: int
    passno: int
    line_number: int


@dataclass(frozen=True, slots=True)
class _Line:
    """An entry, where its first field stands in the text, and where its type and options end."""

    entry: FstabEntry
    start: int
    end: int
    options_end: int
    has_options: bool


def parse_fstab(text: str) -> tuple[FstabEntry, ...]:
    """The entries in their order; comments, blank lines and lines of fewer than three fields are left out."""
    return tuple(line.entry for line in _lines(text))


def plan_fstab(file: TextFile, names: DeviceNames) -> EditFile | None:
    """The edit that names every resolvable device by what stands on it, and leaves the old hypervisor's shares unmounted.

    None when no line needs it.
    """
    lines = list(_lines(file.text))
    named = [
        Splice(line.start, line.end, found.stable)
        for line in lines
        if (found := _resolution(line.entry, names)) is not None and found.stable is not None
    ]
    shared = [
        Splice(line.options_end, line.options_end, ",noauto" if line.has_options else " noauto")
        for line in lines
        if _is_shared(line.entry) and _NOT_AT_START.isdisjoint(line.entry.options.split(","))
    ]
    why = "; ".join([*([WHY] if named else []), *([WHY_SHARED] if shared else [])])
    after = spliced(file.text, [*named, *shared])
    return None if after == file.text else EditFile(file.resolved, file.text, after, why)


def contribute(facts: GuestFacts, names: DeviceNames) -> Contribution:
    """The edit of /etc/fstab, and what it names that is not in the disks."""
    file = facts.texts.get(FSTAB)
    if file is None:
        message = f"{FSTAB} is missing, so the guest's other file systems and its swap are not known"
        return Contribution(warnings=(Finding("linux.fstab.missing", message),))
    edit = plan_fstab(file, names)
    blockers: list[Finding] = []
    warnings: list[Finding] = []
    for entry in parse_fstab(file.text):
        found = _resolution(entry, names)
        if found is not None and found.stable is None:
            (blockers if entry.mountpoint == "/" else warnings).append(_unresolved(entry, found))
        warnings += _option_findings(entry, names)
    return Contribution((edit,) if edit else (), tuple(warnings), tuple(blockers))


def named_devices(entries: Iterable[FstabEntry]) -> tuple[Use, ...]:
    """Every entry that may stand on a disk."""
    return tuple(Use(entry.spec, entry.mountpoint, entry.fstype) for entry in entries if not _optical(entry))


def _is_shared(entry: FstabEntry) -> bool:
    # fuse's own program may stand in the first field
    return entry.fstype in _SHARED or (entry.fstype == "fuse" and entry.spec.partition("#")[0] in ("vmhgfs-fuse", "prl_fsd"))


def _optical(entry: FstabEntry) -> bool:
    return not _OPTICAL.isdisjoint(entry.fstype.split(","))


def _resolution(entry: FstabEntry, names: DeviceNames) -> Resolution | None:
    if _optical(entry):
        return None
    found = names.resolve(entry.spec, entry.fstype)
    root = names.root
    if entry.mountpoint != "/" or found is None or found.partition is None or root is None:
        return found
    if (found.partition.disk, found.partition.number) == (root.disk, root.number):
        return found
    problem = f"that is not where the root file system was found (disk {root.disk + 1}, partition {root.number})"
    return Resolution(found.name, found.partition, None, problem)


def _unresolved(entry: FstabEntry, found: Resolution) -> Finding:
    return Finding(
        "linux.fstab.root-unresolved" if entry.mountpoint == "/" else "linux.fstab.unresolved",
        f"{FSTAB} line {entry.line_number} mounts {entry.spec} at {entry.mountpoint}: {found.problem}",
        "Name all disks of the machine, in the order the source had them; or edit the line in the guest.",
    )


def _option_findings(entry: FstabEntry, names: DeviceNames) -> Iterator[Finding]:
    for match in _OPTION_DEVICE.finditer(entry.options):
        if names.resolve(match[1]) is not None:
            yield Finding(
                "linux.fstab.option-names-device",
                f"{FSTAB} line {entry.line_number}: an option of {entry.mountpoint} names {match[1]}, "
                "which may be called otherwise on KVM",
                "Edit the option in the guest before or after the migration.",
            )


def _lines(text: str) -> Iterator[_Line]:
    for number, begin, line in lines_of(text):
        fields = list(_FIELD.finditer(line))
        # libmount refuses a line without a type as well
        if len(fields) >= 3 and not fields[0][0].startswith("#"):
            texts = [_unescaped(field[0]) for field in fields]
            entry = FstabEntry(
                spec=texts[0],
                mountpoint=texts[1],
                fstype=texts[2],
                options=texts[3] if len(texts) > 3 else "defaults",
                dump=_number(texts, 4),
                passno=_number(texts, 5),
                line_number=number,
            )
            end = fields[min(3, len(fields) - 1)].end()
            yield _Line(entry, begin + fields[0].start(), begin + fields[0].end(), begin + end, len(fields) > 3)


def _number(texts: list[str], index: int) -> int:
    return int(texts[index]) if len(texts) > index and _NUMBER.fullmatch(texts[index]) else 0


def _unescaped(field: str) -> str:
    raw = _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field.encode("utf-8", "surrogateescape"))
    return raw.decode("utf-8", "surrogateescape")
