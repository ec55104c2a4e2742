"""The first page: what is ready, what stands in the way, and the charts."""

from __future__ import annotations

from collections.abc import Iterator

from p2v.audit.document import AuditDocument, MachineAudit, Verdict
from p2v.audit.findings import Severity
from p2v.audit.report.figures import Space, causes, readiness, space, support_by_quarter
from p2v.audit.report.words import SEVERITIES, SUPPORT, VERDICTS
from p2v.audit.sizing.values import Sizing
from p2v.pages.charts import Figure, Row, Series, nested_bars, stacked_bars, stacked_columns
from p2v.pages.markup import Markup, element
from p2v.pages.words import counted, size

MOST_CAUSES = 15
MOST_DISKS = 12
_SPACE = (Series("Virtual size", "virtual"), Series("Allocated", "allocated"), Series("Used by file systems", "used"))


def overview(document: AuditDocument) -> Markup:
    """Tiles of verdicts and all charts that there is something to show in."""
    return element(
        "section",
        element("h2", "Overview", id="overview-title"),
        _tiles(document),
        element("div", *_charts(document), class_="charts"),
        id="overview",
        aria_labelledby="overview-title",
    )


def _tiles(document: AuditDocument) -> Markup:
    tiles = []
    for verdict, count in readiness(document.machines).items():
        word, colour = VERDICTS[verdict]
        tiles.append(
            element("div", element("dt", word), element("dd", f"{count:,}"), class_=f"tile colour-{colour}"),
        )
    return element("dl", *tiles, class_="tiles")


def _charts(document: AuditDocument) -> Iterator[Markup]:
    if document.machines:
        yield _readiness(document)
        yield _support(document)
        if any(machine.findings for machine in document.machines):
            yield _causes(document)
        yield from _disks(document)
    if document.sizing is not None:
        yield from _hosts(document.sizing)


def _readiness(document: AuditDocument) -> Markup:
    counts = readiness(document.machines)
    total = len(document.machines)
    ready = counts[Verdict.READY] + counts[Verdict.WARNINGS]
    return stacked_bars(
        Figure(
            "Readiness",
            f"{ready:,} of {counted(total, 'machine')} can be moved as they are, "
            f"{counts[Verdict.WARNINGS]:,} of them with warnings.",
            tuple(Series(*VERDICTS[verdict]) for verdict in counts),
            (Row("Machines", tuple(counts.values()), f"{total:,}"),),
            "Fleet",
        )
    )


def _support(document: AuditDocument) -> Markup:
    quarters = support_by_quarter(document)
    now, then = quarters[0].counts["ended"], quarters[-1].counts["ended"]
    unknown = quarters[0].counts["unknown"]
    told = f"{counted(now, 'machine')} out of support on {document.as_of}; {then:,} at the end of {quarters[-1].label}."
    if unknown:
        told += f" Of {unknown:,} it is not known."
    return stacked_columns(
        Figure(
            "Operating systems by support over time",
            told,
            tuple(Series(*each) for each in SUPPORT.values()),
            tuple(Row(each.label, tuple(each.counts.values())) for each in quarters),
            "End of quarter",
        )
    )


def _causes(document: AuditDocument) -> Markup:
    found = causes(document.machines)
    titles = {rule.id: rule.title for rule in document.rules}
    order = (Severity.BLOCKER, Severity.WARNING, Severity.UNKNOWN)
    rows = [
        Row(titles.get(each.rule, each.rule), tuple(each.machines.get(one, 0) for one in order), f"{each.total:,}")
        for each in found[:MOST_CAUSES]
    ]
    more = len(found) - len(rows)
    return stacked_bars(
        Figure(
            "What stands in the way most often",
            f"Machines that each rule fired for: {counted(len(found), 'rule')}"
            + (f", of which the first {MOST_CAUSES} are shown." if more else "."),
            tuple(Series(*SEVERITIES[each]) for each in order),
            tuple(rows),
            "Rule",
        )
    )


def _disks(document: AuditDocument) -> Iterator[Markup]:
    whole = space([disk for machine in document.machines for disk in machine.disks])
    if not whole.disks:
        return
    values = zip(_SPACE, (whole.virtual, whole.allocated, whole.used), strict=True)
    yield stacked_bars(
        Figure(
            "Disk space",
            f"{counted(whole.disks, 'disk')} of {size(whole.virtual)} take {size(whole.allocated)}; {_use(whole)}.",
            (Series("Bytes", "allocated"),),
            tuple(Row(each.label, (value,), size(value)) for each, value in values),
            "Kind",
            _bytes,
            note="Use is what file systems say. Where it is not known for all disks, it is that of the others alone.",
        )
    )
    with_disks = [machine for machine in document.machines if machine.disks]
    largest = sorted(with_disks, key=lambda each: (-space(each.disks).virtual, each.name))[:MOST_DISKS]
    yield nested_bars(
        Figure(
            "The largest machines",
            f"Virtual, allocated and used space of the {len(largest)} machines with the largest disks.",
            _SPACE,
            tuple(_row(machine) for machine in largest),
            "Machine",
            _bytes,
        )
    )


def _use(whole: Space) -> str:
    if not whole.known:
        return "how much of it file systems use is not known"
    where = "" if whole.known == whole.disks else f" on the {whole.known:,} whose use is known"
    return f"file systems use {size(whole.used)}{where}"


def _row(machine: MachineAudit) -> Row:
    taken = space(machine.disks)
    return Row(machine.name, (taken.virtual, taken.allocated, taken.used), size(taken.virtual))


def _bytes(value: float) -> str:
    return size(int(value))


def _hosts(sizing: Sizing) -> Iterator[Markup]:
    """What the numbers rest on stands in the section of the sizing."""
    # hosts for no machine are no answer
    sized = [each for each in sizing.hosts if each.machines]
    if not sized:
        return
    now = sizing.before
    rows = [] if now is None else [Row("Now", (now.hosts, 0), f"{now.hosts:,}")]
    told = [] if now is None else [f"{counted(now.hosts, 'host')} now."]
    for each in sized:
        rows.append(Row(f"On KVM, {each.basis.value}", (each.packed_hosts, each.spare_hosts), f"{each.total_hosts:,}"))
        told.append(
            f"{counted(each.total_hosts, 'host')} on KVM, machines {each.basis.value}, {each.spare_hosts:,} of them to spare;"
            f" no packing takes fewer than {each.lower_bound:,}."
        )
    series = (Series("Carrying machines", "allocated"), Series("To spare", "virtual"))
    note = "What this rests on is told below, under Sizing."
    yield stacked_bars(Figure("Hosts before and after", " ".join(told), series, tuple(rows), "When", note=note))
