"""VMware's .vmx: Workstation, Player, Fusion, ESX(i), GSX Server. Key = "value" lines, names in any mix of cases.

Sources: VMware's Workstation and GSX Server manuals (configuration file options), Broadcom's knowledge base articles on
single keys (cited where they are used), and files written by the products. The current disks are those the file names:
after a snapshot they are delta disks, whose chain the VMDK reader follows.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from converters.source_file import shown
from p2v.core.units import MIB
from p2v.machine import (
    Attachment,
    Clock,
    DriveKind,
    Firmware,
    Machine,
    Nic,
    RemovableDrive,
    Smbios,
    SourceBus,
    Topology,
)
from p2v.sources.description import Description
from p2v.sources.draft import CPUS_AT_MOST, MEMORY_AT_MOST_BYTES, Draft
from p2v.sources.smbios import smbios_of
from p2v.sources.uefi_variables import Nvram, uefi_variables
from p2v.sources.vmx_remarks import state, what_stays
from p2v.sources.vmx_settings import Settings, settings

KIND = "VMware virtual machine (.vmx)"

_TELLING = re.compile(rb"^[ \t]*(config\.version|virtualhw\.version|displayname|memsize)[ \t]*=[ \t]*\"", re.MULTILINE)
_DRIVE = re.compile(r"^(scsi|ide|sata|nvme)(\d{1,2}):(\d{1,3})\.")
_NIC = re.compile(r"^ethernet(\d{1,2})\.")
# What stands for "nothing is in it" and "the host's own drive".
_NO_MEDIUM = frozenset({"", "auto detect", "emptybackingstring", "none"})
_BUSES = {"scsi": SourceBus.SCSI, "ide": SourceBus.IDE, "sata": SourceBus.SATA, "nvme": SourceBus.NVME}
# The order in which VMware's BIOS tries disks where bios.hddOrder says nothing: controllers by kind, then by number.
_ORDERED_AT_MOST = 64
_ORDER = ("scsi", "nvme", "sata", "ide")
_PASSED = ("scsi-passthru", "scsi-passthrough")
_RAW_DEVICES = ("rawdisk", "physicaldrive", "ata-harddisk-raw", *_PASSED)
# The virtual hardware with which SMBIOS 2.7 came.
_SMBIOS_2_7 = 13
# The id of Windows guests' families begins so; their hardware clock shows local time.
_WINDOWS = ("win", "whistler", "longhorn", "nt")


def recognises(head: bytes) -> bool:
    """Whether a file's first bytes begin a .vmx: it says its own or the hardware's version, or where its disks hang."""
    # an editor of a Windows host may have saved it so; files copied off VMFS end in NULs
    text = head.decode("utf-16", "replace").encode() if head[:2] in (b"\xff\xfe", b"\xfe\xff") else head.rstrip(b"\0")
    text = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"\n").lower()
    if b"\0" in text or text.lstrip().startswith(b"<"):
        return False
    return _TELLING.search(text) is not None


def read(description: Description) -> Machine:
    """The machine. Raises BadDescription, ForbiddenReference."""
    vmx = settings(description, description.data)
    draft = Draft(description, KIND)
    state(draft, vmx)
    drives = list(_drives(draft, vmx))
    for drive in _in_boot_order(drives, vmx.word("bios.hddorder")):
        if drive.kind is None:
            _add_disk(draft, vmx, drive)
    for number in sorted({int(m[1]) for key in vmx.values if (m := _NIC.match(key))}):
        _add_nic(draft, vmx, f"ethernet{number}")
    what_stays(draft, vmx)
    firmware = _firmware(draft, vmx)
    nvram = _nvram(draft, vmx) if firmware is Firmware.UEFI else Nvram()
    cpus = draft.number(vmx.text("numvcpus"), "numvcpus", 1, CPUS_AT_MOST) or 1
    topology = _topology(draft, vmx, cpus)
    identity = _uuid(draft, vmx)
    # VMware gives a machine that states no memory 32 MB, in which hardly anything starts: the default is called one
    megabytes = draft.number(vmx.text("memsize"), "memsize", 4, MEMORY_AT_MOST_BYTES // MIB)
    return draft.finish(
        vmx.text("displayname"),
        cpus,
        megabytes * MIB if megabytes else None,
        firmware=firmware,
        secure_boot=firmware is Firmware.UEFI and vmx.is_on("uefi.secureboot.enabled"),
        tpm=vmx.is_on("vtpm.present") or vmx.word("managedvm.autoaddvtpm") == "software",
        uuid=identity,
        generation_id=_generation_id(vmx),
        guest=vmx.text("guestos"),
        topology=topology,
        clock=_clock(vmx),
        display="svga",
        removable=(*(_removable(d) for d in drives if d.kind is not None), *_floppies(vmx)),
        smbios=smbios_of(draft, _smbios(draft, vmx)),
        nvram=nvram.path,
        variables=nvram.variables,
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


def _drives(draft: Draft, vmx: Settings) -> Iterator[_Drive]:
    places = {(m[1], int(m[2]), int(m[3])) for key in vmx.values if (m := _DRIVE.match(key))}
    for bus, controller, unit in sorted(places):
        key = f"{bus}{controller}:{unit}"
        # IDE controllers are always there; the others are said to be
        if not vmx.is_on(f"{key}.present") or not (bus == "ide" or vmx.is_on(f"{bus}{controller}.present")):
            continue
        device = vmx.word(f"{key}.devicetype")
        removable = "cdrom" in device or device == "atapi-cdrom"
        # ESX 2 says LABEL:FILE in another key
        name = vmx.text(f"{key}.filename").strip() or vmx.text(f"{key}.name").strip().rpartition(":")[2]
        if device.startswith(_PASSED) and not name.lower().endswith(".vmdk"):
            draft.warn("passthrough", f"the drive {key} is a SCSI device of the old host ({name}); it does not travel")
            continue
        if not removable and name.lower() in _NO_MEDIUM:
            draft.warn("drive-empty", f"the drive {key} names no file and is left out")
            continue
        kind = DriveKind.CDROM if removable else None
        yield _Drive(bus, controller, unit, name, kind, device, vmx.text(f"{bus}{controller}.virtualdev"))


def _in_boot_order(drives: list[_Drive], stated: str) -> list[_Drive]:
    """Disks as the firmware tries them: those that bios.hddOrder names first (KB 1011654), then by controller."""
    first = [key.strip() for key in stated.split(",") if key.strip()][:_ORDERED_AT_MOST]

    def rank(drive: _Drive) -> tuple[int, int, int, int]:
        place = first.index(drive.key) if drive.key in first else len(first)
        return place, _ORDER.index(drive.bus), drive.controller, drive.unit

    return sorted(drives, key=rank)


def _add_disk(draft: Draft, vmx: Settings, drive: _Drive) -> None:
    shared = vmx.word(f"{drive.bus}{drive.controller}.sharedbus")
    if shared in ("virtual", "physical") or vmx.word(f"{drive.key}.sharing").endswith("multi-writer"):
        draft.warn(
            "disk-shared",
            f"the disk {drive.key} is shared with other machines; the copy is this machine's own",
            "Shut the others down before it is copied, and decide which of them keeps the data.",
        )
    if any(drive.device.startswith(raw) for raw in _RAW_DEVICES):
        draft.warn("disk-raw", f"the disk {drive.key} stands for a device of the old host; its contents are copied if it is there")
    mode = vmx.word(f"{drive.key}.mode")
    if mode in ("undoable", "independent-nonpersistent", "nonpersistent", "append"):
        draft.warn("disk-mode", f"the disk {drive.key} is in the mode {mode}: what was not written back to it does not travel")
    redo = vmx.text(f"{drive.key}.redo").strip()
    if redo and draft.description.disk(redo) is not None:
        name = PurePosixPath(redo.replace("\\", "/")).name
        draft.block(
            "redo-log",
            f"the disk {drive.key} has a redo log ({name}) that is neither kept nor thrown away",
            "Power the machine on and off once where it runs, and say there what becomes of the changes.",
        )
    draft.add_disk(drive.name, drive.attachment)


def _add_nic(draft: Draft, vmx: Settings, key: str) -> None:
    if not vmx.is_on(f"{key}.present"):
        return
    kind = vmx.word(f"{key}.addresstype")
    # "static" has its address in .address; "generated" by the host and by vCenter ("vpx") in .generatedAddress; either may be
    # all there is
    keys = ("address", "generatedaddress") if kind == "static" else ("generatedaddress", "address")
    mac = next((draft.mac(vmx.text(f"{key}.{k}")) for k in keys if vmx.text(f"{key}.{k}").strip()), None)
    connection = vmx.word(f"{key}.connectiontype") or "bridged"
    # port groups of ESXi, networks of Workstation, devices of ESX 2 and Linux hosts, ports of distributed switches
    names = (vmx.text(f"{key}.{k}").strip() for k in ("networkname", "vnet", "devname", "dvs.portgroupid"))
    network = next(filter(None, names), connection)
    # the default of 64-bit guests is another one (vSphere 4 administration guide, Network Adapter Types)
    model = vmx.word(f"{key}.virtualdev") or ("e1000" if vmx.word("guestos").endswith("-64") else "vlance")
    draft.add_nic(Nic(mac, network, model, vmx.is_on(f"{key}.startconnected", default=True)))


def _topology(draft: Draft, vmx: Settings, cpus: int) -> Topology | None:
    cores = draft.number(vmx.text("cpuid.corespersocket"), "cpuid.coresPerSocket", 1, cpus)
    if cores is None or cpus % cores:
        return None
    return Topology(cpus // cores, cores)


def _generation_id(vmx: Settings) -> str | None:
    """The VM generation id: two signed 64-bit numbers.

    The guest finds them in its memory one behind the other, lowest byte first, and takes the 16 bytes for a GUID, whose first
    three fields are numbers (Microsoft, Virtual Machine Generation ID).
    """
    halves = [vmx.text(key).strip() for key in ("vm.genid", "vm.genidx")]
    if not all(re.fullmatch(r"-?[0-9]{1,19}", half) for half in halves):
        return None
    numbers = (int(half) & (2**64 - 1) for half in halves)
    return str(uuid.UUID(bytes_le=b"".join(number.to_bytes(8, "little") for number in numbers)))


def _uuid(draft: Draft, vmx: Settings) -> str | None:
    """The SMBIOS UUID as the guest saw it.

    ``uuid.bios`` has the bytes of the table in their order; machines of GSX Server and ESX 2 may have ``uuid.location`` alone.
    Virtual hardware 13 (vSphere 6.5) went from SMBIOS 2.4 to 2.7, since when Linux reads the first three fields as numbers
    (VMware's KB 53609); Windows always did.
    """
    hardware = draft.number(vmx.text("virtualhw.version"), "virtualHW.version", 1, 1000) or 0
    stated = vmx.text("uuid.bios").strip() or vmx.text("uuid.location")
    return draft.uuid(stated, swapped=hardware >= _SMBIOS_2_7 or _is_windows(vmx))


def _firmware(draft: Draft, vmx: Settings) -> Firmware:
    stated = vmx.word("firmware")
    if stated not in ("", "bios", "efi"):
        draft.warn("firmware", f"the firmware is called {shown(stated)}, which is not known here; BIOS is taken")
    return Firmware.UEFI if stated == "efi" else Firmware.BIOS


def _smbios(draft: Draft, vmx: Settings) -> Smbios:
    """The serial number is made from ``uuid.bios`` unless another is stated (Fusion, for macOS) or the old host's was shown."""
    digits = re.sub(r"[^0-9a-f]", "", (vmx.text("uuid.bios") or vmx.text("uuid.location")).lower())
    octets = [digits[at : at + 2] for at in range(0, 32, 2)]
    serial = f"VMware-{' '.join(octets[:8])}-{' '.join(octets[8:])}" if len(digits) == 32 else ""
    is_short = vmx.is_on("smbios.useshortserialnumber") or vmx.is_on("smbios.use12charserialnumber")
    if vmx.is_on("serialnumber.reflecthost") or is_short:
        draft.warn("smbios", "the guest saw a serial number that the description does not say; it sees another one here")
        serial = ""
    elif stated := vmx.text("serialnumber").strip():
        serial = stated
    return Smbios(serial=serial, asset_tag=vmx.text("smbios.assettag"))


def _nvram(draft: Draft, vmx: Settings) -> Nvram:
    stated = vmx.text("nvram").strip()
    return uefi_variables(draft, stated or f"{draft.description.path.stem}.nvram", is_stated=bool(stated))


def _is_windows(vmx: Settings) -> bool:
    return vmx.word("guestos").startswith(_WINDOWS)


def _clock(vmx: Settings) -> Clock:
    offset = vmx.word("rtc.difffromutc")
    if re.fullmatch(r"[+-]?0+", offset):
        return Clock.UTC
    return Clock.LOCAL_TIME if offset or _is_windows(vmx) else Clock.UTC


def _removable(drive: _Drive) -> RemovableDrive:
    medium = "" if drive.name.lower() in _NO_MEDIUM or "raw" in drive.device else drive.name
    return RemovableDrive(drive.kind or DriveKind.CDROM, medium, drive.attachment)


def _floppies(vmx: Settings) -> Iterator[RemovableDrive]:
    for number in (0, 1):
        if vmx.is_on(f"floppy{number}.present"):
            is_file = vmx.word(f"floppy{number}.filetype") == "file"
            medium = vmx.text(f"floppy{number}.filename").strip() if is_file else ""
            yield RemovableDrive(DriveKind.FLOPPY, medium, Attachment(SourceBus.FLOPPY, 0, number))
