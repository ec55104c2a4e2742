"""What else is to be said of the software in a guest: what could not be seen, licences, time, crash dumps, limits. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

from drivers.changes import ExtendInitramfs
from drivers.hard_names import LineKind, SeenLine
from drivers.linux.macs import normal_mac
from drivers.linux.tool_catalogue import KEPT_VENDORS
from drivers.programs import ProgramKind
from drivers.windows.facts import SOFTWARE, SYSTEM, WindowsFacts
from drivers.windows.versions import CURRENT_VERSION
from p2v.audit.catalogue_file import found
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind
from p2v.audit.pointing import in_registry
from p2v.audit.rules.programs import evidence_of, names_of, seen_programs
from p2v.core.units import format_bytes
from p2v.targets.hardware import losses

_LINES_AT_MOST = 20
# FlexNet Publisher, "License Administration Guide": host ids that are no machine's
_NO_MACHINES = ("any", "demo", "none", "user=", "hostname=", "display=", "internet=", "host_based=", "permanent")
_MAC = re.compile(r"[0-9a-fA-F]{12}")
_EIGHT = (6, 2)
# of memory; of processors, the pages that drivers/windows/edition_limits.py names
_LIMITS_SINCE_XP = "https://learn.microsoft.com/windows/win32/memory/memory-limits-for-windows-releases"
_LIMITS_BEFORE = {(5, 0): "https://msdn.microsoft.com/library/aa366778(VS.85).aspx as it stood in 2009"}
_LIMITS_OF_OLDEST = "Microsoft's product pages of Windows NT 4.0"
_RESERVATION = re.compile(r"(?<!\S)crashkernel=(?!0(?:\s|$))\S+")
_TOLD_AS_LIMITS = frozenset({"hardware.cpus", "hardware.sockets", "hardware.memory"})


def check_looked_at(examined: Examined) -> Iterator[AuditFinding]:
    """What of the software could not be seen."""
    facts, sights = examined.document.facts, examined.inside
    if facts.os is None or facts.os.kind != "linux":
        return
    if sights is None or not sights.is_seen:
        message = "which programs it has, and what of its configuration goes by the old machine, could not be looked at"
        yield found(examined.rules["software.not-looked-at"], message)
    elif not sights.packages:
        message = "no list of its packages could be read: programs are known by their files alone"
        evidence = (Evidence(EvidenceKind.FILE, sights.database),) if sights.database else ()
        yield found(examined.rules["software.packages-unread"], message, *evidence)


def check_tools(examined: Examined) -> Iterator[AuditFinding]:
    """Software of another hypervisor, cloud or maker in a Linux, which the conversion keeps from starting.

    Windows' is told of by the plan (``windows.leftover``), and so is what stays active.
    """
    left = tuple(warning.message for warning in examined.document.plan.warnings if warning.id == "linux.tools.left")
    tools = [
        tool
        for tool in examined.document.facts.tools
        if tool.vendor not in KEPT_VENDORS and not any(message.startswith(f"{tool.name} ") for message in left)
    ]
    if tools:
        names = ", ".join(f"{tool.name} ({tool.vendor})" for tool in tools)
        evidence = (
            Evidence(EvidenceKind.FILE, tool.evidence.removeprefix("file ")) if tool.evidence.startswith("file ")
            else Evidence(EvidenceKind.FILE, _database(examined), text=tool.evidence)
            for tool in tools
        )  # fmt: skip
        message = f"it has software that serves another machine: {names}; the conversion keeps it from starting"
        yield found(examined.rules["software.foreign-tools"], message, *evidence)


def check_initramfs(examined: Examined) -> Iterator[AuditFinding]:
    """Initramfs that were made for the old machine's disks alone (dracut's hostonly), which the conversion adds drivers to."""
    made = {kernel.initramfs.path: kernel.initramfs for kernel in examined.document.facts.kernels if kernel.initramfs}
    extended = [each for each in examined.document.plan.changes if isinstance(each, ExtendInitramfs) and each.modules]
    if not extended:
        return
    evidence = []
    for change in extended[:_LINES_AT_MOST]:
        builder = made[change.path].builder if change.path in made else "unknown"
        evidence.append(Evidence(EvidenceKind.FILE, change.path, text=f"of {builder}, without virtio's drivers"))
    count = f"{len(extended)} initramfs" if len(extended) > 1 else f"the initramfs {extended[0].path}"
    message = f"{count} can find only the old machine's disks; the conversion adds virtio's drivers"
    yield found(examined.rules["software.host-only-initramfs"], message, *evidence)


def check_time_service(examined: Examined) -> Iterator[AuditFinding]:
    """A Linux that asks nobody for the time: its old hypervisor's tools may have set its clock."""
    sights = examined.inside
    if sights is None or not sights.packages or any(program.kind is ProgramKind.TIME for program in sights.programs):
        return
    message = "nothing in it keeps its time (no chrony, ntpd or systemd-timesyncd)"
    yield found(examined.rules["software.no-time-service"], message, Evidence(EvidenceKind.FILE, sights.database))


