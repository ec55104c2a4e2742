"""Hyper-V's .exp: a machine as Windows Server 2008 and 2008 R2 export it, as WMI objects in CIM-XML.

Sources: Microsoft's documentation of the WMI provider (root\\virtualization: Msvm_VirtualSystemSettingData,
Msvm_ResourceAllocationSettingData and the classes of single devices), the DMTF's DSP0201 for the XML, and the structure that
published readers of these files expect. A disk is three objects, each with the one it hangs on as its ``Parent``: the file, the
drive (``Address``: its place), the controller.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from p2v.core.units import MIB
from p2v.machine import Attachment, Clock, Firmware, Machine, Nic, Smbios, SourceBus
from p2v.sources.description import Description
from p2v.sources.draft import CPUS_AT_MOST, MEMORY_AT_MOST_BYTES, Draft
from p2v.sources.hyperv import checkpoints, saved_state
from p2v.sources.hyperv_devices import LEGACY_MODEL, MODELS, SYNTHETIC_MODEL, Drive, add_drives, assigned
from p2v.sources.smbios import smbios_of
from p2v.sources.windows_files import WindowsFiles
from p2v.sources.xml_text import attribute, below, child, children, from_first_tag, local, parse

KIND = "Hyper-V export of Windows Server 2008 (.exp)"

_INSTANCE_ID = re.compile(r'InstanceID="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_NICS = {"msvm_syntheticethernetportsettingdata": SYNTHETIC_MODEL, "msvm_emulatedethernetportsettingdata": LEGACY_MODEL}
_MEDIA = (("virtual hard disk", "VHD"), ("cd/dvd disk", "ISO"), ("iso image", "ISO"), ("floppy disk", "VFD"))
_PHYSICAL = "physical disk"
_EMPTY_DRIVES = (("dvd drive", "ISO"), ("diskette drive", "VFD"))
_CURRENT = "3"
_PARENTS_AT_MOST = 4


@dataclass(frozen=True, slots=True)
class Instance:
    """One WMI object: its class and its properties' values, both by their names in small letters."""

    class_name: str
    values: dict[str, tuple[str, ...]]

    def text(self, name: str) -> str:
        """The first value; empty where there is none."""
        return next(iter(self.values.get(name, ())), "")

    @property
    def identifier(self) -> str:
        """What others name it by."""
        return self.text("instanceid").casefold()


def recognises(head: bytes) -> bool:
    """Whether a file's first bytes begin such a file."""
    begins = from_first_tag(head)
    return re.match(r"<DECLARATIONS\b", begins) is not None and "Msvm_" in begins


def read(description: Description) -> Machine:
    """The machine. Raises BadDescription, ForbiddenReference."""
    instances = tuple(_instances(parse(description)))
    draft, files = Draft(description, KIND), WindowsFiles(description)
    saved_state(draft, files)
    checkpoints(draft, files)
    system = _system(instances)
    own = [each for each in instances if _belongs(each, system)]
    removable = add_drives(draft, files, sorted(_drives(own), key=lambda drive: drive.rank))
    for nic in _network_cards(draft, own, instances):
        draft.add_nic(nic)
    _what_stays(draft, own)
    cpus = draft.number(_value(own, "msvm_processorsettingdata", "virtualquantity"), "the number of processors", 1, CPUS_AT_MOST)
    names = (_value(instances, "msvm_virtualsystemglobalsettingdata", "elementname"), system.text("elementname"))
    return draft.finish(
        next((name for name in names if name), ""),
        cpus,
        _memory(draft, own),
        firmware=Firmware.BIOS,
        uuid=draft.uuid(system.text("biosguid")),
        smbios=smbios_of(draft, _smbios(system)),
        clock=Clock.LOCAL_TIME,
        removable=removable,
    )


def _smbios(system: Instance) -> Smbios:
    """As Msvm_VirtualSystemSettingData calls them."""
    return Smbios(
        serial=system.text("biosserialnumber"),
        board_serial=system.text("baseboardserialnumber"),
        chassis_serial=system.text("chassisserialnumber"),
        asset_tag=system.text("chassisassettag"),
    )


def _instances(root: Element) -> Iterator[Instance]:
    for element in below(root, "INSTANCE"):
        values: dict[str, tuple[str, ...]] = {}
        for each in element:
            name = (attribute(each, "NAME") or "").lower()
            holder = child(each, "VALUE.ARRAY") if local(each) == "PROPERTY.ARRAY" else each
            if name and holder is not None:
                values[name] = tuple((value.text or "").strip() for value in children(holder, "VALUE"))
        yield Instance((attribute(element, "CLASSNAME") or "").lower(), values)


