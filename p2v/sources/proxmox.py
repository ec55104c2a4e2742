"""Proxmox VE's machine configurations (/etc/pve/qemu-server/100.conf, and the qemu-server.conf of a backup).

Source: qm.conf(5). ``key: value`` lines; what stands before the first ``[section]`` is the machine as it is now, sections are its
snapshots and changes that wait for a restart. Disks are volumes of a storage, whose name says nothing of where it is: the
volume's file is looked for by its last name, and logical volumes under /dev are not guessed at.
"""

from __future__ import annotations

import base64
import re
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

KIND = "Proxmox VE machine"

_LINES_AT_MOST = 20_000
_KEY = re.compile(r"[a-z][a-z_]{0,40}\d{0,3}")
_DRIVE_LINE = re.compile(rb"^(?:scsi|virtio|ide|sata|efidisk)\d{1,2}:[ \t]+\S", re.MULTILINE)
_OTHER_LINE = re.compile(
    rb"^(?:memory|cores|sockets|net\d{1,2}|ostype|boot|bootdisk|name|scsihw|smbios1|vmgenid|numa|bios|agent):[ \t]+\S", re.MULTILINE
)
_DRIVE = re.compile(r"(ide|scsi|virtio|sata)(\d{1,2})")
_NIC = re.compile(r"net(\d{1,2})")
_BUSES = {"ide": SourceBus.IDE, "scsi": SourceBus.SCSI, "virtio": SourceBus.VIRTIO, "sata": SourceBus.SATA}
# The order of drives where "boot" names none.
_ORDER = ("ide", "scsi", "virtio", "sata")
_SIZE = re.compile(r"(\d{1,15})(?:\.\d+)?([KMGT]?)")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_FORMATS = {"raw": "raw", "qcow2": "qcow2", "qcow": "qcow", "qed": "qed", "vmdk": "vmdk"}
_SUFFIXES = (".raw", ".qcow2", ".vmdk", ".img")
_WINDOWS = ("w2k", "wxp", "win", "wvista")
_DEFAULT_MIB = 512


@dataclass(frozen=True, slots=True)
class _Drive:
    """One drive line: its key, the volume, its options."""

    bus: str
    number: int
    volume: str
    options: dict[str, str]
    model: str = ""

    @property
    def key(self) -> str:
        return f"{self.bus}{self.number}"

    @property
    def is_removable(self) -> bool:
        return self.options.get("media", "").lower() == "cdrom"


def recognises(head: bytes) -> bool:
    """Whether a file's first bytes are such a configuration: a drive's line, and another known one."""
    text = head.replace(b"\r", b"\n")
    return b"\0" not in text and _DRIVE_LINE.search(text) is not None and _OTHER_LINE.search(text) is not None


def parse(description: Description) -> dict[str, str]:
    """The settings of the machine as it is now. Raises BadDescription."""
    lines = description.data.decode("utf-8-sig", "surrogateescape").splitlines()
    if len(lines) > _LINES_AT_MOST:
        raise description.error(f"has more than {_LINES_AT_MOST} lines")
    values: dict[str, str] = {}
    for line in lines:
        if line.startswith("["):
            break
        key, colon, value = line.partition(":")
        if colon and _KEY.fullmatch(key):
            values[key] = value.strip()
    return values


def read(description: Description) -> Machine:
    """The machine. Raises BadDescription, ForbiddenReference."""
    values = parse(description)
    if "rootfs" in values:
        raise description.error("describes a container, not a machine", "Containers have no disks and no kernel of their own.")
    draft = Draft(description, KIND)
    _state(draft, values)
    drives = list(_drives(values))
    for drive in _in_boot_order(drives, values):
        _add_disk(draft, drive)
    _add_nics(draft, values)
    _what_stays(draft, values)
    topology = _topology(draft, values)
    cpus = draft.number(values.get("vcpus"), "vcpus", 1, CPUS_AT_MOST) or topology.sockets * topology.cores
    if cpus > CPUS_AT_MOST:
        raise description.error(f"has {cpus} CPUs; machines have at most {CPUS_AT_MOST}")
    firmware = Firmware.UEFI if values.get("bios", "").lower() == "ovmf" else Firmware.BIOS
    efi_disk = _first(values.get("efidisk0", ""))
    nvram = uefi_variables(draft, _file_of(draft, efi_disk)) if firmware is Firmware.UEFI and efi_disk else Nvram()
    guest = values.get("ostype", "")
    clock = values.get("localtime") or ("1" if guest.startswith(_WINDOWS) else "0")
    generation = values.get("vmgenid", "")
    return draft.finish(
        values.get("name", ""),
        cpus,
        _memory(draft, values),
        firmware=firmware,
        # the firmware's variables came with Microsoft's keys enrolled, or with none and secure boot off
        secure_boot=firmware is Firmware.UEFI and _options(values.get("efidisk0", "")).get("pre-enrolled-keys") == "1",
        tpm="tpmstate0" in values,
        uuid=draft.uuid(_options(values.get("smbios1", "")).get("uuid")),
        generation_id=draft.uuid(generation, what="the generation id") if len(generation) > 1 else None,
        guest=guest,
        topology=topology if topology.sockets * topology.cores == cpus else None,
        clock=Clock.LOCAL_TIME if clock == "1" else Clock.UTC,
        display=_options(values.get("vga", "")).get("type") or values.get("vga", "").split(",")[0],
        removable=tuple(_removable(drive) for drive in drives if drive.is_removable),
        smbios=smbios_of(draft, _smbios(draft, values.get("smbios1", ""))),
        nvram=nvram.path,
        variables=nvram.variables,
    )


