"""VMware's .vmx: Workstation, Player, Fusion, ESX(i), GSX Server. Key = "value" lines, names in any mix of cases.

Sources: VMware's Workstation and GSX Server manuals (configuration file options), Broadcom's knowledge base articles on
single keys (cited where they are used), and files written by the products. The current disks are those the file names:
after a snapshot they are delta disks, whose chain the VMDK reader follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from converters.vmdk_descriptor import decoded
from p2v.core.units import MIB
from p2v.machine import Attachment, Clock, DriveKind, Firmware, Machine, Nic, RemovableDrive, SourceBus, Topology
from p2v.sources.description import Description
from p2v.sources.draft import CPUS_AT_MOST, MEMORY_AT_MOST_BYTES, Draft

KIND = "VMware virtual machine (.vmx)"

_LINES_AT_MOST = 20_000
_LINE = re.compile(r"^\s*([A-Za-z.][\w.:\-]*)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|(.*?))\s*$")
_TELLING = re.compile(rb"^[ \t]*(config\.version|virtualhw\.version|displayname|memsize)[ \t]*=[ \t]*\"", re.MULTILINE)
# A quote and a bar in a value are written as their codes.
_CODE = re.compile(r"\|([0-9A-Fa-f]{2})")
_DRIVE = re.compile(r"^(scsi|ide|sata|nvme)(\d{1,2}):(\d{1,3})\.")
_NIC = re.compile(r"^ethernet(\d{1,2})\.")
_ON = frozenset({"true", "yes", "on", "1", "t", "y"})
# What stands for "nothing is in it" and "the host's own drive".
_NO_MEDIUM = frozenset({"", "auto detect", "emptybackingstring", "none"})
_BUSES = {"scsi": SourceBus.SCSI, "ide": SourceBus.IDE, "sata": SourceBus.SATA, "nvme": SourceBus.NVME}
# The order in which VMware's BIOS tries disks where bios.hddOrder says nothing: controllers by kind, then by number.
_ORDER = ("scsi", "nvme", "sata", "ide")
_RAW_DEVICES = ("rawdisk", "physicaldrive", "scsi-passthru", "scsi-passthrough", "ata-harddisk-raw")
# The id of Windows guests' families begins so; their hardware clock shows local time.
_WINDOWS = ("win", "whistler", "longhorn", "nt")


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of a .vmx by their keys in small letters."""

    values: dict[str, str]

    def text(self, key: str) -> str:
        """The value, empty where there is none."""
        return self.values.get(key, "")

    def is_on(self, key: str, *, default: bool = False) -> bool:
        """A yes-or-no value."""
        value = self.values.get(key)
        return default if value is None or not value.strip() else value.strip().lower() in _ON


def recognises(head: bytes) -> bool:
    """Whether a file's first bytes begin a .vmx: it says its own or the hardware's version, or where its disks hang."""
    text = head.removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"\n").lower()
    if b"\0" in text or text.lstrip().startswith(b"<"):
        return False
    return _TELLING.search(text) is not None


def parse(description: Description) -> Settings:
    """The settings. Of a key that comes twice the last counts, as VMware takes it. Raises BadDescription."""
    text, _ = decoded(description.data)
    lines = re.split(r"[\r\n]+", text)
    if len(lines) > _LINES_AT_MOST:
        raise description.error(f"has more than {_LINES_AT_MOST} lines")
    values: dict[str, str] = {}
    for line in lines:
        if (match := _LINE.match(line)) is not None:
            value = match[2] if match[2] is not None else match[3]
            values[match[1].lower()] = _CODE.sub(lambda code: chr(int(code[1], 16)), value)
    return Settings(values)


