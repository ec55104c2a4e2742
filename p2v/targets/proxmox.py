"""Proxmox VE as a target: the commands that make the machine there, and its configuration to read.

Source: Proxmox VE, qm(1) and qm.conf(5). Importing a disk file while it is attached (``import-from``) is there since 7.2.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from drivers.facts import OperatingSystem
from p2v.core.errors import Usage
from p2v.core.units import MIB
from p2v.machine import Clock, DiskBus, DriveKind, Firmware, NicModel
from p2v.targets.hardware import BUS_NAMES, TargetDisk, TargetHardware, dns_label
from p2v.targets.platforms import Video
from p2v.targets.qemu import smbios_options
from p2v.targets.storage import DEFAULT, Storage
from p2v.targets.system_names import proxmox_ostype

# how many units qm knows of a bus
_UNITS = {"virtio": 16, "scsi": 31, "sata": 6, "ide": 4}
_OF_THE_SYSTEM = ("manufacturer", "product", "version", "serial", "sku", "family")
_NICS_AT_MOST = 32
_SCREENS = {Video.VIRTIO: "virtio", Video.CIRRUS: "cirrus", Video.NONE: "none"}
# its names are QEMU's; it has no tulip
_NO_CARDS = frozenset({NicModel.TULIP})

_SCRIPT = """\
#!/bin/sh
# Makes this machine on a Proxmox VE host (7.2 or later); run it there as root, beside its disks.
#
# Usage: sh %(script)s VMID %(argument)s
set -eu
if [ $# -ne 2 ]%(optional)s; then
	echo "usage: sh $0 VMID %(argument)s   (as in: sh $0 \\"$(pvesh get /cluster/nextid 2>/dev/null || echo 100)\\" local-lvm)" >&2
	exit 64
fi
vmid=$1
storage=%(storage)s
folder=$(cd -- "$(dirname -- "$0")" && pwd)
if qm status "$vmid" >/dev/null 2>&1; then
	echo "there is a machine $vmid already" >&2
	exit 73
fi
qm create "$vmid" \\
	%(create)s
%(disks)s
qm set "$vmid" --boot order=%(boot)s
%(media)secho "made: qm start $vmid"
"""


def qm_conf(hardware: TargetHardware, system: OperatingSystem | None, storage: Storage = DEFAULT) -> str:
    """The configuration as qm keeps it, but for the volumes: VMID stands for what the commands are given, and STORAGE where
    ``storage`` names none.

    Raises Usage for what qm has no place for (too many disks on a bus, too many cards).
    """
    lines = [f"{key}: {value}" for key, value in _settings(hardware, system)]
    rest_in = storage.every or "STORAGE"
    for n, (disk, (key, _, rest)) in enumerate(zip(hardware.disks, _disks(hardware), strict=True)):
        place = f"{disk.path}" if disk.is_device else f"{storage.of(n) or 'STORAGE'}:vm-VMID-disk-{n}"
        lines.append(f"{key}: {place}{rest}")
    if hardware.firmware is Firmware.UEFI:
        lines.append(f"efidisk0: {rest_in}:vm-VMID-disk-{len(hardware.disks)},{_efi(hardware)}")
    if hardware.tpm:
        lines.append(f"tpmstate0: {rest_in}:vm-VMID-tpmstate,version=v2.0")
    return "\n".join(sorted([*lines, f"boot: order={_disks(hardware)[0][0]}"])) + "\n"


def import_script(
    hardware: TargetHardware, system: OperatingSystem | None, name: str, storage: Storage = DEFAULT
) -> str:
    """A POSIX sh script of qm commands; ``name`` is its own file name, ``storage`` where disks go that the caller does not say
    a place for. Raises Usage as ``qm_conf``.
    """
    create = [f"--{key} {shlex.quote(value)}" for key, value in _settings(hardware, system)]
    if hardware.firmware is Firmware.UEFI:
        own = f',import-from=$folder/"{shlex.quote(str(hardware.variables))}' if hardware.variables is not None else '"'
        create.append(f'--efidisk0 "$storage:0,{_efi(hardware)}{own}')
    if hardware.tpm:
        create.append('--tpmstate0 "$storage:0,version=v2.0"')
    disks = [
        _attached(disk, storage.single.get(n, "$storage"), key, file + rest)
        for n, (disk, (key, file, rest)) in enumerate(zip(hardware.disks, _disks(hardware), strict=True))
    ]
    values = {
        "script": name,
        "argument": "STORAGE" if storage.every is None else "[STORAGE]",
        "optional": "" if storage.every is None else " && [ $# -ne 1 ]",
        "storage": "$2" if storage.every is None else f"${{2:-{storage.every}}}",
        "create": " \\\n\t".join(create),
        "disks": "\n".join(disks),
        "boot": _disks(hardware)[0][0],
        "media": "".join(f"{line}\n" for line in _media(hardware)),
    }
    return _SCRIPT % values


def _settings(hardware: TargetHardware, system: OperatingSystem | None) -> Iterator[tuple[str, str]]:
    yield "name", dns_label(hardware.name)
    yield "ostype", proxmox_ostype(system)
    yield "machine", hardware.machine
    yield "bios", "ovmf" if hardware.firmware is Firmware.UEFI else "seabios"
    # qm adds Hyper-V's interfaces and the clocks of Windows itself, by the ostype
    yield "cpu", hardware.cpu_model or "host"
    # qm knows no threads: two of a core are two cores to the guest's scheduler at worst
    sockets = hardware.topology.sockets if hardware.topology else 1
    yield "sockets", str(sockets)
    yield "cores", str(hardware.cpus // sockets)
    yield "memory", str(hardware.memory_bytes // MIB)
    yield "balloon", str(hardware.memory_bytes // MIB if hardware.balloon else 0)
    yield "agent", "1" if hardware.agent else "0"
    yield "localtime", "1" if hardware.clock is Clock.LOCAL_TIME else "0"
    yield "smbios1", _smbios1(hardware)
    # it has no word for the board and the case; "args" may be set by root alone, as which the script runs
    told = replace(hardware.smbios, **dict.fromkeys(_OF_THE_SYSTEM, ""))
    if further := [word for option in smbios_options(told) for word in option]:
        yield "args", shlex.join(further)
    if hardware.counts_ticks and hardware.tablet is None:
        # a Windows that knows no USB; all others get qm's own
        yield "tablet", "0"
    yield "vga", _SCREENS.get(hardware.video, "std")
    yield "serial0", "socket"
    if hardware.disk_bus is DiskBus.VIRTIO_SCSI:
        yield "scsihw", "virtio-scsi-pci"
    if hardware.rng:
        yield "rng0", "source=/dev/urandom"
    if len(hardware.nics) > _NICS_AT_MOST:
        raise Usage(f"{hardware.name}: Proxmox VE has at most {_NICS_AT_MOST} network cards, and {len(hardware.nics)} are needed")
    for index, nic in enumerate(hardware.nics):
        if nic.model in _NO_CARDS:
            raise Usage(f"{hardware.name}: the guest's network card is a {nic.model.value}, which Proxmox VE has not")
        yield f"net{index}", f"{nic.model.value}={nic.mac.upper()},bridge={_bridge(nic.network)}"
    for index in range(hardware.cdroms):
        yield f"ide{_free_ide(hardware) + index}", "none,media=cdrom"
    if hardware.generation_id:
        yield "vmgenid", hardware.generation_id


def _smbios1(hardware: TargetHardware) -> str:
    stated = [(name, value) for name in _OF_THE_SYSTEM if (value := getattr(hardware.smbios, name))]
    coded = [f"{name}={base64.b64encode(value.encode()).decode()}" for name, value in stated]
    return ",".join([f"uuid={hardware.uuid}", *(["base64=1", *coded] if coded else [])])


def _bridge(network: str) -> str:
    """A bridge as qm takes it; ``default`` is the bridge that every installation has."""
    if network == "default":
        return "vmbr0"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,14}", network):
        raise Usage(f"{network!a} is no bridge of a Proxmox VE host", "Say which one it is with --network, as in vmbr0.")
    return network


def _attached(disk: TargetDisk, place: str, key: str, file: str) -> str:
    """The command that gives the machine a disk. A device of the host is attached as it is: nothing is imported."""
    if disk.is_device:
        return f'qm set "$vmid" --{key} {shlex.quote(file)}'
    return f'qm set "$vmid" --{key} "{place}:0,import-from=$folder/"{shlex.quote(file)}'


def _disks(hardware: TargetHardware) -> Sequence[tuple[str, str, str]]:
    """For each disk its key, its file, and options with a comma before each."""
    bus = BUS_NAMES[hardware.disk_bus]
    if len(hardware.disks) > _UNITS[bus]:
        raise Usage(f"{hardware.name}: Proxmox VE has at most {_UNITS[bus]} {bus} disks, and {len(hardware.disks)} are needed")
    found = []
    for index, disk in enumerate(hardware.disks):
        if "," in str(disk.path):
            hint = "Name the device otherwise." if disk.is_device else "Give another name with --name."
            raise Usage(f"{disk.path}: qm takes no file with a comma in its name", hint)
        serial = f",serial={disk.serial}" if disk.serial else ""
        found.append((f"{bus}{index}", str(disk.path), f",discard=on{serial}"))
    return found


def _media(hardware: TargetHardware) -> Iterator[str]:
    """How its discs get into the drive: a storage for disks takes none. There are no floppy drives."""
    for medium in hardware.media:
        if medium.kind is DriveKind.CDROM:
            drive, file = f"ide{_free_ide(hardware) + medium.number}", shlex.quote(f"./{medium.path}")
            yield f"# its disc: cp {file} /var/lib/vz/template/iso/ && qm set VMID --{drive} local:iso/{medium.path},media=cdrom"


def _free_ide(hardware: TargetHardware) -> int:
    """The second channel, as qm itself takes for it, unless IDE disks reach that far."""
    return max(2, len(hardware.disks)) if hardware.disk_bus is DiskBus.IDE else 2


def _efi(hardware: TargetHardware) -> str:
    return f"efitype=4m,pre-enrolled-keys={1 if hardware.secure_boot else 0}"
