"""libvirt as a target: the domain's definition as ``virsh define`` takes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from drivers.facts import OperatingSystem
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.drive_letters import drive_letters
from p2v.core.errors import Usage
from p2v.core.qemu import guest_acceleration
from p2v.core.units import SECTOR_BYTES
from p2v.machine import Clock, Connection, DiskBus, DriveKind, Firmware
from p2v.targets.hardware import (
    BUS_NAMES,
    IDE_DISKS,
    LARGE_SECTOR_BUSES,
    TargetDisk,
    TargetHardware,
    TargetNic,
    medium_in,
)
from p2v.targets.hyperv import SPINLOCK_RETRIES, Enlightenment
from p2v.targets.platforms import Platform, Video, platform_of
from p2v.targets.system_names import libosinfo_id

_LIBOSINFO = "http://libosinfo.org/xmlns/libvirt/domain/1.0"
ET.register_namespace("libosinfo", _LIBOSINFO)
_DEVICE_PREFIXES = {DiskBus.VIRTIO_BLK: "vd", DiskBus.VIRTIO_SCSI: "sd", DiskBus.SATA: "sd", DiskBus.IDE: "hd"}
# What XML 1.0 cannot hold, escaped or not.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def domain_xml(
    hardware: TargetHardware,
    folder: Path,
    acceleration: Acceleration | None = None,
    system: OperatingSystem | None = None,
    pools: Sequence[str | None] = (),
    variables: Path | None = None,
) -> str:
    """The domain XML; relative disk paths are taken below ``folder`` (which is made absolute).

    ``acceleration``: what the host can do; without it the domain is for KVM. ``system``: what runs in it.
    ``pools``: of each disk that is a volume the name of its storage pool; the volume is called as the file is, and media are in
    the first disk's pool. ``variables``: where that host has the
    machine's UEFI variables, if not in ``folder``. Raises Usage for a name XML cannot hold.
    """
    kvm = acceleration is None or guest_acceleration(acceleration, hardware.arch).accelerator is Accelerator.KVM
    here = platform_of(hardware.arch)
    domain = ET.Element("domain", type="kvm" if kvm else "qemu")
    _text(domain, "name", hardware.name)
    _text(domain, "uuid", hardware.uuid)
    if hardware.generation_id:
        _text(domain, "genid", hardware.generation_id)
    _system_name(domain, system)
    _text(domain, "memory", str(hardware.memory_bytes // 1024), unit="KiB")
    _text(domain, "vcpu", str(hardware.cpus))
    own = folder.absolute() / hardware.variables if hardware.variables is not None else None
    _firmware(domain, hardware, own if variables is None else variables)
    _smbios(domain, hardware)
    _features(domain, hardware, here, kvm)
    _cpu(domain, hardware, here, kvm)
    _clock(domain, hardware, kvm)
    _text(domain, "on_poweroff", "destroy")
    _text(domain, "on_reboot", "restart")
    _text(domain, "on_crash", "destroy")
    _devices(domain, hardware, [pool or folder.absolute() for pool in (*pools, *(None for _ in hardware.disks))])
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _features(domain: ET.Element, hardware: TargetHardware, here: Platform, kvm: bool) -> None:
    hyperv = [each for each in hardware.hyperv if each is not Enlightenment.CLOCK] if kvm else []
    if not (here.libvirt_features or hardware.secure_boot or hyperv):
        return
    features = ET.SubElement(domain, "features")
    for name in here.libvirt_features:
        ET.SubElement(features, name)
    if hyperv:
        parent = ET.SubElement(features, "hyperv")
        for each in hyperv:
            element = ET.SubElement(parent, each.value, state="on")
            if each is Enlightenment.SPINLOCKS:
                element.set("retries", str(SPINLOCK_RETRIES))
    if hardware.secure_boot:
        ET.SubElement(features, "smm", state="on")


def _cpu(domain: ET.Element, hardware: TargetHardware, here: Platform, kvm: bool) -> None:
    model = hardware.cpu_model or ("" if kvm else here.emulated_cpu)
    if not model:
        cpu = ET.SubElement(domain, "cpu", mode="host-passthrough" if kvm else "maximum")
        if not kvm and hardware.arch == "x86_64":
            # as in the script: emulated five-level paging stops some boot loaders
            ET.SubElement(cpu, "feature", policy="disable", name="la57")
    else:
        cpu = ET.SubElement(domain, "cpu", mode="custom", match="exact", check="none")
        _text(cpu, "model", model)
    made = hardware.topology
    if made is not None:
        # the schema wants it before the features
        cpu.insert(0, ET.Element("topology", sockets=str(made.sockets), cores=str(made.cores), threads=str(made.threads)))


def _system_name(domain: ET.Element, system: OperatingSystem | None) -> None:
    """What runs in it, for virt-manager and its kin."""
    name = libosinfo_id(system)
    if name is not None:
        libosinfo = ET.SubElement(ET.SubElement(domain, "metadata"), f"{{{_LIBOSINFO}}}libosinfo")
        ET.SubElement(libosinfo, f"{{{_LIBOSINFO}}}os", id=name)


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = _holdable(text)
    return element


def _holdable(text: str) -> str:
    if _NOT_XML.search(text):
        raise Usage(
            f"{text!a}: libvirt's XML cannot hold these characters",
            "Choose a name and a folder of printable characters.",
        )
    return text


def _firmware(domain: ET.Element, hardware: TargetHardware, variables: Path | None) -> None:
    """``variables``: where the machine's own are; None: libvirt makes them from the firmware's template at the first start."""
    system = ET.SubElement(domain, "os")
    if hardware.firmware is Firmware.UEFI:
        # libvirt finds the files of its host itself
        system.set("firmware", "efi")
    _text(system, "type", "hvm", arch=hardware.arch, machine=hardware.machine)
    if hardware.firmware is Firmware.UEFI:
        state = "yes" if hardware.secure_boot else "no"
        features = ET.SubElement(system, "firmware")
        ET.SubElement(features, "feature", enabled=state, name="secure-boot")
        ET.SubElement(features, "feature", enabled=state, name="enrolled-keys")
        if variables is not None:
            _text(system, "nvram", str(variables))
    ET.SubElement(system, "boot", dev="hd")


def _smbios(domain: ET.Element, hardware: TargetHardware) -> None:
    told = hardware.smbios
    parts = {
        "system": {
            "manufacturer": told.manufacturer, "product": told.product, "version": told.version, "serial": told.serial,
            "sku": told.sku, "family": told.family,
        },
        "baseBoard": {"serial": told.board_serial, "asset": told.board_asset},
        "chassis": {"serial": told.chassis_serial, "asset": told.asset_tag},
    }  # fmt: skip
    stated = {part: {k: v for k, v in values.items() if v} for part, values in parts.items() if any(values.values())}
    system = domain.find("os")
    if not stated or system is None:
        return
    ET.SubElement(system, "smbios", mode="sysinfo")
    sysinfo = ET.SubElement(domain, "sysinfo", type="smbios")
    for part, values in stated.items():
        element = ET.SubElement(sysinfo, part)
        for name, value in values.items():
            _text(element, "entry", value, name=name)


def _clock(domain: ET.Element, hardware: TargetHardware, kvm: bool) -> None:
    clock = ET.SubElement(domain, "clock", offset=hardware.clock.value)
    if hardware.counts_ticks or hardware.clock is Clock.LOCAL_TIME:
        # a guest that counts timer ticks (Windows) loses time unless missed ones are made up for
        ET.SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    if hardware.counts_ticks:
        ET.SubElement(clock, "timer", name="pit", tickpolicy="delay")
        ET.SubElement(clock, "timer", name="hpet", present="no")
    if kvm and Enlightenment.CLOCK in hardware.hyperv:
        ET.SubElement(clock, "timer", name="hypervclock", present="yes")


def _devices(domain: ET.Element, hardware: TargetHardware, places: Sequence[Path | str]) -> None:
    """``places``: of each disk at least, the folder of its file or the name of its pool."""
    here = platform_of(hardware.arch)
    devices = ET.SubElement(domain, "devices")
    for index, disk in enumerate(hardware.disks):
        _disk(devices, hardware, index, disk, places[index])
    if hardware.disk_bus is DiskBus.VIRTIO_SCSI:
        ET.SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    _removable(devices, hardware, places[0])
    for nic in hardware.nics:
        _nic(devices, nic)
    _consoles(devices, here)
    if hardware.tablet is not None:
        ET.SubElement(devices, "controller", type="usb", index="0", model=hardware.tablet.value)
        ET.SubElement(devices, "input", type="tablet", bus="usb")
    if hardware.agent:
        channel = ET.SubElement(devices, "channel", type="unix")
        ET.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    if hardware.tpm:
        tpm = ET.SubElement(devices, "tpm", model=here.tpm_device.removesuffix("-device"))
        ET.SubElement(tpm, "backend", type="emulator", version="2.0")
    if hardware.video is not Video.NONE:
        ET.SubElement(devices, "graphics", type="vnc", autoport="yes", listen="127.0.0.1")
    video = ET.SubElement(devices, "video")
    ET.SubElement(video, "model", type=hardware.video.value)
    ET.SubElement(devices, "memballoon", model="virtio" if hardware.balloon else "none")
    if hardware.rng:
        rng = ET.SubElement(devices, "rng", model="virtio")
        _text(rng, "backend", "/dev/urandom", model="random")


def _consoles(devices: ET.Element, here: Platform) -> None:
    if not here.console:
        serial = ET.SubElement(devices, "serial", type="pty")
        ET.SubElement(serial, "target", port="0")
    console = ET.SubElement(devices, "console", type="pty")
    ET.SubElement(console, "target", type=here.console or "serial", port="0")
    if here.usb_input:
        ET.SubElement(devices, "controller", type="usb", model="qemu-xhci")
        ET.SubElement(devices, "input", type="keyboard", bus="usb")
        ET.SubElement(devices, "input", type="tablet", bus="usb")


def _disk(devices: ET.Element, hardware: TargetHardware, index: int, disk: TargetDisk, where: Path | str) -> None:
    """``where``: the folder of the files, or the name of the pool; a block device is neither's."""
    element = ET.SubElement(devices, "disk", type="block" if disk.is_device else _kind(where), device="disk")
    driver = ET.SubElement(element, "driver", name="qemu", type=disk.format, discard="unmap")
    if disk.is_device:
        # a second cache, the host's, is in the way of a guest that has a device of its own
        driver.set("cache", "none")
        driver.set("io", "native")
        ET.SubElement(element, "source", dev=_holdable(str(disk.path)))
    else:
        _source(element, disk.path, where)
    bus = hardware.disk_bus
    sizes = (disk.logical_sector_bytes, disk.physical_sector_bytes)
    if bus in LARGE_SECTOR_BUSES and sizes != (SECTOR_BYTES, SECTOR_BYTES):
        ET.SubElement(element, "blockio", logical_block_size=str(sizes[0]), physical_block_size=str(sizes[1]))
    ET.SubElement(element, "target", dev=_DEVICE_PREFIXES[bus] + drive_letters(index), bus=BUS_NAMES[bus])
    if disk.serial:
        _text(element, "serial", disk.serial)


