"""VirtualBox machines: the .vbox of 4.0 and newer, and the .xml of the versions before, settings versions 1.2 to 1.19.

Source: Oracle's schema of the settings files (VirtualBox-settings.xsd), whose defaults changed with the settings version (those of
network cards with 1.16), and the manual's chapters on storage, networks and snapshots. The machine as it is now is
what stands in ``Machine`` itself; its ``Snapshot`` elements describe earlier states. Disks are named by number: the media registry
says where they are, and a disk that is the child of another finds its parent by what is in its header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from converters.source_file import shown
from p2v.core.units import MIB
from p2v.machine import Attachment, Clock, DriveKind, Firmware, Machine, Nic, RemovableDrive, Smbios, SourceBus
from p2v.sources.description import Description
from p2v.sources.draft import CPUS_AT_MOST, MEMORY_AT_MOST_BYTES, Draft
from p2v.sources.smbios import smbios_of
from p2v.sources.uefi_variables import Nvram, uefi_variables
from p2v.sources.virtualbox_media import GLOBAL_REGISTRY, Media, chain_of, key_of, media_of, media_of_all_machines
from p2v.sources.xml_text import attribute, below, child, children, from_first_tag, is_on, local, parse

KIND = "VirtualBox machine (.vbox)"

_ROOT = re.compile(r"<(?:\w+:)?VirtualBox[\s>]")
_MACHINE = re.compile(r"<(?:\w+:)?Machine(Encrypted)?[\s>]")
_DMI = re.compile(r"VBoxInternal/Devices/(?:pcbios|efi)/0/Config/Dmi([A-Za-z]{1,40})")
_CONTROLLERS_AT_MOST = 64
_BUSES = {
    "piix3": SourceBus.IDE,
    "piix4": SourceBus.IDE,
    "ich6": SourceBus.IDE,
    "ahci": SourceBus.SATA,
    "lsilogic": SourceBus.SCSI,
    "lsilogicsas": SourceBus.SCSI,
    "buslogic": SourceBus.SCSI,
    "usb": SourceBus.USB,
    "nvme": SourceBus.NVME,
    "virtioscsi": SourceBus.SCSI,
    "i82078": SourceBus.FLOPPY,
}
# The order in which the BIOS takes disks.
_ORDER = (SourceBus.IDE, SourceBus.SATA, SourceBus.SCSI, SourceBus.NVME, SourceBus.USB, SourceBus.UNKNOWN, SourceBus.FLOPPY)
_NETWORK_NAMES = {
    "BridgedInterface": "name",
    "HostInterface": "name",  # the word for bridged before settings version 1.8
    "InternalNetwork": "name",
    "HostOnlyInterface": "name",
    "HostOnlyNetwork": "name",
    "NATNetwork": "name",
    "CloudNetwork": "name",
    "GenericInterface": "driver",
    "VDE": "network",
}
# From this version on cards without a word about it are PCnet-FAST III, their cable plugged in (VirtualBox 5.1).
_NEW_NIC_DEFAULTS = 16


@dataclass(frozen=True, slots=True)
class _Drive:
    """One attached device; ``image`` is its medium's key, empty for none and for the host's own drive."""

    kind: str
    image: str
    attachment: Attachment
    bootable: bool = True

    @property
    def rank(self) -> tuple[bool, int, int, int]:
        """Its place in the order in which the BIOS takes disks."""
        at = self.attachment
        return not self.bootable, _ORDER.index(at.bus), at.controller, at.unit


def recognises(head: bytes) -> bool:
    """Whether a file's first bytes begin a machine's settings; VirtualBox.xml, the settings of all of them, is none."""
    text = from_first_tag(head)
    return _ROOT.match(text) is not None and _MACHINE.search(text) is not None


def read(description: Description) -> Machine:
    """The machine. Raises BadDescription, ForbiddenReference."""
    root = parse(description)
    if child(root, "MachineEncrypted") is not None:
        raise description.error("is encrypted as a whole", "Remove the encryption in VirtualBox (Settings, Disk Encryption) first.")
    machine = child(root, "Machine")
    hardware = child(machine, "Hardware")
    if local(root) != "VirtualBox" or machine is None or hardware is None:
        raise description.error("has no machine in it")
    draft = Draft(description, KIND)
    _state(draft, machine)
    drives = list(_drives(draft, machine, hardware))
    media = _media(draft, machine, drives)
    for drive in sorted(drives, key=lambda each: each.rank):
        if drive.kind == "HardDisk":
            _add_disk(draft, media, drive)
    _add_nics(draft, root, hardware)
    _what_stays(draft, machine, hardware)
    firmware = _firmware(draft, hardware)
    nvram = _nvram(draft, machine, hardware) if firmware is Firmware.UEFI else Nvram()
    cpus = draft.number(_value(hardware, "CPU", "count"), "CPU count", 1, CPUS_AT_MOST) or 1
    megabytes = draft.number(_value(hardware, "Memory", "RAMSize"), "RAMSize", 4, MEMORY_AT_MOST_BYTES // MIB)
    return draft.finish(
        attribute(machine, "name") or "",
        cpus,
        megabytes * MIB if megabytes else None,
        firmware=firmware,
        tpm=has_tpm(hardware),
        uuid=smbios_uuid(draft, machine, attribute(machine, "OSType") or ""),
        guest=attribute(machine, "OSType") or "",
        clock=clock_of(hardware),
        display=_value(hardware, "Display", "controller") or "",
        removable=tuple(_removable(media, drive) for drive in drives if drive.kind != "HardDisk"),
        smbios=smbios_of(draft, smbios_stated(machine)),
        nvram=nvram.path,
        variables=nvram.variables,
    )


def _value(hardware: Element | None, name: str, key: str) -> str | None:
    return attribute(next(below(hardware, name), None), key)


def _state(draft: Draft, machine: Element) -> None:
    state = attribute(machine, "stateFile")
    if state:
        draft.block(
            "suspended",
            f"the machine's state is saved ({shown(state)}): its memory is not on its disks",
            "Start it, shut its system down, then try again.",
        )
    if is_on(machine, "aborted"):
        draft.warn("aborted", "VirtualBox ended while the machine ran: its file systems are as after a power cut")
    snapshots = sum(1 for _ in below(machine, "Snapshot"))
    if snapshots:
        draft.warn("snapshots", f"the machine is converted as it is now; its snapshots ({snapshots}) do not travel")


def _drives(draft: Draft, machine: Element, hardware: Element) -> Iterator[_Drive]:
    controllers: list[Element] = []
    for place in (machine, hardware):
        for group in children(place, "StorageControllers"):
            controllers += children(group, "StorageController")
    if len(controllers) > _CONTROLLERS_AT_MOST:
        raise draft.description.error(f"has more than {_CONTROLLERS_AT_MOST} storage controllers")
    counts: dict[SourceBus, int] = {}
    for controller in controllers:
        model = attribute(controller, "type") or ""
        bus = _BUSES.get(model.lower(), SourceBus.UNKNOWN)
        number = counts.get(bus, 0)
        counts[bus] = number + 1
        for device in children(controller, "AttachedDevice"):
            yield _attached(draft, device, bus, number, model, bootable=is_on(controller, "Bootable", default=True))
    yield from _old_drives(draft, machine, hardware)


def _attached(draft: Draft, device: Element, bus: SourceBus, number: int, model: str, *, bootable: bool) -> _Drive:
    port = draft.number(attribute(device, "port"), "a drive's port", 0, 255) or 0
    unit = draft.number(attribute(device, "device"), "a drive's device", 0, 255) or 0
    at = Attachment(bus, 2 * number + port, unit, model) if bus is SourceBus.IDE else Attachment(bus, number, port or unit, model)
    return _Drive(attribute(device, "type") or "HardDisk", key_of(attribute(child(device, "Image"), "uuid")), at, bootable)


def _old_drives(draft: Draft, machine: Element, hardware: Element) -> Iterator[_Drive]:
    """Drives as they were written before settings versions 1.7 (disks) and 1.9 (removable ones)."""
    ide = _value(hardware, "IDEController", "type") or ""
    attachments = next((e for place in (machine, hardware) for e in children(place, "HardDiskAttachments")), None)
    for element in children(attachments, "HardDiskAttachment"):
        bus = (attribute(element, "bus") or "").lower()
        unit_text = {"master": "0", "slave": "1"}.get(attribute(element, "device") or "", attribute(element, "device"))
        unit = draft.number(unit_text, "a disk's device", 0, 255) or 0
        channel = draft.number(attribute(element, "channel"), "a disk's channel", 0, 255) or int(bus == "ide1")
        at = Attachment(SourceBus.SATA, 0, channel, "AHCI") if bus == "sata" else Attachment(SourceBus.IDE, channel, unit, ide)
        yield _Drive("HardDisk", key_of(attribute(element, "hardDisk")), at)
    for name, at in (("DVDDrive", Attachment(SourceBus.IDE, 1, 0, ide)), ("FloppyDrive", Attachment(SourceBus.FLOPPY))):
        drive = child(hardware, name)
        if drive is not None and is_on(drive, "enabled", default=name == "DVDDrive"):
            yield _Drive(name.removesuffix("Drive"), key_of(attribute(child(drive, "Image"), "uuid")), at)


def _media(draft: Draft, machine: Element, drives: list[_Drive]) -> Media:
    media = media_of(machine)
    disks = [drive.image for drive in drives if drive.kind == "HardDisk" and drive.image]
    if any(key not in media for key in disks):
        media = media_of_all_machines(draft) | media
    unknown = [key for key in disks if key not in media or not media[key].location]
    if unknown:
        raise draft.description.error(
            f"names disks by numbers alone that no registry explains: {', '.join(shown(key) for key in unknown[:8])}",
            f"Copy {GLOBAL_REGISTRY} (in the user's VirtualBox folder on the old host) beside it, or name the disks themselves.",
        )
    return media


def _add_disk(draft: Draft, media: Media, drive: _Drive) -> None:
    if not drive.image:
        draft.warn("drive-empty", f"a disk of the {drive.attachment.model} controller names no image and is left out")
        return
    medium, chain = media[drive.image], list(chain_of(media, drive.image))
    if any(each.encrypted for each in chain):
        draft.block(
            "encrypted",
            f"the disk {shown(medium.location)} is encrypted by VirtualBox",
            "Remove the encryption in VirtualBox (Settings, Disk Encryption) first.",
        )
    kinds = {each.kind.lower() for each in chain}
    if "shareable" in kinds:
        draft.disk_shared(medium.location)
    if "immutable" in kinds:
        draft.warn("disk-mode", f"the disk {shown(medium.location)} is immutable: each start threw away what was written since")
    if medium.format.lower() == "iscsi":
        draft.disk_elsewhere(f"iSCSI {medium.location}")
        return
    # a raw image may hold anything, also what looks like the header of another format
    draft.add_disk(medium.location, drive.attachment, input_format="raw" if medium.format.lower() == "raw" else None)


def _add_nics(draft: Draft, root: Element, hardware: Element) -> None:
    version = re.match(r"1\.(\d{1,4})", attribute(root, "version") or "")
    is_new = version is None or int(version[1]) >= _NEW_NIC_DEFAULTS
    numbered = []
    for adapter in children(child(hardware, "Network"), "Adapter"):
        slot = draft.number(attribute(adapter, "slot"), "a network card's slot", 0, 255)
        if is_on(adapter, "enabled"):
            numbered.append((slot or 0, adapter))
    for _, adapter in sorted(numbered, key=lambda each: each[0]):
        model = attribute(adapter, "type") or ("Am79C973" if is_new else "Am79C970A")
        mode = next((each for each in adapter if local(each) != "DisabledModes"), None)
        cable = is_on(adapter, "cable", default=is_new)
        draft.add_nic(Nic(draft.mac(attribute(adapter, "MACAddress")), _network(mode), model, cable and mode is not None))


def _network(mode: Element | None) -> str:
    if mode is None:
        return "default"
    named = attribute(mode, _NETWORK_NAMES.get(local(mode), ""))
    return named or local(mode)


def _firmware(draft: Draft, hardware: Element) -> Firmware:
    kind = (_value(hardware, "Firmware", "type") or "BIOS").upper()
    if kind == "EFI32":
        draft.warn("firmware-32", "the machine has a 32-bit UEFI; a boot loader for it does not start in KVM's 64-bit one")
    return Firmware.BIOS if kind == "BIOS" else Firmware.UEFI


def smbios_stated(machine: Element) -> Smbios:
    """What was set by ``VBoxManage setextradata`` (manual, "Changing the BIOS DMI Information"), also in an OVF."""
    told: dict[str, str] = {}
    for item in children(child(machine, "ExtraData"), "ExtraDataItem"):
        if match := _DMI.fullmatch(attribute(item, "name") or ""):
            # a number that is meant as a text is written so
            value = (attribute(item, "value") or "").removeprefix("string:")
            told[match[1]] = "" if value == "<EMPTY>" else value
    keys = ("SystemVendor", "SystemProduct", "SystemVersion", "SystemSerial", "SystemSKU", "SystemFamily", "BoardSerial",
            "BoardAssetTag", "ChassisSerial", "ChassisAssetTag")  # fmt: skip
    return Smbios(*(told.get(key, "") for key in keys))


def _nvram(draft: Draft, machine: Element, hardware: Element) -> Nvram:
    """Its path is left out where it is the machine's name beside the settings."""
    stated = _value(hardware, "NVRAM", "path") or ""
    return uefi_variables(draft, stated or f"{attribute(machine, 'name') or ''}.nvram", is_stated=bool(stated))


