"""What an audit says, as values: machines with their verdicts, what the fleet shows, what was left aside."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import p2v
from p2v.audit.catalogue_file import Area, Rule
from p2v.audit.chain import Link
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.inventory.hosts import HostRow
from p2v.audit.sizing.values import Sizing

AUDIT_SCHEMA = 1


class Verdict(enum.Enum):
    """What an audit says of a machine, the worst first."""

    BLOCKED = "blocked"
    """A blocker stands in the way."""
    UNKNOWN = "unknown"
    """Something that decides about its start or its data could not be seen."""
    WARNINGS = "ready with warnings"
    READY = "ready"


class Origin(enum.Enum):
    """What an audit of a machine rests on."""

    DISKS = "disks"
    """Its disks were read, with or without a description."""
    INVENTORY = "inventory"
    """A row of an inventory export; nobody looked inside."""


@dataclass(frozen=True, slots=True)
class SystemAudit:
    """The guest's operating system. ``kind``: linux, windows, or what else it is; ``id`` and ``version`` in os-release's words."""

    kind: str
    id: str
    version: str
    name: str
    arch: str
    family: str = ""
    edition: str = ""
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class SupportAudit:
    """Who looks after a system: dates as ``YYYY-MM-DD`` (empty: unknown, or not offered), each with its published source.

    ``state``: ``supported``, ``extended``, ``ended`` or ``unknown`` on the audit's date.
    """

    state: str
    release: str = ""
    standard_end: str = ""
    extended_end: str = ""
    source: str = ""
    virtio: str = ""
    """Whether virtio drivers exist for it, in words; empty: unknown."""
    certified: tuple[str, ...] = ()
    """KVM vendors who certify it as a guest."""
    successor: str = ""


@dataclass(frozen=True, slots=True)
class DiskAudit:
    """One disk; sizes in bytes. ``used_bytes``: what file systems on it use, None where that is not known."""

    path: str
    format: str
    virtual_bytes: int
    allocated_bytes: int
    used_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Signs:
    """What tells a machine from its neighbours; the same one twice is a clone, or a mistake."""

    uuid: str = ""
    """The machine's SMBIOS UUID."""
    machine_id: str = ""
    """The guest's machine id."""
    hostname: str = ""
    """The guest's host name."""
    macs: tuple[str, ...] = ()
    """The MAC addresses of its network cards."""
    disk_ids: tuple[str, ...] = ()
    """Signatures and GUIDs of its disks."""
    addresses: tuple[str, ...] = ()
    """Static addresses, without their prefix."""
    files: tuple[str, ...] = ()
    """Every file that its disks stand in, chains included."""


@dataclass(frozen=True, slots=True)
class MachineAudit:
    """One machine. ``cpus`` and ``memory_bytes`` are None where nothing tells. ``plan``: the plan's text with its diffs."""

    name: str
    origin: Origin
    described_by: str
    paths: tuple[str, ...]
    verdict: Verdict
    findings: tuple[AuditFinding, ...]
    system: SystemAudit | None = None
    support: SupportAudit | None = None
    firmware: str = ""
    cpus: int | None = None
    memory_bytes: int | None = None
    disks: tuple[DiskAudit, ...] = ()
    nics: int = 0
    signs: Signs = Signs()
    read_by: str = ""
    plan: str = ""
    chain: tuple[Link, ...] = ()
    """How it starts, from its firmware to its first program; empty where nobody looked."""
    seconds: float = 0.0
    powered_on: bool | None = None
    host: str = ""
    """The host it runs on, where an inventory says it."""
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class LeftAside:
    """Something named or found that is no machine's: the path, and why it was not audited."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class AuditDocument:
    """A whole audit. ``as_of``: the day that support is judged by; ``rules``: those of the catalogue that fired."""

    as_of: date
    machines: tuple[MachineAudit, ...]
    fleet: tuple[AuditFinding, ...] = ()
    left_aside: tuple[LeftAside, ...] = ()
    rules: tuple[Rule, ...] = ()
    schema: int = AUDIT_SCHEMA
    suite_version: str = p2v.__version__
    hosts: tuple[HostRow, ...] = ()
    """What inventories say of the hosts that the machines run on now."""
    sizing: Sizing | None = None
    """Hosts, storage, time and money, where that was asked for."""


UNREAD = frozenset(
    f"audit.{name}"
    for name in (
        "parent-missing", "wrong-parent", "forbidden-reference", "no-known-format", "ambiguous-format", "unsupported-image",
        "bad-image", "bad-description", "not-permitted", "not-there", "read-failed", "reader-crashed", "half-converted",
        "took-too-long", "failed",
    )
)  # fmt: skip
"""Rules that say that nothing, or not all, of a machine was read."""

_DECIDING = (Area.START, Area.DATA, Area.AUDIT)


def verdict(findings: Iterable[AuditFinding], rules: Mapping[str, Rule]) -> Verdict:
    """The verdict that findings give. What is suppressed, or what the conversion sets right by itself, does not count.

    But a machine that could not be read is not ready because nobody wants to hear of it: then it is unknown.
    """
    findings = list(findings)
    counted = [each for each in findings if not each.suppressed and not each.fixed_by_conversion]
    severities = {each.severity for each in counted}
    if Severity.BLOCKER in severities:
        return Verdict.BLOCKED
    if any(each.severity is Severity.UNKNOWN and _decides(rules.get(each.rule)) for each in counted):
        return Verdict.UNKNOWN
    if any(each.suppressed and each.rule in UNREAD for each in findings):
        return Verdict.UNKNOWN
    return Verdict.WARNINGS if Severity.WARNING in severities else Verdict.READY


def _decides(rule: Rule | None) -> bool:
    return rule is None or rule.area in _DECIDING
