"""Guests in memory for the audit's rules about software: their facts, what was seen inside, and a plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from drivers.caps import GuestCaps
from drivers.changes import Change
from drivers.facts import Disk, FileSystem, GuestFacts, Network, OperatingSystem, Partition, ReadBy
from drivers.guest_sights import GuestSights, look_over
from drivers.plan import Finding, GuestPlan
from drivers.windows.edition_limits import with_limits
from drivers.windows.facts import WindowsFacts
from p2v.audit.catalogue_file import catalogue
from p2v.audit.examined import Check, Examined
from p2v.audit.findings import AuditFinding
from p2v.core.units import GIB
from p2v.documents import PlanDocument
from p2v.machine import Machine, MachineDisk, Nic
from p2v.targets.hardware import target_hardware
from tests.drivers.memory_tree import InMemoryTree, Node

MAC = "52:54:00:12:34:56"
DISK = Disk(0, 4 * GIB, "mbr", "c0ffee12", "grub2")
PARTITION = Partition(0, 1, 1 << 20, 2 * GIB, "83", True, "c0ffee12-01", filesystem=FileSystem("ext4"))
LINUX = GuestFacts(
    ReadBy.HOST, (DISK,), (PARTITION,), OperatingSystem("linux", "debian", "12", "Debian 12", "x86_64", "debian"),
    network=Network(),
)  # fmt: skip
CAPS = GuestCaps(("virtio-blk", "sata"), ("virtio",), "bios", "x86_64")
CLEAN_FILES: dict[str, Node] = {
    "/etc/fstab": "UUID=11111111-2222-3333-4444-555555555555 / ext4 defaults 0 1\n",
    "/etc/crontab": "17 * * * * root run-parts /etc/cron.hourly\n",
    "/etc/cron.d/e2scrub": "30 3 * * 0 root test -e /run/systemd/system\n",
    "/etc/default/cron": '# EXTRA_OPTS="/dev/sda"\nREAD_ENV="yes"\n',
    "/etc/udev/rules.d/60-own.rules": 'SUBSYSTEM=="usb", ATTR{idVendor}=="1234", MODE="0660"\n',
    "/etc/nftables.conf": 'table inet filter { chain input { iifname "lo" accept } }\n',
}


def packages(*names: str) -> str:
    """A dpkg status file in which these are installed."""
    return "\n".join(f"Package: {name}\nStatus: install ok installed\n" for name in names)


def files_with(*names: str, more: dict[str, Node] | None = None) -> dict[str, Node]:
    """A clean guest's files, with these packages and files besides."""
    return {**CLEAN_FILES, "/var/lib/dpkg/status": packages("bash", "systemd-timesyncd", *names), **(more or {})}


def seen(*names: str, more: dict[str, Node] | None = None, flags: dict[str, str] | None = None) -> GuestSights:
    """What is seen in such a guest. ``flags``: of files, by path; all others have none."""
    return look_over(InMemoryTree(files_with(*names, more=more)), lambda path: (flags or {}).get(path, ""))


def linux(
    inside: GuestSights | None,
    facts: GuestFacts = LINUX,
    *,
    changes: Sequence[Change] = (),
    warnings: Sequence[Finding] = (),
    caps: GuestCaps = CAPS,
    machine: Machine | None = None,
) -> Examined:
    """A Linux as rules are given it."""
    return _examined(facts, inside, GuestPlan(tuple(changes), tuple(warnings), (), caps), machine)


def windows(facts: WindowsFacts, machine: Machine | None = None) -> Examined:
    """A Windows as rules are given it."""
    system = OperatingSystem("windows", "win", "6.1", "Windows", facts.arch, "windows")
    caps = with_limits(GuestCaps(("sata",), ("e1000e",), "bios", facts.arch), facts)
    return _examined(replace(LINUX, os=system, windows=facts), None, GuestPlan((), (), (), caps), machine)


def a_machine(cpus: int = 2, memory_bytes: int = 2 * GIB) -> Machine:
    """A machine with one disk and one card."""
    return Machine("guest", (MachineDisk(Path("disk.raw")),), (Nic(MAC),), cpus, memory_bytes)


def _examined(facts: GuestFacts, inside: GuestSights | None, plan: GuestPlan, machine: Machine | None) -> Examined:
    of = machine or a_machine()
    document = PlanDocument(of, (), facts, plan, target_hardware(of, plan.caps, ()))
    return Examined(document, catalogue(), date(2026, 11, 26), inside)


def findings(examined: Examined, checks: Iterable[Check]) -> list[AuditFinding]:
    """Everything that these checks find."""
    return [finding for check in checks for finding in check(examined)]


def rules_of(examined: Examined, checks: Iterable[Check]) -> set[str]:
    """The rules that fired."""
    return {finding.rule for finding in findings(examined, checks)}
