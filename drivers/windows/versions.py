"""Which Windows a guest is, from its own registry.

libguestfs 1.48 takes Windows 11 for 10 and Server 2025 for 2016, since the product name and the version number alone
do not tell them apart: the build does. Builds: learn.microsoft.com, "Windows Server release information" and "Windows 11 release
information".
"""

from __future__ import annotations

import re

from drivers.windows.facts import HiveFile, WindowsVersion

CURRENT_VERSION = "Microsoft\\Windows NT\\CurrentVersion"
FIRST_WINDOWS_11 = 22000
_NUMBERS = re.compile(r"(\d{1,4})\.(\d{1,4})")
_NUMBER_AT_MOST = 1 << 31
_SERVERS_10 = ((26100, "win2k25"), (20348, "win2k22"), (17763, "win2k19"), (0, "win2k16"))
_NAMES = {
    # client, server; by libosinfo's short ids
    (6, 0): ("winvista", "win2k8"), (6, 1): ("win7", "win2k8r2"), (6, 2): ("win8", "win2k12"), (6, 3): ("win8.1", "win2k12r2"),
}  # fmt: skip


def read_version(system: HiveFile, software: HiveFile, control: str) -> WindowsVersion:
    """The version. ``control``: the path of the current control set's Control key."""
    major = software.number(CURRENT_VERSION, "CurrentMajorVersionNumber")
    minor = software.number(CURRENT_VERSION, "CurrentMinorVersionNumber")
    if major is None:
        match = _NUMBERS.match(software.text(CURRENT_VERSION, "CurrentVersion"))
        major, minor = (int(match[1]), int(match[2])) if match else (0, 0)
    build = _number(software.text(CURRENT_VERSION, "CurrentBuildNumber"))
    name = _text(software, "ProductName")
    if major == 10 and build >= FIRST_WINDOWS_11:
        # Microsoft left the name of Windows 10 in the registry of 11
        name = re.sub(r"\bWindows 10\b", "Windows 11", name)
    return WindowsVersion(
        min(major, _NUMBER_AT_MOST),
        min(minor or 0, _NUMBER_AT_MOST),
        build,
        software.number(CURRENT_VERSION, "UBR") or 0,
        name,
        _text(software, "EditionID"),
        _text(software, "InstallationType"),
        _text(software, "CSDVersion"),
        system.text(f"{control}\\ProductOptions", "ProductType")[:100],
    )


def _text(software: HiveFile, name: str) -> str:
    return software.text(CURRENT_VERSION, name)[:100]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else 0


def short_id(version: WindowsVersion) -> str:
    """libosinfo's name for it: ``win2k19``, ``win11``, ...; ``windows`` for one that nobody knows."""
    number, is_server = version.number, version.is_server
    if number == (10, 0):
        if is_server:
            return next(name for first, name in _SERVERS_10 if version.build >= first)
        return "win11" if version.build >= FIRST_WINDOWS_11 else "win10"
    if number == (5, 2):
        if not is_server:
            return "winxp"  # its edition for x64
        return "win2k3r2" if "R2" in version.product_name.split() else "win2k3"
    old = {(4, 0): "winnt4.0", (5, 0): "win2k", (5, 1): "winxp"}.get(number)
    return old or _NAMES.get(number, ("windows", "windows"))[is_server]
