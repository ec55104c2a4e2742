"""Every check that is made of a machine, in the order in which its findings are told."""

from __future__ import annotations

from p2v.audit.examined import Check
from p2v.audit.planned import planned
from p2v.audit.rules import devices, disks, programs, roles, software, start, support

CHECKS: tuple[Check, ...] = (
    planned,
    *start.CHECKS,
    *disks.CHECKS,
    *roles.CHECKS,
    *programs.CHECKS,
    *devices.CHECKS,
    *software.CHECKS,
    support.check_support,
)
