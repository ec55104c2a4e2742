"""Guests in memory with the plan for them, as a check is given them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path

from converters.info import ImageInfo, SourceIdentity
from drivers.facts import GuestFacts
from drivers.plan import Finding, PlanOptions
from p2v.audit.catalogue_file import Rule, catalogue
from p2v.audit.evidence import evidence_of
from p2v.audit.examined import Examined
from p2v.audit.findings import Evidence
from p2v.documents import Inspection, SourceDisk
from p2v.machine import Machine, MachineDisk
from p2v.planning import plan_found

FOLDER = Path("/vms/web")
AS_OF = date(2026, 11, 26)


def disk_path(index: int) -> str:
    """Where disks of these guests are, by their numbers from 0."""
    return str(FOLDER / f"disk{index}.qcow2")


def _source(path: Path, size: int) -> SourceDisk:
    image = ImageInfo("qcow2", "v3", size, 0, 0, (str(path),), 512, 512, "", "", (), (), ())
    return SourceDisk(path, None, image, SourceIdentity((), "qcow2", "v3", size, "", ""))


def bare(disks: int) -> Machine:
    """A machine of which nothing but its disks is known."""
    return Machine("web", tuple(MachineDisk(Path(disk_path(index))) for index in range(disks)))


def examined(
    facts: GuestFacts, machine: Machine | None = None, options: PlanOptions | None = None, description: str = ""
) -> Examined:
    """A guest with its plan."""
    sizes = [disk.size_bytes for disk in facts.disks] or [1 << 30]
    sources = tuple(_source(Path(disk_path(index)), size) for index, size in enumerate(sizes))
    found = Inspection(sources, facts)
    document = plan_found(machine or bare(len(sources)), found, options or PlanOptions())
    return Examined(document, _rules(), AS_OF, description=description)


@cache
def _rules() -> Mapping[str, Rule]:
    return catalogue()


def findings(guest: Examined) -> tuple[Finding, ...]:
    """All that the plan says, blockers first."""
    plan = guest.document.plan
    return (*plan.blockers, *plan.warnings)


def pieces(guest: Examined, id_: str) -> tuple[Evidence, ...]:
    """The evidence for the plan's first finding of an id, which must be there."""
    finding = next(each for each in findings(guest) if each.id == id_)
    return evidence_of(guest, finding)
