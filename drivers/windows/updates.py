"""Whether a Windows 7 or Server 2008 has the update with which it reads SHA-2 signatures of drivers. Pure.

Sources: Microsoft, Security Advisory 3033929, "SHA-2 Code Signing Support requirement" (KB4474419), "Convenience rollup update"
(KB3125574, April 2016, whose files are 6.1.7601.23403: all later ones have what 3033929 brought in March 2015); states of
packages (CbsInstallState): 0x50 superseded, 0x70 installed, 0x80 permanent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from drivers.windows.facts import SOFTWARE, RegistryValue, WindowsFacts
from drivers.windows.hives import Pattern
from drivers.windows.versions import CURRENT_VERSION

WITHOUT_SHA2 = frozenset({(6, 0), (6, 1)})
PACKAGES = "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\Packages"
_BY_VERSION = {(6, 0): ("KB4474419",), (6, 1): ("KB3033929", "KB4474419", "KB3125574")}
_PACKAGE = re.compile(r"Package_(?:\d{1,4}_)?for_(KB\d{6,8})~", re.IGNORECASE)
_THERE = frozenset({0x50, 0x70, 0x80})
_FIRST_WITH_ALL = (6, 1, 7601, 23403)


def packages_of(keys: Mapping[str, tuple[RegistryValue, ...]]) -> Iterator[Pattern]:
    """The keys of those updates, for the Windows to which they matter: others have thousands of packages."""
    texts = {value.name.lower(): value.value().text() for value in keys.get(CURRENT_VERSION, ()) if not value.cut}
    if texts.get("currentversion") in ("6.0", "6.1"):
        yield Pattern(PACKAGES)
        # one pattern, so that the packages are gone through once: KB3033929, KB4474419, KB3125574
        yield Pattern(f"{PACKAGES}\\PACKAGE_*FOR_KB[34][014][237][345][459][127][49]~*")


def reads_sha2(windows: WindowsFacts) -> bool | None:
    """Whether it takes drivers that are signed with SHA-2 alone; None where nothing tells."""
    number = windows.version.number
    if number not in WITHOUT_SHA2:
        return number >= (6, 2)
    found = windows.integrity_version
    if found >= _FIRST_WITH_ALL:
        return True
    software = windows.registry[SOFTWARE]
    for key in software.below(PACKAGES):
        match = _PACKAGE.match(key.rpartition("\\")[2])
        if match is not None and match[1].upper() in _BY_VERSION[number] and software.number(key, "CurrentState") in _THERE:
            return True
    is_known = software.key(PACKAGES) is not None and (number == (6, 0) or bool(found))
    return False if is_known else None
