"""How many processors and how much memory an edition of Windows uses; whatever a machine has besides lies idle. Pure.

A table as of November 2026. Sources: Microsoft, "Memory Limits for Windows and Windows Server Releases" (msdn aa366778, also as it
stood in 2009); "Compare Windows Server 2003 Editions", "... 2008 R2 Editions", "Windows Server 2012 Essentials and Foundation";
"Windows and multicore processors" (licences count sockets, since Windows XP); the product pages of NT 4.0 and 2000 (there every
processor counts, for want of a notion of cores); Windows Internals, 4th to 7th edition (processors of a kernel: 32 with 32 bits,
64 up to Server 2008, 256 from 7 on). Editions: ``ProductSuite`` up to Server 2003 (KB 152078), ``EditionID`` later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from drivers.caps import GuestCaps
from drivers.windows.facts import SYSTEM, WindowsFacts, WindowsVersion
from drivers.windows.processors import knows_cores
from p2v.core.units import GIB, format_bytes

_VISTA, _SEVEN = (6, 0), (6, 1)
# of an edition that is not known: CPUs that nothing divides are one socket's
_ANY_SOCKETS = 64
# N: without media player, KN: for Korea, E: once without a browser, V: without Hyper-V; Eval, Core: how it is installed
_SUFFIXES = re.compile(r"(SingleLanguage|CountrySpecific|Eval|Core|KN|[NEV])$")


@dataclass(frozen=True, slots=True)
class Limit:
    """An edition, and what it uses. ``sockets``: processors as its licence has them; memory in bytes; None: none that matters."""

    title: str
    sockets: int | None = None
    memory_x86: int | None = None
    memory_x64: int | None = None


def _sized(title: str, sockets: int | None, x86: int | None, x64: int | None = None) -> Limit:
    """Memory in GiB."""
    return Limit(title, sockets, x86 * GIB if x86 is not None else None, x64 * GIB if x64 is not None else None)


_SMALL = "small business(restricted)"
_NT4 = {
    "workstation": _sized("Windows NT Workstation 4.0", 2, 4),
    "server": _sized("Windows NT Server 4.0", 4, 4),
    "enterprise": _sized("Windows NT Server 4.0, Enterprise Edition", 8, 4),
}
_W2000 = {
    "workstation": _sized("Windows 2000 Professional", 2, 4),
    "server": _sized("Windows 2000 Server", 4, 4),
    "enterprise": _sized("Windows 2000 Advanced Server", 8, 8),
    "datacenter": _sized("Windows 2000 Datacenter Server", 32, 32),
    _SMALL: _sized("Small Business Server 2000", 4, 4),
}
_WXP = {
    "workstation": _sized("Windows XP Professional", 2, 4, 128),
    "personal": _sized("Windows XP Home Edition", 1, 4),
}
_W2003 = {
    "workstation": _sized("Windows XP Professional x64 Edition", 2, None, 128),
    "server": _sized("Windows Server 2003, Standard Edition", 4, 4, 32),
    "enterprise": _sized("Windows Server 2003, Enterprise Edition", 8, 64, 1024),
    "datacenter": _sized("Windows Server 2003, Datacenter Edition", 64, 128, 1024),
    "blade": _sized("Windows Server 2003, Web Edition", 2, 2),
    _SMALL: _sized("Windows Small Business Server 2003", 2, 4),
}
_W6_0 = {
    "Starter": Limit("Windows Vista Starter", 1, 1 * GIB),
    "HomeBasic": _sized("Windows Vista Home Basic", 1, 4, 8),
    "HomePremium": _sized("Windows Vista Home Premium", 1, 4, 16),
    "Business": _sized("Windows Vista Business", 2, 4, 128),
    "Enterprise": _sized("Windows Vista Enterprise", 2, 4, 128),
    "Ultimate": _sized("Windows Vista Ultimate", 2, 4, 128),
    "ServerWeb": _sized("Windows Web Server 2008", 4, 4, 32),
    "ServerStandard": _sized("Windows Server 2008 Standard", 4, 4, 32),
    "ServerEnterprise": _sized("Windows Server 2008 Enterprise", 8, 64, 1024),
    "ServerDatacenter": _sized("Windows Server 2008 Datacenter", 64, 64, 1024),
    "ServerFoundation": _sized("Windows Server 2008 Foundation", 1, None, 8),
}
_W6_1 = {
    "Starter": _sized("Windows 7 Starter", 1, 2, 2),
    "HomeBasic": _sized("Windows 7 Home Basic", 1, 4, 8),
    "HomePremium": _sized("Windows 7 Home Premium", 1, 4, 16),
    "Professional": _sized("Windows 7 Professional", 2, 4, 192),
    "Enterprise": _sized("Windows 7 Enterprise", 2, 4, 192),
    "Ultimate": _sized("Windows 7 Ultimate", 2, 4, 192),
    "ServerFoundation": _sized("Windows Server 2008 R2 Foundation", 1, None, 8),
    "ServerWeb": _sized("Windows Web Server 2008 R2", 4, None, 32),
    "ServerStandard": _sized("Windows Server 2008 R2 Standard", 4, None, 32),
    "ServerEnterprise": _sized("Windows Server 2008 R2 Enterprise", 8, None, 2048),
    "ServerDatacenter": _sized("Windows Server 2008 R2 Datacenter", 64, None, 2048),
}
_W6_2 = {
    "Core": _sized("Windows 8", 1, 4, 128),
    "Professional": _sized("Windows 8 Pro", 2, 4, 512),
    "Enterprise": _sized("Windows 8 Enterprise", 2, 4, 512),
    "ServerFoundation": _sized("Windows Server 2012 Foundation", 1, None, 32),
    "ServerSolution": _sized("Windows Server 2012 Essentials", 2, None, 64),
    "ServerStandard": _sized("Windows Server 2012 Standard", 64, None, 4096),
    "ServerDatacenter": _sized("Windows Server 2012 Datacenter", 64, None, 4096),
}
_W6_3 = {
    name: replace(limit, title=limit.title.replace("Windows 8", "Windows 8.1").replace("2012", "2012 R2"))
    for name, limit in _W6_2.items()
}
_W10 = {
    "Core": _sized("Home edition", 1, 4, 128),
    "Professional": _sized("Pro edition", 2, 4, 2048),
    "ProfessionalEducation": _sized("Pro Education edition", 2, 4, 2048),
    "Education": _sized("Education edition", 2, 4, 2048),
    "ProfessionalWorkstation": _sized("Pro for Workstations", 4, 4, 6144),
    "Enterprise": _sized("Enterprise edition", 2, 4, 6144),
    "EnterpriseS": _sized("Enterprise LTSC", 2, 4, 6144),
    "IoTEnterprise": _sized("IoT Enterprise", 2, 4, 6144),
    "IoTEnterpriseS": _sized("IoT Enterprise LTSC", 2, 4, 6144),
    "ServerSolution": _sized("Essentials edition", 2, None, 64),
    "ServerStandard": Limit("Standard edition", 64),
    "ServerDatacenter": Limit("Datacenter edition", 64),
}
LIMITS: Mapping[tuple[int, int], Mapping[str, Limit]] = {
    (4, 0): _NT4, (5, 0): _W2000, (5, 1): _WXP, (5, 2): _W2003, (6, 0): _W6_0, (6, 1): _W6_1, (6, 2): _W6_2, (6, 3): _W6_3,
    (10, 0): _W10,
}  # fmt: skip


def limit_of(windows: WindowsFacts) -> Limit | None:
    """The edition and its limits; None for one that is not in the table."""
    version = windows.version
    editions = LIMITS.get(version.number)
    if editions is None:
        return None
    if version.number >= _VISTA:
        found = editions.get(_without_suffixes(version.edition_id))
        if found is not None and version.number == (10, 0):
            found = replace(found, title=f"{_family(version)} {found.title}")
        return found
    found = next((editions[suite] for suite in _suites(windows) if suite in editions), None)
    return found or editions.get("server" if version.is_server else "workstation")


def with_limits(caps: GuestCaps, windows: WindowsFacts) -> GuestCaps:
    """The guest's hardware with no more CPUs and memory than it uses, and CPUs divided so that it uses them all."""
    limit = limit_of(windows)
    cores = knows_cores(windows)
    sockets = limit.sockets if limit is not None else _ANY_SOCKETS
    own = [each for each in (_of_kernel(windows), None if cores else sockets) if each is not None]
    # what the HAL has set is told of there
    cpus = own if caps.cpus_at_most is None else [*own, caps.cpus_at_most]
    memory = _memory(limit, windows)
    return replace(
        caps,
        cpus_at_most=min(cpus, default=None),
        memory_at_most_bytes=memory,
        sockets_at_most=sockets,
        knows_cores=cores,
        limits=_told(limit, min(own, default=None), memory, cores=cores) if limit is not None else "",
    )


