"""Machines in memory for the rules about disks: what is on the disks is written by hand, the rest is plain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from converters.info import ImageInfo, SourceIdentity
from drivers.caps import GuestCaps
from drivers.changes import Change
from drivers.disk_sights import look_at
from drivers.facts import GuestFacts, Mount, OperatingSystem, ReadBy
from drivers.layout import lay_out
from drivers.plan import Finding, GuestPlan
from drivers.windows.facts import WindowsFacts
from p2v.audit.catalogue_file import catalogue
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding
from p2v.audit.rules.disks import CHECKS
from p2v.documents import PlanDocument, SourceDisk
from p2v.machine import Firmware, Machine, MachineDisk
from p2v.targets.hardware import TargetDisk
from tests.drivers.memory_disk import MemoryDisk
from tests.targets.samples import hardware

LINUX = OperatingSystem("linux", "debian", "12", "Debian GNU/Linux 12", "x86_64", "debian")
WINDOWS = OperatingSystem("windows", "windows", "10.0", "Windows Server 2019", "x86_64", "windows")
FREEDOS = OperatingSystem("other", "freedos", "1.3", "FreeDOS", "i386", "other")


@dataclass(frozen=True)
class Case:
    """What differs from a plain Linux of one disk."""

    disks: Sequence[MemoryDisk]
    os: OperatingSystem | None = LINUX
    firmware: str = "bios"
    windows: WindowsFacts | None = None
    mounts: tuple[Mount, ...] = ()
    changes: tuple[Change, ...] = ()
    blockers: tuple[Finding, ...] = ()
    stated_bytes: int | None = None
    beside: tuple[Path, ...] = ()
    image: dict[str, object] = field(default_factory=dict)
    """Fields of the first disk's image that are others than usual."""
    paths: tuple[Path, ...] = ()

    def examined(self) -> Examined:
        """What the rules are given."""
        layout = lay_out(self.disks)
        facts = GuestFacts(
            ReadBy.HOST, layout.disks, layout.partitions, self.os, self.mounts[0] if self.mounts else None, self.mounts,
            self.firmware, volumes=layout.volumes, windows=self.windows, notes=layout.notes,
        )  # fmt: skip
        paths = self.paths or tuple(Path(f"/srv/web/web{n or ''}.vmdk") for n in range(len(self.disks)))
        sources = tuple(_source(path, disk) for path, disk in zip(paths, self.disks, strict=True))
        if self.image:
            sources = (replace(sources[0], image=replace(sources[0].image, **self.image)), *sources[1:])  # type: ignore[arg-type]
        machine = Machine(
            "web", tuple(MachineDisk(path, stated_bytes=self.stated_bytes) for path in paths), beside=self.beside,
            description=Path("/srv/web/web.vmx"),
        )  # fmt: skip
        plan = GuestPlan(
            self.changes, (), self.blockers, GuestCaps(("virtio-blk",), ("virtio",), self.firmware, "x86_64")
        )
        target = replace(
            hardware(), firmware=Firmware(self.firmware), disks=tuple(_target(n, facts) for n in range(len(self.disks)))
        )
        document = PlanDocument(machine, sources, facts, plan, target)
        return Examined(document, catalogue(), date(2026, 1, 1), sights=look_at(self.disks))

    def findings(self) -> tuple[AuditFinding, ...]:
        """What all rules about disks say."""
        examined = self.examined()
        return tuple(each for check in CHECKS for each in check(examined))


def _source(path: Path, disk: MemoryDisk) -> SourceDisk:
    size = disk.virtual_size
    image = ImageInfo(
        "vmdk",
        "monolithicSparse",
        size,
        size,
        size,
        (str(path),),
        disk.sector_bytes,
        disk.sector_bytes,
        "",
        "",
        (),
        (),
        (),
    )
    return SourceDisk(path, None, image, SourceIdentity((), "vmdk", "monolithicSparse", size, "", ""))


def _target(number: int, facts: GuestFacts) -> TargetDisk:
    return TargetDisk(Path(f"web-{number}.qcow2"), logical_sector_bytes=facts.sector_bytes(number))


def fired(findings: Iterable[AuditFinding]) -> set[str]:
    """The rules that fired."""
    return {each.rule for each in findings}
