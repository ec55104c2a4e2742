"""OVF packages: an .ovf in its folder, or an archive (OVA: tar; zip) with one in it. OVF 0.9, 1.x and 2.x.

Sources: DMTF DSP0243 (OVF) 1.1.1 and 2.1.1; VMware's, VirtualBox's, oVirt's and XenCenter's packages (see ``ovf_dialects``).
Nothing is unpacked: disks are read where they stand in the archive. Packages are templates as often as they are machines:
what they leave to the deployment (properties, blank disks, choices of size) is named.
"""

from __future__ import annotations

import posixpath
import re
import threading
from contextlib import closing
from pathlib import Path
from xml.etree.ElementTree import Element

from converters.archives import open_stored
from converters.source_file import shown, shown_names
from p2v.core.events import Reporter, silent
from p2v.machine import Clock, Firmware, Machine, Nic
from p2v.sources import ovf_manifest
from p2v.sources.description import Description
from p2v.sources.draft import Draft
from p2v.sources.ovf_dialects import Dialect, dialect
from p2v.sources.ovf_envelope import Envelope, OvfFile, System, envelope, items, sections
from p2v.sources.ovf_hardware import FIRST_CHUNK, found_name, hardware
from p2v.sources.smbios import smbios_of
from p2v.sources.uefi_variables import Nvram, uefi_variables
from p2v.sources.xml_text import attribute, below, local

KIND = "OVF package"

_SECTIONS = frozenset({
    "Annotation", "BootOrder", "CpuCompatibility", "DeploymentOption", "Disk", "Environment", "EnvironmentFiles", "Eula",
    "Install", "IpAssignment", "Network", "OperatingSystem", "PlacementGroup", "Placement", "Product", "ResourceAllocation",
    "ScaleOut", "Snapshots", "Startup", "Storage", "StorageGroup", "VirtualHardware", "BootDevice", "SharedDisk", "Encryption",
})  # fmt: skip
_ROOT = re.compile(r"<(?:[A-Za-z_][\w.-]*:)?Envelope\b")


def recognises(head: bytes) -> bool:
    """Whether a file's first bytes begin an OVF: XML whose root is an envelope, with OVF's namespace or words in it."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or head[:4] in (b"<\0?\0", b"\0<\0?"):
        head = head.replace(b"\0", b"")[2 if head[:1] in b"\xff\xfe" else 0 :]
    text = head.removeprefix(b"\xef\xbb\xbf").decode("latin-1").lstrip()
    return text.startswith("<") and _ROOT.search(text) is not None and "ovf" in text.lower()


def systems(description: Description) -> tuple[str, ...]:
    """The names of the machines in a package, as ``read`` takes them. Raises BadDescription."""
    return tuple(system.name or system.id for system in envelope(description).systems)


def read(description: Description, name: str | None = None) -> Machine:
    """The machine; of several the one called ``name`` (its name or id). Raises BadDescription, ForbiddenReference."""
    draft = Draft(description, KIND)
    package = envelope(description)
    system = _chosen(description, package, name)
    ovf_manifest.check(draft, _used_files(draft, package))
    parts = _hardware_of(draft, system)
    says = dialect(draft, system, parts)
    _sections(draft, package, system, parts)
    configuration = _configuration(draft, package)
    found = hardware(draft, package, items(description, parts, configuration), says.boot_order, is_xen=says.is_xen)
    _unused_disks(draft, package, found.used)
    _addresses(draft, says)
    tpm = found.tpm or says.tpm
    if tpm:
        draft.tpm_is_emptied()
    if says.firmware is None:
        draft.assumed.append("firmware")
    nvram = _nvram(draft, package) if says.firmware is Firmware.UEFI else Nvram()
    return draft.finish(
        system.name or system.id,
        found.cpus,
        found.memory_bytes,
        firmware=says.firmware,
        secure_boot=says.secure_boot,
        tpm=tpm,
        uuid=says.uuid,
        guest=says.guest,
        topology=found.topology,
        clock=says.clock or _clock(says.guest),
        display=says.display,
        removable=tuple(found.removable),
        smbios=smbios_of(draft, says.smbios),
        nvram=nvram.path,
        variables=nvram.variables,
    )


def verify(description: Description, *, report: Reporter = silent, cancelled: threading.Event | None = None) -> tuple[str, ...]:
    """Whether a package's files arrived whole: by their digests where a manifest has them, else by their sizes.

    To be called before the copy: it reads every file of the manifest. Returns the names whose digests are right. Raises
    BadDescription, CopyCancelled, and what reading files raises.
    """
    checked = ovf_manifest.verify(description, report=report, cancelled=cancelled)
    package, home = envelope(description), description.around.home
    for reference in dict.fromkeys(disk.file_ref for disk in package.disks.values()):
        file = package.file(reference)
        if file is None or file.size is None:
            continue
        names = _parts_of(description, file)
        if all(posixpath.join(home, name) in checked for name in names):
            continue
        paths = [path for name in names if (path := description.disk(name)) is not None]
        # what is not there is told when its machine is read
        size = sum(_stored_bytes(path) for path in paths)
        if paths and size < file.size:
            problem = f"says that {shown(file.href)} has {file.size} bytes, and it has {size}"
            raise description.error(problem, "It was cut on its way: copy or download it again.")
    return checked


def _stored_bytes(path: Path) -> int:
    with closing(open_stored(path)) as file:
        return file.size


def _chosen(description: Description, package: Envelope, name: str | None) -> System:
    names = shown_names([system.name or system.id for system in package.systems], 12)
    found = package.systems
    if name is not None:
        found = tuple(system for system in found if name == system.name) or tuple(s for s in found if name == s.id)
    if len(found) == 1:
        return found[0]
    if name is None:
        raise description.error(f"describes {len(found)} machines: {names}", "They are converted one by one; name one of them.")
    what = f"{len(found)} machines" if found else "no machine"
    raise description.error(f"describes {what} called {shown(name)}; in it: {names}", "Name one of them, by its name or its id.")


def _hardware_of(draft: Draft, system: System) -> Element:
    found = [each for kind, each in sections(system.element) if kind == "VirtualHardware"]
    if not found:
        raise draft.description.error(f"says nothing of the hardware of {shown(system.name or system.id)}")
    if len(found) > 1:
        draft.warn("hardware-alternatives", f"the machine is described for {len(found)} kinds of host; the first one is taken")
    return found[0]


def _configuration(draft: Draft, package: Envelope) -> str:
    if len(package.configurations) > 1:
        first, *others = (shown(name) for name in package.configurations[:12])
        draft.warn("configuration", f"the machine comes in several sizes; it gets the default, {first} (not {', '.join(others)})")
    return next(iter(package.configurations), "")


def _used_files(draft: Draft, package: Envelope) -> list[str]:
    """The names of the files the package refers to, in chunks where they come so."""
    names = draft.description.beside()
    used = []
    for file in package.files.values():
        chunks = [name for name in names if name.startswith(f"{file.href}.")] if file.chunk_bytes else []
        used += chunks or [file.href]
    return used


def _parts_of(description: Description, file: OvfFile) -> list[str]:
    """A file's name from the description, or those of its chunks where it comes in chunks."""
    name = found_name(description, file)
    if not name.endswith(FIRST_CHUNK):
        return [name]
    stem = name.removesuffix(FIRST_CHUNK)
    return [other for other in description.beside() if re.fullmatch(r"\.[0-9]{9}", other.removeprefix(stem))]


