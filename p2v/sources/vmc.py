"""Virtual Server 2005's and Virtual PC's .vmc: XML in UTF-16, a tree of typed values below ``preferences``.

Sources: Microsoft's Virtual Server 2005 and Windows Virtual PC SDK (IVMVirtualMachine::GetConfigurationValue, which gives
the paths of keys; VMSerialPortType; IVMSCSIController), Virtual Server's help on undo disks, and the structure of files the
products wrote. No file with a SCSI adapter or a serial port was at hand: those keys are named after the SDK's properties, and
read in any spelling of them.

The hardware is always the same: one CPU, a BIOS, an Intel 440BX with two IDE channels, an S3 Trio, DEC 21140 network cards
("tulip" in Linux), Adaptec 7870 SCSI adapters; the clock shows local time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from xml.etree.ElementTree import Element

from converters.source_file import shown
from p2v.core.errors import BadDescription
from p2v.core.units import MIB
from p2v.machine import Attachment, Clock, DriveKind, Firmware, Machine, Nic, RemovableDrive, SourceBus
from p2v.sources.description import Description
from p2v.sources.draft import MEMORY_AT_MOST_BYTES, Draft
from p2v.sources.hyperv_devices import smbios
from p2v.sources.smbios import smbios_of
from p2v.sources.windows_files import WindowsFiles
from p2v.sources.xml_text import attribute, below, child, children, from_first_tag, local, parse, text

KIND = "Virtual Server or Virtual PC machine (.vmc)"

# Windows 7's Virtual PC keeps a shortcut to the .vmc, which names its disks too.
_SHORTCUT = "vm_description"
_NO_DRIVE, _FIXED, _CDROM = 0, 1, 2
_CONTROLLER = re.compile(r"(ide|scsi)_controller")
_BUSES = {"ide": (SourceBus.IDE, "440bx"), "scsi": (SourceBus.SCSI, "aic7870")}
_ORDER = (SourceBus.IDE, SourceBus.SCSI)
_ON = frozenset({"true", "1", "yes", "-1"})
_CARDS_AT_MOST, _UNITS_AT_MOST = 255, 255
# VMSerialPortType; 3 throws away what is sent.
_PORT_TYPES = {"0": "a port", "1": "a file", "2": "a named pipe"}
_NO_PORT = frozenset({"", "3"})
_ADDITIONS_HINT = "Remove them before the machine is copied; their set-up may refuse to run elsewhere."


def recognises(head: bytes) -> bool:
    """Whether a file's first bytes begin a .vmc, or Virtual PC's shortcut to one."""
    begins = from_first_tag(head)
    if re.match(rf"<{_SHORTCUT}\b", begins):
        return True
    return re.match(r"<preferences\b", begins) is not None and ("<hardware" in begins or "<virtual_machine" in begins)


def read(description: Description) -> Machine:
    """The machine. Raises BadDescription, ForbiddenReference."""
    root = parse(description)
    if local(root) == _SHORTCUT:
        raise _shortcut(description, root)
    draft, files = Draft(description, KIND), WindowsFiles(description)
    hardware, settings = child(root, "hardware"), child(root, "settings")
    _state(draft, files, settings)
    drives = sorted(_drives(draft, hardware), key=lambda drive: drive.rank)
    for drive in drives:
        if drive.kind == _FIXED:
            _add_disk(draft, files, settings, drive)
    for nic in _nics(draft, child(hardware, "pci_bus", "ethernet_adapter")):
        draft.add_nic(nic)
    _ports(draft, hardware)
    guest = _guest(draft, root)
    megabytes = draft.number(text(hardware, "memory", "ram_size"), "ram_size", 1, MEMORY_AT_MOST_BYTES // MIB)
    return draft.finish(
        "",
        1,
        megabytes * MIB if megabytes else None,
        firmware=Firmware.BIOS,
        uuid=draft.uuid(text(hardware, "bios", "bios_guid")),
        smbios=smbios_of(draft, smbios(child(hardware, "bios"))),
        guest=guest,
        clock=Clock.LOCAL_TIME,
        display="s3-trio",
        removable=(*(_cdrom(d) for d in drives if d.kind == _CDROM), *_floppies(hardware)),
    )


def _shortcut(description: Description, root: Element) -> BadDescription:
    told = next((value for each in root.iter() if (value := (each.text or "").strip()).lower().endswith(".vmc")), "")
    advice = f"Name the .vmc itself, which was {shown(told)}." if told else "Name the machine's .vmc."
    return description.error("is Windows Virtual PC's shortcut to a machine", advice)


@dataclass(frozen=True, slots=True)
class _Drive:
    """One device of a controller."""

    attachment: Attachment
    kind: int
    element: Element
    shared: bool

    @property
    def rank(self) -> tuple[int, int, int]:
        return _ORDER.index(self.attachment.bus), self.attachment.controller, self.attachment.unit


def _drives(draft: Draft, hardware: Element | None) -> Iterator[_Drive]:
    seen: set[tuple[int, int, int]] = set()
    for controller in (each for each in hardware.iter() if _CONTROLLER.fullmatch(local(each))) if hardware is not None else ():
        match = _CONTROLLER.fullmatch(local(controller))
        bus, model = _BUSES[match[1] if match else "ide"]
        number = _id(draft, controller, "controller")
        shared = any("shared" in local(each) and _is_on(each.text) for each in controller)
        for location in children(controller, "location"):
            kind = draft.number(text(location, "drive_type"), "drive_type", 0, 255) or _NO_DRIVE
            if kind == _NO_DRIVE:
                continue
            drive = _Drive(Attachment(bus, number, _id(draft, location, "location"), model), kind, location, shared)
            place = drive.attachment.place
            if drive.rank in seen:
                draft.drive_twice(place)
            elif kind not in (_FIXED, _CDROM):
                draft.block("drive", f"the drive {place} is of a kind that is not known ({kind})", "Name the disks themselves.")
            else:
                yield drive
            seen.add(drive.rank)


def _add_disk(draft: Draft, files: WindowsFiles, settings: Element | None, drive: _Drive) -> None:
    stated = _path(drive.element, "pathname")
    if not any(stated):
        draft.warn("drive-empty", f"the drive {drive.attachment.place} names no file and is left out")
        return
    if drive.shared:
        draft.disk_shared(drive.attachment.place)
    draft.add_disk(_undo(draft, files, settings, drive) or files.named(*stated), drive.attachment)


def _undo(draft: Draft, files: WindowsFiles, settings: Element | None, drive: _Drive) -> str:
    """The undo disk that holds the drive's present state; empty where there is none.

    Committing and discarding remove the file, so does switching undo disks off: one that is there was kept, and the machine
    goes on from it.
    """
    stated = _path(drive.element, "undo_pathname")
    if not any(stated):
        return ""
    place, name = drive.attachment.place, files.named(*stated)
    last = PureWindowsPath(name).name
    if files.has(name):
        draft.warn(
            "undo-disk",
            f"the disk {place} has an undo disk ({last}) that is neither committed nor discarded; what is in it is taken along",
            "For the state without it, discard it where the machine runs, or name the .vhd itself.",
        )
        return name
    enabled = (text(settings, "undo_drives", "enabled", *inner) for inner in ((), ("enable",), ("enabled",)))
    if any(_is_on(value) for value in enabled):
        draft.block(
            "undo-disk-missing",
            f"the changes of the disk {place} are in an undo disk ({last}) that is not there",
            "Copy it too, or start and end the machine where it runs and commit or discard its undo disks; "
            "or name the .vhd itself, for the state before the changes.",
        )
    return ""


def _nics(draft: Draft, adapter: Element | None) -> Iterator[Nic]:
    count = draft.number(text(adapter, "controller_count"), "controller_count", 0, _CARDS_AT_MOST)
    cards = sorted((_id(draft, each, "network card"), n, each) for n, each in enumerate(children(adapter, "ethernet_controller")))
    for number, _, card in cards:
        # cards that were taken out leave their settings behind
        if count is not None and number >= count:
            continue
        network, identifier = text(card, "virtual_network", "name"), text(card, "virtual_network", "id")
        connected = bool(network) or bool(identifier.strip("0"))
        mac = draft.mac(text(card, "ethernet_card_address"))
        yield Nic(mac, network or Nic().network, "tulip", connected)


def _state(draft: Draft, files: WindowsFiles, settings: Element | None) -> None:
    """Machines that must not be copied as they stand."""
    stem = draft.description.path.stem.casefold()
    saved = [name for name in _path(child(settings, "configuration", "saved_state"), "path") if name]
    left = [name for name in files.names if name.casefold().endswith(".vsv") and PurePosixPath(name).stem.casefold() == stem]
    if saved or left:
        draft.block(
            "suspended",
            f"the machine's state is saved ({(saved or left)[-1]}): its memory is not on its disks",
            "Start it where it runs and shut its system down, then try again.",
        )
    elif _is_on(text(settings, "shutdown", "quit", "was_running")):
        draft.warn("running", "the machine was running when its program was ended; its disks may be as after a power failure")


def _guest(draft: Draft, root: Element) -> str:
    """What the additions told about the guest, and a word about them: they go wrong on other hardware."""
    parents = [child(each, "microsoft") for each in below(root, "integration")]
    versions = [version for parent in parents for version in children(parent, "version")]
    if any(text(version, "additions_number").strip("0. ") for version in versions):
        draft.warn("additions", "the Virtual Machine Additions are in the guest", _ADDITIONS_HINT)
    told = (text(version, "guest_os", key) for version in versions for key in ("long_name", "short_name"))
    return next((name for name in told if name), text(root, "settings", "guest_os"))


def _ports(draft: Draft, hardware: Element | None) -> None:
    for kind, what in (("serial_port", "serial port COM"), ("parallel_port", "parallel port LPT")):
        for element in children(child(hardware, "super_io"), kind):
            place = next((each for each in (_path(element, "pathname"), _path(element, "name")) if any(each)), ("", ""))
            target = place[1] or place[0] or text(element, "port_name") or text(element, "name")
            port_type = text(element, "port_type")
            if port_type in _NO_PORT or (kind == "parallel_port" and not target):
                continue
            where = f"{what}{_id(draft, element, 'port') + 1}"
            draft.port_stays(where, target or _PORT_TYPES.get(port_type, "something"))


def _cdrom(drive: _Drive) -> RemovableDrive:
    relative, absolute = _path(drive.element, "pathname")
    # a letter is a drive of the host, a path an image
    return RemovableDrive(DriveKind.CDROM, absolute or relative if len(absolute or relative) > 3 else "", drive.attachment)


def _floppies(hardware: Element | None) -> Iterator[RemovableDrive]:
    for number, element in enumerate(children(child(hardware, "super_io"), "floppy")):
        relative, absolute = _path(element, "pathname")
        medium = absolute or relative
        yield RemovableDrive(DriveKind.FLOPPY, medium if len(medium) > 3 else "", Attachment(SourceBus.FLOPPY, 0, number))


def _path(element: Element | None, name: str) -> tuple[str, str]:
    """A file as it is named from the .vmc's folder, and from the host's drive."""
    return text(element, name, "relative"), text(element, name, "absolute")


def _id(draft: Draft, element: Element, what: str) -> int:
    return draft.number(attribute(element, "id"), f"the id of a {what}", 0, _UNITS_AT_MOST) or 0


def _is_on(value: str | None) -> bool:
    return (value or "").strip().lower() in _ON