def read(description: Description) -> Machine:
    """The machine. Raises BadDescription, ForbiddenReference."""
    settings = parse(description)
    draft = Draft(description, KIND)
    _state(draft, settings)
    drives = list(_drives(draft, settings))
    for drive in _in_boot_order(drives, settings.text("bios.hddorder")):
        if drive.kind is None:
            _add_disk(draft, settings, drive)
    for number in sorted({int(m[1]) for key in settings.values if (m := _NIC.match(key))}):
        _add_nic(draft, settings, f"ethernet{number}")
    _what_stays(draft, settings)
    cpus = draft.number(settings.text("numvcpus"), "numvcpus", 1, CPUS_AT_MOST) or 1
    megabytes = draft.number(settings.text("memsize"), "memsize", 4, MEMORY_AT_MOST_BYTES // MIB)
    machine = draft.finish(settings.text("displayname"), cpus, megabytes * MIB if megabytes else None)
    firmware = Firmware.UEFI if settings.text("firmware").strip().lower() == "efi" else Firmware.BIOS
    return replace(
        machine,
        firmware=firmware,
        secure_boot=firmware is Firmware.UEFI and settings.is_on("uefi.secureboot.enabled"),
        tpm=settings.is_on("vtpm.present"),
        uuid=draft.uuid(settings.text("uuid.bios")),
        generation_id=_generation_id(settings),
        guest=settings.text("guestos"),
        topology=_topology(draft, settings, cpus),
        clock=Clock.LOCAL_TIME if settings.text("guestos").lower().startswith(_WINDOWS) else Clock.UTC,
        removable=(*(_removable(d) for d in drives if d.kind is not None), *_floppies(settings)),
        warnings=tuple(draft.warnings),
    )


@dataclass(frozen=True, slots=True)
class _Drive:
    """One device of a controller; ``kind`` None: a fixed disk."""

    bus: str
    controller: int
    unit: int
    name: str
    kind: DriveKind | None
    device: str
    model: str

    @property
    def key(self) -> str:
        return f"{self.bus}{self.controller}:{self.unit}"

    @property
    def attachment(self) -> Attachment:
        return Attachment(_BUSES[self.bus], self.controller, self.unit, self.model)


def _drives(draft: Draft, settings: Settings) -> Iterator[_Drive]:
    places = {(m[1], int(m[2]), int(m[3])) for key in settings.values if (m := _DRIVE.match(key))}
    for bus, controller, unit in sorted(places):
        key = f"{bus}{controller}:{unit}"
        # IDE controllers are always there; the others are said to be
        if not settings.is_on(f"{key}.present") or not (bus == "ide" or settings.is_on(f"{bus}{controller}.present")):
            continue
        device = settings.text(f"{key}.devicetype").strip().lower()
        removable = "cdrom" in device or device == "atapi-cdrom"
        name = settings.text(f"{key}.filename").strip()
        if not removable and name.lower() in _NO_MEDIUM:
            draft.warn("drive-empty", f"the drive {key} names no file and is left out")
            continue
        kind = DriveKind.CDROM if removable else None
        yield _Drive(bus, controller, unit, name, kind, device, settings.text(f"{bus}{controller}.virtualdev"))


def _in_boot_order(drives: list[_Drive], stated: str) -> list[_Drive]:
    """Disks as the firmware tries them: those that bios.hddOrder names first (KB 1011654), then by controller."""
    first = [key.strip().lower() for key in stated.split(",") if key.strip()]

    def rank(drive: _Drive) -> tuple[int, int, int, int]:
        place = first.index(drive.key) if drive.key in first else len(first)
        return place, _ORDER.index(drive.bus), drive.controller, drive.unit

    return sorted(drives, key=rank)


def _add_disk(draft: Draft, settings: Settings, drive: _Drive) -> None:
    shared = settings.text(f"{drive.bus}{drive.controller}.sharedbus").strip().lower()
    if shared in ("virtual", "physical") or settings.text(f"{drive.key}.sharing").strip().lower() == "multi-writer":
        draft.warn(
            "disk-shared",
            f"the disk {drive.key} is shared with other machines; the copy is this machine's own",
            "Shut the others down before it is copied, and decide which of them keeps the data.",
        )
    if any(drive.device.startswith(raw) for raw in _RAW_DEVICES):
        draft.warn("disk-raw", f"the disk {drive.key} stands for a device of the old host; its contents are copied if it is there")
    mode = settings.text(f"{drive.key}.mode").strip().lower()
    if mode in ("undoable", "independent-nonpersistent", "nonpersistent", "append"):
        draft.warn("disk-mode", f"the disk {drive.key} is in the mode {mode}: what was not written back to it does not travel")
    redo = settings.text(f"{drive.key}.redo").strip()
    if redo and draft.description.disk(redo) is not None:
        draft.block(
            "redo-log",
            f"the disk {drive.key} has a redo log ({PurePosixPath(redo).name}) that is neither kept nor thrown away",
            "Power the machine on and off once where it runs, and say there what becomes of the changes.",
        )
    draft.add_disk(drive.name, drive.attachment)


def _add_nic(draft: Draft, settings: Settings, key: str) -> None:
    if not settings.is_on(f"{key}.present"):
        return
    kind = settings.text(f"{key}.addresstype").strip().lower()
    # "static" has its address in .address, the generated kinds in .generatedAddress; either may be all there is
    keys = ("address", "generatedaddress") if kind == "static" else ("generatedaddress", "address")
    mac = next((draft.mac(settings.text(f"{key}.{k}")) for k in keys if settings.text(f"{key}.{k}").strip()), None)
    connection = settings.text(f"{key}.connectiontype").strip().lower() or "bridged"
    network = settings.text(f"{key}.networkname") or settings.text(f"{key}.vnet") or settings.text(f"{key}.dvs.portgroupid")
    model = settings.text(f"{key}.virtualdev").strip().lower() or "vlance"
    draft.add_nic(Nic(mac, network.strip() or connection, model, settings.is_on(f"{key}.startconnected", default=True)))


def _state(draft: Draft, settings: Settings) -> None:
    """Machines that must not be copied as they stand: running, suspended, encrypted."""
    name = draft.description.path.name
    names = draft.description.around.names()
    locks = [n for n in names if n.lower().startswith(f"{name.lower()}.lck/") or n.lower() == f"{name.lower()}.lck"]
    if locks:
        draft.block("running", f"{locks[0]} says that the machine is open in VMware", "Shut it down and close it there first.")
    state = settings.text("checkpoint.vmstate").strip()
    if state:
        draft.block(
            "suspended",
            f"the machine is suspended ({state}): its memory is not on its disks",
            "Resume it, shut its system down, then try again.",
        )
    if settings.text("encryption.keysafe") or settings.text("encryption.data"):
        draft.block("encrypted", "the machine is encrypted", "Remove the encryption in VMware (VM settings, Access Control) first.")


def _topology(draft: Draft, settings: Settings, cpus: int) -> Topology | None:
    cores = draft.number(settings.text("cpuid.corespersocket"), "cpuid.coresPerSocket", 1, cpus)
    if cores is None or cpus % cores:
        return None
    return Topology(cpus // cores, cores)


def _generation_id(settings: Settings) -> str | None:
    """The VM generation id: two signed 64-bit numbers, which make the UUID's halves."""
    halves = [settings.text(key).strip() for key in ("vm.genid", "vm.genidx")]
    if not all(re.fullmatch(r"-?\d{1,19}", half) for half in halves):
        return None
    first, second = (int(half) & (2**64 - 1) for half in halves)
    digits = f"{first:016x}{second:016x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _removable(drive: _Drive) -> RemovableDrive:
    medium = "" if drive.name.lower() in _NO_MEDIUM or "raw" in drive.device else drive.name
    return RemovableDrive(drive.kind or DriveKind.CDROM, medium, drive.attachment)


def _floppies(settings: Settings) -> Iterator[RemovableDrive]:
    for number in (0, 1):
        if settings.is_on(f"floppy{number}.present"):
            is_file = settings.text(f"floppy{number}.filetype").strip().lower() == "file"
            medium = settings.text(f"floppy{number}.filename").strip() if is_file else ""
            yield RemovableDrive(DriveKind.FLOPPY, medium, Attachment(SourceBus.FLOPPY, 0, number))


def _what_stays(draft: Draft, settings: Settings) -> None:
    """Parts that have no counterpart, or that stand for things of the old host."""
    for kind, what in (("serial", "serial port"), ("parallel", "parallel port")):
        for number in range(4):
            target = settings.text(f"{kind}{number}.filename").strip()
            if settings.is_on(f"{kind}{number}.present") and target and target.lower() != "auto detect":
                draft.warn("port", f"the {what} {kind}{number} leads to {target} on the old host, which stays there")
    passed = sorted({key.split(".")[0] for key in settings.values if key.startswith("pcipassthru")})
    for key in passed:
        if settings.is_on(f"{key}.present"):
            what = "a virtual GPU" if settings.text(f"{key}.vgpu") else "a PCI device of the old host"
            draft.warn("passthrough", f"{key} is {what}; it does not travel")
    if settings.is_on("vtpm.present"):
        draft.warn(
            "tpm",
            "what the machine's TPM holds does not travel: it gets an empty one",
            "Have recovery keys at hand for disks that are sealed to it (BitLocker, LUKS with TPM).",
        )
