"""What a Windows is to others, and which special edition it is: domain controllers, clusters, embedded editions. Pure.

Sources: Microsoft, "Virtualized domain controllers", "ProductOptions" (LanmanNT), "Failover clustering" (service ClusSvc, since
NT 4.0 Enterprise), "Windows Embedded POSReady" (WPA\\PosReady).
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.plan import Finding
from drivers.windows.facts import SYSTEM, WindowsFacts

_DISABLED = 4
_CLUSTER = "ClusSvc"
_EMBEDDED = ("embedded", "posready")


def warnings(windows: WindowsFacts) -> Iterator[Finding]:
    """What is to be known of its part among other machines, and of its edition."""
    if windows.version.is_domain_controller:
        message = "it is a domain controller: a copy that runs beside it, or an older state of it, harms the whole domain"
        yield Finding("windows.domain-controller", message, "Never start the source again once the copy has run.")
    if is_in_cluster(windows):
        message = "it is a member of a cluster: what it shares with the others (disks, quorum, addresses) is not converted with it"
        hint = (
            "Drain its roles and stop the cluster service before it is copied (`Suspend-ClusterNode -Drain`); give it the shared "
            "disks by iSCSI or as shared volumes with persistent reservations; convert one member after the other."
        )
        yield Finding("windows.cluster", message, hint)
    if is_embedded(windows):
        message = "it is an embedded edition, from which its maker may have left out any driver or program"
        hint = "Try the converted machine before the old one is given up. Its licence is bound to the device that it was sold with."
        yield Finding("windows.embedded", message, hint)


def is_in_cluster(windows: WindowsFacts) -> bool:
    """Whether the cluster service may start in a set that can be started."""
    system = windows.registry[SYSTEM]
    keys = (f"ControlSet{number:03d}\\Services\\{_CLUSTER}" for number in windows.control_sets.bootable)
    return any(system.key(key) is not None and system.number(key, "Start") != _DISABLED for key in keys)


def is_embedded(windows: WindowsFacts) -> bool:
    """Whether it says that it is an embedded edition; enterprise editions for devices (IoT) are whole ones."""
    version, system = windows.version, windows.registry[SYSTEM]
    names = f"{version.edition_id} {version.product_name}".lower()
    suites = tuple(_suites(windows))
    return any(word in names for word in _EMBEDDED) or "embeddednt" in suites or system.number("WPA\\PosReady", "Installed") == 1


def _suites(windows: WindowsFacts) -> Iterator[str]:
    for number in windows.control_sets.bootable:
        value = windows.registry[SYSTEM].value(f"ControlSet{number:03d}\\Control\\ProductOptions", "ProductSuite")
        yield from (text.lower() for text in ((value.texts() or ()) if value is not None else ()))
