"""Who still looks after a guest: ended, ending, extended and unknown support; drivers; lists of certified guests. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from p2v.audit.catalogue_file import Rule, found
from p2v.audit.document import SystemAudit
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind, Severity
from p2v.audit.lifecycle import (
    ENDED,
    EXTENDED,
    SUPPORTED,
    UNKNOWN,
    Standing,
    certified_by,
    standing_of,
    virtio_words,
)
from p2v.audit.lifecycle_data import CERTIFIED, FOLDER, Product, Release, Virtio, lifecycle
from p2v.audit.portrait import system_of
from p2v.core.text import printable

SOON = timedelta(days=365)
OLD = timedelta(days=365)
_LONGEST_VERSION = 60


@dataclass(frozen=True, slots=True)
class _Case:
    """A system on a day, how it stands, and the catalogue."""

    system: SystemAudit
    standing: Standing
    as_of: date
    rules: Mapping[str, Rule]

    def says(
        self,
        rule: str,
        message: str,
        *,
        severity: Severity | None = None,
        remedy: str = "",
        seen: Evidence | None = None,
    ) -> AuditFinding:
        """A finding that points at the data it rests on."""
        return found(self.rules[rule], message, seen or self.data(), severity=severity, remedy=remedy)

    def data(self, source: str = "") -> Evidence:
        """The entry that a finding rests on, with its published source; ``source``: of what is no date."""
        product = self.standing.product
        where = f"{FOLDER}/{product.file}" if product is not None else FOLDER
        return Evidence(EvidenceKind.DATA, where, text=source or self.standing.source)

    @property
    def name(self) -> str:
        """What the system is called."""
        return self.standing.name or "the system"

    @property
    def successor(self) -> str:
        """What the data advises instead of it; empty where that is nothing."""
        product = self.standing.product
        return f"What comes after it: {product.successor}" if product is not None and product.successor else ""


def check_support(examined: Examined) -> Iterable[AuditFinding]:
    """Everything about who looks after the guest's system; nothing where no system was found, which is told elsewhere."""
    system = system_of(examined.document.facts)
    return support_findings(system, examined.as_of, examined.rules) if system is not None else ()


def support_findings(system: SystemAudit, as_of: date, rules: Mapping[str, Rule]) -> Iterator[AuditFinding]:
    """The same for a system that is known by other means, such as a row of an inventory."""
    case = _Case(system, standing_of(system, as_of), as_of, rules)
    for look in (_ended, _extended, _ending, _unknown, _no_virtio, _old_drivers, _not_certified, _data_old):
        yield from look(case)


def _ended(case: _Case) -> Iterator[AuditFinding]:
    product, release = case.standing.product, case.standing.release
    if case.standing.state != ENDED or product is None or release is None or release.last is None:
        return
    message = f"{case.name}: {_phase(product, release.last, release)} ended on {_day(release.last)}"
    if len({each.last for each in case.standing.fitting}) > 1:
        message += " at the latest, whichever release it is"
    if release.further is not None and case.as_of <= release.further:
        message += f"; until {_day(release.further)} security fixes come by {product.further_name} alone, bought apart"
    yield case.says("support.ended", message, remedy=_remedy(case, "support.ended"))


def _extended(case: _Case) -> Iterator[AuditFinding]:
    product, release = case.standing.product, case.standing.release
    if case.standing.state != EXTENDED or product is None or release is None:
        return
    if release.standard is None or release.extended is None:
        return
    apart = " (bought apart)" if product.extended_paid else ""
    message = (
        f"{case.name}: {product.standard_name} ended on {_day(release.standard)}; "
        f"{product.extended_name}{apart} goes on until {_day(release.extended)}"
    )
    if product.extended_paid:
        remedy = _remedy(case, "support.extended")
        yield case.says("support.extended", message, severity=Severity.WARNING, remedy=remedy)
    elif release.extended - case.as_of > SOON:
        # what ends soon is told by that
        remedy = _joined("Nothing need be done yet: these fixes come as all others did.", case.successor)
        yield case.says("support.extended", message, severity=Severity.INFORMATION, remedy=remedy)


