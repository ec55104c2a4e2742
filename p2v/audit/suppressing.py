"""What the user does not want to hear of again, each with his reason, which is recorded beside the finding."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p2v.audit.catalogue_file import Rule
from p2v.audit.findings import AuditFinding
from p2v.core import jsonio
from p2v.core.errors import NoSource, Usage


@dataclass(frozen=True, slots=True)
class Suppression:
    """``rule``: an id; ``machine``: a name, with * and ? for any letters. ``reason`` is never empty."""

    rule: str
    reason: str
    machine: str = "*"


@dataclass(frozen=True, slots=True)
class _File:
    suppress: tuple[Suppression, ...] = ()


def parse_suppression(text: str, rules: Mapping[str, Rule]) -> Suppression:
    """One from the command line: ``RULE=REASON`` or ``RULE@MACHINE=REASON``. Raises Usage."""
    what, _, reason = text.partition("=")
    rule, _, machine = what.partition("@")
    return _checked(Suppression(rule.strip(), reason.strip(), machine.strip() or "*"), rules, f"--suppress {text}")


def read_suppressions(path: Path, rules: Mapping[str, Rule]) -> tuple[Suppression, ...]:
    """Those of a TOML file with a ``[[suppress]]`` table each. Raises NoSource, Usage."""
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        known = jsonio.decode(jsonio.converter(), data, _File)
    except OSError as error:
        raise NoSource(str(path), error.strerror or "cannot be read") from error
    except (ValueError, jsonio.BadDocument) as error:
        raise Usage(
            f"{path}: {error}", "Each is a [[suppress]] with rule, reason, and machine where it is not for all."
        ) from error
    return tuple(_checked(each, rules, str(path)) for each in known.suppress)


def _checked(found: Suppression, rules: Mapping[str, Rule], where: str) -> Suppression:
    if found.rule not in rules:
        raise Usage(f"{where}: there is no rule {found.rule!r}", "`p2v audit explain` lists them.")
    if not found.reason:
        raise Usage(f"{where}: without a reason", "As in --suppress 'support.ended=isolated network until March'.")
    return found


def suppressed(
    findings: Iterable[AuditFinding], machine: str, suppressions: Sequence[Suppression]
) -> tuple[AuditFinding, ...]:
    """The findings, those that a suppression is for with its reason."""
    return tuple(_one(each, machine, suppressions) for each in findings)


def _one(finding: AuditFinding, machine: str, suppressions: Sequence[Suppression]) -> AuditFinding:
    for each in suppressions:
        if each.rule == finding.rule and fnmatch.fnmatchcase(machine, each.machine):
            return replace(finding, suppressed=each.reason)
    return finding
