"""Where in a Windows guest a finding of the plan can be seen: registry values, boot entries, files. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from drivers.plan import Finding
from drivers.windows import bcd, c_bcd
from drivers.windows.facts import BCD, SOFTWARE, SYSTEM, WindowsFacts
from drivers.windows.network_facts import NetworkAdapter
from drivers.windows.uninstalling import VIEWS
from drivers.windows.versions import CURRENT_VERSION
from p2v.audit.evidence_files import Seeker
from p2v.audit.examined import Examined
from p2v.audit.findings import Evidence
from p2v.audit.pointing import in_file, in_registry, in_sets, turned_on
from p2v.core.text import printable

_Windows = Callable[[WindowsFacts, Finding], Iterator[Evidence]]

_HAL_CLASS = "Control\\Class\\{4D36E966-E325-11CE-BFC1-08002BE10318}\\0000"
_GUARD, _SCENARIOS = "Control\\DeviceGuard", "Control\\DeviceGuard\\Scenarios"
_GUARD_POLICY = "Policies\\Microsoft\\Windows\\DeviceGuard"
_SETUP_STATE = "Microsoft\\Windows\\CurrentVersion\\Setup\\State"
_SERVICING = "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing"
_UPDATE = "Microsoft\\Windows\\CurrentVersion\\WindowsUpdate\\Auto Update\\RebootRequired"
_PRODUCT, _CLUSTER = "Control\\ProductOptions", "Services\\ClusSvc"
_CORE = frozenset({"ntoskrnl.exe", "hal.dll", "ci.dll", "winload.exe", "winload.efi"})
_HIVE = re.compile(r"its registry (?:cannot be read: |is damaged: |\()(?P<name>[A-Z]{1,20})\b")
_LETTER = re.compile(r"\b([A-Z]:)")
_DEFAULT_LINE = re.compile(r"[ \t]*default[ \t]*=", re.IGNORECASE)


def _of(seek: _Windows) -> Seeker:
    def found(examined: Examined, finding: Finding) -> Iterator[Evidence]:
        windows = examined.document.facts.windows
        return seek(windows, finding) if windows is not None else iter(())

    return found


def _values(hive: str, key: str, *names: str) -> Seeker:
    return _of(lambda windows, finding: in_registry(windows, hive, key, *names))


def _in_sets(key: str, *names: str) -> Seeker:
    return _of(lambda windows, finding: in_sets(windows, key, *names))


def _on_in_sets(key: str, *names: str) -> Seeker:
    return _of(lambda windows, finding: turned_on(in_sets(windows, key, *names)))


# --- state -----------------------------------------------------------------------------------------------------------------


def _hibernation(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    if windows.hibernation_file:
        yield in_file(windows.hibernation_file, text=f"{windows.hibernation_bytes} bytes")


def _hive(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    match = _HIVE.search(finding.message)
    hive = windows.registry.get(match["name"]) if match is not None else None
    if hive is not None:
        yield in_file(hive.path, text=hive.problem or next(iter(hive.remarks), ""))
        yield from (in_file(log.path) for log in hive.logs)


def _vbs(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    for key, name in (
        (_GUARD, "EnableVirtualizationBasedSecurity"),
        (f"{_SCENARIOS}\\HypervisorEnforcedCodeIntegrity", "Enabled"),
        (f"{_SCENARIOS}\\CredentialGuard", "Enabled"),
        ("Control\\Lsa", "LsaCfgFlags"),
    ):
        yield from turned_on(in_sets(windows, key, name))
    names = ("EnableVirtualizationBasedSecurity", "HypervisorEnforcedCodeIntegrity", "LsaCfgFlags")
    yield from turned_on(in_registry(windows, SOFTWARE, _GUARD_POLICY, *names))


def _vbs_mandatory(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    yield from turned_on(in_sets(windows, _GUARD, "Mandatory"))


def _write_filter(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    for service in ("uwfvol", "fbwf", "ewf"):
        if re.search(rf"\b{service}\b", finding.message):
            yield from in_sets(windows, f"Services\\{service}", "Start")


def _pending(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    if "renamed" in finding.message:
        yield from in_sets(
            windows, "Control\\Session Manager", "PendingFileRenameOperations", "PendingFileRenameOperations2"
        )
    elif "in the middle" in finding.message:
        yield from in_registry(windows, SOFTWARE, f"{_SERVICING}\\RebootInProgress")
        yield from in_sets(windows, "Control\\Session Manager", "SetupExecute")
    elif "updates" in finding.message:
        yield from in_registry(windows, SOFTWARE, f"{_SERVICING}\\RebootPending")
        yield from in_registry(windows, SOFTWARE, f"{_SERVICING}\\PackagesPending")
    elif "Windows Update" in finding.message:
        yield from in_registry(windows, SOFTWARE, _UPDATE)


def _set_up(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    yield from turned_on(in_registry(windows, SYSTEM, "Setup", "SystemSetupInProgress", "OOBEInProgress"))


def _files(names: Callable[[WindowsFacts], tuple[str, ...]]) -> Seeker:
    """Files of a start, at the only place where they are looked at."""

    def seek(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
        for name in names(windows):
            folder = "system32" if name in _CORE else "system32/drivers"
            yield in_file(f"{windows.system_root}/{folder}/{name}")

    return _of(seek)


def _sign(path: str, sign: str) -> Seeker:
    def seek(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
        if sign in windows.signs:
            yield in_file(path.format(root=windows.system_root))

    return _of(seek)


# --- roles, licences, programs ---------------------------------------------------------------------------------------------


def _activation(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    yield from in_registry(
        windows, SOFTWARE, f"{CURRENT_VERSION}\\SoftwareProtectionPlatform", "KeyManagementServiceName"
    )
    yield from in_registry(windows, SOFTWARE, CURRENT_VERSION, "DigitalProductId4", "DigitalProductId", "ProductId")


def _embedded(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    yield from turned_on(in_registry(windows, SYSTEM, "WPA\\PosReady", "Installed"))
    yield from (each for each in in_sets(windows, _PRODUCT, "ProductSuite") if "embeddednt" in each.text.lower())
    for each in in_registry(windows, SOFTWARE, CURRENT_VERSION, "EditionID", "ProductName"):
        if any(word in each.text.lower() for word in ("embedded", "posready")):
            yield each


def _leftover(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    """The entries of programs whose names the message begins with."""
    software = windows.registry.get(SOFTWARE)
    told = finding.message.partition(": ")[0]
    for top in VIEWS.values() if software is not None else ():
        for key in software.below(top) if software is not None else ():
            title = printable(software.text(key, "DisplayName")[:60]) if software is not None else ""
            if title and re.search(rf"(?:^|, | and ){re.escape(title)}(?:$|, | and )", told):
                yield from in_registry(windows, SOFTWARE, key, "DisplayName")


# --- start -----------------------------------------------------------------------------------------------------------------


def _element(element: int, *, of_manager: bool = False) -> Seeker:
    """An element of the entry that starts when nobody chooses, or of the boot manager."""

    def seek(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
        store = windows.boot.store if windows.boot is not None else None
        owner = c_bcd.BOOT_MANAGER if of_manager else store.default if store is not None else ""
        if owner:
            yield from in_registry(windows, BCD, bcd.element_key(owner, element), c_bcd.ELEMENT)

    return _of(seek)


def _boot_ini(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    boot = windows.boot
    if boot is None or boot.boot_ini is None or not boot.boot_ini_path:
        return
    lines = re.split(r"\r\n|\r|\n", boot.boot_ini)
    found = [(number, line) for number, line in enumerate(lines, start=1) if _DEFAULT_LINE.match(line)]
    yield from (in_file(boot.boot_ini_path, number, line) for number, line in found[:1])
    if not found:
        yield in_file(boot.boot_ini_path)


def _fallback(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    if windows.boot is not None and windows.boot.fallback is not None:
        yield in_file(windows.boot.fallback.path)


def _manager(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    if windows.boot is not None and windows.boot.manager is not None:
        yield in_file(windows.boot.manager.path, text=windows.boot.manager.arch)


def _hal(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    found = tuple(in_sets(windows, _HAL_CLASS, "MatchingDeviceId"))
    yield from found[:1] or in_registry(windows, SOFTWARE, CURRENT_VERSION, "CurrentType")


def _letters(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    letters = _LETTER.findall(finding.message.partition(", which is")[0])
    yield from in_registry(windows, SYSTEM, "MountedDevices", *(f"\\DosDevices\\{letter}" for letter in letters))


# --- network ---------------------------------------------------------------------------------------------------------------


def _adapters(windows: WindowsFacts, finding: Finding) -> Iterator[Evidence]:
    """The static settings of the adapters that the finding is about."""
    number = windows.control_sets.current
    for adapter in windows.network:
        if _is_meant(adapter, finding):
            keys = (
                f"Services\\Tcpip\\Parameters\\Interfaces\\{adapter.id}",
                f"Services\\{adapter.id}\\Parameters\\Tcpip",
            )
            for key in keys if number is not None else ():
                yield from in_registry(windows, SYSTEM, f"ControlSet{number:03d}\\{key}", "IPAddress", "NameServer")


def _is_meant(adapter: NetworkAdapter, finding: Finding) -> bool:
    title = f"{adapter.name or adapter.id} ({adapter.description or 'an adapter'})"
    is_replaced = bool(adapter.name) and finding.hint.startswith(f"It takes the place of {adapter.name}. ")
    has_addresses = bool(adapter.addresses) and all(address in finding.message for address in adapter.addresses)
    return title in finding.message or is_replaced or has_addresses


SEEKERS: Mapping[str, Seeker] = {
    "windows.hibernated": _of(_hibernation),
    "windows.session-lost": _of(_hibernation),
    "windows.fast-startup": _on_in_sets("Control\\Session Manager\\Power", "HiberbootEnabled"),
    "windows.hive-unreadable": _of(_hive),
    "windows.hive-damaged": _of(_hive),
    "windows.hive-replayed": _of(_hive),
    "windows.no-control-set": _values(SYSTEM, "Select", "Current", "Default", "Failed", "LastKnownGood"),
    "windows.version-unknown": _values(SOFTWARE, CURRENT_VERSION),
    "windows.too-old": _values(SOFTWARE, CURRENT_VERSION, "CurrentVersion"),
    "windows.generalized": _values(SOFTWARE, _SETUP_STATE, "ImageState"),
    "windows.set-up": _of(_set_up),
    "windows.upgrading": _values(SYSTEM, "Setup", "CmdLine"),
    "windows.pending": _of(_pending),
    "windows.upgraded": _sign("/Windows.old", "windows.old"),
    "windows.vbs-mandatory": _of(_vbs_mandatory),
    "windows.vbs": _of(_vbs),
    "windows.s-mode": _on_in_sets("Control\\CI\\Policy", "SkuPolicyRequired"),
    "windows.write-filter": _of(_write_filter),
    "windows.code-integrity-policy": _sign("{root}/System32/CodeIntegrity/SiPolicy.p7b", "sipolicy.p7b"),
    "windows.encrypted-files": _files(lambda windows: windows.encrypted_files),
    "windows.compact": _files(lambda windows: windows.compressed_files),
    "windows.files-elsewhere": _files(lambda windows: windows.missing_files),
    "windows.activation": _of(_activation),
    "windows.activation-oem": _of(_activation),
    "windows.activation-volume": _of(_activation),
    "windows.evaluation": _values(SOFTWARE, CURRENT_VERSION, "EditionID", "ProductName"),
    "windows.domain-controller": _in_sets(_PRODUCT, "ProductType"),
    "windows.no-generation-id": _in_sets(_PRODUCT, "ProductType"),
    "windows.cluster": _in_sets(_CLUSTER, "Start"),
    "windows.cluster-disks": _in_sets(_CLUSTER, "Start"),
    "windows.embedded": _of(_embedded),
    "windows.leftover": _of(_leftover),
    "windows.no-boot-entry": _element(c_bcd.DEFAULT, of_manager=True),
    "windows.boot-device": _element(c_bcd.OS_DEVICE),
    "windows.boot-virtual-disk": _element(c_bcd.OS_DEVICE),
    "windows.boot-entry-elsewhere": _element(c_bcd.OS_DEVICE),
    "windows.safe-boot": _element(c_bcd.SAFE_BOOT),
    "windows.boot-once": _element(c_bcd.BOOT_SEQUENCE, of_manager=True),
    "windows.boot-ini": _of(_boot_ini),
    "windows.foreign-fallback": _of(_fallback),
    "windows.uefi-32": _of(_manager),
    "windows.hal-unknown": _of(_hal),
    "windows.hal-one-processor": _of(_hal),
    "windows.hal-no-acpi": _of(_hal),
    "windows.drive-letter": _of(_letters),
    "windows.lost-letters": _of(_letters),
    "windows.addresses": _of(_adapters),
    "windows.addresses-by-hand": _of(_adapters),
    "windows.addresses-unclear": _of(_adapters),
    "windows.virtual-adapter": _of(_adapters),
}
