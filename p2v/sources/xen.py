"""Xen's machine configurations: those of xl, and those of xm before it as far as they are plain settings.

Sources: xl.cfg(5) (names, units, defaults) and the examples that came with xm. Such a file is the machine's description and says
nothing of its state: whether the machine runs is for whoever copies its disks to know.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from p2v.core.units import MIB
from p2v.machine import Clock, Firmware, Machine, Smbios
from p2v.sources.description import Description
from p2v.sources.draft import CPUS_AT_MOST, MEMORY_AT_MOST_BYTES, Draft
from p2v.sources.xen_devices import add_drives, add_nics
from p2v.sources.xen_text import Settings, parse

KIND = "Xen machine configuration (xl, xm)"

_DEVICES = re.compile(rb"^[ \t]*(?:disk|vif)[ \t]*\+?=[ \t]*\[|^[ \t]*(?:builder|bootloader)[ \t]*=[ \t]*[\"']", re.MULTILINE)
_SIZES = re.compile(rb"^[ \t]*(?:memory|maxmem|vcpus|name)[ \t]*=[ \t]*[\"'\d]", re.MULTILINE)


def recognises(head: bytes) -> bool:
    """Whether a file's first bytes are such settings: a list of drives or cards, and a size or a name."""
    text = head.replace(b"\r", b"\n")
    if b"\0" in text or text.lstrip()[:1] in (b"<", b"{"):
        return False
    return _DEVICES.search(text) is not None and _SIZES.search(text) is not None


def read(description: Description) -> Machine:
    """The machine. Raises BadDescription, ForbiddenReference."""
    settings = parse(description)
    draft = Draft(description, KIND)
    kind = _kind(settings)
    removable = add_drives(draft, settings.words("disk"), is_full=kind == "hvm")
    add_nics(draft, settings.words("vif"), settings.count("vif"), is_full=kind == "hvm")
    _what_stays(draft, settings, kind)
    cpus = draft.number(settings.text("vcpus"), "vcpus", 1, CPUS_AT_MOST) or 1
    megabytes = _memory(draft, settings)
    identity = draft.uuid(settings.text("uuid"))
    return draft.finish(
        settings.text("name"),
        cpus,
        megabytes * MIB if megabytes else None,
        firmware=_firmware(settings) if kind == "hvm" else None,
        tpm=bool(settings.words("vtpm")),
        uuid=identity,
        # hvmloader makes the serial number from the UUID
        smbios=Smbios(serial=identity or "" if kind == "hvm" else ""),
        guest=kind.upper(),
        clock=Clock.LOCAL_TIME if settings.is_on("localtime") else Clock.UTC,
        display=_display(settings),
        removable=removable,
    )


def _kind(settings: Settings) -> str:
    stated = settings.text("type").lower()
    if stated in ("hvm", "pv", "pvh"):
        return stated
    loads_firmware = PurePosixPath(settings.text("kernel")).name.startswith("hvmloader")
    return "hvm" if settings.text("builder").lower() == "hvm" or loads_firmware else "pv"


def _memory(draft: Draft, settings: Settings) -> int | None:
    """In MiB: what it starts with; ``maxmem`` is what it may be given later."""
    most = MEMORY_AT_MOST_BYTES // MIB
    now = draft.number(settings.text("memory"), "memory", 1, most)
    full = draft.number(settings.text("maxmem"), "maxmem", 1, most)
    if now and full and full > now:
        draft.warn("memory-balloon", f"the machine had {now} MiB of memory and could be given {full} MiB; it gets {now} MiB")
    return now or full


def _firmware(settings: Settings) -> Firmware:
    stated = (settings.text("firmware") or settings.text("bios")).lower()
    path = settings.text("firmware_override") or settings.text("bios_path_override")
    return Firmware.UEFI if stated in ("uefi", "ovmf") or "ovmf" in f"{stated} {path}".lower() else Firmware.BIOS


def _display(settings: Settings) -> str:
    return settings.text("vga") or ("stdvga" if settings.is_on("stdvga") else "")


def _what_stays(draft: Draft, settings: Settings, kind: str) -> None:
    """Parts that have no counterpart, or that stand for things of the old host."""
    kernel = settings.text("kernel")
    if kind != "hvm":
        draft.paravirtual(kernel, settings.text("bootloader"))
    elif kernel and not PurePosixPath(kernel).name.startswith("hvmloader"):
        draft.kernel_stays(kernel)
    for name, what in (("pci", "the PCI device"), ("usbdev", "the USB device"), ("dtdev", "the device")):
        for device in settings.words(name):
            draft.passed_through(f"{what} {device}")
    if settings.text("gfx_passthru").lower() not in ("", "0"):
        draft.passed_through("the graphics card (gfx_passthru)")
    for port in settings.words("serial"):
        if port.lower() not in ("pty", "none", "null", "stdio", "vc"):
            draft.port_stays("serial port", port)
    for folder in settings.words("p9"):
        draft.shared_folder(folder.rpartition("path=")[2].partition(",")[0])
    if any(name.startswith("device_model_args") for name in settings.values):
        draft.warn("arguments", "arguments that the machine's hypervisor was given beside its description do not travel")
    if settings.words("vtpm"):
        draft.tpm_is_emptied()
