"""The items of an OVF's hardware as CPUs, memory, disks, cards and drives of a machine.

Sources: DSP0243 (elements of ``Item``, forms of ``HostResource``), the ResourceType values of
CIM_ResourceAllocationSettingData, and the sub-types that VMware, VirtualBox, XenCenter and oVirt write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

from converters.source_file import shown
from p2v.core.errors import ForbiddenReference
from p2v.core.units import GIB, MIB, format_bytes
from p2v.machine import Attachment, DriveKind, Nic, RemovableDrive, SourceBus, Topology
from p2v.sources.description import Description
from p2v.sources.draft import CPUS_AT_MOST, MEMORY_AT_MOST_BYTES, Draft
from p2v.sources.ovf_envelope import Envelope, Item, OvfDisk, OvfFile
from p2v.sources.ovf_units import size_bytes

_CPU, _MEMORY, _NIC, _FLOPPY = "3", "4", "10", "14"
_CDROMS = ("15", "16")
# disk drive, storage extent (XenCenter), logical disk
_DISKS = ("17", "19", "31")
# the buses that the type of a controller alone tells; 20 is "other storage", told by its sub-type
_CONTROLLERS = {"5": SourceBus.IDE, "6": SourceBus.SCSI, "20": SourceBus.UNKNOWN, "23": SourceBus.USB}
_BY_SUBTYPE = (("nvme", SourceBus.NVME), ("ahci", SourceBus.SATA), ("sata", SourceBus.SATA), ("virtio", SourceBus.VIRTIO))
_OVIRT_BUSES = {"virtio": SourceBus.VIRTIO, "virtio_scsi": SourceBus.VIRTIO, "sata": SourceBus.SATA, "ide": SourceBus.IDE,
                "scsi": SourceBus.SCSI}  # fmt: skip
# oVirt numbers its cards (VmInterfaceType)
_OVIRT_CARDS = {"0": "rtl8139_pv", "1": "rtl8139", "2": "e1000", "3": "virtio", "4": "spapr-vlan", "5": "pci-passthrough",
                "6": "e1000e"}  # fmt: skip
_CHIPSET = ("5", "6", "20", "23", "24", "35")
_QUIET_OTHERS = ("vmware.vmci", "vmware.soundcard", "vmware.watchdogtimer", "")
_COMPRESSIONS = ("", "identity", "gzip")
FIRST_CHUNK = ".000000000"


@dataclass
class Hardware:
    """What one machine's items add up to; disks and cards go to the draft."""

    cpus: int | None = None
    memory_bytes: int | None = None
    topology: Topology | None = None
    removable: list[RemovableDrive] = field(default_factory=list)
    tpm: bool = False
    used: set[str] = field(default_factory=set)
    """The ids of the disks that hang on something."""


def hardware(draft: Draft, package: Envelope, items: list[Item], boot_order: Iterable[str], *, is_xen: bool) -> Hardware:
    """Read a machine's items. ``boot_order`` names items, the first to be tried first.

    Raises BadDescription, ForbiddenReference.
    """
    made = Hardware()
    places = _Places(items, is_xen=is_xen)
    _cpus(draft, made, [item for item in items if item.type == _CPU])
    _memory(draft, made, [item for item in items if item.type == _MEMORY])
    disks = [item for item in items if item.type in _DISKS]
    for item in _as_tried(disks, places, package, list(boot_order)):
        _add_disk(draft, package, made, item, places)
    for item in items:
        if item.type == _NIC:
            _add_nic(draft, package, item)
        elif item.type in (_FLOPPY, *_CDROMS):
            made.removable.append(_removable(package, item, places))
        elif item.type not in (_CPU, _MEMORY, *_DISKS, *_CHIPSET):
            _other(draft, made, item)
    return made


class _Places:
    """Where drives hang: controllers by their numbers, each with its bus and its own number on it."""

    def __init__(self, items: list[Item], *, is_xen: bool) -> None:
        self._is_xen = is_xen
        self._controllers: dict[str, tuple[SourceBus, int, str]] = {}
        taken: set[tuple[SourceBus, int]] = set()
        for item in items:
            if item.type not in _CONTROLLERS or item.instance in self._controllers:
                continue
            bus = _CONTROLLERS[item.type]
            if item.type in ("6", "20"):
                words = f"{item.subtype} {item.title.lower()}"
                bus = next((known for word, known in _BY_SUBTYPE if word in words), bus)
            number = _small(item.say("Address", "BusNumber"))
            if number is None or (bus, number) in taken:
                number = next(n for n in range(len(items)) if (bus, n) not in taken)
            taken.add((bus, number))
            self._controllers[item.instance] = bus, number, item.subtype

    def of(self, item: Item) -> Attachment | None:
        """Where a drive hangs; None where the package does not say."""
        unit = _small(item.say("AddressOnParent")) or 0
        found = self._controllers.get(item.say("Parent"))
        if found is not None:
            return Attachment(found[0], found[1], unit, found[2])
        if self._is_xen:
            device = re.search(r"device=(\d{1,3})\b", " ".join(item.all("Connection")))
            return Attachment(SourceBus.XEN, 0, int(device[1]) if device else unit)
        return None


