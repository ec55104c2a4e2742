"""Audit documents for the report and the formats: one with a bit of everything, one of a large fleet, one that means harm."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date

from p2v.audit.catalogue_file import Area, Rule
from p2v.audit.document import (
    AuditDocument,
    DiskAudit,
    LeftAside,
    MachineAudit,
    Origin,
    SupportAudit,
    SystemAudit,
    Verdict,
)
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind, Severity
from p2v.audit.sizing.values import (
    Assumption,
    AssumptionSource,
    Basis,
    ByteInterval,
    HostsBefore,
    HostsNeeded,
    HostType,
    MigrationTime,
    Sizing,
    StorageNeeded,
)
from p2v.core.units import GIB
from tests.pages.hostile import HOSTILE

AS_OF = date(2026, 11, 26)

FSTAB = Rule(
    "fstab-by-path",
    Severity.BLOCKER,
    Area.START,
    "A mount is named by the path of its disk",
    "The path has the old controller's address in it. The mount fails on KVM, and the start stops there.",
    "The line of /etc/fstab.",
    "Name it by UUID.",
)
AGENT = Rule(
    "agent-of-old-host",
    Severity.WARNING,
    Area.SOFTWARE,
    "An agent of the old host is installed",
    "It has nothing to talk to on KVM.",
    "Its package or service.",
    "Remove it after the move.",
)
ENCRYPTED = Rule(
    "volume-encrypted",
    Severity.UNKNOWN,
    Area.DATA,
    "A volume is encrypted",
    "Nobody could look inside.",
    "The header of the volume.",
    "Give its key.",
)
DRIVER = Rule(
    "virtio-driver-missing",
    Severity.BLOCKER,
    Area.START,
    "The guest has no virtio driver",
    "It would not find its disk.",
    "The service's key in the registry.",
    "The conversion adds the driver.",
    fixed_by_conversion=True,
)
SNAPSHOT = Rule(
    "snapshot-present",
    Severity.INFORMATION,
    Area.MACHINE,
    "It has snapshots",
    "Only the current state is moved.",
    "The chain of its disks.",
    "",
)
CLONE = Rule(
    "same-mac",
    Severity.WARNING,
    Area.FLEET,
    "Two machines have one MAC address",
    "Both cannot run on one network.",
    "The descriptions of both.",
    "Give one of them another.",
)
RULES = (FSTAB, AGENT, ENCRYPTED, DRIVER, SNAPSHOT, CLONE)

PLAN = """Plan: 2 changes, 1 warning, no blockers; ready

1. edit /etc/fstab
   why: disks have other names on KVM
   --- /etc/fstab
   +++ /etc/fstab
   @@ -1,2 +1,2 @@
    proc /proc proc defaults 0 0
   -/dev/sda1 / ext4 defaults 0 1
   +UUID=5f3c / ext4 defaults 0 1

2. disable the service vmtoolsd
   why: it has no host on KVM
   - /etc/systemd/system/multi-user.target.wants/vmtoolsd.service -> /lib/systemd/system/vmtoolsd.service

Warnings
- the guest keeps a static address [network-static]

