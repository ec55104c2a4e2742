"""What a Windows is to other machines, as far as no plan tells of it: network load balancing, and the time it keeps. Pure.

Sources: Microsoft, "Network Load Balancing" (service WLBS; its Parameters\\Interface has a key for each card that takes part, with
ClusterIPAddress), "Windows Time service tools and settings" (W32Time\\Parameters\\Type: NoSync).
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.windows.facts import SYSTEM
from p2v.audit.catalogue_file import found
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind
from p2v.core.text import printable

_DISABLED = 4
_CARDS_AT_MOST = 16
_ADDRESS_LETTERS, _KEY_LETTERS = 64, 200


def check_load_balancing(examined: Examined) -> Iterator[AuditFinding]:
    """Cards that share an address with other machines by Windows' own means."""
    windows = examined.document.facts.windows
    sets = windows.control_sets.bootable if windows is not None else ()
    if windows is None or not sets:
        return
    system = windows.registry[SYSTEM]
    service = f"ControlSet{sets[0]:03d}\\Services\\WLBS"
    if system.number(service, "Start") in (None, _DISABLED):
        return
    evidence = []
    for key in system.below(f"{service}\\Parameters\\Interface"):
        address = printable(system.text(key, "ClusterIPAddress")[:_ADDRESS_LETTERS], keep="")
        if address and address != "0.0.0.0":  # what stands there where none is set
            where = f"{SYSTEM}\\{printable(key[:_KEY_LETTERS], keep='')}\\ClusterIPAddress"
            evidence.append(Evidence(EvidenceKind.REGISTRY, where, text=address))
    if evidence:
        addresses = ", ".join(each.text for each in evidence[:_CARDS_AT_MOST])
        message = f"it shares {addresses} with other machines by network load balancing, which gives its card another MAC address"
        yield found(examined.rules["role.network-load-balancing"], message, *evidence[:_CARDS_AT_MOST])


def check_windows_time(examined: Examined) -> Iterator[AuditFinding]:
    """A Windows that asks nobody for the time: its old hypervisor may have set its clock."""
    windows = examined.document.facts.windows
    sets = windows.control_sets.bootable if windows is not None else ()
    if windows is None or not sets:
        return
    system = windows.registry[SYSTEM]
    service = f"ControlSet{sets[0]:03d}\\Services\\W32Time"
    start, kind = system.number(service, "Start"), system.text(f"{service}\\Parameters", "Type")
    if start == _DISABLED:
        evidence = Evidence(EvidenceKind.REGISTRY, f"{SYSTEM}\\{service}\\Start", text=str(_DISABLED))
        yield found(examined.rules["software.no-time-service"], "its time service (W32Time) is turned off", evidence)
    elif kind.lower() == "nosync":
        evidence = Evidence(EvidenceKind.REGISTRY, f"{SYSTEM}\\{service}\\Parameters\\Type", text="NoSync")
        yield found(
            examined.rules["software.no-time-service"], "its time service (W32Time) asks nobody for the time", evidence
        )


CHECKS = (check_load_balancing, check_windows_time)
