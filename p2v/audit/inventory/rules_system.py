"""Rules about the system in a machine, by its names; VMware Tools; firmware; the machine's names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from drivers.windows.edition_limits import LIMITS, Limit
from p2v.audit.findings import AuditFinding
from p2v.audit.inventory.seen import Seen, listed
from p2v.audit.inventory.systems import OTHER, WINDOWS, by_detail, by_name, differ
from p2v.core.units import format_bytes

HARDWARE_OLD = 7
"""Virtual hardware of ESX 4, of 2009."""
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
DEFAULT_NAMES = frozenset(
    {"localhost", "localhost.localdomain", "localhost.local", "localhost6.localdomain6", "debian", "ubuntu"}
)
_WITH_TPM = frozenset({"win11"})
_HYPERVISORS = re.compile(r"\besxi?\b|hyper-v|xenserver|proxmox|nutanix", re.IGNORECASE)
_TOLD_ELSEWHERE = frozenset({"cdrom", "snapshot", "vm tools", "tools", "zombie", "ntp", "ntpd"})
_VERSIONS = {
    "winnt4.0": (4, 0), "win2k": (5, 0), "winxp": (5, 1), "win2k3": (5, 2), "win2k3r2": (5, 2), "winvista": (6, 0),
    "win2k8": (6, 0), "win7": (6, 1), "win2k8r2": (6, 1), "win8": (6, 2), "win2k12": (6, 2), "win8.1": (6, 3), "win2k12r2": (6, 3),
    "win10": (10, 0), "win11": (10, 0), "win2k16": (10, 0), "win2k19": (10, 0), "win2k22": (10, 0), "win2k25": (10, 0),
}  # fmt: skip
# editions of Server 2003 and before, as their registries name them, by VMware's names
_SUITES = {
    "Standard": ("server",), "Web": ("blade",), "Enterprise": ("enterprise",), "Datacenter": ("datacenter",),
    "Professional": ("workstation",),
}  # fmt: skip


def release(seen: Seen) -> Iterator[AuditFinding]:
    """Which system it is, as far as names tell, and whether a conversion rewrites such a one."""
    info, named = seen.machine.info, seen.system
    if info.placeholder:
        return
    if named is None:
        yield seen.of_info(
            "inventory.system-unknown",
            f"The export does not say which system {info.vm} runs.",
            info.os_tools or info.os_configured,
        )
        return
    if not named.release:
        yield seen.of_info(
            "inventory.release-unknown",
            f"The export says that {info.vm} runs {named.system.name}, which does not tell the release.",
            named.system.name,
        )
    configured, found = by_name(info.os_configured), by_detail(info.detail) or by_name(info.os_tools)
    if differ(configured, found) and configured is not None and found is not None:
        yield seen.of_info(
            "inventory.system-mismatch",
            f"{info.vm} was made for {configured.system.name}, and VMware Tools found {found.system.name}.",
            f"{info.os_configured} / {info.os_tools}",
        )
    if _HYPERVISORS.search(named.system.name):
        yield seen.of_info(
            "inventory.nested", f"{info.vm} runs a hypervisor itself ({named.system.name}).", named.system.name
        )
    elif named.system.kind == OTHER:
        yield seen.of_info(
            "inventory.system-not-rewritten",
            f"{info.vm} runs {named.system.name}: it is given hardware that such a system knows, and is not rewritten.",
            named.system.name,
        )


def limits(seen: Seen) -> Iterator[AuditFinding]:
    """What no edition of a Windows uses; where the edition is known, what that one does not."""
    info, named = seen.machine.info, seen.system
    if named is None or named.system.kind != WINDOWS:
        return
    found = _limits(named.system.id, named.system.edition)
    sockets = max((limit.sockets or 1 << 30 for limit in found), default=0)
    row = seen.machine.cpu
    if row is not None and sockets and (row.sockets or 0) > sockets:
        yield seen.says(
            "inventory.windows-sockets",
            f"{info.vm} has {row.sockets} sockets, and {named.system.name} uses {sockets} at most.",
            seen.at(row, f"{row.sockets} sockets"),
        )
    is_old = named.system.arch == "i386"
    memories = [limit.memory_x86 if is_old else limit.memory_x64 for limit in found]
    sizes = [size for size in memories if size is not None]
    # an edition without a figure has no limit that matters, or does not exist for that processor
    unlimited = not is_old and len(sizes) < len(memories)
    has = format_bytes(info.memory or 0)
    if named.system.arch and sizes and not unlimited and (info.memory or 0) > max(sizes):
        yield seen.of_info(
            "inventory.windows-memory",
            f"{info.vm} has {has} of memory, and {named.system.name} uses {format_bytes(max(sizes))} at most.",
            has,
        )


def _limits(id_: str, edition: str) -> list[Limit]:
    version = _VERSIONS.get(id_)
    if version is None:
        return []
    editions = LIMITS[version]
    if version < (6, 0):
        return [editions[suite] for suite in _SUITES.get(edition, tuple(editions)) if suite in editions]
    is_server = id_.startswith("win2k")
    return [limit for name, limit in editions.items() if name.startswith("Server") == is_server]


def firmware(seen: Seen) -> Iterator[AuditFinding]:
    """Virtual hardware, Secure Boot, a TPM that is likely."""
    info = seen.machine.info
    version = re.search(r"\d{1,3}", info.hw_version)
    if version is not None and 0 < int(version[0]) <= HARDWARE_OLD:
        yield seen.of_info(
            "inventory.hardware-old", f"{info.vm} has virtual hardware of version {version[0]}.", info.hw_version
        )
    if info.secure_boot:
        yield seen.of_info("inventory.secure-boot", f"{info.vm} starts with Secure Boot.", "EFI Secure boot: True")
    if seen.system is not None and seen.system.system.id in _WITH_TPM:
        yield seen.of_info(
            "inventory.tpm-unseen",
            f"{info.vm} runs {seen.system.system.name}, which wants a TPM; exports do not show it.",
            info.os_tools,
        )


def tools(seen: Seen) -> Iterator[AuditFinding]:
    """Whether VMware Tools work, and what they do for the guest."""
    row, vm = seen.machine.tools, seen.machine.info.vm
    if row is None or seen.machine.info.template:
        return
    state = row.state.casefold()
    if state == "toolsnotinstalled":
        yield seen.says("inventory.tools-none", f"{vm} has no VMware Tools.", seen.at(row, row.state))
    elif state == "toolsnotrunning" and seen.machine.runs:
        yield seen.says("inventory.tools-not-running", f"VMware Tools do not run in {vm}.", seen.at(row, row.state))
    elif state == "toolsold" or row.upgradeable:
        yield seen.says("inventory.tools-old", f"VMware Tools in {vm} are old.", seen.at(row, row.version or row.state))
    if row.sync_time:
        yield seen.says(
            "inventory.clock-by-tools",
            f"VMware Tools set the clock of {vm} by its host's.",
            seen.at(row, "Sync time: True"),
        )
    if row.crashed:
        yield seen.says(
            "inventory.guest-crashed", f"The kernel of {vm} has crashed.", seen.at(row, "Kernel Crash state: True")
        )


def names(seen: Seen) -> Iterator[AuditFinding]:
    """Its name and its host name, as other managements take them."""
    info = seen.machine.info
    if info.template or info.placeholder:
        return
    if not _LABEL.fullmatch(info.vm):
        yield seen.of_info("inventory.name-invalid", f"{info.vm} is no name that Kubernetes takes (DNS-1123).", info.vm)
    host = info.dns_name.casefold()
    if host in DEFAULT_NAMES:
        yield seen.of_info("inventory.hostname-default", f"{info.vm} calls itself {info.dns_name}.", info.dns_name)
    works = seen.machine.tools is not None and seen.machine.tools.state.casefold() in ("toolsok", "toolsold")
    if not host and seen.machine.runs and works:
        yield seen.of_info("inventory.hostname-empty", f"{info.vm} has not told VMware Tools a host name.", "DNS Name")


def health(seen: Seen) -> Iterator[AuditFinding]:
    """What RVTools itself says of it, where no other rule does."""
    rows = [row for row in seen.machine.health if row.kind.casefold() not in _TOLD_ELSEWHERE and row.message]
    folders = [row for row in rows if row.kind.casefold() == "foldername"]
    if folders:
        yield seen.says(
            "inventory.folder-name",
            f"The folder of {seen.machine.info.vm} is called otherwise than the machine.",
            *(seen.at(row, row.message) for row in folders[:5]),
        )
    rest = [row for row in rows if row not in folders]
    if rest:
        yield seen.says(
            "inventory.health",
            f"RVTools says of {seen.machine.info.vm}: {listed([row.message for row in rest])}",
            *(seen.at(row, row.kind) for row in rest[:5]),
        )


CHECKS = (release, limits, firmware, tools, names, health)