def _options(text: str) -> dict[str, str]:
    """``key=value`` pairs between commas; a word without ``=`` is left out."""
    pairs = (word.partition("=") for word in text.split(","))
    return {key.strip().lower(): value.strip() for key, sign, value in pairs if sign}


def _smbios(draft: Draft, text: str) -> Smbios:
    """``smbios1``; its values are in base64 where it says so."""
    options = _options(text)
    names = ("manufacturer", "product", "version", "serial", "sku", "family")
    found = {name: options.get(name, "") for name in names}
    if options.get("base64") == "1":
        # the padding's signs are part of the value
        try:
            found = {name: base64.b64decode(value, validate=True).decode("utf-8") for name, value in found.items()}
        except ValueError:
            draft.warn("smbios", "smbios1 says that its values are in base64, and they are not; they are not used")
            return Smbios()
    return Smbios(**found)


def _first(text: str) -> str:
    """The volume of a drive's line, which stands first in it or is called ``file``."""
    first = text.split(",")[0].strip()
    return _options(text).get("file", "") if "=" in first else first


def _drives(values: dict[str, str]) -> Iterator[_Drive]:
    for key, value in values.items():
        name = "ide2" if key == "cdrom" else key
        match = _DRIVE.fullmatch(name)
        if match is None:
            continue
        options = _options(value)
        volume = _first(value)
        if key == "cdrom":
            options["media"] = "cdrom"
        model = values.get("scsihw", "lsi") if match[1] == "scsi" else ""
        yield _Drive(match[1], int(match[2]), volume, options, model)


def _in_boot_order(drives: list[_Drive], values: dict[str, str]) -> list[_Drive]:
    """Disks as the firmware tries them: what ``boot: order=`` names, or ``bootdisk``, then the others by kind and number."""
    order = _options(values.get("boot", "")).get("order", "")
    named = order.replace(";", " ").split() or [values.get("bootdisk", "")]
    first = {key: place for place, key in reversed(list(enumerate(named)))}
    disks = [drive for drive in drives if not drive.is_removable]

    def rank(drive: _Drive) -> tuple[int, int, int]:
        return first.get(drive.key, len(named)), _ORDER.index(drive.bus), drive.number

    return sorted(disks, key=rank)


def _add_disk(draft: Draft, drive: _Drive) -> None:
    if drive.volume.lower() in ("", "none"):
        draft.warn("drive-empty", f"the drive {drive.key} names no volume and is left out")
        return
    if drive.options.get("shared") == "1":
        draft.disk_shared(drive.key)
    if drive.options.get("snapshot") == "1":
        draft.warn("disk-mode", f"the disk {drive.key} is in snapshot mode: what a run wrote to it was thrown away at its end")
    if drive.options.get("ro") == "1":
        draft.warn("disk-mode", f"the disk {drive.key} could not be written to; its copy can be")
    name = _file_of(draft, drive.volume)
    suffix = PurePosixPath(name).suffix.lower().removeprefix(".")
    stated = drive.options.get("format", "").lower() or suffix
    # a volume without a suffix is a logical volume's or a device's contents
    known = _FORMATS.get(stated) if stated else "raw"
    size, serial = _size(drive.options.get("size", "")), drive.options.get("serial")
    disk = draft.add_disk(name, _attachment(drive), serial=serial, stated_bytes=size, input_format=known)
    draft.warn_of_place(name, disk)