def _without_suffixes(edition: str) -> str:
    """``ServerStandardCore`` is ``ServerStandard``, ``CoreN`` is ``Core`` (Home), ``EnterpriseSN`` is ``EnterpriseS``."""
    while (found := _SUFFIXES.search(edition)) is not None and found.start() > 0:
        edition = edition[: found.start()]
    return edition


def _suites(windows: WindowsFacts) -> tuple[str, ...]:
    """The product suites of the control set that is started first, in lower case, the largest edition first."""
    sets = windows.control_sets.bootable
    key = f"ControlSet{sets[0]:03d}\\Control\\ProductOptions" if sets else ""
    value = windows.registry[SYSTEM].value(key, "ProductSuite")
    found = {text.lower() for text in (value.texts() or ())} if value is not None else set()
    # a Datacenter edition names Enterprise as well; plain "Small Business" is what stays after an upgrade to a full server
    order = ("datacenter", _SMALL, "enterprise", "blade", "personal")
    return tuple(suite for suite in order if suite in found)


def _family(version: WindowsVersion) -> str:
    """What a release of version 10 is called without its edition."""
    name = re.match(r"Windows (Server \d{4}|\d{2})", version.product_name)
    return name[0] if name is not None else "Windows"


def _of_kernel(windows: WindowsFacts) -> int | None:
    if windows.arch == "i386":
        return 32
    version = windows.version.number
    return 64 if version <= _VISTA else 256 if version == _SEVEN else None


def _memory(limit: Limit | None, windows: WindowsFacts) -> int | None:
    if limit is None:
        return None
    return limit.memory_x86 if windows.arch == "i386" else limit.memory_x64


def _told(limit: Limit, cpus: int | None, memory: int | None, *, cores: bool) -> str:
    parts = [f"{limit.sockets} socket{'s' if limit.sockets != 1 else ''}"] if limit.sockets is not None and cores else []
    parts += [f"{cpus} CPU{'s' if cpus != 1 else ''}"] if cpus is not None else []
    parts += [format_bytes(memory)] if memory is not None else []
    if not parts:
        return ""
    return f"{limit.title} uses at most {' and '.join([', '.join(parts[:-1]), parts[-1]] if parts[1:] else parts)}"
