"""What single products write into an OVF beside the specification: firmware, identity, addresses, clocks.

Sources: VMware's extensions (``vmw:Config``, ``vmw:ExtraConfig``, ``vmw:BootOrderSection``) as ovftool writes them; VirtualBox's
settings (VirtualBox-settings.xsd), which its packages hold as ``vbox:Machine``; oVirt's ``BiosType``; XenCenter's
``VirtualSystemOtherConfigurationData``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from p2v.machine import NOTHING_TOLD, Clock, Firmware, Smbios
from p2v.sources import virtualbox
from p2v.sources.draft import Draft
from p2v.sources.ovf_envelope import System, sections
from p2v.sources.xml_text import attribute, below, child, children, is_on, local, text

# BiosType of oVirt: 0 the cluster's, 1 and 2 SeaBIOS, 3 OVMF, 4 OVMF with secure boot
_OVIRT_FIRMWARE = {"1": Firmware.BIOS, "2": Firmware.BIOS, "3": Firmware.UEFI, "4": Firmware.UEFI}
_ON = ("true", "1", "yes", "on")
_BOOT_ORDER_AT_MOST = 256


@dataclass
class Dialect:
    """What a product says. ``macs``: VirtualBox's cards in order, "" where it says none."""

    firmware: Firmware | None = None
    secure_boot: bool = False
    tpm: bool = False
    uuid: str | None = None
    clock: Clock | None = None
    guest: str = ""
    display: str = ""
    macs: list[str] = field(default_factory=list)
    boot_order: list[str] = field(default_factory=list)
    is_xen: bool = False
    smbios: Smbios = NOTHING_TOLD


def dialect(draft: Draft, system: System, hardware: Element) -> Dialect:
    """Everything a system says in a product's own words."""
    made = Dialect()
    kind = text(hardware, "System", "VirtualSystemType").lower()
    made.is_xen = kind.startswith(("xen", "hvm-"))
    operating = system.section("OperatingSystem")
    if operating is not None:
        made.guest = attribute(operating, "osType") or text(operating, "OSType") or text(operating, "Description")
        made.guest = made.guest or _CIM_SYSTEMS.get(attribute(operating, "id") or "", "")
    _vmware(made, system, hardware)
    # before ESX 4 and Workstation 8 had UEFI, nothing was said about it
    if kind.startswith("vmx-"):
        made.firmware, made.display = made.firmware or Firmware.BIOS, "svga"
    machine = next(children(system.element, "Machine"), None)
    if machine is not None:
        _virtualbox(draft, made, machine)
    if kind.startswith(("engine", "ovirt", "rhevm")) or next(children(system.element, "BiosType"), None) is not None:
        _ovirt(draft, made, system, operating)
    if made.is_xen:
        _xen(draft, made, hardware)
    return made


def _vmware(made: Dialect, system: System, hardware: Element) -> None:
    settings: dict[str, str] = {}
    for each in hardware:
        if local(each) in ("Config", "ExtraConfig"):
            key, value = (attribute(each, "key") or "").lower(), attribute(each, "value") or ""
            settings[key] = value.lower()
            if key == "smbios.assettag":
                made.smbios = Smbios(asset_tag=value)
    stated = settings.get("firmware", "")
    if stated:
        made.firmware = Firmware.UEFI if stated == "efi" else Firmware.BIOS
    asked = (settings.get(key, "") for key in ("bootoptions.efisecurebootenabled", "uefi.secureboot.enabled"))
    made.secure_boot = made.firmware is Firmware.UEFI and any(value in _ON for value in asked)
    for kind, section in sections(system.element):
        if kind == "BootOrder":
            made.boot_order += (attribute(section, "instanceId") or "").replace(",", " ").split()[:_BOOT_ORDER_AT_MOST]
    del made.boot_order[_BOOT_ORDER_AT_MOST:]


