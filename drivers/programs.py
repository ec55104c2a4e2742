"""Programs that tie a machine to others or to its hardware, found in a guest. Pure.

Linux guests are asked by the names of their packages and by places that only one program has; Windows guests by services
that start, and by their list of installed programs. Nothing of it is judged here.
"""

from __future__ import annotations

import enum
import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from drivers.linux import paths
from drivers.tree import GuestTree
from drivers.windows import c_regf as c
from drivers.windows.facts import SOFTWARE, SYSTEM, WindowsFacts
from drivers.windows.services import Service, services_of
from drivers.windows.uninstalling import VIEWS
from p2v.core.text import printable

PROGRAMS_AT_MOST = 200
_EVIDENCE_LETTERS = 120
_ENTRIES_AT_MOST = 4000
# Microsoft, "HKLM\\SYSTEM\\CurrentControlSet\\Services Registry Tree": boot, system, automatic; on demand
_STARTS, _STARTS_ON_DEMAND = 2, 3


class ProgramKind(enum.Enum):
    """What a program is to its machine."""

    CLUSTER = "cluster"
    FLOATING_ADDRESS = "floating address"
    SHARED_STORAGE = "shared storage"
    MULTIPATH = "multipath"
    BACKUP = "backup"
    ANTIVIRUS = "antivirus"
    MANAGEMENT = "management"
    DATABASE = "database"
    DIRECTORY = "directory"
    NAME_SERVER = "name server"
    ADDRESS_SERVER = "address server"
    CERTIFICATE_AUTHORITY = "certificate authority"
    LICENCE_SERVER = "licence server"
    LICENCE_BOUND = "licence bound to hardware"
    DONGLE = "dongle"
    GRAPHICS = "graphics"
    HARDWARE = "hardware"
    HYPERVISOR = "hypervisor"
    CONTAINERS = "containers"
    REAL_TIME = "real time"
    CRASH_DUMP = "crash dump"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Program:
    """How a program is recognised; a ``*`` in a name stands for anything.

    ``packages``: of Linux distributions; ``paths``: of a Linux guest, that only it has. ``services``: of Windows, and they count
    where they start by themselves; ``drivers``: the same that start on demand as well. ``listed``: DisplayName in Windows' list of
    installed programs.
    """

    name: str
    kind: ProgramKind
    packages: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundProgram:
    """A program in a guest. ``where``: a path of the guest, or a key of its registry from its hive on; ``text``: what tells there.

    ``in_registry``: which of the two. ``text`` is printable and short.
    """

    name: str
    kind: ProgramKind
    where: str
    text: str = ""
    in_registry: bool = False


def programs_of_linux(
    tree: GuestTree, catalogue: Iterable[Program], packages: Collection[str], database: str
) -> tuple[FoundProgram, ...]:
    """Those that a Linux guest has, in the catalogue's order, each once. ``database``: where ``packages`` were read from."""
    found = []
    for program in catalogue:
        package = next((name for pattern in program.packages for name in _fitting(pattern, packages)), None)
        if package is not None:
            found.append(FoundProgram(program.name, program.kind, database, f"package {_cut(package)}"))
            continue
        path = next((path for pattern in program.paths for path in paths.matching(tree, pattern)), None)
        if path is not None:
            found.append(FoundProgram(program.name, program.kind, _cut(path)))
    return tuple(found[:PROGRAMS_AT_MOST])


def programs_of_windows(windows: WindowsFacts, catalogue: Iterable[Program]) -> tuple[FoundProgram, ...]:
    """Those that a Windows guest has, in the catalogue's order, each once."""
    services = _services(windows)
    titles = tuple(_titles(windows))
    found = []
    for program in catalogue:
        one = _by_service(program, services) or _by_title(program, titles)
        if one is not None:
            found.append(one)
    return tuple(found[:PROGRAMS_AT_MOST])