What the guest can use afterwards
- disks: virtio, sata
- machine: q35, bios, x86_64
"""


def finding(rule: Rule, message: str, *evidence: Evidence, suppressed: str = "") -> AuditFinding:
    """A finding of a rule as the catalogue has it."""
    return AuditFinding(rule.id, rule.severity, message, rule.remedy, evidence, rule.fixed_by_conversion, suppressed)


DEBIAN_12 = SupportAudit(
    "supported", "debian 12", "2026-06-10", "2028-06-30", "https://example.org/debian", "in the kernel"
)
SERVER_2012 = SupportAudit(
    "ended",
    "windows server 2012",
    "2018-10-09",
    "2023-10-10",
    "https://example.org/2012",
    "yes",
    ("Example",),
    "Server 2022",
)

WEB = MachineAudit(
    "web01",
    Origin.DISKS,
    "/srv/web01/web01.vmx",
    ("/srv/web01/web01.vmdk",),
    Verdict.BLOCKED,
    (
        finding(
            FSTAB,
            "/srv is mounted by /dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0",
            Evidence(
                EvidenceKind.FILE, "/etc/fstab", 7, text="/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0 /srv xfs"
            ),
        ),
        finding(AGENT, "open-vm-tools is installed", Evidence(EvidenceKind.FILE, "/var/lib/dpkg/status", 210)),
        finding(SNAPSHOT, "2 snapshots", Evidence(EvidenceKind.DESCRIPTION, "/srv/web01/web01.vmsd", 3)),
    ),
    SystemAudit("linux", "debian", "12", "Debian GNU/Linux 12 (bookworm)", "x86_64", "debian", "", "web01.example.org"),
    replace(DEBIAN_12, state="extended"),
    "bios",
    2,
    4 * GIB,
    (DiskAudit("/srv/web01/web01.vmdk", "vmdk", 40 * GIB, 12 * GIB, 9 * GIB),),
    1,
    read_by="the host's own readers",
    plan=PLAN,
    seconds=0.7,
    powered_on=False,
)
DC = MachineAudit(
    "dc-2012",
    Origin.DISKS,
    "/srv/dc/dc.vmcx",
    ("/srv/dc/dc.vhdx", "/srv/dc/data.vhdx"),
    Verdict.WARNINGS,
    (
        finding(
            DRIVER,
            "vioscsi is not installed",
            Evidence(EvidenceKind.REGISTRY, "SYSTEM\\ControlSet001\\Services\\vioscsi\\Start", text="absent"),
        ),
        finding(AGENT, "the integration services are installed", suppressed="removed by our own tooling, ticket 4711"),
        finding(
            AGENT,
            "a backup agent talks to the old host",
            Evidence(EvidenceKind.FILE, "C:\\Program Files\\Backup\\agent.ini", 2),
        ),
    ),
    SystemAudit("windows", "windows", "6.2", "Windows Server 2012 Standard", "x86_64", hostname="DC-2012"),
    SERVER_2012,
    "uefi",
    4,
    16 * GIB,
    (
        DiskAudit("/srv/dc/dc.vhdx", "vhdx", 80 * GIB, 33 * GIB, 30 * GIB),
        DiskAudit("/srv/dc/data.vhdx", "vhdx", 500 * GIB, 320 * GIB, None),
    ),
    1,
    plan="Plan: 1 change, no warnings, no blockers; ready\n",
)
VAULT = MachineAudit(
    "vault",
    Origin.DISKS,
    "",
    ("/srv/vault.raw",),
    Verdict.UNKNOWN,
    (
        finding(
            ENCRYPTED,
            "the second partition is LUKS2",
            Evidence(EvidenceKind.BYTES, "/srv/vault.raw", offset=1_048_576, text="LUKS"),
        ),
    ),
    disks=(DiskAudit("/srv/vault.raw", "raw", 20 * GIB, 20 * GIB, None),),
)
LISTED = MachineAudit(
    "print",
    Origin.INVENTORY,
    "inventory.xlsx",
    (),
    Verdict.READY,
    (),
    SystemAudit("linux", "debian", "12", "Debian 12", "x86_64"),
    DEBIAN_12,
    powered_on=True,
    host="esx1",
    cluster="Berlin",
)

_MEMORY = (Assumption("Memory of a host", "512 GiB", AssumptionSource.GIVEN),)
SIZING = Sizing(
    4,
    StorageNeeded(4, 640 * GIB, 385 * GIB, 0, 39 * GIB, 2, ByteInterval(39 * GIB, 379 * GIB), ()),
    MigrationTime(None, 1, "nothing was measured; say --measure", ()),
    HostType(32, 512 * GIB, 64, 2),
    (HostsNeeded(Basis.USE, 4, 5, 1, 6, 4, 4, 4, 1, "a search ended early", "memory", (), (), (), (), _MEMORY),),
    before=HostsBefore(12, 144, None, 3.5, ()),
)


def sample() -> AuditDocument:
    """A bit of everything."""
    clone = finding(
        CLONE, "web01 and print have 00:50:56:00:00:01", Evidence(EvidenceKind.DESCRIPTION, "/srv/web01/web01.vmx", 12)
    )
    return AuditDocument(
        AS_OF, (WEB, DC, VAULT, LISTED), (clone,), (LeftAside("/srv/notes.txt", "no disk and no description"),), RULES
    )


def hostile() -> AuditDocument:
    """Every text of it, one machine a hostile text."""
    assumed = tuple(Assumption(text, text, AssumptionSource.GIVEN) for text in HOSTILE)
    return AuditDocument(
        AS_OF,
        tuple(_hostile_machine(text) for text in HOSTILE),
        tuple(finding(replace(CLONE, id=text), text, Evidence(EvidenceKind.DATA, text, text=text)) for text in HOSTILE),
        tuple(LeftAside(text, text) for text in HOSTILE),
        tuple(Rule(text or "empty", Severity.BLOCKER, Area.START, text, text, text, text) for text in HOSTILE),
        suite_version=HOSTILE[0],
        sizing=replace(SIZING, before=HostsBefore(1, None, None, None, assumed)),
    )


def _hostile_machine(text: str) -> MachineAudit:
    evidence = tuple(Evidence(kind, text, 3, 4, text) for kind in EvidenceKind)
    findings = [AuditFinding(text or "empty", each, text, text, evidence) for each in Severity]
    findings.append(
        AuditFinding(text or "empty", Severity.BLOCKER, text, text, evidence, suppressed=text or "no reason")
    )
    findings.append(
        AuditFinding("not explained " + text, Severity.WARNING, text, text, evidence, fixed_by_conversion=True)
    )
    return MachineAudit(
        text,
        Origin.DISKS,
        text,
        (text,),
        Verdict.BLOCKED,
        tuple(findings),
        SystemAudit(text, text, text, text, text, text, text, text),
        SupportAudit(text, text, text, text, text, text, (text,), text),
        text,
        -1,
        2**80,
        (DiskAudit(text, text, 2**70, 0, 0), DiskAudit(text, text, 0, 0, None)),
        plan=f"{text}\n   +{text}\n   -{text}\n",
        read_by=text,
        host=text,
        cluster=text,
    )


def fleet(count: int, plan_lines: int = 300, seed: int = 7) -> AuditDocument:
    """A fleet of that many machines, a dozen findings and a plan of some lines each; the same for the same seed."""
    chance = random.Random(seed)
    rules = tuple(
        Rule(
            f"rule-number-{number}",
            chance.choice(list(Severity)),
            chance.choice(list(Area)),
            f"What rule {number} is about, in a few words",
            f"The meaning of rule {number}, said in a sentence or two, so that it takes room as a real one does.",
            "A file and a line.",
            "Do something about it before the move.",
            fixed_by_conversion=chance.random() < 0.2,
        )
        for number in range(80)
    )
    return AuditDocument(AS_OF, tuple(_of_fleet(n, rules, plan_lines, chance) for n in range(count)), rules=rules)


_SYSTEMS = (
    ("linux", "Debian GNU/Linux 12 (bookworm)", "2026-06-10", "2028-06-30"),
    ("linux", "Red Hat Enterprise Linux 8.10", "2024-05-31", "2029-05-31"),
    ("linux", "CentOS Linux 7 (Core)", "2024-06-30", ""),
    ("windows", "Windows Server 2019 Standard", "2024-01-09", "2029-01-09"),
    ("windows", "Windows Server 2025 Datacenter", "2029-10-09", "2034-10-10"),
    ("other", "Something of its own", "", ""),
)


def _of_fleet(number: int, rules: tuple[Rule, ...], plan_lines: int, chance: random.Random) -> MachineAudit:
    kind, name, standard, extended = chance.choice(_SYSTEMS)
    findings = tuple(
        finding(
            rule,
            f"machine {number}: what rule {rule.id} saw there, with a value of {chance.randrange(10_000)}",
            Evidence(EvidenceKind.FILE, f"/etc/of/{rule.id}.conf", chance.randrange(1, 400), text="device = /dev/sda1"),
        )
        for rule in chance.sample(rules, 12)
    )
    days = [day for day in (standard, extended) if day]
    ended = (
        "unknown"
        if not days
        else "ended"
        if max(days) < str(AS_OF)
        else "supported"
        if standard >= str(AS_OF)
        else "extended"
    )
    virtual = chance.randrange(20, 2000) * GIB
    lines = (
        f"   {chance.choice('+- ')}setting.number.{line} = {chance.randrange(10**6)}" for line in range(plan_lines)
    )
    return MachineAudit(
        f"machine-{number:04}",
        Origin.DISKS,
        f"/srv/machine-{number:04}/machine.vmx",
        (f"/srv/machine-{number:04}/disk.vmdk",),
        chance.choice(list(Verdict)),
        findings,
        SystemAudit(kind, "some", "1", name, "x86_64", hostname=f"host{number}"),
        SupportAudit(ended, name, standard, extended, "https://example.org/dates"),
        chance.choice(("bios", "uefi")),
        chance.randrange(1, 64),
        chance.randrange(1, 512) * GIB,
        (DiskAudit(f"/srv/machine-{number:04}/disk.vmdk", "vmdk", virtual, virtual // 2, virtual // 3),),
        1,
        plan="Plan: some changes\n" + "\n".join(lines) + "\n",
        seconds=0.5,
    )
