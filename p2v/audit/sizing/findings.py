"""What sizing finds, as findings of the fleet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from p2v.audit.catalogue_file import Rule, found
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind
from p2v.audit.sizing.values import Basis, NamedReason, Sizing
from p2v.core.text import listed

_NAMED_AT_MOST = 8
_EVIDENCE_AT_MOST = 200


def sizing_findings(sizing: Sizing, rules: Mapping[str, Rule]) -> tuple[AuditFinding, ...]:
    """One finding a rule, its machines with their numbers as evidence. By the machines as configured: use comes and goes."""
    return tuple(_findings(sizing, rules))


def _findings(sizing: Sizing, rules: Mapping[str, Rule]) -> Iterator[AuditFinding]:
    for needed in sizing.hosts:
        if needed.basis is Basis.CONFIGURED:
            yield from _finding(
                rules["sizing.fits-no-host"], "too large for any host of the given type", needed.too_large
            )
            yield from _finding(rules["sizing.not-sized"], "of unknown needs, in no host", needed.not_sized)
    if sizing.numa is not None:
        yield from _finding(rules["sizing.wider-than-node"], "larger than a NUMA node of the host", sizing.numa.wider)


def _finding(rule: Rule, what: str, machines: Sequence[NamedReason]) -> Iterator[AuditFinding]:
    if not machines:
        return
    names = listed((each.machine[:80] for each in machines), _NAMED_AT_MOST)
    evidence = (
        Evidence(EvidenceKind.DESCRIPTION, each.machine[:200], text=each.why) for each in machines[:_EVIDENCE_AT_MOST]
    )
    count = f"{len(machines)} machine{'' if len(machines) == 1 else 's'}"
    yield found(rule, f"{count} {what}: {names}", *evidence)
