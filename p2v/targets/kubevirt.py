"""KubeVirt as a target: a VirtualMachine and its DataVolumes as YAML, and the commands that upload the disks.

Source: KubeVirt user guide and API (kubevirt.io/v1), CDI (cdi.kubevirt.io/v1beta1). KubeVirt's machine is q35: a guest that knows
only IDE disks has no place there.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from p2v.core.errors import Usage
from p2v.core.units import MIB, SECTOR_BYTES, round_up
from p2v.machine import Clock, DiskBus, Firmware, NicModel, Topology
from p2v.targets.hardware import BUS_NAMES, LARGE_SECTOR_BUSES, TargetHardware, dns_label
from p2v.targets.hyperv import SPINLOCK_RETRIES, Enlightenment
from p2v.targets.storage import DEFAULT, Storage

# its names are QEMU's; these it refuses
_NO_CARDS = frozenset({NicModel.TULIP, NicModel.VMXNET3})
_HYPERV = {Enlightenment.STIMER: "synictimer"}
# What a volume's own file system takes of it (CDI's default overhead is 5.5 %).
_OVERHEAD = 1.06


def manifest(hardware: TargetHardware, sizes: Sequence[int], storage: Storage = DEFAULT) -> str:
    """The objects as YAML documents; ``sizes`` are the disks' virtual sizes in bytes, ``storage`` names storage classes.

    Raises Usage for hardware that KubeVirt has not (IDE, the machine type pc).
    """
    name = object_name(hardware)
    if hardware.disk_bus is DiskBus.IDE or hardware.machine == "pc":
        raise Usage(
            f"{hardware.name}: the guest needs IDE disks or the old PC machine, which KubeVirt has not",
            "Choose another target, or add drivers for SATA or virtio to the guest first.",
        )
    volumes = [_data_volume(f"{name}-{index}", size, storage.of(index)) for index, size in enumerate(sizes)]
    return str(yaml.safe_dump_all([*volumes, _machine(hardware, name)], sort_keys=False, allow_unicode=True, width=120))


def upload_script(hardware: TargetHardware, manifest_name: str) -> str:
    """A POSIX sh script: it applies the objects and uploads the disks with virtctl; the machine stays stopped."""
    name = object_name(hardware)
    lines = [
        "#!/bin/sh",
        "# Makes this machine in the cluster and namespace that kubectl is set to; needs kubectl and virtctl.",
        "set -eu",
        'cd -- "$(dirname -- "$0")"',
        f"kubectl apply -f {shlex.quote(manifest_name)}",
    ]
    for index, disk in enumerate(hardware.disks):
        lines.append(f"virtctl image-upload dv {name}-{index} --no-create --image-path {shlex.quote(f'./{disk.path}')} \"$@\"")
    lines.append(f"echo 'made: virtctl start {name}'")
    return "\n".join(lines) + "\n"


def object_name(hardware: TargetHardware) -> str:
    """A machine's name as Kubernetes takes it: a label in small letters, short enough to be added to."""
    return dns_label(hardware.name).lower()[:50].rstrip("-")


def _data_volume(name: str, size: int, storage_class: str | None) -> dict[str, Any]:
    storage = round_up(int(size * _OVERHEAD), MIB) // MIB
    # without a name the cluster's default class
    named = {} if storage_class is None else {"storageClassName": storage_class}
    return {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {"name": name},
        "spec": {"source": {"upload": {}}, "storage": {"resources": {"requests": {"storage": f"{storage}Mi"}}, **named}},
    }