def _file_of(draft: Draft, volume: str) -> str:
    """The name to look for: a path as it is, else a volume without its storage; what was a block device may have got a suffix."""
    if volume.startswith("/"):
        return volume
    name = volume.partition(":")[2] or volume
    last = PurePosixPath(name).name
    if not last or PurePosixPath(last).suffix or draft.description.disk(last) is not None:
        return name
    return next((last + suffix for suffix in _SUFFIXES if draft.description.disk(last + suffix) is not None), name)


def _attachment(drive: _Drive) -> Attachment:
    if drive.bus == "ide":
        return Attachment(SourceBus.IDE, drive.number // 2, drive.number % 2)
    return Attachment(_BUSES[drive.bus], 0, drive.number, drive.model)


def _size(text: str) -> int | None:
    """Bytes of a size like ``32G``; one with a fraction was rounded for people and is not used."""
    match = _SIZE.fullmatch(text.strip().upper())
    return int(match[1]) * _UNITS[match[2]] if match is not None and "." not in text else None


def _add_nics(draft: Draft, values: dict[str, str]) -> None:
    numbered = sorted((int(match[1]), value) for key, value in values.items() if (match := _NIC.fullmatch(key)) is not None)
    for _, value in numbered:
        options = _options(value)
        first, sign, address = value.split(",")[0].partition("=")
        model = options.get("model", "") or (first.strip() if first.strip().lower() != "bridge" else "")
        mac = options.get("macaddr") or (address if sign and first.strip().lower() not in ("model", "bridge") else "")
        # without a bridge it is QEMU's own network behind the host's address
        network = options.get("bridge") or "nat"
        tagged = f"{network}.{options['tag']}" if options.get("tag") else network
        draft.add_nic(Nic(draft.mac(mac), tagged, model, options.get("link_down") != "1"))


def _memory(draft: Draft, values: dict[str, str]) -> int:
    """``memory`` is a number of MiB, since version 8 also ``current=NUMBER``."""
    stated = values.get("memory", "")
    number = draft.number(_options(stated).get("current") or stated, "memory", 16, MEMORY_AT_MOST_BYTES // MIB)
    return (number or _DEFAULT_MIB) * MIB


def _topology(draft: Draft, values: dict[str, str]) -> Topology:
    sockets = draft.number(values.get("sockets") or values.get("smp"), "sockets", 1, CPUS_AT_MOST) or 1
    return Topology(sockets, draft.number(values.get("cores"), "cores", 1, CPUS_AT_MOST) or 1)


def _removable(drive: _Drive) -> RemovableDrive:
    medium = drive.volume if drive.volume.lower() not in ("none", "cdrom") else ""
    return RemovableDrive(DriveKind.CDROM, medium, _attachment(drive))


def _state(draft: Draft, values: dict[str, str]) -> None:
    lock = values.get("lock", "").lower()
    if lock in ("suspended", "suspending") or values.get("vmstate"):
        draft.block(
            "suspended",
            f"the machine is suspended ({values.get('vmstate') or lock}): its memory is not on its disks",
            "Resume it, shut its system down, then try again.",
        )
    elif lock:
        draft.block("running", f"the machine is locked: {shown(lock)} is under way", "Let it end (or qm unlock), then try again.")


def _what_stays(draft: Draft, values: dict[str, str]) -> None:
    """Parts that have no counterpart, or that stand for things of the old host."""
    for key, value in values.items():
        kind = key.rstrip("0123456789")
        if kind == "hostpci" or (kind == "usb" and "spice" not in value.lower()):
            draft.passed_through(f"{kind.removeprefix('host').upper()} {value.split(',')[0]}")
        elif kind in ("serial", "parallel") and value.startswith("/"):
            draft.port_stays(f"{kind} port", value)
        elif kind == "unused":
            draft.warn("disk-unused", f"the disk {shown(value)} is not attached to the machine and is left out")
        elif "cloudinit" in value.split(",")[0] and _DRIVE.fullmatch(key):
            draft.warn(
                "cloud-init",
                f"the drive {key} gave the guest its name, network and keys (cloud-init); it does not travel",
                "Switch cloud-init off in the guest before, so that it keeps what it was given.",
            )
        elif kind == "virtiofs":
            draft.shared_folder(value.split(",")[0].removeprefix("dirid="))
        elif key == "args" and value:
            draft.warn("arguments", "arguments that the machine's hypervisor was given beside its description do not travel")
    draft.require_architecture(values.get("arch", ""))
    if "parent" in values:
        last = shown(values["parent"])
        draft.warn("snapshots", f"the machine is converted as it is now; its snapshots (the last is {last}) do not travel")
    if "tpmstate0" in values:
        draft.tpm_is_emptied()