def _ending(case: _Case) -> Iterator[AuditFinding]:
    product, release = case.standing.product, case.standing.release
    if case.standing.state not in (SUPPORTED, EXTENDED) or product is None or release is None:
        return
    end = release.standard if case.standing.state == SUPPORTED else release.extended
    if end is None or end - case.as_of > SOON:
        return
    message = f"{case.name}: {_phase(product, end, release)} ends on {_day(end)}, in {(end - case.as_of).days} days"
    yield case.says("support.ending", message + _after(product, release, end), remedy=_remedy(case, "support.ending"))


def _after(product: Product, release: Release, end: date) -> str:
    """What follows a phase."""
    if end == release.standard and release.extended is not None and release.extended > end:
        apart = " for those who buy it" if product.extended_paid else ""
        return f"; {product.extended_name} follows{apart}, until {_day(release.extended)}"
    if end == release.standard and release.extended_unknown:
        return f"; until when {product.extended_name} follows is not known"
    if release.further is not None:
        return f"; {product.further_name} can be bought until {_day(release.further)}"
    return ""


def _unknown(case: _Case) -> Iterator[AuditFinding]:
    if case.standing.state == UNKNOWN:
        product = case.standing.product
        # where no date will ever be found there is nothing to look up
        remedy = case.successor if product is not None and product.why else ""
        yield case.says("support.unknown", f"{case.name}: {_why_unknown(case)}", remedy=remedy)


def _why_unknown(case: _Case) -> str:
    standing, product = case.standing, case.standing.product
    version = printable(case.system.version[:_LONGEST_VERSION], keep="").strip()
    if product is None:
        return f"the audit's data has no system of the id {printable(case.system.id[:_LONGEST_VERSION], keep='')!r}"
    if product.why:
        return product.why
    if len(standing.fitting) > 1:
        ends = [each.last for each in standing.fitting if each.last is not None]
        between = f", between {_day(min(ends))} and {_day(max(ends))}" if len(set(ends)) > 1 else ""
        count = len({each.version for each in standing.fitting})
        return f"it may be one of {count} releases of {product.name}, whose support ends at different times{between}"
    if not standing.fitting:
        of = f"version {version} of {product.name}" if version else f"release of {product.name} without a version"
        return f"no {of} is in the audit's data of {_day(product.as_of)}"
    return f"no end of its support that is sure to the day was published up to {_day(product.as_of)}"


def _no_virtio(case: _Case) -> Iterator[AuditFinding]:
    if case.standing.virtio is Virtio.NONE:
        yield case.says(
            "support.no-virtio", f"{case.name}: {virtio_words(case.standing)}", seen=case.data(_drivers_source(case))
        )


def _old_drivers(case: _Case) -> Iterator[AuditFinding]:
    if case.standing.virtio in (Virtio.FROZEN, Virtio.UNSIGNED):
        yield case.says(
            "support.old-drivers", f"{case.name}: {virtio_words(case.standing)}", seen=case.data(_drivers_source(case))
        )


def _drivers_source(case: _Case) -> str:
    release = case.standing.release
    own = release.virtio_source if release is not None else ""
    return own or (case.standing.product.virtio_source if case.standing.product is not None else "")


def _not_certified(case: _Case) -> Iterator[AuditFinding]:
    known = case.standing.product is not None and not case.standing.product.why
    if known and case.standing.fitting and not certified_by(case.standing):
        lists = "; ".join(f"{each.name}: {each.source}" for each in lifecycle().certifiers)
        message = f"{case.name} is on no list of certified guests that the audit knows"
        yield case.says(
            "support.not-certified", message, seen=Evidence(EvidenceKind.DATA, f"{FOLDER}/{CERTIFIED}", text=lists)
        )


def _data_old(case: _Case) -> Iterator[AuditFinding]:
    product = case.standing.product
    if product is not None and case.as_of - product.as_of > OLD:
        message = (
            f"what is said of {case.name} rests on what was published up to {_day(product.as_of)}, "
            f"{(case.as_of - product.as_of).days} days before the audit's date"
        )
        yield case.says("support.data-old", message)


def _phase(product: Product, end: date, release: Release) -> str:
    """What the phase is called that ends on a day."""
    name = product.extended_name if end == release.extended else product.standard_name
    return name or "support"


def _remedy(case: _Case, rule: str) -> str:
    return _joined(case.successor, case.rules[rule].remedy)


def _joined(*sentences: str) -> str:
    return " ".join(each for each in sentences if each)


def _day(day: date) -> str:
    return day.isoformat()
