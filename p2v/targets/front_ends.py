"""Who is told of the converted machine, and by which files. Pure: what a front end cannot have is said before a byte is copied."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.facts import OperatingSystem
from p2v.core.acceleration import Acceleration
from p2v.core.errors import Usage
from p2v.targets import kubevirt, openstack, proxmox
from p2v.targets.hardware import TargetHardware
from p2v.targets.libvirt import domain_xml
from p2v.targets.qemu import qemu_script
from p2v.targets.storage import DEFAULT, Storage


class FrontEnd(enum.Enum):
    """What runs the machine."""

    QEMU = "qemu"
    """QEMU alone, by a script; with libvirt's definition beside it."""
    LIBVIRT = "libvirt"
    PROXMOX = "proxmox"
    KUBEVIRT = "kubevirt"
    OPENSTACK = "openstack"


# What is written for these is written for PCs: of other machines neither was ever tried.
_OF_PCS = frozenset({FrontEnd.PROXMOX, FrontEnd.KUBEVIRT})
# What is uploaded to these are files: a device of this host is nothing they could run a machine on.
_FROM_FILES = frozenset({FrontEnd.KUBEVIRT, FrontEnd.OPENSTACK})


@dataclass(frozen=True, slots=True)
class DefinitionFile:
    """A file beside the disks."""

    name: str
    text: str | bytes
    is_program: bool = False


@dataclass(frozen=True, slots=True)
class Placing:
    """What the files say of the host: the folder of the disks, their virtual sizes in bytes, what accelerates there, and where
    in the front end the disks go.
    """

    folder: Path
    sizes: Sequence[int]
    acceleration: Acceleration | None = None
    storage: Storage = DEFAULT


def definitions(
    front_end: FrontEnd, hardware: TargetHardware, system: OperatingSystem | None, placing: Placing
) -> tuple[DefinitionFile, ...]:
    """The files for a front end, and the script that tries the machine with QEMU alone.

    Raises Usage for hardware or names that the front end cannot have.
    """
    name = hardware.name
    _refuse_devices(front_end, hardware)
    if front_end in _OF_PCS and hardware.arch != "x86_64":
        hint = "Choose another target; the copied disks and its script are the same for all."
        raise Usage(f"{name}: machines for {hardware.arch} are not described for {front_end.value}", hint)
    script = DefinitionFile(f"{name}.sh", qemu_script(hardware, placing.acceleration), is_program=True)
    match front_end:
        case FrontEnd.QEMU | FrontEnd.LIBVIRT:
            xml = domain_xml(hardware, placing.folder, placing.acceleration, system)
            return (DefinitionFile(f"{name}.xml", xml), script)
        case FrontEnd.PROXMOX:
            commands = f"{name}.qm.sh"
            return (
                script,
                DefinitionFile(f"{name}.qm.conf", proxmox.qm_conf(hardware, system, placing.storage)),
                DefinitionFile(
                    commands, proxmox.import_script(hardware, system, commands, placing.storage), is_program=True
                ),
            )
        case FrontEnd.KUBEVIRT:
            objects = f"{name}.kubevirt.yaml"
            return (
                script,
                DefinitionFile(objects, kubevirt.manifest(hardware, placing.sizes, placing.storage)),
                DefinitionFile(f"{name}.kubevirt.sh", kubevirt.upload_script(hardware, objects), is_program=True),
            )
        case FrontEnd.OPENSTACK:
            upload = openstack.upload_script(hardware, placing.sizes, system, placing.storage)
            return (
                script,
                DefinitionFile(f"{name}.openstack.json", openstack.images(hardware, placing.sizes, system, placing.storage)),
                DefinitionFile(f"{name}.openstack.sh", upload, is_program=True),
            )


def _refuse_devices(front_end: FrontEnd, hardware: TargetHardware) -> None:
    device = next((disk.path for disk in hardware.disks if disk.is_device), None)
    if device is not None and front_end in _FROM_FILES:
        hint = "Convert without --to-device; the script that is written uploads the files."
        raise Usage(f"{device}: a machine for {front_end.value} has no block devices of this host", hint)
