"""The devices of a Hyper-V configuration: which there are (``manifest``), and the settings of each (``_GUID_``).

The identifiers of device types are those that Hyper-V writes into every manifest beside their names; see ``hyperv``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from p2v.machine import Attachment, DriveKind, Nic, RemovableDrive, Smbios, SourceBus
from p2v.sources.draft import Draft
from p2v.sources.windows_files import WindowsFiles
from p2v.sources.xml_text import child, local, text

IDE = "83f8638b-8dca-4152-9eda-2ca8b33039b4"
SCSI = "d422512d-2bf2-4752-809d-7b82b5fcb1b4"
FLOPPY = "8f0d2762-0b00-4e04-af4f-19010527cb93"
SYNTHETIC_NIC = "2fc216b0-d2e2-4967-9b6d-b8a5c9ca2778"
SERIAL = "8e3a359f-559a-4b6a-98a9-1690a6100ed7"
FIRMWARE = "ac6b8dc1-3257-4a70-b1b2-a9c9215659ad"
CLOCK = "e51b7ef6-4a7f-4780-aaae-d4b291aacd2e"
TPM = "736e6aa9-a3f8-49c0-9550-a963214d259a"
_PASSED_THROUGH = {
    "2fcc454e-a36a-4c77-bb5e-a2d75a51f02c": "a PCI device",
    "99dcd00c-fbd6-42d3-9dfd-1b5ad7058f61": "a part of a GPU",
}
_PASSED_BY_NAME = {"fibre": "a Fibre Channel adapter", "fiber": "a Fibre Channel adapter", "3d": "a RemoteFX graphics adapter"}
# The settings of a switch port that are about VLANs (Msvm_EthernetSwitchPortVlanSettingData).
_VLAN = "feature_952c5004-4465-451c-8cb8-fa9ab382b773"

_NODE = re.compile(r"_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})_", re.IGNORECASE)
_VDEV = re.compile(r"vdev(\d{1,6})", re.IGNORECASE)
_NUMBERED = re.compile(r"(controller|drive|port)(\d{1,3})")
_MAC_KEYS = frozenset({"macaddress", "ethernetcardaddress"})
_DISK_SUFFIXES = (".vhd", ".vhdx", ".avhd", ".avhdx")
_ORDER = (SourceBus.IDE, SourceBus.SCSI, SourceBus.FLOPPY)
# What a guest saw, by the drivers Linux has for it.
MODELS = {SourceBus.IDE: "hv ide", SourceBus.SCSI: "storvsc", SourceBus.FLOPPY: ""}
SYNTHETIC_MODEL, LEGACY_MODEL = "netvsc", "hv legacy tulip"


@dataclass(frozen=True, slots=True)
class Device:
    """One device; ``type_id`` and ``instance`` are GUIDs in small letters, ``node`` holds its settings."""

    type_id: str
    instance: str
    name: str
    node: Element | None


def devices(root: Element) -> tuple[Device, ...]:
    """The manifest's devices in its order, then nodes that it does not name."""
    nodes = {match[1].lower(): each for each in root if (match := _NODE.fullmatch(local(each)))}
    found: dict[str, Device] = {}
    for number, _, entry in sorted(_entries(root)):
        instance = _guid(text(entry, "instance")) or str(number)
        found.setdefault(instance, Device(_guid(text(entry, "device")), instance, text(entry, "name"), nodes.get(instance)))
    for instance, node in nodes.items():
        # devices that can be there once have their type's identifier as their own
        found.setdefault(instance, Device(instance, instance, "", node))
    return tuple(found.values())


def _entries(root: Element) -> Iterator[tuple[int, int, Element]]:
    manifest = child(root, "manifest")
    for place, entry in enumerate(manifest if manifest is not None else ()):
        if match := _VDEV.fullmatch(local(entry)):
            yield int(match[1]), place, entry


def _guid(value: str) -> str:
    return value.strip().strip("{}").lower()


@dataclass(frozen=True, slots=True)
class Drive:
    """What hangs on a controller. ``kind``: Hyper-V's word for it, in capital letters."""

    attachment: Attachment
    kind: str
    path: str
    shared: bool

    @property
    def rank(self) -> tuple[int, int, int]:
        """Its place in the order of controllers."""
        return _ORDER.index(self.attachment.bus), self.attachment.controller, self.attachment.unit


def drives(found: tuple[Device, ...]) -> list[Drive]:
    """All drives, in the order of their controllers: IDE first, which generation 1 boots from."""
    made: list[Drive] = []
    scsi = 0
    for device in found:
        bus = {IDE: SourceBus.IDE, FLOPPY: SourceBus.FLOPPY}.get(device.type_id, SourceBus.SCSI)
        if device.node is None:
            scsi += device.type_id == SCSI
            continue
        controllers = list(_numbered(device.node, "controller"))
        base = scsi if bus is SourceBus.SCSI else 0
        for number, controller in controllers:
            for unit, drive in _numbered(controller, "drive"):
                place = Attachment(bus, base + number, unit, MODELS[bus])
                shared = text(drive, "persistent_reservations_supported").lower() == "true"
                made.append(Drive(place, text(drive, "type").upper(), text(drive, "pathname"), shared))
        # an adapter has one bus, and is written without one while nothing hangs on it
        scsi += max((number + 1 for number, _ in controllers), default=int(device.type_id == SCSI)) if bus is SourceBus.SCSI else 0
    return sorted(made, key=lambda drive: drive.rank)


