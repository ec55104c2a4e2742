"""The devices of a libvirt domain: drives, network cards, and what of the old host stays there.

Source: https://libvirt.org/formatdomain.html, "Devices". libvirt keeps disks in the order in which the firmware sees them; ``boot
order`` on a device goes before that.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

from converters.source_file import shown
from p2v.core.drive_letters import drive_index
from p2v.machine import Attachment, DriveKind, Nic, RemovableDrive, SourceBus
from p2v.sources.draft import Draft
from p2v.sources.xml_text import attribute, child, children, text

_BUSES = {
    "ide": SourceBus.IDE, "sata": SourceBus.SATA, "scsi": SourceBus.SCSI, "virtio": SourceBus.VIRTIO, "xen": SourceBus.XEN,
    "usb": SourceBus.USB, "fdc": SourceBus.FLOPPY, "nvme": SourceBus.NVME,
}  # fmt: skip
_BUS_OF_PREFIX = {
    "hd": SourceBus.IDE, "sd": SourceBus.SCSI, "vd": SourceBus.VIRTIO, "xvd": SourceBus.XEN, "fd": SourceBus.FLOPPY,
}  # fmt: skip
_TARGET = re.compile(r"(hd|sd|vd|xvd|fd|ubd)([a-z]{1,3})\d*")
# The names of formats, where they are not ours; those that are missing here and in ours are no disks.
_FORMATS = {"aio": "raw", "iso": "raw", "vpc": "vhd", "auto": None}
_OUR_FORMATS = ("raw", "qcow2", "vmdk", "vhdx", "vhd", "vdi", "qcow", "qed", "parallels")
_FILES = ("file", "block", "volume")
# The models of controllers by their kind and number.
Models = dict[tuple[str, str], str]
_HOST_TARGETS = ("file", "pipe", "unix", "tcp", "udp", "dev")


def add_disks(draft: Draft, devices: Element | None) -> None:
    """Take the fixed disks in, as the firmware tries them."""
    models = _controller_models(devices)
    disks = [each for each in children(devices, "disk") if (attribute(each, "device") or "disk").lower() in ("disk", "lun")]

    def rank(disk: Element) -> int:
        return draft.number(attribute(child(disk, "boot"), "order"), "a disk's boot order", 1, 65535) or 65536

    for disk in sorted(disks, key=rank):
        _add_disk(draft, models, disk)


def removable_drives(draft: Draft, devices: Element | None) -> tuple[RemovableDrive, ...]:
    """CD and floppy drives, in the description's order."""
    kinds, models = {"cdrom": DriveKind.CDROM, "floppy": DriveKind.FLOPPY}, _controller_models(devices)
    return tuple(
        RemovableDrive(kind, _medium(disk), _attachment(draft, models, disk))
        for disk in children(devices, "disk")
        if (kind := kinds.get((attribute(disk, "device") or "").lower())) is not None
    )


def add_nics(draft: Draft, devices: Element | None) -> None:
    """Take the network cards in."""
    for element in children(devices, "interface"):
        kind = (attribute(element, "type") or "").lower()
        if kind in ("hostdev", "vdpa"):
            draft.passed_through("a network card (interface hostdev)")
        is_up = (attribute(child(element, "link"), "state") or "up").lower() != "down"
        mac, model = attribute(child(element, "mac"), "address"), attribute(child(element, "model"), "type")
        draft.add_nic(Nic(draft.mac(mac), _network(element, kind), model or "", is_up))


def what_stays(draft: Draft, devices: Element | None) -> None:
    """Name the parts that have no counterpart, or that stand for things of the old host."""
    for element in children(devices, "hostdev"):
        draft.passed_through(f"{(attribute(element, 'type') or 'a').upper()} device (hostdev)")
    for kind in ("serial", "parallel"):
        for element in children(devices, kind):
            source = child(element, "source")
            if (attribute(element, "type") or "").lower() in _HOST_TARGETS and source is not None:
                draft.port_stays(f"{kind} port", attribute(source, "path") or attribute(source, "host") or "")
    for element in children(devices, "filesystem"):
        source = child(element, "source")
        draft.shared_folder(attribute(source, "dir") or attribute(source, "name") or "")
    for element in children(devices, "shmem"):
        draft.warn("shared-memory", f"the memory {shown(attribute(element, 'name') or '')} that machines share does not travel")
    if child(devices, "tpm") is not None:
        draft.tpm_is_emptied()


