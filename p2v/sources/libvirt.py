"""Domains of libvirt: ``virsh dumpxml`` and the files in /etc/libvirt, of every hypervisor that libvirt manages.

Source: https://libvirt.org/formatdomain.html (elements, units and defaults). Containers are refused. A dump of a running
domain has its number as ``id``, and is refused as the disks are being written to.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from converters.source_file import shown
from p2v.machine import Clock, Firmware, Machine, Smbios, Topology
from p2v.sources.description import Description
from p2v.sources.draft import CPUS_AT_MOST, DEFAULT_CPUS, MEMORY_AT_MOST_BYTES, Draft
from p2v.sources.libvirt_devices import add_disks, add_nics, removable_drives, what_stays
from p2v.sources.smbios import smbios_of
from p2v.sources.uefi_variables import Nvram, uefi_variables
from p2v.sources.xml_text import attribute, below, child, children, from_first_tag, is_on, local, parse, text

KIND = "libvirt domain"

_CONTAINERS = ("lxc", "openvz", "uml")
_TYPES = ("qemu", "kvm", "kqemu", "xen", "vmware", "hyperv", "vbox", "hvf", "bhyve", "vz", "parallels", "test", *_CONTAINERS)
_QEMU = ("qemu", "kvm", "kqemu", "hvf")
_ROOT = re.compile(r"<domain\b[^<>]*\stype\s*=\s*[\"'](\w+)[\"']|<domstatus[\s>]")
_UNITS = {
    "b": 1, "bytes": 1, "kb": 1000, "k": 1 << 10, "kib": 1 << 10, "mb": 1000**2, "m": 1 << 20, "mib": 1 << 20,
    "gb": 1000**3, "g": 1 << 30, "gib": 1 << 30, "tb": 1000**4, "t": 1 << 40, "tib": 1 << 40,
}  # fmt: skip
_UEFI_FILE = re.compile(r"ovmf|edk2|efi|qemu-system-x86_64-secboot", re.IGNORECASE)


def recognises(head: bytes) -> bool:
    """Whether a file's first bytes begin a domain; other programs have XML with such a root too, without these types."""
    found = _ROOT.match(from_first_tag(head))
    return found is not None and (found[1] is None or found[1].lower() in _TYPES)


def read(description: Description) -> Machine:
    """The machine. Raises BadDescription, ForbiddenReference."""
    root = parse(description)
    domain = root if local(root) == "domain" else child(root, "domain")
    if domain is None:
        raise description.error("has no domain in it")
    kind = (attribute(domain, "type") or "").lower()
    if kind in _CONTAINERS or text(domain, "os", "type").lower() == "exe":
        raise description.error("describes a container, not a machine", "Containers have no disks and no kernel of their own.")
    draft = Draft(description, f"{KIND} ({kind})" if kind in _TYPES else KIND)
    name = text(domain, "name")
    _state(draft, root, domain, name)
    devices = child(domain, "devices")
    removable = removable_drives(draft, devices)
    add_disks(draft, devices)
    add_nics(draft, devices)
    what_stays(draft, devices)
    _what_of_the_domain_stays(draft, domain)
    cpus = _cpus(draft, domain)
    firmware = _firmware(domain)
    nvram = uefi_variables(draft, text(domain, "os", "nvram")) if firmware is Firmware.UEFI else Nvram()
    return draft.finish(
        name,
        cpus,
        _memory(draft, domain),
        firmware=firmware,
        secure_boot=firmware is Firmware.UEFI and _secure_boot(domain),
        tpm=child(devices, "tpm") is not None,
        uuid=draft.uuid(text(domain, "uuid") or _smbios_uuid(domain)),
        generation_id=draft.uuid(text(domain, "genid"), what="the generation id"),
        guest=_system_name(domain),
        topology=_topology(draft, domain, cpus or DEFAULT_CPUS),
        clock=_clock(domain),
        display=_display(devices),
        removable=removable,
        chipset=_chipset(domain) if kind in _QEMU else "",
        smbios=smbios_of(draft, _smbios(draft, domain)),
        nvram=nvram.path,
        variables=nvram.variables,
    )


def _state(draft: Draft, root: Element, domain: Element, name: str) -> None:
    if (attribute(domain, "id") or "-1") != "-1" or (attribute(root, "state") or "shutoff") not in ("shutoff", "crashed"):
        draft.block(
            "running",
            "the description is that of a running machine",
            "Shut it down, then describe it again with virsh dumpxml --inactive.",
        )
    saved = f"{name}.save"
    if name and any(PurePosixPath(each).name == saved for each in draft.description.around.names()):
        draft.block(
            "suspended",
            f"{saved} has the machine's saved state: its memory is not on its disks",
            "Start it, shut its system down, then try again.",
        )


def _memory(draft: Draft, domain: Element) -> int | None:
    full = _amount(draft, domain, "memory")
    now = _amount(draft, domain, "currentMemory")
    if full and now and now < full:
        draft.warn("memory-balloon", f"the machine had {now >> 20} MiB of its {full >> 20} MiB of memory; it gets all of them")
    return full