def _system(instances: tuple[Instance, ...]) -> Instance:
    """The settings of the machine as it is now, not of a snapshot."""
    found = [each for each in instances if each.class_name == "msvm_virtualsystemsettingdata"]
    current = [each for each in found if each.text("settingtype") == _CURRENT]
    return next(iter(current or found), Instance("", {}))


def _belongs(instance: Instance, system: Instance) -> bool:
    """Whether an object is the machine's: its identifier begins with the machine's, where both have one."""
    identifier = instance.identifier
    return not identifier or not system.identifier or identifier.startswith(system.identifier)


def _value(instances: tuple[Instance, ...] | list[Instance], class_name: str, name: str) -> str:
    return next((each.text(name) for each in instances if each.class_name == class_name), "")


def _drives(own: list[Instance]) -> Iterator[Drive]:
    by_identifier = {each.identifier: each for each in own if each.identifier}
    # SCSI controllers have no numbers; they count in the order they are written
    scsi = [each.identifier for each in own if "scsi controller" in each.text("resourcesubtype").lower()]
    full: set[str] = set()
    for each in own:
        subtype = each.text("resourcesubtype").lower()
        kind = next((kind for word, kind in _MEDIA if word in subtype), "")
        if not kind and _PHYSICAL in subtype:
            kind = "PHYSICAL"
        path = each.text("connection") or each.text("hostresource")
        if kind and path:
            chain = list(_parents(each, by_identifier))
            full |= {parent.identifier for parent in chain}
            yield Drive(_attachment(kind, each, chain, scsi), kind, path, shared=False)
    for each in own:
        kind = next((kind for word, kind in _EMPTY_DRIVES if word in each.text("resourcesubtype").lower()), "")
        if kind and each.identifier not in full:
            yield Drive(_attachment(kind, each, [each, *_parents(each, by_identifier)], scsi), kind, "", shared=False)


def _parents(instance: Instance, by_identifier: dict[str, Instance]) -> Iterator[Instance]:
    for _ in range(_PARENTS_AT_MOST):
        match = _INSTANCE_ID.search(instance.text("parent"))
        # a path has its backslashes doubled
        parent = by_identifier.get(match[1].replace("\\\\", "\\").casefold()) if match else None
        if parent is None:
            return
        yield parent
        instance = parent


def _attachment(kind: str, instance: Instance, chain: list[Instance], scsi: list[str]) -> Attachment:
    controller = chain[-1] if chain else Instance("", {})
    # a disk of the host is its own drive
    drive = instance if kind == "PHYSICAL" else chain[0] if chain else instance
    unit = _place(drive.text("address"))
    if kind == "VFD":
        return Attachment(SourceBus.FLOPPY, 0, unit)
    if controller.identifier in scsi:
        return Attachment(SourceBus.SCSI, scsi.index(controller.identifier), unit, MODELS[SourceBus.SCSI])
    return Attachment(SourceBus.IDE, _place(controller.text("address")), unit, MODELS[SourceBus.IDE])


def _place(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,3}", text) else 0


def _network_cards(draft: Draft, own: list[Instance], instances: tuple[Instance, ...]) -> Iterator[Nic]:
    switches = [(each.text("name"), each.text("elementname")) for each in instances if each.class_name == "msvm_virtualswitch"]
    for each in own:
        model = _NICS.get(each.class_name)
        if model is None:
            continue
        port = each.text("connection")
        network = next((title for name, title in switches if name and title and name in port), Nic().network)
        yield Nic(draft.mac(assigned(each.text("address"))), network, model, bool(port))


def _memory(draft: Draft, own: list[Instance]) -> int | None:
    stated = _value(own, "msvm_memorysettingdata", "virtualquantity")
    size = draft.number(stated, "the memory's size", 1, MEMORY_AT_MOST_BYTES // MIB)
    if size and _value(own, "msvm_memorysettingdata", "dynamicmemoryenabled").lower() == "true":
        draft.warn(
            "dynamic-memory",
            f"the machine's memory grew and shrank; it gets the {size} MiB it started with",
            "Say another size with --memory.",
        )
    return size * MIB if size else None


def _what_stays(draft: Draft, own: list[Instance]) -> None:
    for each in own:
        if "serial port" in each.text("resourcesubtype").lower() and (target := each.text("connection")):
            draft.port_stays(f"serial port {each.text('elementname')}".strip(), target)