def check_crash_dumps(examined: Examined) -> Iterator[AuditFinding]:
    """Memory that is kept for a crash kernel, and what that kernel starts with."""
    programs = [program for program in seen_programs(examined) if program.kind is ProgramKind.CRASH_DUMP]
    loader = examined.document.facts.boot_loader
    entries = [
        (entry.source or loader.config, said[0])
        for entry in loader.starting
        if (said := _RESERVATION.search(entry.arguments))
    ]
    if not programs and not entries:
        return
    what = (
        f"an initramfs for crash dumps ({names_of(programs)})" if programs else "memory that is kept for a crash kernel"
    )
    evidence = [Evidence(EvidenceKind.FILE, where, text=text) for where, text in dict.fromkeys(entries)]
    message = f"it has {what}, which was made for the old machine's disks"
    yield found(examined.rules["software.crash-dump"], message, *map(evidence_of, programs), *evidence[:_LINES_AT_MOST])


def check_licences(examined: Examined) -> Iterator[AuditFinding]:
    """Licence files that name this machine by what it does not keep."""
    sights = examined.inside
    lines = [line for line in sights.lines if line.kind is LineKind.LICENCE] if sights is not None else []
    kept = {mac for nic in examined.document.hardware.nics if (mac := normal_mac(nic.mac))}
    by_mac = [line for line in lines if _is_mac(line)]
    lost = [line for line in by_mac if _mac(line) not in kept]
    others = [line for line in lines if not _is_mac(line) and not line.name.lower().startswith(_NO_MACHINES)]
    rule = examined.rules["software.licence-bound"]
    if lost:
        message = (
            f"licences are bound to a MAC address ({lost[0].name}) that no network card of it is known to have on KVM"
        )
        yield found(rule, message, *map(_evidence, lost[:_LINES_AT_MOST]), remedy=_GIVE_MAC)
    if others:
        message = f"licences are bound to the old hardware ({others[0].name})"
        yield found(rule, message, *map(_evidence, others[:_LINES_AT_MOST]))


def check_edition_limits(examined: Examined) -> Iterator[AuditFinding]:
    """How much an old edition of Windows uses, where the machine keeps within that; else the plan's hardware tells of it."""
    document = examined.document
    windows, caps = document.facts.windows, document.plan.caps
    if windows is None or not caps.limits or windows.version.number >= _EIGHT:
        return
    if any(loss.id in _TOLD_AS_LIMITS for loss in losses(document.machine, caps, document.hardware)):
        return
    had = f"{document.machine.cpus} CPUs and {format_bytes(document.machine.memory_bytes)}"
    is_stated = not {"cpus", "memory"} & set(document.machine.assumed)
    message = f"{caps.limits}" + (f"; the machine has {had}" if is_stated else "; nothing says what the machine has")
    number = windows.version.number
    source = _LIMITS_SINCE_XP if number > (5, 0) else _LIMITS_BEFORE.get(number, _LIMITS_OF_OLDEST)
    evidence = (
        *_edition_evidence(windows),
        Evidence(EvidenceKind.DATA, "limits of editions of Windows", text=source),
    )
    yield found(examined.rules["software.edition-limit"], message, *evidence)


_GIVE_MAC = (
    "Keep the card's MAC address on KVM: name it in the machine's description. Else have the licence issued anew."
)


def _evidence(line: SeenLine) -> Evidence:
    return Evidence(EvidenceKind.FILE, line.path, line=line.number, text=line.text)


def _mac(line: SeenLine) -> str | None:
    digits = line.name.lower()
    return normal_mac(":".join(digits[at : at + 2] for at in range(0, len(digits), 2)))


def _is_mac(line: SeenLine) -> bool:
    return _MAC.fullmatch(line.name) is not None


def _database(examined: Examined) -> str:
    return examined.inside.database if examined.inside is not None and examined.inside.database else "/"


def _edition_evidence(windows: WindowsFacts) -> Iterator[Evidence]:
    if windows.version.number >= (6, 0):
        return in_registry(windows, SOFTWARE, CURRENT_VERSION, "EditionID")
    first = windows.control_sets.bootable[:1]
    keys = (f"ControlSet{number:03d}\\Control\\ProductOptions" for number in first)
    return chain.from_iterable(in_registry(windows, SYSTEM, key, "ProductType", "ProductSuite") for key in keys)


CHECKS = (
    check_looked_at, check_tools, check_initramfs, check_time_service, check_crash_dumps, check_licences, check_edition_limits,
)  # fmt: skip
