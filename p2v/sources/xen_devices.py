"""Xen's words for drives and network cards.

Sources: xl-disk-configuration(5), with its section on deprecated syntax (prefixes, a device type behind a colon), and
xl-network-configuration(5). A parameter without ``=`` goes to the next of target, format, vdev and access that has no value yet;
``target=`` takes all of the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from converters.source_file import shown
from p2v.core.drive_letters import drive_index
from p2v.machine import Attachment, DriveKind, Nic, RemovableDrive, SourceBus
from p2v.sources.draft import Draft

# What xm wrote before a target, and the format that it stands for; None: looked up by a script, so that it is no file.
_PREFIXES = {
    "phy": "raw", "file": "raw", "aio": "raw", "raw": "raw", "qcow": "qcow", "qcow2": "qcow2", "vhd": "vhd", "vmdk": "vmdk",
    "qed": "qed", "tap": "raw", "tap2": "raw", "ioemu": "", "tapdisk": "raw", "sync": "raw", "ram": "raw",
}  # fmt: skip
_FORMATS = {"raw": "raw", "qcow": "qcow", "qcow2": "qcow2", "vhd": "vhd", "qed": "qed", "vmdk": "vmdk", "": "raw", "empty": "raw"}
_LONGEST_ENTRY = 8192
_POSITIONS = ("target", "format", "vdev", "access")
_FLAGS = ("discard", "no-discard", "direct-io-safe", "colo", "no-colo")
_PREFIX = re.compile(r"([a-z][a-z0-9-]*):(?!//)")
_VDEV = re.compile(r"(?:ioemu:)?(xvd|hd|sd|vd)([a-z]{1,3})(\d{1,3})?")
_NUMBERED_VDEV = re.compile(r"d(\d{1,4})p(\d{1,3})")
_BUSES = {"xvd": SourceBus.XEN, "hd": SourceBus.IDE, "sd": SourceBus.SCSI, "vd": SourceBus.VIRTIO}


@dataclass(frozen=True, slots=True)
class Drive:
    """One entry of ``disk``. ``format``: as we call it; ``away``: why its target is no file, empty where it is one."""

    target: str
    format: str
    vdev: str
    access: str
    is_removable: bool
    away: str = ""

    @property
    def attachment(self) -> Attachment:
        """Where it hung, from its name in the guest."""
        if (match := _VDEV.fullmatch(self.vdev)) is not None:
            bus, number = _BUSES[match[1]], drive_index(match[2])
            return Attachment(bus, number // 2, number % 2) if bus is SourceBus.IDE else Attachment(bus, 0, number)
        if (match := _NUMBERED_VDEV.fullmatch(self.vdev)) is not None:
            return Attachment(SourceBus.XEN, 0, int(match[1]))
        return Attachment(SourceBus.UNKNOWN)

    @property
    def rank(self) -> tuple[bool, int]:
        """Its place for a firmware: ``xvda`` to ``xvdd`` are IDE disks at first, as ``hda`` to ``hdd`` are."""
        at = self.attachment
        number = 2 * at.controller + at.unit
        return at.bus not in (SourceBus.IDE, SourceBus.XEN), number

    @property
    def partition(self) -> int:
        """The number of the partition as which the guest sees the target; 0 where it sees a disk."""
        if (match := _VDEV.fullmatch(self.vdev)) is not None:
            return int(match[3] or 0)
        match = _NUMBERED_VDEV.fullmatch(self.vdev)
        return int(match[2]) if match is not None else 0


def drive_of(text: str) -> Drive:
    """A drive from its entry."""
    values, rest = _prefixed(text)
    has_format = "format" in values
    for word in _words(rest):
        key, is_named, value = word.partition("=")
        key = key.strip().lower()
        if is_named and re.fullmatch(r"[a-z-]+", key):
            values.setdefault(key, value.strip())
        elif word.strip().lower() == "cdrom":
            values.setdefault("devtype", "cdrom")
        elif word.strip().lower() in _FLAGS:
            continue
        else:
            free = next((name for name in _POSITIONS if name not in values and not (name == "format" and has_format)), "")
            values.setdefault(free or "?", word.strip())
    vdev, _, devtype = values.get("vdev", "").lower().removeprefix("ioemu:").partition(":")
    kind = values.get("devtype", "").lower() or devtype
    stated = values.get("format", "").lower()
    return Drive(values.get("target", ""), _FORMATS.get(stated, stated), vdev, values.get("access", "").lower(),
                 kind in ("cdrom", "floppy") or vdev.startswith("fd"), _away(values))  # fmt: skip


def _prefixed(text: str) -> tuple[dict[str, str], str]:
    """The prefixes of an old entry taken off: the format they say, or the script that finds the target."""
    values: dict[str, str] = {}
    rest = text.strip()
    while (match := _PREFIX.match(rest)) is not None:
        if match[1] not in _PREFIXES:
            return {"script": match[1]}, rest[match.end() :]
        rest = rest[match.end() :]
        if _PREFIXES[match[1]]:
            values["format"] = _PREFIXES[match[1]]
    return values, rest


def _words(text: str) -> Iterator[str]:
    while text:
        if (match := re.match(r"\s*target\s*=", text)) is not None:
            yield "target=" + text[match.end() :]
            return
        word, comma, text = text.partition(",")
        yield word
        if comma and not text:
            yield ""


def _away(values: dict[str, str]) -> str:
    if values.get("script"):
        return f"{values['script']} {values.get('target', '')}"
    backend = values.get("backend", "")
    if backend.lower() not in ("", "0", "dom0", "domain-0"):
        return f"{values.get('target', '')} of the domain {backend}"
    return ""


def add_drives(draft: Draft, entries: tuple[str, ...], *, is_full: bool) -> tuple[RemovableDrive, ...]:
    """Take the disks in; the removable drives. A firmware tries disks by their names, Xen's loaders the first that is listed."""
    removable: list[RemovableDrive] = []
    if any(len(entry) > _LONGEST_ENTRY for entry in entries):
        raise draft.description.error(f"has an entry of {_LONGEST_ENTRY} letters and more in its list of disks")
    drives = [drive_of(entry) for entry in entries]
    for drive in sorted(drives, key=lambda each: each.rank) if is_full else drives:
        if drive.is_removable:
            kind = DriveKind.FLOPPY if drive.vdev.startswith("fd") else DriveKind.CDROM
            removable.append(RemovableDrive(kind, drive.target, drive.attachment))
        elif drive.away:
            draft.disk_elsewhere(drive.away)
        elif not drive.target:
            draft.warn("drive-empty", f"the drive {drive.vdev or '?'} names no file and is left out")
        else:
            _add_disk(draft, drive)
    return tuple(removable)


