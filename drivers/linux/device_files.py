"""The smaller files that name disks: systemd's units, autofs maps, uswsusp, and what only a person can put right.

Each line that names one is edited to a link below /dev/disk/by-uuid/, which is there on every machine.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass

from drivers.changes import Change, EditFile
from drivers.facts import GuestFacts, TextFile
from drivers.linux import keyfile
from drivers.linux.contribution import Contribution
from drivers.linux.desired import deletion
from drivers.linux.devices import DeviceNames, device_path
from drivers.linux.fstab import FSTAB, parse_fstab
from drivers.linux.splice import Splice, spliced
from drivers.plan import Finding

UNITS = "/etc/systemd/system"
WHY = "device names change with the machine; links by UUID lead to the same file systems on every machine"
WHY_CACHE = "it remembers disks of the old machine; it is made anew"
HINT_MISSING = "Name all disks of the machine, in the order the source had them; or edit the line in the guest."
HINT_EDIT = "Edit it in the guest before or after the migration."

MULTIPATH_CONFIGS = ("/etc/multipath.conf", "/etc/multipath/wwids", "/etc/multipath/bindings")

CACHES: tuple[str, ...] = (
    "/etc/blkid/blkid.tab", "/etc/blkid/blkid.tab.old", "/etc/blkid.tab", "/etc/blkid.tab.old",
    "/run/blkid/blkid.tab", "/run/blkid/blkid.tab.old", "/var/run/blkid/blkid.tab",
    "/etc/lvm/cache/.cache", "/etc/lvm/.cache", "/run/lvm/hints", "/var/cache/lvm/.cache",
)  # fmt: skip
"""Caches of libblkid (libblkid(3)) and LVM (lvm.conf(5), cache_dir)."""

# CD drives are not looked for among the disks
_OPTICAL = ("iso9660", "udf")
_UNIT_OF_DEVICE = re.compile(r"\bdev-(?:(?:sd|hd|vd|xvd)[a-z]{1,3}|nvme[0-9]+n[0-9]+)[p0-9]*\.(?:device|swap)\b")
_WORD = re.compile(r"[^\s=:,;\"']+")


@dataclass(frozen=True, slots=True)
class _Named:
    """Files in which ``line`` finds a device (group ``device``); ``noun`` goes into the findings' ids."""

    noun: str
    patterns: tuple[str, ...]
    line: re.Pattern[str]
    fstype: str = ""


_DEVICE = r"(?P<device>/dev/[^\s\"',;#]+)"
EDITED: tuple[_Named, ...] = (
    _Named(
        "unit", (f"{UNITS}/*.mount", f"{UNITS}/*.mount.d/*.conf"),
        re.compile(rf"^[ \t]*What[ \t]*=[ \t]*{_DEVICE}[ \t\r]*$", re.MULTILINE),
    ),
    # autofs(5): a location on this machine begins with a colon
    _Named("autofs", ("/etc/auto.*", "/etc/autofs/*"), re.compile(rf"^[ \t]*[^#\s+].*?[ \t]:{_DEVICE}", re.MULTILINE)),
    _Named(
        "uswsusp", ("/etc/uswsusp.conf",),
        re.compile(rf"^[ \t]*resume[ \t]+device[ \t]*[=:][ \t]*{_DEVICE}", re.MULTILINE), "swap",
    ),
)  # fmt: skip

REMARKED: tuple[tuple[str, str, str], ...] = (
    ("/etc/hdparm.conf", "hdparm", "its settings belong to the old machine's disks"),
    ("/etc/smartd.conf", "smartd", "disks on KVM have no S.M.A.R.T. data to watch"),
    ("/etc/smartmontools/smartd.conf", "smartd", "disks on KVM have no S.M.A.R.T. data to watch"),
    ("/etc/raidtab", "raidtab", "raidtools knows members of arrays by these names alone"),
    ("/etc/rawdevices", "rawdevices", "raw(8) binds devices by these names alone"),
    ("/etc/sysconfig/rawdevices", "rawdevices", "raw(8) binds devices by these names alone"),
)
"""Files that are left as they are, and why that may matter."""

TEXTS: tuple[str, ...] = (
    *(pattern for named in EDITED for pattern in named.patterns),
    f"{UNITS}/*.swap", f"{UNITS}/*.automount",
    *(path for path, _, _ in REMARKED), *CACHES, *MULTIPATH_CONFIGS,
)  # fmt: skip