def _small(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,3}", text) else None


def _as_tried(disks: list[Item], places: _Places, package: Envelope, boot_order: list[str]) -> list[Item]:
    """Disks as the firmware tries them: the named ones first, then controllers as they come, each by its units."""
    first_on: dict[object, int] = {}

    def rank(place: int, item: Item) -> tuple[int, int, int, int]:
        named = boot_order.index(item.instance) if item.instance in boot_order else len(boot_order)
        attachment = places.of(item)
        on = first_on.setdefault((attachment.bus, attachment.controller), place) if attachment else place
        disk = _disk_of(package, item)
        boots = disk is not None and disk.say("boot").lower() == "true"  # oVirt
        return named, not boots, on, attachment.unit if attachment else 0

    ranked = [(rank(place, item), place) for place, item in enumerate(disks)]
    return [disks[place] for _, place in sorted(ranked)]


def _cpus(draft: Draft, made: Hardware, items: list[Item]) -> None:
    counts = []
    for item in items:
        stated = [draft.number(item.say(name), name, 1, CPUS_AT_MOST)
                  for name in ("num_of_sockets", "cpu_per_socket", "threads_per_cpu")]  # fmt: skip
        sockets, cores, threads = (value or 1 for value in stated)
        count = draft.number(item.say("VirtualQuantity"), "the number of CPUs", 1, CPUS_AT_MOST)
        if any(stated) and count in (None, sockets * cores * threads):
            count, made.topology = sockets * cores * threads, Topology(sockets, cores, threads)
        per_socket = draft.number(item.say("CoresPerSocket"), "vmw:CoresPerSocket", 1, CPUS_AT_MOST)
        if count and per_socket and count % per_socket == 0:
            made.topology = Topology(count // per_socket, per_socket)
        counts.append(count or 0)
    made.cpus = min(sum(counts), CPUS_AT_MOST) or None
    if len(items) > 1 or (made.cpus and made.topology and _product(made.topology) != made.cpus):
        made.topology = None


def _product(topology: Topology) -> int:
    return topology.sockets * topology.cores * topology.threads


def _memory(draft: Draft, made: Hardware, items: list[Item]) -> None:
    total = 0
    for item in items:
        quantity, unit = item.say("VirtualQuantity"), item.say("AllocationUnits", "VirtualQuantityUnits")
        # products that leave the unit out mean MB
        size = size_bytes(quantity, unit, MIB)
        if size is None or not 0 < size <= MEMORY_AT_MOST_BYTES:
            draft.warn("number", f"the memory is {shown(quantity)} of the unit {shown(unit)}, which is no size; it is not used")
            continue
        total += size
    made.memory_bytes = min(total, MEMORY_AT_MOST_BYTES) or None


def _disk_of(package: Envelope, item: Item) -> OvfDisk | None:
    """The disk an item stands for, by any of the forms in which products name it."""
    for name in item.all("HostResource"):
        match = re.fullmatch(r"(?:ovf:)?/{1,3}(disk|file)/(.+)", name, re.IGNORECASE | re.DOTALL)
        kind, key = (match[1].lower(), match[2]) if match else ("", name)
        if kind != "file" and key in package.disks:
            return package.disks[key]
        # oVirt names the file
        found = next((disk for disk in package.disks.values() if disk.file_ref and disk.file_ref == key), None)
        if found is not None:
            return found
        if kind == "file" and key in package.files:
            return OvfDisk("", key, "", item.element)
    return None


def _add_disk(draft: Draft, package: Envelope, made: Hardware, item: Item, places: _Places) -> None:
    disk = _disk_of(package, item)
    if disk is None:
        named = ", ".join(shown(name) for name in item.all("HostResource"))
        if named:
            draft.block("disk-unknown", f"{item.title} stands for {named}, which the package does not describe")
        else:
            draft.warn("drive-empty", f"{item.title} stands for no disk and is left out")
        return
    made.used.add(disk.id)
    size = _stated_bytes(draft, disk)
    if disk.parent_ref:
        problem = f"the disk {disk.id} holds only changes to the disk {disk.parent_ref}"
        draft.block("disk-parent", problem, "Export it as a whole disk.")
    elif not disk.file_ref:
        draft.block(
            "disk-blank",
            f"the disk {disk.id} ({format_bytes(size) if size else 'size not said'}) has no file: it is made blank on deployment",
            "Deploy the package once and export it again, or give the disk an empty image of that size as its file.",
        )
    elif (file := package.file(disk.file_ref)) is None:
        draft.block("disk-unknown", f"the disk {disk.id} is in the file {disk.file_ref}, which the package does not describe")
    else:
        attachment = places.of(item) or _of_ovirt(disk)
        _add_file(draft, file, attachment, size)


def _of_ovirt(disk: OvfDisk) -> Attachment | None:
    bus = _OVIRT_BUSES.get(disk.say("disk-interface").lower())
    return Attachment(bus, model=disk.say("disk-interface").lower()) if bus else None


def _stated_bytes(draft: Draft, disk: OvfDisk) -> int | None:
    capacity, unit, default = disk.say("capacity"), disk.say("capacityAllocationUnits"), 1
    if not capacity and disk.say("volume-format"):
        capacity, default = disk.say("size"), GIB  # oVirt
    if not capacity:
        return None
    size = size_bytes(capacity, unit, default)
    if size is None:
        draft.warn("number", f"the disk {disk.id} has the size {shown(capacity)} of the unit {shown(unit)}, which is not used")
    return size


def _add_file(draft: Draft, file: OvfFile, attachment: Attachment | None, size: int | None) -> None:
    if file.compression not in _COMPRESSIONS:
        problem = f"{shown(file.href)} is compressed as {shown(file.compression)}, which is not read"
        draft.block("compression", problem, "Unpack it, and take the compression out of the description.")
    found = draft.add_disk(found_name(draft.description, file), attachment, stated_bytes=size)
    if found is None or file.chunk_bytes is None or not file.size or not found.path.name.endswith(FIRST_CHUNK):
        return
    last = -(-file.size // file.chunk_bytes) - 1
    if last < 10**9 and draft.description.disk(f"{file.href}.{last:09d}") is None:
        raise draft.description.error(f"names {shown(file.href)} in {last + 1} chunks, of which the last one is not there")


def found_name(description: Description, file: OvfFile) -> str:
    """The name under which a file is there: as it stands or as a URL's escapes mean it, whole or its first chunk.

    Raises ForbiddenReference for what is no path below the package's own folder.
    """
    _require_below(description, file.href)
    names = [file.href, unquote(file.href)]
    if names[0] == names[1]:
        names.pop()
    else:
        _require_below(description, names[1])
    chunks = [f"{name}{FIRST_CHUNK}" for name in names]
    # a package that was put together again may still say that it is in chunks
    names = [*chunks, *names] if file.chunk_bytes else [*names, *chunks]
    return next((name for name in names if description.disk(name) is not None), file.href)


def _require_below(description: Description, href: str) -> None:
    path = description.path
    if not href or "\0" in href:
        raise ForbiddenReference(path, f"names the file {shown(href)}, which is no name")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", href):
        advice = "Fetch it, put it beside the .ovf, and name it there."
        raise ForbiddenReference(path, f"leaves a file at {shown(href)}, which is not fetched", advice)
    place = href.replace("\\", "/")
    if place.startswith("/") or ".." in place.split("/") or re.match(r"[A-Za-z]:/", place):
        problem = f"names the file {shown(href)}, which does not lie below its own folder"
        raise ForbiddenReference(path, problem, "An OVF names its files below its own folder only; check where it came from.")


def _add_nic(draft: Draft, package: Envelope, item: Item) -> None:
    connections = [name for name in item.all("Connection") if name]
    network = connections[0] if connections else "default"
    if connections and package.networks and network not in package.networks:
        draft.warn("network", f"{item.title} hangs on the network {shown(network)}, which the package does not describe")
    address = item.say("MACAddress", "Address")
    # other products put a PCI address there
    mac = draft.mac(address) if re.sub(r"[^0-9A-Fa-f]", "", address)[11:] else None
    model = item.subtype.split(" ")[0]
    connected = item.say("AutomaticAllocation", "Linked").lower() not in ("false", "0")
    draft.add_nic(Nic(mac, network, _OVIRT_CARDS.get(model, model), connected))


def _removable(package: Envelope, item: Item, places: _Places) -> RemovableDrive:
    resource = next(iter(item.all("HostResource")), "")
    file = package.files.get(resource.rpartition("/")[2])
    kind = DriveKind.FLOPPY if item.type == _FLOPPY else DriveKind.CDROM
    unit = _small(item.say("AddressOnParent")) or 0
    place = Attachment(SourceBus.FLOPPY, 0, unit) if kind is DriveKind.FLOPPY else places.of(item)
    return RemovableDrive(kind, file.href if file else resource, place)


def _other(draft: Draft, made: Hardware, item: Item) -> None:
    """Devices that have no counterpart, or that stand for things of the old host."""
    if "vtpm" in item.subtype or item.title.lower() == "virtual tpm":
        made.tpm = True
        return
    if item.type in ("21", "22"):
        what = "serial" if item.type == "21" else "parallel"
        if item.say("HostResource", "Address") or item.subtype.rpartition(".")[2] in ("device", "file", "pipe", "uri"):
            draft.warn("port", f"the {what} port {item.title} leads to something of the old host, which stays there")
    elif "passthrough" in item.subtype:
        draft.passed_through(item.title)
    elif item.is_required and item.subtype not in _QUIET_OTHERS:
        draft.warn("device", f"{item.title} ({item.subtype}) has no counterpart and is left out")
