"""Reads a hive from a guest's tree, with its logs, and keeps the keys that planning looks at."""

from __future__ import annotations

import collections
import fnmatch
import glob
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from drivers.windows import c_regf as c
from drivers.windows.facts import BCD, SOFTWARE, SYSTEM, HiveFile, HiveLog, RegistryValue
from drivers.windows.hive_log import LOG_BYTES_AT_MOST, LOG_SUFFIXES, LogState, recover
from drivers.windows.names import Names
from drivers.windows.product_keys import without_key
from drivers.windows.regf import HIVE_BYTES_AT_MOST, BadHive, Hive, Key, Value
from p2v.core.units import KIB, MIB

VALUE_BYTES_AT_MOST = 8 * KIB
_KEPT_BYTES_AT_MOST = 2 * MIB
_KEYS_AT_MOST = 20_000
_KEY_BYTES = 200
_FOLLOWED_AT_MOST = 1000
_SHOWN_CHARACTERS = 120
_LOOKED_AT_AT_MOST = 100_000
"""Keys; about half a second."""

PATTERNS: dict[str, tuple[str, ...]] = {
    SYSTEM: (
        "Select",
        "MountedDevices",
        "Setup",
        "WPA\\PosReady",
        "DriverDatabase",
        "DriverDatabase\\DeviceIds",
        "DriverDatabase\\DeviceIds\\PCI",
        "DriverDatabase\\DeviceIds\\PCI\\CC_010*",
        "DriverDatabase\\DeviceIds\\PCI\\VEN_1AF4*",
        "DriverDatabase\\DeviceIds\\PCI\\VEN_8086&DEV_2922*",
        "DriverDatabase\\DeviceIds\\PCI\\VEN_8086&DEV_7010*",
        "DriverDatabase\\DriverInfFiles",
        "DriverDatabase\\DriverInfFiles\\p2v-*",
        "DriverDatabase\\DriverPackages",
        "DriverDatabase\\DriverPackages\\p2v-*",
        "DriverDatabase\\DriverPackages\\p2v-*\\Configurations\\*",
        "DriverDatabase\\DriverPackages\\p2v-*\\Descriptors\\PCI\\*",
        "ControlSet*",
        "ControlSet*\\Control",
        "ControlSet*\\Control\\CI\\Policy",
        "ControlSet*\\Control\\Class\\*",
        "ControlSet*\\Control\\Class\\{4d36e966-e325-11ce-bfc1-08002be10318}\\*",
        "ControlSet*\\Control\\Class\\{4d36e972-e325-11ce-bfc1-08002be10318}\\*",
        "ControlSet*\\Control\\ComputerName\\ComputerName",
        "ControlSet*\\Control\\CrashControl",
        "ControlSet*\\Control\\CriticalDeviceDatabase",
        "ControlSet*\\Control\\CriticalDeviceDatabase\\*",
        "ControlSet*\\Control\\DeviceGuard",
        "ControlSet*\\Control\\DeviceGuard\\Scenarios\\*",
        "ControlSet*\\Control\\Lsa",
        "ControlSet*\\Control\\Network\\{4d36e972-e325-11ce-bfc1-08002be10318}\\*\\Connection",
        "ControlSet*\\Control\\NetworkSetup2\\Interfaces\\*\\Kernel",
        "ControlSet*\\Control\\NetworkProvider\\HwOrder",
        "ControlSet*\\Control\\NetworkProvider\\Order",
        "ControlSet*\\Control\\ProductOptions",
        "ControlSet*\\Control\\Session Manager",
        "ControlSet*\\Control\\Session Manager\\Environment",
        "ControlSet*\\Control\\Session Manager\\Power",
        "ControlSet*\\Control\\TimeZoneInformation",
        "ControlSet*\\Enum\\ACPI\\PNP03*\\*",
        "ControlSet*\\Enum\\ACPI\\PNP0A0*\\*",
        "ControlSet*\\Enum\\ACPI\\PNP0F*\\*",
        "ControlSet*\\Enum\\PCI\\VEN_1077*\\*",
        "ControlSet*\\Enum\\PCI\\VEN_10DF*\\*",
        "ControlSet*\\Enum\\USB\\VID_04B9*\\*",
        "ControlSet*\\Enum\\USB\\VID_0529*\\*",
        "ControlSet*\\Enum\\USB\\VID_064F*\\*",
        "ControlSet*\\Services\\*",
        "ControlSet*\\Services\\*\\Parameters",
        "ControlSet*\\Services\\*\\Parameters\\Tcpip",
        "ControlSet*\\Services\\*\\Parameters\\PnpInterface",
        "ControlSet*\\Services\\*\\StartOverride",
        "ControlSet*\\Services\\Tcpip\\Parameters\\Interfaces\\*",
        "ControlSet*\\Services\\WLBS\\Parameters\\Interface\\*",
    ),
    BCD: (
        "Description",
        "Objects\\*",
        "Objects\\*\\Description",
        "Objects\\*\\Elements",
        "Objects\\*\\Elements\\*",
    ),
    SOFTWARE: (
        "Microsoft\\Windows NT\\CurrentVersion",
        "Microsoft\\Windows NT\\CurrentVersion\\NetworkCards\\*",
        "Microsoft\\Windows\\CurrentVersion",
        "Microsoft\\Windows NT\\CurrentVersion\\SoftwareProtectionPlatform",
        "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\PackagesPending",
        "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\RebootInProgress",
        "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\RebootPending",
        "Microsoft\\Windows\\CurrentVersion\\Run",
        "Microsoft\\Windows\\CurrentVersion\\Setup\\State",
        "Microsoft\\Windows\\CurrentVersion\\Uninstall\\*",
        "Microsoft\\Windows\\CurrentVersion\\WindowsUpdate\\Auto Update\\RebootRequired",
        "Policies\\Microsoft\\Windows\\DeviceGuard",
        "Wow6432Node\\Microsoft\\Windows\\CurrentVersion\\Run",
        "Wow6432Node\\Microsoft\\Windows\\CurrentVersion\\Uninstall\\*",
    ),
}
"""The keys that facts hold, for each hive: paths in which a ``*`` stands for anything within one name."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path in which a ``*`` stands for anything within one name, as in ``PATTERNS``."""

    path: str