def smbios_uuid(draft: Draft, machine: Element, guest: str) -> str | None:
    """The number that the guest saw, of a ``Machine``, also in an OVF. The hardware's is there where it differs from the machine's.

    VirtualBox's SMBIOS is 2.5, which other systems than Windows read as big-endian, whichever way it was written.
    """
    hardware = child(machine, "Hardware")
    is_little = is_on(next(below(hardware, "SmbiosUuidLittleEndian"), None), "enabled")
    is_windows = guest.lower().startswith("win")
    return draft.uuid(attribute(hardware, "uuid") or attribute(machine, "uuid"), swapped=is_little is not is_windows)


def clock_of(hardware: Element | None) -> Clock:
    """What the hardware clock shows; the settings leave out what is the default."""
    return Clock.UTC if (_value(hardware, "RTC", "localOrUTC") or "").upper() == "UTC" else Clock.LOCAL_TIME


def has_tpm(hardware: Element | None) -> bool:
    """Whether the machine has a TPM, of whatever kind."""
    return (_value(hardware, "TrustedPlatformModule", "type") or "none").lower() != "none"


def _removable(media: Media, drive: _Drive) -> RemovableDrive:
    kind = DriveKind.FLOPPY if drive.kind == "Floppy" else DriveKind.CDROM
    return RemovableDrive(kind, media[drive.image].location if drive.image in media else "", drive.attachment)


def _what_stays(draft: Draft, machine: Element, hardware: Element) -> None:
    """Parts that have no counterpart, or that stand for things of the old host."""
    for name, what in (("UART", "serial port"), ("Uart", "serial port"), ("LPT", "parallel port"), ("Lpt", "parallel port")):
        for port in children(child(hardware, name), "Port"):
            target = attribute(port, "path")
            if is_on(port, "enabled") and target and (attribute(port, "hostMode") or "").lower() != "disconnected":
                draft.port_stays(what, target)
    for place in (machine, hardware):
        for folder in children(child(place, "SharedFolders"), "SharedFolder"):
            draft.shared_folder(attribute(folder, "hostPath") or attribute(folder, "name") or "")
    for device in children(child(hardware, "HostPci", "Devices"), "Device"):
        draft.passed_through(f"PCI {attribute(device, 'name') or attribute(device, 'host') or ''}")
    if has_tpm(hardware):
        draft.tpm_is_emptied()
