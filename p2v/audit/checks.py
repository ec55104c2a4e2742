"""Every check that is made of a machine, in the order in which its findings are told."""

from __future__ import annotations

from p2v.audit.examined import Check

CHECKS: tuple[Check, ...] = ()
