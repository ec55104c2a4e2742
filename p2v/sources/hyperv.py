"""Hyper-V's machines as Windows Server 2008 to 2012 R2 write them: one XML file in ``Virtual Machines``, named by a GUID.

Sources: Microsoft's documentation of the WMI classes whose values the file keeps (Msvm_VirtualSystemSettingData and the
classes of single devices), Altaro's article on the files, published programs that write such files, and parts of real ones in
public threads. ``vmcx`` gives the same tree for what Windows 10 and Server 2016 write.

A machine of generation 1 has a BIOS, IDE and SCSI, a generation 2 machine UEFI and SCSI alone. What a guest saw: disks on
either through the VMBus ("storvsc"; without its drivers an Intel PIIX4 for IDE), network cards on it ("netvsc"), or the legacy
card, a DEC 21140 ("tulip" in Linux). Not carried over: the generation id, whose byte order in this file is not published.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from converters.source_file import shown, shown_names
from p2v.core.errors import BadDescription
from p2v.core.units import MIB
from p2v.machine import Clock, Firmware, Machine
from p2v.sources import hyperv_devices as hv
from p2v.sources.description import Description
from p2v.sources.draft import CPUS_AT_MOST, MEMORY_AT_MOST_BYTES, Draft
from p2v.sources.smbios import smbios_of
from p2v.sources.windows_files import WindowsFiles
from p2v.sources.xml_text import child, from_first_tag, local, parse, text

KIND = "Hyper-V virtual machine (.xml)"

_TELLING = re.compile(r"<(_[0-9A-Fa-f]{8}-[0-9A-Fa-f-]{27}_|global_settings|manifest)\b")
_CHECKPOINTS = "snapshots"
_CHECKPOINT_SUFFIXES = (".xml", ".vmcx", ".exp")
_CHECKPOINTS_NAMED = 8
_SAVED_SUFFIXES = (".bin", ".vsv")
# In units of 100 ns: a clock that differs by less shows UTC, or the local time of a zone that is UTC at times.
_SKEW_OF_A_ZONE = 30 * 60 * 10_000_000


def recognises(head: bytes) -> bool:
    """Whether a file's first bytes begin such a file."""
    begins = from_first_tag(head)
    return re.match(r"<configuration\b", begins) is not None and _TELLING.search(begins) is not None


def read(description: Description) -> Machine:
    """The machine. Raises BadDescription, ForbiddenReference."""
    root = parse(description)
    if local(root) != "configuration":
        raise description.error("is no configuration of a Hyper-V machine")
    draft, files = Draft(description, KIND), WindowsFiles(description)
    saved_state(draft, files, root)
    return machine_of(draft, files, root)


def machine_of(draft: Draft, files: WindowsFiles, root: Element) -> Machine:
    """The machine that a ``configuration`` tells of. Raises BadDescription, ForbiddenReference."""
    devices = hv.devices(root)
    settings, properties = child(root, "settings"), child(root, "properties")
    checkpoints(draft, files, text(root, "global_settings", "snapshots", "list", "size"), text(properties, "type_id"))
    removable = hv.add_drives(draft, files, hv.drives(devices))
    for nic in hv.nics(draft, devices):
        draft.add_nic(nic)
    hv.what_stays(draft, devices)
    firmware, node = _firmware(draft, root, devices), hv.device(devices, hv.FIRMWARE)
    tpm = hv.has_device(devices, hv.TPM)
    if tpm:
        draft.tpm_is_emptied()
    cpus = draft.number(text(settings, "processors", "count"), "the number of processors", 1, CPUS_AT_MOST)
    return draft.finish(
        text(properties, "name"),
        cpus,
        _memory(draft, child(settings, "memory", "bank")),
        firmware=firmware,
        secure_boot=firmware is Firmware.UEFI and text(node, "secure_boot_enabled").lower() == "true",
        tpm=tpm,
        uuid=draft.uuid(text(node, "bios_guid")),
        smbios=smbios_of(draft, hv.smbios(node)),
        clock=_clock(firmware, hv.device(devices, hv.CLOCK)),
        removable=removable,
    )