def _sections(draft: Draft, package: Envelope, system: System, parts: Element) -> None:
    """What a package demands or leaves to the deployment that is not hardware."""
    seen = [*sections(package.root), *sections(system.element), *sections(parts)]
    for kind, section in seen:
        if kind in _SECTIONS:
            continue
        if (attribute(section, "required") or "").lower() in ("true", "1"):
            draft.block("section-required", f"the package demands that a {kind} section be understood, and it is not known")
        elif attribute(section, "required") is None:
            draft.warn("section", f"the package has a {kind} section, which is not known here; it is left out")
    kinds = {kind for kind, _ in seen}
    if "Encryption" in kinds or any(local(each) == "EncryptedData" for each in package.root.iter()):
        draft.block("encrypted", "the package is encrypted", "Decrypt it with the tool that made it.")
    if "SharedDisk" in kinds:
        draft.warn("disk-shared", "the package has disks that several machines share; the copy is this machine's own")
    if "Snapshots" in kinds:
        draft.warn("snapshots", "the machine has snapshots; its current state is converted, snapshots do not travel")
    if attribute(parts, "transport") and any(True for _ in below(system.element, "Property")):
        draft.warn(
            "properties",
            "the machine expects settings from its host when it first starts (OVF properties); KVM hands it none",
            "Deploy it once where it comes from, or set in the guest what it would have been told.",
        )


def _unused_disks(draft: Draft, package: Envelope, used: set[str]) -> None:
    # with several machines in a package, the others have them
    unused = [disk.id for disk in package.disks.values() if disk.id not in used]
    if unused and len(package.systems) == 1:
        draft.warn("disk-unused", f"the package has disks that hang on nothing and are left out: {shown_names(unused)}")


def _addresses(draft: Draft, says: Dialect) -> None:
    """MAC addresses that stand in VirtualBox's own settings, where the items are as many and have none."""
    if len(says.macs) == len(draft.nics) and all(nic.mac is None for nic in draft.nics):
        cards, draft.nics = draft.nics, []
        for card, mac in zip(cards, says.macs, strict=True):
            draft.add_nic(Nic(draft.mac(mac), card.network, card.model, card.connected))


def _nvram(draft: Draft, package: Envelope) -> Nvram:
    """UEFI variables are one more file of the package, known by its suffix; of several nothing says whose they are."""
    names = [file.href for file in package.files.values() if file.href.lower().endswith(".nvram")]
    return uefi_variables(draft, *names) if len(names) == 1 else Nvram()


def _clock(guest: str) -> Clock | None:
    if not guest:
        return None
    return Clock.LOCAL_TIME if re.search(r"\bwin|windows", guest.lower()) else Clock.UTC