def devices_of_windows(windows: WindowsFacts) -> tuple[FoundProgram, ...]:
    """Dongles and fibre channel cards that Plug and Play knows, present or past, one of a kind.

    Sources: the USB and PCI ids' public lists (04b9 Rainbow, 0529 Aladdin, 064f WIBU; 1077 QLogic, 10df Emulex), and the drivers'
    services: QLogic's and Emulex' network cards have others.
    """
    system = windows.registry.get(SYSTEM)
    sets = windows.control_sets.bootable
    if system is None or not sets:
        return ()
    found: dict[str, FoundProgram] = {}
    start = c.upper(f"ControlSet{sets[0]:03d}\\Enum\\")
    for key in system.keys:
        place = c.upper(key)
        known = place.startswith(start) and next((d for d in _DEVICES if place[len(start) :].startswith(d[0])), None)
        if not known or known[1] in found:
            continue
        service = system.text(key, "Service").lower()
        if not known[3] or service.startswith(known[3]):
            where = f"{SYSTEM}\\{_cut(key)}"
            found[known[1]] = FoundProgram(
                known[1], known[2], where, _cut(f"Service = {service}") if service else "", True
            )
    return tuple(found.values())


_DEVICES: tuple[tuple[str, str, ProgramKind, tuple[str, ...]], ...] = (
    ("USB\\VID_0529", "a Sentinel (HASP) dongle", ProgramKind.DONGLE, ()),
    ("USB\\VID_04B9", "a Sentinel (Rainbow) dongle", ProgramKind.DONGLE, ()),
    ("USB\\VID_064F", "a CodeMeter or WibuKey dongle", ProgramKind.DONGLE, ()),
    ("PCI\\VEN_1077", "a fibre channel card of QLogic's", ProgramKind.HARDWARE, ("ql2", "qla2")),
    ("PCI\\VEN_10DF", "a fibre channel card of Emulex'", ProgramKind.HARDWARE, ("elxstor", "elxfc", "lpx", "lp6")),
)


def _fitting(pattern: str, names: Collection[str]) -> Iterator[str]:
    if "*" not in pattern and "[" not in pattern:
        return iter((pattern,) if pattern in names else ())
    matches = re.compile(fnmatch.translate(pattern)).match
    return iter(sorted(name for name in names if matches(name)))


def _services(windows: WindowsFacts) -> Mapping[str, Service]:
    """Of the control set that is started first, by their names in upper case."""
    system = windows.registry.get(SYSTEM)
    sets = windows.control_sets.bootable
    return services_of(system, sets[0]) if system is not None and sets else {}


def _by_service(program: Program, services: Mapping[str, Service]) -> FoundProgram | None:
    for patterns, latest in ((program.services, _STARTS), (program.drivers, _STARTS_ON_DEMAND)):
        for pattern in patterns:
            for name in _fitting(c.upper(pattern), services):
                service = services[name]
                if service.start is not None and service.start <= latest:
                    where = f"{SYSTEM}\\{_cut(service.key)}"
                    return FoundProgram(program.name, program.kind, where, f"Start = {service.start}", in_registry=True)
    return None


def _titles(windows: WindowsFacts) -> Iterator[tuple[str, str]]:
    """Key and DisplayName, in lower case, of the installed programs."""
    software = windows.registry.get(SOFTWARE)
    keys = [key for top in VIEWS.values() for key in software.below(top)] if software is not None else []
    for key in keys[:_ENTRIES_AT_MOST]:
        if software is not None and (title := software.text(key, "DisplayName")):
            yield key, title[: 2 * _EVIDENCE_LETTERS]


def _by_title(program: Program, titles: Sequence[tuple[str, str]]) -> FoundProgram | None:
    for pattern in program.listed:
        for key, title in titles:
            if fnmatch.fnmatchcase(title.lower(), pattern.lower()):
                where = f"{SOFTWARE}\\{_cut(key)}\\DisplayName"
                return FoundProgram(program.name, program.kind, where, _cut(title), in_registry=True)
    return None


def _cut(text: str) -> str:
    return printable(text[:_EVIDENCE_LETTERS], keep="")