def _add_disk(draft: Draft, drive: Drive) -> None:
    if drive.access == "w!":
        draft.disk_shared(drive.vdev)
    if drive.access in ("r", "ro"):
        draft.warn("disk-mode", f"the disk {drive.vdev} could not be written to; its copy can be")
    if drive.partition:
        draft.warn(
            "disk-partition",
            f"the disk {drive.vdev} was shown to the guest as a partition: it has no partition table and no boot sector",
            "Copy it into a partition of a disk with a boot loader before the machine is converted.",
        )
    known = drive.format if drive.format in _FORMATS.values() else None
    if known is None:
        text = f"the disk {drive.vdev} has the format {shown(drive.format)}, which is not known here; its contents tell"
        draft.warn("disk-format", text)
    draft.warn_of_place(drive.target, draft.add_disk(drive.target, drive.attachment, input_format=known))


def add_nics(draft: Draft, entries: tuple[str, ...], count: int, *, is_full: bool) -> None:
    """Take the network cards in; ``count`` has empty entries too, which are cards with defaults."""
    for entry in (*entries, *("" for _ in range(max(0, min(count, 256) - len(entries))))):
        values = {key.strip().lower(): value.strip() for key, _, value in (word.partition("=") for word in entry.split(","))}
        kind = values.get("type", "").lower()
        # a full guest without a word about it has an emulated card, and the same one paravirtual beside it
        model = values.get("model", "") or ("netfront" if kind in ("vif", "netfront") or not is_full else "rtl8139")
        network = values.get("bridge") or values.get("script", "").rpartition("/")[2] or "xenbr0"
        tag = values.get("vlan", "")
        draft.add_nic(Nic(draft.mac(values.get("mac")), f"{network}.{tag}" if tag else network, model))