def _add_disk(draft: Draft, models: Models, disk: Element) -> None:
    place = attribute(child(disk, "target"), "dev") or "?"
    kind = (attribute(disk, "type") or "file").lower()
    if kind not in _FILES:
        draft.disk_elsewhere(_away(disk, kind))
        return
    name = _said(disk)
    if not name:
        draft.warn("drive-empty", f"the drive {place} names no file and is left out")
        return
    _warn_of_uses(draft, disk, place)
    if child(disk, "encryption") is not None or child(disk, "source", "encryption") is not None:
        draft.block("encrypted", f"the disk {place} is encrypted by its host", "Decrypt it where it is (qemu-img convert) first.")
    at, known = _attachment(draft, models, disk), _format(draft, disk, place)
    draft.warn_of_place(name, draft.add_disk(name, at, serial=text(disk, "serial"), input_format=known))


def _warn_of_uses(draft: Draft, disk: Element, place: str) -> None:
    if child(disk, "shareable") is not None:
        draft.disk_shared(place)
    if child(disk, "transient") is not None:
        draft.warn("disk-mode", f"the disk {place} is transient: what a run wrote to it was thrown away at its end")
    if child(disk, "readonly") is not None:
        draft.warn("disk-mode", f"the disk {place} could not be written to; its copy can be")
    if (attribute(disk, "device") or "").lower() == "lun":
        draft.warn("disk-raw", f"the disk {place} stands for a device of the old host; its contents are copied if it is there")
    if child(disk, "mirror") is not None:
        draft.block("disk-job", f"the disk {place} is being copied by its host", "End the job there (virsh blockjob) first.")


def _away(disk: Element, kind: str) -> str:
    """A disk that is no file, as people call it: its protocol and its name there."""
    source = child(disk, "source")
    if source is None:
        return kind
    keys = ("protocol", "name", "dir", "namespace", "path")
    words = [value for key in keys if (value := attribute(source, key))]
    if host := attribute(child(source, "host"), "name"):
        words.append(f"on {host}")
    return " ".join(words if kind == "network" else [kind, *words])


def _medium(disk: Element) -> str:
    kind = (attribute(disk, "type") or "file").lower()
    return _said(disk) if kind in _FILES else _away(disk, kind)


def _said(disk: Element) -> str:
    source = child(disk, "source")
    # a volume's pool is a name that says nothing here; old dumps have one word for files and devices
    return next((value for key in ("volume", "file", "dev") if (value := attribute(source, key))), "")


def _format(draft: Draft, disk: Element, place: str) -> str | None:
    """The disk's format, None where it is to be found by a look. A raw disk is never looked at: its guest wrote all of it."""
    driver = child(disk, "driver")
    stated = (attribute(driver, "type") or "").lower()
    if not stated and (attribute(driver, "name") or "").lower() in ("phy", "file"):
        return "raw"
    if stated in _FORMATS or stated in ("", *_OUR_FORMATS):
        return _FORMATS.get(stated, stated) or None
    draft.warn("disk-format", f"the disk {place} has the format {shown(stated)}, which is not known here; its contents tell")
    return None


def _attachment(draft: Draft, models: Models, disk: Element) -> Attachment:
    target = child(disk, "target")
    name = (attribute(target, "dev") or "").lower()
    matched = _TARGET.fullmatch(name)
    prefix, number = (matched[1], drive_index(matched[2])) if matched else ("", 0)
    stated = (attribute(target, "bus") or "").lower()
    bus = _BUSES.get(stated, SourceBus.UNKNOWN) if stated else _BUS_OF_PREFIX.get(prefix, SourceBus.UNKNOWN)
    address = child(disk, "address")
    if (attribute(address, "type") or "").lower() != "drive":
        model = models.get((stated, "0"), "")
        return Attachment(bus, number // 2, number % 2) if bus is SourceBus.IDE else Attachment(bus, 0, number, model)
    numbers = [draft.number(attribute(address, key), f"the address of {name}", 0, 65535) or 0
               for key in ("controller", "bus", "target", "unit")]  # fmt: skip
    controller, channel, scsi_target, unit = numbers
    if bus is SourceBus.IDE:
        return Attachment(bus, 2 * controller + channel, unit)
    # QEMU's virtio and LSI controllers have a unit or a target a disk, the other one is 0
    return Attachment(bus, controller, unit or scsi_target, models.get((stated, str(controller)), ""))


def _controller_models(devices: Element | None) -> Models:
    return {
        ((attribute(each, "type") or "").lower(), attribute(each, "index") or "0"): attribute(each, "model") or ""
        for each in children(devices, "controller")
    }


def _network(element: Element, kind: str) -> str:
    source = child(element, "source")
    keys = ("network", "bridge", "dev", "name", "switchid", "path")
    named = next((value for key in keys if (value := attribute(source, key))), "")
    return ".".join([named or kind or "default", *_tags(element)])


def _tags(element: Element) -> list[str]:
    """The VLAN of a card, behind its network's name as Linux and Open vSwitch write it (``br0.20``); trunks have none."""
    found = [attribute(tag, "id") or "" for tag in children(child(element, "vlan"), "tag")]
    return found if len(found) == 1 else []