def _virtualbox(draft: Draft, made: Dialect, machine: Element) -> None:
    hardware = child(machine, "Hardware")
    kind = (attribute(child(hardware, "Firmware"), "type") or "").lower()
    made.firmware = Firmware.UEFI if kind.startswith("efi") else Firmware.BIOS
    made.guest = attribute(machine, "OSType") or made.guest
    made.display = (attribute(child(hardware, "Display"), "controller") or "").lower()
    made.clock, made.tpm = virtualbox.clock_of(hardware), virtualbox.has_tpm(hardware)
    made.uuid = virtualbox.smbios_uuid(draft, machine, made.guest)
    made.smbios = virtualbox.smbios_stated(machine)
    for card in children(child(hardware, "Network"), "Adapter"):
        if is_on(card, "enabled"):
            made.macs.append(attribute(card, "MACAddress") or "")


def _ovirt(draft: Draft, made: Dialect, system: System, operating: Element | None) -> None:
    kind = text(system.element, "BiosType")
    made.firmware = _OVIRT_FIRMWARE.get(kind)
    made.secure_boot = kind == "4"
    named = (system.id, attribute(operating, "id") or "")
    # the machine's id is its SMBIOS UUID; which of the two holds it depends on the version
    made.uuid = next((draft.uuid(text) for text in named if len(text) == 36), None)
    made.tpm = any(text(item, "Device").lower() == "tpm" for item in below(system.element, "Item"))


def _xen(draft: Draft, made: Dialect, hardware: Element) -> None:
    values = {}
    for each in children(hardware, "VirtualSystemOtherConfigurationData"):
        values[(attribute(each, "Name") or "").lower()] = text(each, "Value") or attribute(each, "Value") or ""
    if "hvm_boot_params" in values:
        made.firmware = Firmware.UEFI if "firmware=uefi" in values["hvm_boot_params"].lower() else Firmware.BIOS
    made.secure_boot = made.firmware is Firmware.UEFI and "secureboot=true" in values.get("platform", "").lower()
    if values.get("pv_bootloader") and not values.get("hvm_boot_policy"):
        draft.warn(
            "paravirtual",
            "the machine was paravirtual (Xen PV): its host read the kernel from its disk, and it may have no boot loader",
            "Install a boot loader in it before it is converted, if it has none.",
        )


# OSType of CIM_OperatingSystem, for packages that give the number alone.
_CIM_SYSTEMS = {
    "12": "OS/2", "14": "DOS", "15": "Windows 3.x", "16": "Windows 95", "17": "Windows 98", "18": "Windows NT",
    "58": "Windows 2000", "63": "Windows Me", "67": "Windows XP", "69": "Windows Server 2003", "70": "Windows Server 2003 64-bit",
    "71": "Windows XP 64-bit",
    "73": "Windows Vista", "74": "Windows Vista 64-bit", "76": "Windows Server 2008", "77": "Windows Server 2008 64-bit",
    "103": "Windows Server 2008 R2", "105": "Windows 7", "112": "Windows Server 2012", "113": "Windows 8",
    "114": "Windows 8 64-bit", "115": "Windows Server 2012 R2", "116": "Windows 8.1", "117": "Windows 8.1 64-bit",
    "118": "Windows Server 2016", "119": "Windows 10", "120": "Windows 10 64-bit",
    "21": "NetWare", "29": "Solaris", "36": "Linux", "42": "FreeBSD", "43": "NetBSD", "65": "OpenBSD", "78": "FreeBSD 64-bit",
    "79": "Red Hat Enterprise Linux", "80": "Red Hat Enterprise Linux 64-bit", "82": "SUSE", "83": "SUSE 64-bit",
    "84": "SLES", "85": "SLES 64-bit", "93": "Ubuntu", "94": "Ubuntu 64-bit", "95": "Debian", "96": "Debian 64-bit",
    "97": "Linux 2.4", "98": "Linux 2.4 64-bit", "99": "Linux 2.6", "100": "Linux 2.6 64-bit", "101": "Linux 64-bit",
    "106": "CentOS", "107": "CentOS 64-bit", "108": "Oracle Linux", "109": "Oracle Linux 64-bit", "110": "eComStation",
}  # fmt: skip
