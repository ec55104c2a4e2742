"""OpenStack as a target: the properties of the images, as a file for scripts and as the commands that upload them.

Source: Glance, "Useful image properties"; Nova's image property names (hw_*, os_*).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from drivers.facts import OperatingSystem
from p2v.core.errors import Usage
from p2v.core.units import GIB, MIB, round_up
from p2v.machine import Clock, DiskBus, DriveKind, NicModel
from p2v.targets.hardware import BUS_NAMES, TargetHardware
from p2v.targets.platforms import platform_of
from p2v.targets.storage import DEFAULT, Storage
from p2v.targets.system_names import glance_names

# Nova's names are QEMU's; it has no tulip
_NO_CARDS = frozenset({NicModel.TULIP})


def image_properties(hardware: TargetHardware, system: OperatingSystem | None) -> dict[str, str]:
    """What Nova needs to know to give the guest hardware it has drivers for.

    Raises Usage when cards of several models are needed (an image names one for all), or one that Nova has not.
    """
    found = {
        "architecture": hardware.arch if hardware.arch != "i386" else "i686",
        "hypervisor_type": "qemu",
        "hw_machine_type": hardware.machine,
        "hw_disk_bus": BUS_NAMES[hardware.disk_bus],
        "hw_vif_model": _card(hardware),
        "hw_firmware_type": hardware.firmware.value,
        "hw_video_model": hardware.video.value,
        "hw_rng_model": "virtio" if hardware.rng else "",
        "hw_scsi_model": "virtio-scsi" if hardware.disk_bus is DiskBus.VIRTIO_SCSI else "",
        "hw_qemu_guest_agent": "yes" if hardware.agent else "",
        "hw_pointer_model": "usbtablet" if hardware.tablet is not None else "",
        **_topology(hardware),
        "hw_time_hpet": "false",
        # Nova gives Windows guests a clock of local time and Hyper-V's interfaces, and all others UTC
        "os_type": "windows" if hardware.clock is Clock.LOCAL_TIME else "",
        "os_secure_boot": "required" if hardware.secure_boot else "",
        "hw_cdrom_bus": ("ide" if hardware.machine == "pc" else "sata") if hardware.cdroms else "",
        "hw_tpm_version": "2.0" if hardware.tpm else "",
        "hw_tpm_model": platform_of(hardware.arch).tpm_device.removesuffix("-device") if hardware.tpm else "",
        **glance_names(system),
    }
    return {key: value for key, value in found.items() if value}


def _topology(hardware: TargetHardware) -> dict[str, str]:
    """How a flavour's CPUs are to be divided, which Nova puts into a socket each where nothing is said."""
    made = hardware.topology
    if made is None:
        return {}
    if made.sockets == hardware.cpus > 1:
        return {"hw_cpu_max_cores": "1", "hw_cpu_max_threads": "1"}
    return {"hw_cpu_max_sockets": str(made.sockets)}


def images(
    hardware: TargetHardware, sizes: Sequence[int], system: OperatingSystem | None, storage: Storage = DEFAULT
) -> str:
    """A JSON document: for each disk its file, format, smallest flavour and properties. ``sizes``: virtual, in bytes.

    The first disk is the machine's own; the others become volumes made from their images. ``storage`` names types of volumes.
    """
    properties = image_properties(hardware, system)
    found = []
    for index, (disk, size) in enumerate(zip(hardware.disks, sizes, strict=True)):
        found.append(
            {
                "name": _image_name(hardware, index),
                "file": str(disk.path),
                "disk_format": disk.format,
                "container_format": "bare",
                "min_disk": round_up(size, GIB) // GIB,
                "min_ram": hardware.memory_bytes // MIB if index == 0 else 0,
                "properties": properties | _volume_type(storage, index),
            }
        )
    cards = [{"mac": nic.mac, "network": nic.network} for nic in hardware.nics]
    document = {"images": found, "flavor": {"vcpus": hardware.cpus, "ram": hardware.memory_bytes // MIB}, "ports": cards}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def upload_script(
    hardware: TargetHardware, sizes: Sequence[int], system: OperatingSystem | None, storage: Storage = DEFAULT
) -> str:
    """A POSIX sh script of ``openstack image create`` commands, to be run beside the disks with a cloud's credentials.

    Raises Usage as ``image_properties``.
    """
    lines = [
        "#!/bin/sh",
        "# Uploads this machine's disks as images; needs the openstack client and a cloud's credentials.",
        "set -eu",
        'cd -- "$(dirname -- "$0")"',
    ]
    properties = image_properties(hardware, system)
    for index, (disk, size) in enumerate(zip(hardware.disks, sizes, strict=True)):
        first = [
            "openstack image create",
            f"--disk-format {disk.format} --container-format bare --file {shlex.quote(f'./{disk.path}')}",
            f"--min-disk {round_up(size, GIB) // GIB}" + (f" --min-ram {hardware.memory_bytes // MIB}" if index == 0 else ""),
        ]
        named = properties | _volume_type(storage, index)
        options = [f"--property {shlex.quote(f'{key}={value}')}" for key, value in named.items()]
        lines.append(" \\\n\t".join([*first, *options, shlex.quote(_image_name(hardware, index))]))
    for medium in hardware.media:
        if medium.kind is DriveKind.CDROM:
            name = shlex.quote(f"{hardware.name}-{medium.kind.value}{medium.number + 1}")
            lines.append(f"# its disc: openstack image create --disk-format iso --container-format bare "
                         f"--file {shlex.quote(f'./{medium.path}')} {name}")  # fmt: skip
    for index, nic in enumerate(hardware.nics):
        lines.append(f"# its card {index + 1}: openstack port create --network NETWORK --mac-address {nic.mac} "
                     f"{shlex.quote(f'{hardware.name}-{index + 1}')}")  # fmt: skip
    return "\n".join(lines) + "\n"


def _volume_type(storage: Storage, index: int) -> dict[str, str]:
    """Cinder's word for the type of a volume that is made from an image."""
    named = storage.of(index)
    return {} if named is None else {"cinder_img_volume_type": named}


def _card(hardware: TargetHardware) -> str:
    models = list(dict.fromkeys(nic.model for nic in hardware.nics)) or [NicModel.VIRTIO]
    if len(models) > 1:
        raise Usage(f"{hardware.name}: its network cards are of several models, and an OpenStack image names one for all")
    if models[0] in _NO_CARDS:
        raise Usage(f"{hardware.name}: the guest's network card is a {models[0].value}, which Nova has not")
    return models[0].value


def _image_name(hardware: TargetHardware, index: int) -> str:
    return hardware.name if index == 0 else f"{hardware.name}-disk{index + 1}"