def _numbered(element: Element, what: str) -> Iterator[tuple[int, Element]]:
    for each in element:
        match = _NUMBERED.fullmatch(local(each).lower())
        if match and match[1] == what:
            yield int(match[2]), each


def add_drives(draft: Draft, files: WindowsFiles, found: list[Drive]) -> tuple[RemovableDrive, ...]:
    """Take the fixed disks in; the drives for media are the answer."""
    removable: list[RemovableDrive] = []
    seen: set[tuple[int, int, int]] = set()
    for drive in found:
        if drive.kind in ("", "NONE"):
            continue
        if drive.rank in seen:
            draft.drive_twice(drive.attachment.place)
            continue
        seen.add(drive.rank)
        if drive.attachment.bus is SourceBus.FLOPPY or drive.kind == "VFD":
            removable.append(RemovableDrive(DriveKind.FLOPPY, drive.path, drive.attachment))
        elif drive.kind in ("ISO", "DVD", "CD") or drive.path.lower().endswith(".iso"):
            # a drive letter or a device is the host's own drive
            medium = drive.path if drive.path.lower().endswith(".iso") else ""
            removable.append(RemovableDrive(DriveKind.CDROM, medium, drive.attachment))
        else:
            _add_disk(draft, files, drive)
    return tuple(removable)


def _add_disk(draft: Draft, files: WindowsFiles, drive: Drive) -> None:
    place, lowered = drive.attachment.place, drive.path.lower()
    if not drive.path:
        draft.warn("drive-empty", f"the drive {place} names no file and is left out")
    elif lowered.endswith(".vhds"):
        draft.block(
            "disk-shared",
            f"the disk {place} is a VHD set that several machines share ({files.named(drive.path)})",
            "Make a disk of this machine's own from it (Convert-VHD), attach it in its place, and export again.",
        )
    elif drive.kind == "VHD" or lowered.endswith(_DISK_SUFFIXES):
        if drive.shared:
            draft.disk_shared(place)
        draft.add_disk(files.named(drive.path), drive.attachment)
    else:
        draft.block(
            "disk-raw",
            f"the disk {place} is a disk of the old host ({drive.path}), not a file",
            "Copy it into a VHDX (New-VHD -SourceDisk NUMBER) where the machine runs, attach that in its place, and export again.",
        )


def nics(draft: Draft, found: tuple[Device, ...]) -> Iterator[Nic]:
    """Network cards, in the order of the manifest."""
    for device in found:
        synthetic = device.type_id == SYNTHETIC_NIC
        legacy = "emulated ethernet" in device.name.lower() or "legacy network" in device.name.lower()
        node = device.node
        if node is None or not (synthetic or legacy or _mac(node)):
            continue
        connection = child(node, "Connection")
        named = (text(connection, "AltSwitchName"), text(node, "SwitchName"))
        network = next((name for name in named if name), Nic().network)
        connected = text(node, "IsConnected").lower() != "false"
        if connection is not None and any(local(each).lower() == _VLAN for each in connection):
            draft.warn("vlan", f"the network card on {network} has VLAN settings on its switch port, which stay there")
        # only what hangs on the VMBus has a channel
        is_synthetic = synthetic or (not legacy and child(node, "ChannelInstanceGuid") is not None)
        yield Nic(draft.mac(_mac(node)), network, SYNTHETIC_MODEL if is_synthetic else LEGACY_MODEL, connected)


def _mac(node: Element) -> str:
    """The address, under any spelling of its key: no file with a legacy card was at hand."""
    for each in (*node, *(below for level in node if _NUMBERED.fullmatch(local(level).lower()) for below in level)):
        if local(each).lower().replace("_", "") in _MAC_KEYS and (value := (each.text or "").strip()):
            return assigned(value)
    return ""


def assigned(mac: str) -> str:
    """A card's address; empty for a dynamic one before the first start, which is written as zeroes."""
    return mac if mac.strip("0-:") else ""


def what_stays(draft: Draft, found: tuple[Device, ...]) -> None:
    """Parts that stand for things of the old host."""
    for device in found:
        by_name = (what for word, what in _PASSED_BY_NAME.items() if word in device.name.lower())
        what = _PASSED_THROUGH.get(device.type_id) or next(by_name, "")
        if what:
            draft.passed_through(what)
        if device.type_id == SERIAL and device.node is not None:
            for number, port in _numbered(device.node, "port"):
                if target := text(port, "connection"):
                    draft.port_stays(f"serial port COM{number + 1}", target)


def device(found: tuple[Device, ...], type_id: str) -> Element | None:
    """The settings of the first device of a type."""
    return next((each.node for each in found if each.type_id == type_id and each.node is not None), None)


def smbios(node: Element | None) -> Smbios:
    """The numbers of the firmware's settings (``node``)."""
    return Smbios(
        serial=text(node, "bios_serial_number"),
        board_serial=text(node, "base_board", "serial_number"),
        chassis_serial=text(node, "chassis", "serial_number"),
        asset_tag=text(node, "chassis", "asset_tag"),
    )


def has_device(found: tuple[Device, ...], type_id: str) -> bool:
    """Whether the machine has a device of a type."""
    return any(each.type_id == type_id for each in found)