def _machine(hardware: TargetHardware, name: str) -> dict[str, Any]:
    told = hardware.smbios
    disks = [_disk(hardware, index) for index in range(len(hardware.disks))]
    devices: dict[str, Any] = {"disks": disks, "interfaces": [_interface(hardware, i) for i in range(len(hardware.nics))]}
    if hardware.rng:
        devices["rng"] = {}
    if hardware.tpm:
        devices["tpm"] = {"persistent": True}
    if hardware.tablet is not None:
        # its controller is the cluster's choice
        devices["inputs"] = [{"type": "tablet", "bus": "usb", "name": "tablet"}]
    devices["autoattachMemBalloon"] = hardware.balloon
    domain: dict[str, Any] = {
        "cpu": _cpus(hardware),
        "memory": {"guest": f"{hardware.memory_bytes // MIB}Mi"},
        "machine": {"type": "q35"},
        "firmware": {"uuid": hardware.uuid, **_told(serial=told.serial), "bootloader": _boot_loader(hardware)},
        "features": _features(hardware),
        "clock": _clock(hardware),
        "devices": devices,
    }
    if chassis := _told(serial=told.chassis_serial, asset=told.asset_tag):
        domain["chassis"] = chassis
    networks = [{"name": f"net{i}", **_network(nic.network)} for i, nic in enumerate(hardware.nics)]
    volumes = [{"name": f"disk{i}", "dataVolume": {"name": f"{name}-{i}"}} for i in range(len(hardware.disks))]
    spec = {"domain": domain, "networks": networks, "volumes": volumes}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "labels": {"kubevirt.io/vm": name}},
        "spec": {
            "runStrategy": "Halted",
            "template": {"metadata": {"labels": {"kubevirt.io/vm": name}}, "spec": spec},
        },
    }


def _told(**stated: str) -> dict[str, str]:
    return {name: value for name, value in stated.items() if value}


def _cpus(hardware: TargetHardware) -> dict[str, int]:
    made = hardware.topology or Topology(1, hardware.cpus)
    return {"sockets": made.sockets, "cores": made.cores, "threads": made.threads}


def _disk(hardware: TargetHardware, index: int) -> dict[str, Any]:
    found: dict[str, Any] = {"name": f"disk{index}", "disk": {"bus": BUS_NAMES[hardware.disk_bus]}, "bootOrder": index + 1}
    disk = hardware.disks[index]
    if disk.serial:
        found["serial"] = disk.serial
    sizes = (disk.logical_sector_bytes, disk.physical_sector_bytes)
    if hardware.disk_bus in LARGE_SECTOR_BUSES and sizes != (SECTOR_BYTES, SECTOR_BYTES):
        found["blockSize"] = {"custom": {"logical": sizes[0], "physical": sizes[1]}}
    return found


def _interface(hardware: TargetHardware, index: int) -> dict[str, Any]:
    nic = hardware.nics[index]
    # the pod's network does not let a guest keep its own address; a bridge of the cluster's does
    binding = "masquerade" if nic.network == "default" else "bridge"
    if nic.model in _NO_CARDS:
        raise Usage(f"{hardware.name}: the guest's network card is a {nic.model.value}, which KubeVirt has not")
    return {"name": f"net{index}", "model": nic.model.value, "macAddress": nic.mac, binding: {}}


def _network(network: str) -> dict[str, Any]:
    return {"pod": {}} if network == "default" else {"multus": {"networkName": network}}


def _boot_loader(hardware: TargetHardware) -> dict[str, Any]:
    if hardware.firmware is Firmware.UEFI:
        return {"efi": {"secureBoot": hardware.secure_boot, "persistent": True}}
    return {"bios": {}}


def _features(hardware: TargetHardware) -> dict[str, Any]:
    found: dict[str, Any] = {"acpi": {}, **({"smm": {"enabled": True}} if hardware.secure_boot else {})}
    hyperv = [each for each in hardware.hyperv if each is not Enlightenment.CLOCK]
    if hyperv:
        named = {_HYPERV.get(each, each.value): dict[str, Any]() for each in hyperv}
        if Enlightenment.SPINLOCKS in hyperv:
            named["spinlocks"] = {"spinlocks": SPINLOCK_RETRIES}
        found["hyperv"] = named
    return found


def _clock(hardware: TargetHardware) -> dict[str, Any]:
    is_local = hardware.clock is Clock.LOCAL_TIME
    timers: dict[str, Any] = {"hpet": {"present": False}}
    if is_local or hardware.counts_ticks:
        timers = {"rtc": {"tickPolicy": "catchup"}, **timers}
    if hardware.counts_ticks:
        timers["pit"] = {"tickPolicy": "delay"}
    if Enlightenment.CLOCK in hardware.hyperv:
        timers["hyperv"] = {}
    # the cluster does not know the site's zone; it is to be put in by hand
    return {**({"timezone": "Etc/UTC"} if is_local else {"utc": {}}), "timer": timers}
