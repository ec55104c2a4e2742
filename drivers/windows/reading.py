"""Reads a Windows guest's files and registry; to be used inside ``confined``, over any ``GuestTree``.

How a Windows root is recognised: a folder of the usual names that holds system32, its config with both hives, and cmd.exe or
the kernel (as libguestfs's inspection has it). Names are looked for in any case, and given as they are spelt there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drivers.changes import HIBERNATED
from drivers.facts import OperatingSystem
from drivers.tree import GuestTree, Kept
from drivers.windows import c_regf as c
from drivers.windows.facts import SOFTWARE, SYSTEM, ControlSets, HiveFile, WindowsFacts
from drivers.windows.hives import read_hive
from drivers.windows.names import Names
from drivers.windows.network_reading import devices_of, read_adapters
from drivers.windows.placed import read_placed
from drivers.windows.programs import machine_of
from drivers.windows.state_reading import file_version, kept_at, not_plain, signs
from drivers.windows.states.unfinished import SERVICING, SET_UP
from drivers.windows.updates import WITHOUT_SHA2, packages_of
from drivers.windows.versions import read_version, short_id
from p2v.core.units import KIB

FAMILY = KIND = "windows"

_ROOTS = ("windows", "winnt", "win32", "win")
_BY_REGISTRY = {"amd64": "x86_64", "x86": "i386", "arm64": "aarch64", "ia64": "ia64"}
_RESUMING = (b"wake",)
_TEXT_AT_MOST = 200
_RENAMES = ("PENDINGFILERENAMEOPERATIONS", "PENDINGFILERENAMEOPERATIONS2")
_DRIVERS_AT_MOST = 5000
_FAST_STARTUP_SINCE = (6, 2)


def windows_roots(names: Names) -> tuple[str, ...]:
    """The folders in which a Windows stands, as spelt there."""
    roots = dict.fromkeys(root for name in _ROOTS if (root := names.find(name)) is not None)
    return tuple(root for root in roots if _is_root(names, root))


def _is_root(names: Names, root: str) -> bool:
    has_hives = all(names.file(f"{root}/system32/config/{hive}") for hive in (SYSTEM, SOFTWARE))
    return has_hives and any(names.file(f"{root}/system32/{name}") for name in ("cmd.exe", "ntoskrnl.exe"))


@dataclass(frozen=True, slots=True)
class WindowsGuest:
    """What was read: who the guest is, the facts, and what is to be said of the reading."""

    system: OperatingSystem
    facts: WindowsFacts
    notes: tuple[str, ...]


def read_windows(tree: GuestTree, root: str, dirty: str = "") -> WindowsGuest:
    """Everything about the Windows in a folder. ``dirty``: why its file system may not be as Windows would see it."""
    names = Names(tree)
    hibernation = _hibernation(names)
    system = read_hive(names, f"{root}/system32/config/{SYSTEM}", SYSTEM, devices_of)
    software = read_hive(names, f"{root}/system32/config/{SOFTWARE}", SOFTWARE, packages_of)
    sets = _control_sets(system)
    control = f"ControlSet{sets.current or 1:03d}\\Control"
    version = read_version(system, software, control)
    registry_arch = system.text(f"{control}\\Session Manager\\Environment", "PROCESSOR_ARCHITECTURE")
    machine, compressed = _machine(names, root)
    odd = tuple(not_plain(names, root, system, sets.current or 1))
    arch = machine or _BY_REGISTRY.get(registry_arch.lower(), "")
    facts = WindowsFacts(
        system_root=root,
        version=version,
        arch=arch,
        control_sets=sets,
        registry={SYSTEM: system, SOFTWARE: software},
        registry_arch=registry_arch[:_TEXT_AT_MOST],
        utc_clock=bool(system.number(f"{control}\\TimeZoneInformation", "RealTimeIsUniversal")),
        hibernation=hibernation.state,
        hibernation_file=hibernation.path,
        hibernation_bytes=hibernation.size,
        fast_startup=_fast_startup(system, control, version.number),
        pending=tuple(_pending(names, root, system, software, control)),
        compressed=compressed,
        driver_files=tuple(_driver_files(names, root)),
        placed=read_placed(names, root),
        dirty=dirty,
        network=read_adapters(system, software, sets.current or 1),
        compressed_files=tuple(name for name, how in odd if how is Kept.COMPRESSED),
        encrypted_files=tuple(name for name, how in odd if how is Kept.ENCRYPTED),
        missing_files=tuple(name for name, how in odd if how is Kept.ELSEWHERE),
        signs=signs(names, root),
        integrity_version=file_version(names, f"{root}/system32/ci.dll") if version.number in WITHOUT_SHA2 else (),
    )
    return WindowsGuest(_system(facts), facts, tuple(_notes(facts)))


def _system(facts: WindowsFacts) -> OperatingSystem:
    version = facts.version
    numbers = f"{version.major}.{version.minor}.{version.build}" + (f".{version.update}" if version.update else "")
    name = " ".join(word for word in (version.product_name or "Windows", version.service_pack) if word)
    return OperatingSystem(
        KIND, short_id(version), numbers, name[:_TEXT_AT_MOST], facts.arch, FAMILY, hostname=_hostname(facts) or None
    )


def _hostname(facts: WindowsFacts) -> str:
    system = facts.registry[SYSTEM]
    base = f"ControlSet{facts.control_sets.current or 1:03d}"
    name = system.text(f"{base}\\Services\\Tcpip\\Parameters", "Hostname")
    return (name or system.text(f"{base}\\Control\\ComputerName\\ComputerName", "ComputerName"))[:_TEXT_AT_MOST]


def _notes(facts: WindowsFacts) -> Iterator[str]:
    for hive in facts.registry.values():
        yield from hive_notes(hive)


def hive_notes(hive: HiveFile) -> Iterator[str]:
    """What is to be said of how a hive was read."""
    if hive.problem:
        yield f"{hive.path}: {hive.problem}"
    if hive.state == "replayed":
        yield f"{hive.path} was not written to its end; it was read with what its logs hold"
    yield from (f"{hive.path}: {remark}" for remark in hive.remarks)


def _control_sets(system: HiveFile) -> ControlSets:
    select = {name: system.number("Select", name) for name in ("Current", "Default", "Failed", "LastKnownGood")}
    present = sorted({int(key[10:13]) for key in system.keys if key[:10].lower() == "controlset" and key[10:13].isdecimal()})
    return ControlSets(select["Current"], select["Default"], select["Failed"], select["LastKnownGood"], tuple(present))


def _machine(names: Names, root: str) -> tuple[str, bool]:
    """The architecture that the kernel, or the command interpreter, was made for; and whether they are kept compressed."""
    hidden = False
    for name in ("ntoskrnl.exe", "cmd.exe"):
        path = names.file(f"{root}/system32/{name}")
        if path is None:
            continue
        try:
            head = names.tree.read_range(path, 4 * KIB, 0)
        except FileNotFoundError:
            head = b""
        # one that Windows keeps compressed is a link for ntfs-3g, and nothing but holes for who does not know about it
        hidden = hidden or kept_at(names.tree, path) is Kept.COMPRESSED or not any(head)
        if machine := machine_of(head):
            return machine, hidden
    return "", hidden


def _driver_files(names: Names, root: str) -> Iterator[str]:
    folder = names.find(f"{root}/system32/drivers")
    found = sorted({name.lower() for name in names.tree.list(folder)}) if folder is not None else []
    # nothing that Windows itself starts is called otherwise; a folder with more is none of a Windows
    drivers = [name for name in found if name.endswith(".sys") and name.isascii() and len(name) <= _TEXT_AT_MOST]
    yield from drivers[:_DRIVERS_AT_MOST]


@dataclass(frozen=True, slots=True)
class _Hibernation:
    """As in ``WindowsFacts``."""

    state: str = "none"
    path: str = ""
    size: int = 0


def _hibernation(names: Names) -> _Hibernation:
    path = names.file("/hiberfil.sys")
    if path is None:
        return _Hibernation()
    try:
        head, size = names.tree.read_range(path, 4, 0).lower(), names.tree.lstat(path).size
    except FileNotFoundError:
        return _Hibernation()
    return _Hibernation("hibernated" if head in HIBERNATED else "resuming" if head in _RESUMING else "none", path, size)


def _fast_startup(system: HiveFile, control: str, version: tuple[int, int]) -> bool:
    enabled = system.number(f"{control}\\Session Manager\\Power", "HiberbootEnabled")
    return version >= _FAST_STARTUP_SINCE and bool(enabled)


def _pending(names: Names, root: str, system: HiveFile, software: HiveFile, control: str) -> Iterator[str]:
    """What Windows wants to finish at its next start."""
    renames = system.key(f"{control}\\Session Manager")
    values = system.keys[renames] if renames is not None else ()
    if any(c.upper(value.name) in _RENAMES and (value.data or value.cut) for value in values):
        yield "files to be renamed or removed at the next start"
    base = "Microsoft\\Windows\\CurrentVersion"
    servicing = f"{base}\\Component Based Servicing"
    executed = system.value(f"{control}\\Session Manager", "SetupExecute")
    if software.key(f"{servicing}\\RebootInProgress") is not None or (executed is not None and executed.texts()):
        yield SERVICING
    waits = any(software.key(f"{servicing}\\{name}") is not None for name in ("RebootPending", "PackagesPending"))
    if waits or names.file(f"{root}/WinSxS/pending.xml"):
        yield "updates of Windows that a start has to finish"
    if software.key(f"{base}\\WindowsUpdate\\Auto Update\\RebootRequired") is not None:
        yield "a restart that Windows Update asks for"
    if system.number("Setup", "SystemSetupInProgress") or system.number("Setup", "OOBEInProgress"):
        yield SET_UP
