"""What a rule is given to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from drivers.disk_sights import DiskSight
from drivers.guest_sights import GuestSights
from p2v.audit.catalogue_file import Rule
from p2v.audit.findings import AuditFinding
from p2v.documents import PlanDocument


@dataclass(frozen=True, slots=True)
class Examined:
    """One machine with all that was found out about it, and the plan for it. ``as_of``: the day of the audit.

    ``inside``: what was seen in its Linux besides the facts; None where nobody looked.
    """

    document: PlanDocument
    rules: Mapping[str, Rule]
    as_of: date
    inside: GuestSights | None = None
    description: str = ""
    """The text of the machine's description, to find a line of it again; empty where it is none (a folder, an archive, a store)."""
    sights: tuple[DiskSight, ...] = ()
    """What its raw disks show besides, in their order; empty where nobody looked."""


Check = Callable[[Examined], Iterable[AuditFinding]]
"""A check is pure: what needs the disks is read beforehand and stands in Examined."""
