"""A Windows of every generation, planned for in memory, and the machine that it gets on KVM, as text.

``python -m tests.targets.windows_machines`` writes the texts anew; a change in them is to be looked at line by line.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import yaml

from drivers.caps import GuestCaps
from drivers.facts import GuestFacts, OperatingSystem, ReadBy
from drivers.plan import GuestPlan, PlanOptions
from drivers.planning import plan_guest
from drivers.windows.facts import WindowsFacts
from drivers.windows.offer import DriverOffer
from drivers.windows.versions import short_id
from drivers.windows.virtio_drivers import with_drivers
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import Usage
from p2v.core.units import GIB
from p2v.machine import DriveKind, Firmware, Machine, MachineDisk, Nic, RemovableDrive
from p2v.targets import kubevirt, openstack, proxmox
from p2v.targets.hardware import TargetDisk, TargetHardware, target_hardware
from p2v.targets.libvirt import domain_xml
from p2v.targets.qemu import qemu_script
from tests.drivers.windows.guest_facts import FILES, facts
from tests.fixtures.hives import Tree, multi_sz, sz
from tests.fixtures.windows import versions
from tests.fixtures.windows.versions import Version

GOLDEN = Path(__file__).with_name("windows_machines")
KVM = Acceleration(Accelerator.KVM, "in a test")
TCG = Acceleration(Accelerator.TCG, "in a test")
ALL_DEVICES = ("block", "scsi", "network", "balloon", "random", "serial")
OPTIONS = "ControlSet001\\Control\\ProductOptions"
HAL = "ControlSet001\\Control\\Class\\{4d36e966-e325-11ce-bfc1-08002be10318}\\0000"


@dataclass(frozen=True)
class Generation:
    """A Windows, on which firmware, with which of virtio's drivers, and which product suite NT 5 names."""

    version: Version
    arch: str = "x86_64"
    firmware: Firmware = Firmware.BIOS
    devices: tuple[str, ...] = ()
    suite: str = ""
    product_type: str = ""
    files: tuple[str, ...] = ()
    utc: bool = False
    hal: str = ""


_UEFI = Firmware.UEFI
GENERATIONS = {
    "nt4": Generation(versions.NT4_WORKSTATION, "i386", files=("amdpcn.sys",)),
    "nt4-server": Generation(versions.NT4_SERVER, "i386"),
    "2000": Generation(versions.W2000_PROFESSIONAL, "i386"),
    "xp": Generation(versions.XP, "i386"),
    "xp-home": Generation(versions.XP, "i386", suite="Personal"),
    "xp-up": Generation(versions.XP, "i386", hal="acpipic_up"),
    "xp-virtio": Generation(versions.XP, "i386", devices=("block", "network", "balloon", "serial")),
    "xp-x64": Generation(versions.XP_X64),
    "2003": Generation(versions.S2003, "i386"),
    "vista": Generation(versions.VISTA, "i386"),
    "vista-x64-uefi": Generation(versions.VISTA, "x86_64", _UEFI),
    "7": Generation(versions.W7),
    "7-uefi": Generation(versions.W7, "x86_64", _UEFI, ALL_DEVICES),
    "2008-r2": Generation(versions.S2008_R2, devices=ALL_DEVICES),
    "8": Generation(versions.W8, "i386"),
    "2012-r2-dc": Generation(versions.S2012_R2, "x86_64", _UEFI, ALL_DEVICES, product_type="LanmanNT"),
    "10": Generation(versions.W10, "x86_64", _UEFI, ALL_DEVICES, utc=True),
    "10-x86": Generation(versions.W10, "i386"),
    "10-arm64": Generation(versions.W10, "aarch64", _UEFI, ALL_DEVICES),
    "11": Generation(versions.W11, "x86_64", _UEFI, ALL_DEVICES),
    "11-bios": Generation(versions.W11),
    "11-arm64": Generation(versions.W11, "aarch64", _UEFI, ALL_DEVICES),
    "2016": Generation(versions.S2016, devices=ALL_DEVICES),
    "2022": Generation(versions.S2022, "x86_64", _UEFI, ALL_DEVICES),
    "2025": Generation(versions.S2025, "x86_64", _UEFI, ALL_DEVICES),
}
SOURCE = Machine(
    "win", (MachineDisk(Path("win.vmdk")),), (Nic("00:50:56:aa:bb:01"),), 4, 8 * GIB, uuid="2b4ad1e5-0c74-5a77-8a44-111213141516",
    removable=(RemovableDrive(DriveKind.CDROM), RemovableDrive(DriveKind.FLOPPY)),
)  # fmt: skip