def _kind(where: Path | str) -> str:
    return "file" if isinstance(where, Path) else "volume"


def _source(element: ET.Element, path: Path, where: Path | str) -> None:
    if isinstance(where, Path):
        ET.SubElement(element, "source", file=_holdable(str(where / path)))
    else:
        ET.SubElement(element, "source", pool=_holdable(where), volume=_holdable(path.name))


def _removable(devices: ET.Element, hardware: TargetHardware, where: Path | str) -> None:
    """Drives behind the disks, on buses that every guest knows, with what is in them."""
    is_old = hardware.machine == "pc"
    used = 0 if hardware.disk_bus is DiskBus.VIRTIO_BLK else len(hardware.disks)
    for number in range(hardware.cdroms):
        bus = "ide" if is_old else "sata"
        # libvirt derives the unit from the letter, and no two drives may share one: disks on virtio have others
        letter = IDE_DISKS - 1 - number if is_old else used + number
        medium = medium_in(hardware, DriveKind.CDROM, number)
        element = ET.SubElement(devices, "disk", type=_kind(where) if medium else "file", device="cdrom")
        ET.SubElement(element, "driver", name="qemu", type="raw")
        if medium is not None:
            _source(element, medium.path, where)
        ET.SubElement(element, "target", dev=("hd" if is_old else "sd") + drive_letters(letter), bus=bus)
        ET.SubElement(element, "readonly")
    for number in range(hardware.floppies):
        medium = medium_in(hardware, DriveKind.FLOPPY, number)
        element = ET.SubElement(devices, "disk", type=_kind(where) if medium else "file", device="floppy")
        if medium is not None:
            ET.SubElement(element, "driver", name="qemu", type="raw")
            _source(element, medium.path, where)
        ET.SubElement(element, "target", dev=f"fd{drive_letters(number)}", bus="fdc")


def _nic(devices: ET.Element, nic: TargetNic) -> None:
    element = ET.SubElement(devices, "interface", type=nic.connection.value)
    ET.SubElement(element, "mac", address=nic.mac)
    if nic.connection is not Connection.USER:
        # the attribute is called as the type is
        ET.SubElement(element, "source", {nic.connection.value: _holdable(nic.network)})
    ET.SubElement(element, "model", type=nic.model.value)