Following = Callable[[Mapping[str, tuple[RegistryValue, ...]]], Iterable[str | Pattern]]
"""From the keys that were read to the paths of further ones that they lead to."""


def read_hive(names: Names, path: str, name: str, following: Following | None = None) -> HiveFile:
    """The hive at a path in any case, with the keys that ``PATTERNS`` has for its name, and those that they lead to."""
    spelt = names.file(path)
    if spelt is None:
        return HiveFile(path, 0, "", "unreadable", problem="it is not there")
    try:
        data = names.tree.read(spelt, HIVE_BYTES_AT_MOST)
    except (FileNotFoundError, ValueError) as error:
        return HiveFile(spelt, 0, "", "unreadable", problem=f"it cannot be read ({error})")
    sha256 = hashlib.sha256(data).hexdigest()
    logs: tuple[HiveLog, ...] = ()
    try:
        contents, state = data, LogState.CLEAN
        base = c.BaseBlock.of(data)
        if base is None or base.is_dirty:
            found = tuple(read_logs(names, spelt))
            logs = tuple(HiveLog(log, len(part), hashlib.sha256(part).hexdigest()) for log, part in found)
            recovered = recover(data, [part for _, part in found])
            contents, state = recovered.data, recovered.state
        hive = Hive(contents)
        keys = _snapshot(hive, PATTERNS.get(name, ()), following)
        _look_over(hive)
    except BadHive as error:
        return HiveFile(spelt, len(data), sha256, "unreadable", logs=logs, problem=str(error))
    return HiveFile(
        spelt, len(data), sha256, state.value, hive.base.minor, logs, remarks=tuple(hive.remarks), keys=keys
    )


def _look_over(hive: Hive) -> None:
    """Find damage of keys in what is not kept as well, so that it is known before anything is changed; values are not looked at.

    Raises BadHive. The largest hives have more keys than there is time for: of them the first are looked at.
    """
    if not hive.remarks:
        collections.deque(itertools.islice(hive.walk(), _LOOKED_AT_AT_MOST), maxlen=0)


def read_logs(names: Names, path: str) -> Iterator[tuple[str, bytes]]:
    """The logs that stand beside a hive, in the order in which they are tried."""
    for suffix in LOG_SUFFIXES:
        spelt = names.file(path + suffix)
        if spelt is None:
            continue
        try:
            yield spelt, names.tree.read(spelt, LOG_BYTES_AT_MOST)
        except (FileNotFoundError, ValueError):
            continue


def _snapshot(
    hive: Hive, patterns: Sequence[str], following: Following | None = None
) -> dict[str, tuple[RegistryValue, ...]]:
    """The keys that fit a pattern, and those that they lead to, as far as they fit into what facts may hold."""
    kept: dict[str, tuple[RegistryValue, ...]] = {}
    room = _KEPT_BYTES_AT_MOST
    for path, key in itertools.chain(_all_fitting(hive, patterns), _followed(hive, following, kept)):
        if path in kept:
            continue
        values = tuple(map(_kept, key.values()))
        if "\0" in path or any("\0" in value.name for value in values):
            hive.remark(f"a name has NUL in it, which hides it from programs of Windows' own: in {path[:_SHOWN_CHARACTERS]!a}")
        room -= _KEY_BYTES + sum(len(value.data) + len(value.name) for value in values)
        if room < 0 or len(kept) >= _KEYS_AT_MOST:
            hive.remark("it has more of what is looked at than is kept; some of it is left out")
            return kept
        kept[path] = values
    return kept


def _all_fitting(hive: Hive, patterns: Sequence[str]) -> Iterator[tuple[str, Key]]:
    for pattern in patterns:
        yield from _fitting(hive.root, c.upper(pattern).split("\\"), "")


def _followed(
    hive: Hive, following: Following | None, kept: Mapping[str, tuple[RegistryValue, ...]]
) -> Iterator[tuple[str, Key]]:
    """To be asked when all else is kept: what that leads to is looked up by its exact names, unless it is a pattern."""
    for path in tuple(itertools.islice(following(kept), _FOLLOWED_AT_MOST)) if following is not None else ():
        if isinstance(path, Pattern):
            yield from _all_fitting(hive, (path.path,))
        else:
            yield from _fitting(hive.root, [glob.escape(c.upper(part)) for part in path.split("\\")], "")


def _fitting(key: Key, pattern: Sequence[str], path: str) -> Iterator[tuple[str, Key]]:
    if not pattern:
        yield path, key
        return
    first, rest = pattern[0], pattern[1:]
    for child in key.subkeys():
        # a name with a backslash is none that a path can have
        if "\\" not in child.name and fnmatch.fnmatchcase(c.upper(child.name), first):
            yield from _fitting(child, rest, f"{path}\\{child.name}" if path else child.name)


def _kept(value: Value) -> RegistryValue:
    data = without_key(value)
    if data is None or len(data) > VALUE_BYTES_AT_MOST:
        return RegistryValue(value.name, value.type, "", cut=True)
    return RegistryValue(value.name, value.type, data.hex())
