"""The catalogue of rules: what each means, what evidence it wants, what to do. Data beside it, ``catalogue/*.toml``."""

from __future__ import annotations

import enum
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from p2v.audit.findings import AuditFinding, Evidence, Severity
from p2v.core import jsonio


class Area(enum.Enum):
    """What a rule is about."""

    START = "start"
    """Whether the guest starts."""
    DATA = "data"
    """What is on its disks, and whether it arrives whole."""
    NETWORK = "network"
    MACHINE = "machine"
    """Hardware and what a description says."""
    SOFTWARE = "software"
    """What runs in the guest: agents, tools, roles, licences."""
    SUPPORT = "support"
    """Who still looks after it."""
    FLEET = "fleet"
    """What only several machines together show."""
    AUDIT = "audit"
    """The audit itself: what could not be looked at."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``severity`` is what it has unless its finding says otherwise; ``evidence`` what it points at, in words.

    ``meaning``: what it means for the machine, in a sentence or two; ``remedy``: what the user does.
    """

    id: str
    severity: Severity
    area: Area
    title: str
    meaning: str
    evidence: str
    remedy: str
    fixed_by_conversion: bool = False


def catalogue() -> Mapping[str, Rule]:
    """All rules by id, in the order of their files. Raises ValueError for a file that is none: a fault of the suite's own."""
    rules: dict[str, Rule] = {}
    for rule in _rules():
        if rule.id in rules:
            raise ValueError(f"the rule {rule.id} is in the catalogue twice")
        rules[rule.id] = rule
    return rules


def _rules() -> Iterator[Rule]:
    conv = jsonio.converter()
    for file in sorted(_files(), key=lambda each: each.name):
        entries: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
        for name, entry in entries.items():
            try:
                yield jsonio.decode(conv, {"id": name, **entry}, Rule)
            except jsonio.BadDocument as error:
                raise ValueError(f"{file.name}: {name}: {error}") from error


def _files() -> Iterator[Any]:
    return (
        each for each in resources.files("p2v.audit").joinpath("catalogue").iterdir() if each.name.endswith(".toml")
    )


def found(
    rule: Rule,
    message: str,
    *evidence: Evidence,
    severity: Severity | None = None,
    remedy: str = "",
) -> AuditFinding:
    """A finding of a rule, with what the catalogue says where the case says nothing of its own."""
    return AuditFinding(
        rule.id, severity or rule.severity, message, remedy or rule.remedy, evidence, rule.fixed_by_conversion
    )