def windows_of(generation: Generation) -> WindowsFacts:
    """Its facts."""
    found = generation.version
    system: Tree = {
        OPTIONS: {"ProductSuite": multi_sz(generation.suite)} if generation.suite else {},
        HAL: {"MatchingDeviceId": sz(generation.hal)} if generation.hal else {},
    }
    made = facts(system, version=found.nt, arch=generation.arch, files=(*FILES, *generation.files))
    kind = generation.product_type or found.product_type
    name = found.product.replace("Windows 10", "Windows 11") if found.build >= 22000 and not found.is_server else found.product
    version = replace(
        made.version, build=found.build, product_name=name, edition_id=found.edition, product_type=kind,
        installation_type=found.installation,
    )  # fmt: skip
    return replace(made, version=version, utc_clock=generation.utc)


def system_of(windows: WindowsFacts) -> OperatingSystem:
    """What front ends are told of it."""
    return OperatingSystem("windows", short_id(windows.version), "", windows.version.product_name, windows.arch, "windows")


def plan_of(generation: Generation) -> GuestPlan:
    """Its plan, without a medium of drivers."""
    known = windows_of(generation)
    found = GuestFacts(ReadBy.HOST, (), (), system_of(known), firmware=generation.firmware.value, windows=known)
    return plan_guest(found, PlanOptions())


def caps_of(generation: Generation) -> GuestCaps:
    """What it can use with the drivers that it is given."""
    caps = plan_of(generation).caps
    drivers = [SimpleNamespace(device=device) for device in generation.devices]
    offer = cast(DriverOffer, SimpleNamespace(choice=SimpleNamespace(drivers=drivers)))
    return with_drivers(caps, offer) if drivers else caps


def hardware_of(generation: Generation, machine: Machine = SOURCE) -> TargetHardware:
    """Its machine. Where it starts by UEFI, it had secure boot and a TPM."""
    is_uefi = generation.firmware is Firmware.UEFI
    source = replace(machine, firmware=generation.firmware, secure_boot=is_uefi, tpm=is_uefi)
    return target_hardware(source, caps_of(generation), (TargetDisk(Path("win.qcow2")),), "state")


def described(name: str) -> str:
    """What every target is told of it."""
    generation = GENERATIONS[name]
    made, system = hardware_of(generation), system_of(windows_of(generation))
    script = qemu_script(made, KVM)
    command = script[script.index('exec "$qemu"') :]
    cpus = [line.strip() for line in script.splitlines() if line.strip().startswith("cpu=")]
    parts = {
        "QEMU": "\n".join([*cpus, command.rstrip()]),
        "libvirt": domain_xml(made, Path("/vm"), KVM, system).rstrip(),
        "Proxmox VE": _told(lambda: proxmox.qm_conf(made, system), made),
        "KubeVirt": _told(lambda: _domain(made), made),
        "OpenStack": "\n".join(f"{key}={value}" for key, value in sorted(openstack.image_properties(made, system).items())),
    }
    return "".join(f"== {title}\n{text.rstrip()}\n" for title, text in parts.items())


def _told(text: Callable[[], str], made: TargetHardware) -> str:
    if made.arch != "x86_64":
        return "not described there"
    try:
        return text()
    except Usage as refused:
        return f"refused: {refused}"


def _domain(made: TargetHardware) -> str:
    machine = list(yaml.safe_load_all(kubevirt.manifest(made, [GIB])))[-1]
    return str(yaml.safe_dump(machine["spec"]["template"]["spec"]["domain"], sort_keys=False))


def _write() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        for name in GENERATIONS:
            Path(folder, f"{name}.txt").write_text(described(name), "utf-8")
        shutil.rmtree(GOLDEN, ignore_errors=True)
        shutil.copytree(folder, GOLDEN)
    yield from sorted(GOLDEN.iterdir())


if __name__ == "__main__":
    for written in _write():
        print(written.name)