def _amount(draft: Draft, domain: Element, name: str) -> int | None:
    element = child(domain, name)
    if element is None:
        return None
    unit = _UNITS.get((attribute(element, "unit") or "KiB").lower())
    if unit is None:
        draft.warn("number", f"{name} is in {shown(attribute(element, 'unit') or '')}, which is no unit; it is not used")
        return None
    value = draft.number(element.text, name, 1, MEMORY_AT_MOST_BYTES // unit)
    return value * unit if value else None


def _cpus(draft: Draft, domain: Element) -> int | None:
    element = child(domain, "vcpu")
    if element is None:
        return 1
    most = draft.number(element.text, "vcpu", 1, CPUS_AT_MOST)
    now = draft.number(attribute(element, "current"), "vcpu current", 1, most or CPUS_AT_MOST)
    return now or most


def _topology(draft: Draft, domain: Element, cpus: int) -> Topology | None:
    element = child(domain, "cpu", "topology")
    if element is None:
        return None
    counts = [
        draft.number(attribute(element, name), f"the topology's {name}", 1, CPUS_AT_MOST) or 1
        for name in ("sockets", "dies", "clusters", "cores", "threads")
    ]
    sockets, dies, clusters, cores, threads = counts
    made = Topology(sockets, dies * clusters * cores, threads)
    return made if made.sockets * made.cores * made.threads == cpus else None


def _firmware(domain: Element) -> Firmware | None:
    system, loader = child(domain, "os"), child(domain, "os", "loader")
    if system is None or not _is_full(domain):
        return None  # Xen's paravirtual guests have none
    chosen = (attribute(system, "firmware") or "").lower()
    if chosen:
        return Firmware.UEFI if chosen == "efi" else Firmware.BIOS
    if child(system, "nvram") is not None:
        return Firmware.UEFI
    if loader is None:
        return Firmware.BIOS
    is_flash = (attribute(loader, "type") or "").lower() == "pflash"
    return Firmware.UEFI if is_flash or _UEFI_FILE.search(loader.text or "") else Firmware.BIOS


def _is_full(domain: Element) -> bool:
    """Whether it is a whole PC: not one of Xen's paravirtual guests."""
    return text(domain, "os", "type").lower() in ("", "hvm")


def _secure_boot(domain: Element) -> bool:
    system = child(domain, "os")
    for feature in children(child(system, "firmware"), "feature"):
        if attribute(feature, "name") == "secure-boot":
            return is_on(feature, "enabled")
    return is_on(child(system, "loader"), "secure")


def _chipset(domain: Element) -> str:
    """The machine type; libvirt's own default where a definition written by hand has none."""
    return (attribute(child(domain, "os", "type"), "machine") or "pc").strip().lower()


def _clock(domain: Element) -> Clock:
    clock = child(domain, "clock")
    offset = (attribute(clock, "offset") or "utc").lower()
    basis = (attribute(clock, "basis") or "utc").lower() if offset == "variable" else offset
    return Clock.LOCAL_TIME if basis in ("localtime", "timezone") else Clock.UTC


def _smbios(draft: Draft, domain: Element) -> Smbios:
    mode = (attribute(child(domain, "os", "smbios"), "mode") or "").lower()
    if mode == "host":
        draft.warn("smbios", "the guest saw its old host's maker, model and serial numbers, which stay behind")
    if mode != "sysinfo":
        return Smbios()  # what stands in sysinfo was not shown to it

    def told(part: str, name: str) -> str:
        entries = children(child(domain, "sysinfo", part), "entry")
        return next(((each.text or "") for each in entries if attribute(each, "name") == name), "")

    return Smbios(
        *(told("system", name) for name in ("manufacturer", "product", "version", "serial", "sku", "family")),
        *(told("baseBoard", name) for name in ("serial", "asset")),
        *(told("chassis", name) for name in ("serial", "asset")),
    )


def _smbios_uuid(domain: Element) -> str:
    entries = children(child(domain, "sysinfo", "system"), "entry")
    return next(((e.text or "").strip() for e in entries if attribute(e, "name") == "uuid"), "")


def _system_name(domain: Element) -> str:
    """What virt-install and virt-manager note of the guest: an address that names a system in libosinfo's list."""
    systems = below(child(domain, "metadata"), "os")
    return next((name for name in (attribute(each, "id") for each in systems) if name), "")


def _display(devices: Element | None) -> str:
    return attribute(child(devices, "video", "model"), "type") or ""


def _what_of_the_domain_stays(draft: Draft, domain: Element) -> None:
    system = child(domain, "os")
    draft.require_architecture(attribute(child(system, "type"), "arch") or "")
    if not _is_full(domain):
        draft.paravirtual(text(system, "kernel"), text(domain, "bootloader"))
    elif text(system, "kernel"):
        draft.kernel_stays(text(system, "kernel"))
    for element in domain:
        # its namespace is taken off: this is qemu:commandline and its like
        if local(element) == "commandline":
            draft.warn("arguments", "arguments that the machine's hypervisor was given beside its description do not travel")
    if child(domain, "launchSecurity") is not None:
        draft.warn("launch-security", "the machine's memory was encrypted by the host's CPU; it is not any more")