def contribute(facts: GuestFacts, names: DeviceNames) -> Contribution:
    """Edits of what can be edited, removal of caches, and warnings for the rest."""
    changes: list[Change] = []
    warnings: list[Finding] = []
    for named in EDITED:
        for file in _files(facts, named.patterns):
            if (edit := _edit(named, file, names)) is not None:
                changes.append(edit)
            warnings += _unresolved(named, file, names)
    changes += [deletion(facts.texts[path], WHY_CACHE) for path in CACHES if path in facts.texts]
    warnings += _unit_names(facts, names)
    warnings += _remarks(facts, names)
    warnings += _multipath(facts)
    return Contribution(tuple(changes), tuple(warnings))


def _files(facts: GuestFacts, patterns: tuple[str, ...]) -> Iterator[TextFile]:
    for path in sorted(facts.texts):
        # a pattern's star stays inside one component of the path
        fits = (p.count("/") == path.count("/") and fnmatch.fnmatchcase(path, p) for p in patterns)
        # an executable map prints its entries, and is a program
        if any(fits) and not facts.texts[path].text.startswith("#!"):
            yield facts.texts[path]


def _matches(named: _Named, file: TextFile) -> Iterator[re.Match[str]]:
    for match in named.line.finditer(file.text):
        if not any(word in _fstype_of(named, file, match) for word in _OPTICAL):
            yield match


def _fstype_of(named: _Named, file: TextFile, match: re.Match[str]) -> str:
    if named.noun != "unit":
        return match[0]
    return keyfile.first(keyfile.parse(file.text), "Mount", "Type")


def _edit(named: _Named, file: TextFile, names: DeviceNames) -> EditFile | None:
    splices = []
    for match in _matches(named, file):
        found = names.resolve(match["device"], named.fstype)
        if found is not None and found.stable is not None:
            splices.append(Splice(match.start("device"), match.end("device"), device_path(found.stable)))
    after = spliced(file.text, splices)
    return None if after == file.text else EditFile(file.resolved, file.text, after, WHY)


def _unresolved(named: _Named, file: TextFile, names: DeviceNames) -> Iterator[Finding]:
    for match in _matches(named, file):
        found = names.resolve(match["device"], named.fstype)
        if found is not None and found.stable is None:
            line = file.text.count("\n", 0, match.start("device")) + 1
            message = f"{file.path} line {line} names {match['device']}: {found.problem}"
            yield Finding(f"linux.{named.noun}.unresolved", message, HINT_MISSING)


def _unit_names(facts: GuestFacts, names: DeviceNames) -> Iterator[Finding]:
    """A swap unit is called like its device (systemd.swap(5)): with another name in it, systemd refuses it."""
    for file in _files(facts, (f"{UNITS}/*.swap",)):
        what = keyfile.first(keyfile.parse(file.text), "Swap", "What")
        if names.resolve(what) is not None:
            message = f"{file.path} is for {what} and named after it, so the swap area is not used on KVM"
            yield Finding("linux.unit.swap-named-after-device", message, "Put the swap area into /etc/fstab by UUID.")
    for file in _files(facts, tuple(f"{UNITS}/*.{kind}" for kind in ("mount", "automount", "swap"))):
        for unit in sorted(set(_UNIT_OF_DEVICE.findall(file.text))):
            message = f"{file.path} waits for {unit}, which may not be there on KVM"
            yield Finding("linux.unit.waits-for-device", message, HINT_EDIT)


def _remarks(facts: GuestFacts, names: DeviceNames) -> Iterator[Finding]:
    for path, noun, why in REMARKED:
        file = facts.texts.get(path)
        for number, line in enumerate(file.text.split("\n") if file else (), start=1):
            words = _WORD.findall(line.partition("#")[0])
            device = next((word for word in words if names.resolve(word) is not None), None)
            if device is not None:
                yield Finding(f"linux.{noun}.names-device", f"{path} line {number} names {device}: {why}", HINT_EDIT)


def _multipath(facts: GuestFacts) -> Iterator[Finding]:
    """Disks on KVM have no WWID that multipath knows, so its maps are not made."""
    table = facts.texts.get(FSTAB)
    named = [e for e in parse_fstab(table.text) if e.spec.startswith("/dev/mapper/mpath")] if table else []
    if named and any(path in facts.texts for path in MULTIPATH_CONFIGS):
        where = ", ".join(f"{entry.spec} at {entry.mountpoint}" for entry in named[:4])
        yield Finding(
            "linux.multipath.named",
            f"{FSTAB} mounts multipath's {where}; its maps do not exist on KVM, where a disk has one path",
            "Where the line could be resolved it is edited; otherwise name the file system by UUID in the guest.",
        )
