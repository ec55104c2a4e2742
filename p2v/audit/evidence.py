"""Evidence for the plan's findings: where in the guest, on its disks or in its description each can be seen. Pure.

A finding's id says what is looked for, and its message names which of several; both are looked up again in the facts. What is not
found there is not pointed at: a finding without evidence is better than one that points at a wrong line.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, islice

from drivers.plan import Finding
from p2v.audit import evidence_description, evidence_disks, evidence_files, evidence_windows
from p2v.audit.evidence_files import Seeker
from p2v.audit.examined import Examined
from p2v.audit.findings import Evidence

PIECES_AT_MOST = 8

_TABLES: tuple[Mapping[str, Seeker], ...] = (
    evidence_files.SEEKERS,
    evidence_windows.SEEKERS,
    evidence_disks.SEEKERS,
    evidence_description.SEEKERS,
)


def evidence_of(examined: Examined, finding: Finding) -> tuple[Evidence, ...]:
    """What a finding can be seen by, the most telling first; empty where nothing can be pointed at."""
    seekers = (table[finding.id] for table in _TABLES if finding.id in table)
    pieces = chain.from_iterable(seek(examined, finding) for seek in seekers)
    return tuple(dict.fromkeys(islice(pieces, PIECES_AT_MOST)))


def pointed_at() -> frozenset[str]:
    """The ids of findings for which something may be pointed at."""
    return frozenset(chain.from_iterable(_TABLES))
