"""What front ends call a guest's system: libosinfo's id, Proxmox's ostype, Glance's os_type and os_distro.

Sources: osinfo-db (ids are ``http://VENDOR/SHORT/VERSION``); Proxmox VE, qm.conf(5), ``ostype``; OpenStack, "Useful image
properties". A system that none of them knows gets their word for "some Linux" or none at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from drivers.facts import OperatingSystem

_SOME_LINUX = "http://libosinfo.org/linux/2022"


@dataclass(frozen=True, slots=True)
class _Linux:
    """How an os-release ID is written elsewhere. ``parts``: how much of the version counts (0: it has no versions)."""

    libosinfo: str
    parts: int = 1
    glance: str = ""
    shortest: str = ""
    """What libosinfo appends to a version that says only the first part (``7`` is ``7.0``)."""


# By os-release's ID.
_LINUX = {
    "debian": _Linux("debian.org/debian", 1, "debian"),
    "ubuntu": _Linux("ubuntu.com/ubuntu", 2, "ubuntu"),
    "rhel": _Linux("redhat.com/rhel", 2, "rhel", ".0"),
    "centos": _Linux("centos.org/centos", 2, "centos", ".0"),
    "rocky": _Linux("rockylinux.org/rocky", 1, "rocky"),
    "almalinux": _Linux("almalinux.org/almalinux", 1),
    "ol": _Linux("oracle.com/ol", 2, "", ".0"),
    "fedora": _Linux("fedoraproject.org/fedora", 1, "fedora"),
    "opensuse-leap": _Linux("opensuse.org/opensuse", 2, "opensuse", ".0"),
    "opensuse": _Linux("opensuse.org/opensuse", 2, "opensuse"),
    "opensuse-tumbleweed": _Linux("opensuse.org/opensuse/tumbleweed", 0, "opensuse"),
    "sles": _Linux("suse.com/sles", 2, "sles"),
    "arch": _Linux("archlinux.org/archlinux/rolling", 0, "arch"),
    "alpine": _Linux("alpinelinux.org/alpinelinux", 2),
    "gentoo": _Linux("gentoo.org/gentoo/rolling", 0, "gentoo"),
    "void": _Linux("voidlinux.org/voidlinux/rolling", 0),
    "altlinux": _Linux("altlinux.org/alt", 2),
    "mageia": _Linux("mageia.org/mageia", 1, "mandriva"),
}
_MICROSOFT = "http://microsoft.com"


@dataclass(frozen=True, slots=True)
class _Windows:
    """What a Windows is called elsewhere."""

    libosinfo: str
    proxmox: str


# By the id of ``drivers.windows.versions.short_id``.
_WINDOWS = {
    "winnt4.0": _Windows(f"{_MICROSOFT}/winnt/4.0", "other"),
    **{
        f"win{name}": _Windows(f"{_MICROSOFT}/win/{name}", ostype)
        for ostype, names in {
            "w2k": ("2k",), "wxp": ("xp",), "w2k3": ("2k3", "2k3r2"), "wvista": ("vista",), "w2k8": ("2k8",),
            "win7": ("7", "2k8r2"), "win8": ("8", "8.1", "2k12", "2k12r2"), "win10": ("10", "2k16", "2k19"),
            "win11": ("11", "2k22", "2k25"),
        }.items()
        for name in names
    },
}  # fmt: skip
# Numbers that os-release gives for centos but mean Stream.
_STREAM_FROM = 9


def libosinfo_id(system: OperatingSystem | None) -> str | None:
    """The id that libvirt's front ends look up in osinfo-db; None for what is no known system."""
    if system is not None and system.kind == "windows":
        return _WINDOWS[system.id].libosinfo if system.id in _WINDOWS else None
    if system is None or system.kind != "linux":
        return None
    known = _LINUX.get(system.id.lower())
    if known is None:
        return _SOME_LINUX
    if known.parts == 0:
        return f"http://{known.libosinfo}"
    numbers = re.findall(r"\d+", system.version)[: known.parts]
    if not numbers:
        return _SOME_LINUX
    if system.id.lower() == "centos" and int(numbers[0]) >= _STREAM_FROM - 1 and len(numbers) == 1:
        return f"http://centos.org/centos-stream/{numbers[0]}"
    if system.id.lower() == "sles" and numbers[1:] == ["0"]:
        numbers = numbers[:1]  # it has no service pack
    version = ".".join(numbers) + (known.shortest if len(numbers) == 1 else "")
    if system.id.lower() == "sles" and int(numbers[0]) >= 15:
        return f"http://suse.com/sle/{version}"
    return f"http://{known.libosinfo}/{version}"


def proxmox_ostype(system: OperatingSystem | None) -> str:
    """``l26`` for a Linux of kernel 2.6 or later, the Windows by which qm chooses its hardware, ``other`` for what is not known."""
    if system is not None and system.kind == "windows" and system.id in _WINDOWS:
        return _WINDOWS[system.id].proxmox
    return "l26" if system is not None and system.kind == "linux" else "other"


def glance_names(system: OperatingSystem | None) -> dict[str, str]:
    """The properties that say what runs in an image; empty for what is not known."""
    if system is not None and system.kind == "windows":
        return {"os_type": "windows", "os_distro": "windows"}
    if system is None or system.kind != "linux":
        return {}
    found = {"os_type": "linux"}
    known = _LINUX.get(system.id.lower())
    if known is not None and known.glance:
        found["os_distro"] = known.glance
    if system.version:
        found["os_version"] = re.sub(r"[^0-9A-Za-z._-]", "", system.version)[:64]
    return found