def _firmware(draft: Draft, root: Element, devices: tuple[hv.Device, ...]) -> Firmware:
    """By the generation; before there were two (2012 R2) files do not say it."""
    subtype = draft.number(text(root, "properties", "subtype"), "the machine's subtype", 0, 255)
    if subtype is not None:
        return Firmware.UEFI if subtype == 1 else Firmware.BIOS
    version = draft.number(text(root, "properties", "version"), "the configuration's version", 0, 1 << 32) or 0
    has_ide = hv.has_device(devices, hv.IDE)
    return Firmware.UEFI if version >= 0x500 and not has_ide else Firmware.BIOS


def _memory(draft: Draft, bank: Element | None) -> int | None:
    size = draft.number(text(bank, "size"), "the memory's size", 1, MEMORY_AT_MOST_BYTES // MIB)
    if size and text(bank, "dynamic_memory_enabled").lower() == "true":
        low, high = text(bank, "reservation") or "?", text(bank, "limit") or "?"
        draft.warn(
            "dynamic-memory",
            f"the machine's memory grew and shrank between {low} and {high} MiB; it gets the {size} MiB it started with",
            "Say another size with --memory.",
        )
    return size * MIB if size else None


def _clock(firmware: Firmware, clock: Element | None) -> Clock | None:
    """What the hardware clock shows: Hyper-V starts generation 1's with the host's local time and notes what guests set."""
    skew = text(clock, "RtcDevice", "CmosUtcSkew")
    if re.fullmatch(r"-?\d{1,19}", skew):
        # a guest that keeps UTC leaves nothing; so does one that keeps local time where that is UTC in winter
        return Clock.LOCAL_TIME if abs(int(skew)) >= _SKEW_OF_A_ZONE else None
    return Clock.LOCAL_TIME if firmware is Firmware.BIOS else None


def saved_state(draft: Draft, files: WindowsFiles, root: Element | None = None) -> None:
    """Block a machine whose memory is in files: named in the configuration, or there in the folder of its GUID."""
    state = child(root, "savedstate")
    named = [name for key in ("vsvlocation", "memlocation") if (name := text(state, key))]
    own = draft.description.path.stem.casefold()
    there = [name for name in files.names if name.casefold().endswith(_SAVED_SUFFIXES) and own in _stems(name)]
    if named or there:
        say_saved(draft, PurePosixPath((named or there)[0].replace("\\", "/")).name)


def _stems(name: str) -> set[str]:
    return {PurePosixPath(part).stem for part in PurePosixPath(name.casefold()).parts}


def say_saved(draft: Draft, where: str) -> None:
    """The blocker for a machine that is saved, or that runs."""
    draft.block(
        "suspended",
        f"the machine runs or its state is saved ({shown(where)}): its memory is not on its disks",
        "Start it where it runs, shut its system down, and export it again; Remove-VMSavedState throws a saved state away.",
    )


def checkpoints(draft: Draft, files: WindowsFiles, stated: str = "", type_id: str = "") -> None:
    """Name the checkpoints, which do not travel; or say that the description is one.

    ``stated`` is how many the description says there are: files beside it may be another machine's.
    """
    description = draft.description
    if description.path.parent.name.lower() == _CHECKPOINTS or "snapshot" in type_id.lower():
        draft.warn("checkpoint", "this is a checkpoint of a machine, not the machine as it is now")
        return
    kept = [name for name in files.names if _is_checkpoint(name)]
    if not kept or stated == "0":
        return
    # each title is in a file of its own, and one more than is named says that there are more
    titles = [_title(description, name) for name in kept[: _CHECKPOINTS_NAMED + 1]]
    count = "a checkpoint" if len(kept) == 1 else f"{len(kept)} checkpoints"
    draft.warn(
        "checkpoints",
        f"the machine has {count} ({shown_names(titles, _CHECKPOINTS_NAMED)}); only its present state travels",
        "To convert a checkpoint, name its file in the folder Snapshots.",
    )


def _is_checkpoint(name: str) -> bool:
    path = PurePosixPath(name)
    return path.parent.name.lower() == _CHECKPOINTS and path.suffix.lower() in _CHECKPOINT_SUFFIXES


def _title(description: Description, name: str) -> str:
    """What people call a checkpoint; its file's name where that is not to be read."""
    data = description.around.read(name)
    if data is None or not recognises(data[: 64 * 1024]):
        return PurePosixPath(name).stem
    try:
        return text(parse(description, data), "properties", "name") or PurePosixPath(name).stem
    except BadDescription:
        return PurePosixPath(name).stem
