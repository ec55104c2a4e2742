"""Everything about one machine: what it is, its findings, its boot chain, its disks, the plan with its diffs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from p2v.audit.chain import Link
from p2v.audit.document import DiskAudit, MachineAudit, SupportAudit
from p2v.audit.report.finding_list import Rules, below_headings, evidence_list, rule_lists
from p2v.audit.report.limits import (
    CHAIN_LINKS,
    FINDINGS_LETTERS,
    MACHINE_FINDINGS_LETTERS,
    OPEN_MACHINES,
    PLAN_LETTERS,
    PLANS_LETTERS,
)
from p2v.audit.report.words import (
    GROUPS,
    ORIGINS,
    SUPPORT,
    VERDICTS,
    Group,
    group_of,
    support_state,
    system_name,
)
from p2v.core.units import format_seconds
from p2v.pages.markup import NOTHING, Child, Markup, element, joined, link, long_text, name_of
from p2v.pages.shares import fair_share, fitting
from p2v.pages.words import counted, size

_LINKS = {"proven": ("proven", "ready"), "broken": ("broken", "blocker")}
_NOT_SEEN = ("could not be seen", "unknown")


def anchor_of(index: int) -> str:
    """Where the machine with that place in the document stands."""
    return f"machine-{index + 1}"


@dataclass(frozen=True, slots=True)
class _Limits:
    plan: int
    findings: int


def machine_details(machines: Sequence[MachineAudit], rules: Rules) -> Iterator[Markup]:
    """An article for each machine, in the order of the document."""
    listed = [rule_lists(machine.findings, rules) for machine in machines]
    sizes = (sum(len(item.html) for _, item in items) for items in listed)
    limits = _Limits(
        fair_share((len(machine.plan) for machine in machines), PLANS_LETTERS, PLAN_LETTERS),
        fair_share(sizes, FINDINGS_LETTERS, MACHINE_FINDINGS_LETTERS),
    )
    for index, (machine, items) in enumerate(zip(machines, listed, strict=True)):
        contents = (
            _facts(machine),
            _findings(machine, items, limits.findings),
            _chain(machine.chain),
            _disks(machine.disks),
            _plan(machine.plan, limits.plan),
        )
        body = element("div", *contents, id=anchor_of(index), class_="body")
        opened = element("details", _summary(machine), body, class_="machine", open=len(machines) <= OPEN_MACHINES)
        yield joined((element("article", opened), "\n"))


def _summary(machine: MachineAudit) -> Markup:
    word, colour = VERDICTS[machine.verdict]
    counts = counts_of(machine)
    told = [group.counted(counts[group]) for group in GROUPS if counts[group]]
    return element(
        "summary",
        element("h3", name_of(machine.name)),
        " ",
        element("span", word, class_=f"badge colour-{colour}"),
        " ",
        element("span", name_of(system_name(machine)), f" · {', '.join(told) or 'no findings'}", class_="note"),
    )


def counts_of(machine: MachineAudit) -> Counter[Group]:
    """Findings by the heading that they stand below."""
    return Counter(group_of(each) for each in machine.findings)


def _findings(machine: MachineAudit, items: Sequence[tuple[Group, Markup]], limit: int) -> Markup:
    if not items:
        return element("p", "Nothing was found.")
    kept = items[: len(fitting([item for _, item in items], limit))]
    more = len(items) - len(kept)
    cut = f"Findings of {counted(more, 'more rule')} are left out here for the size of the page; the JSON document has them."
    return element(
        "div",
        below_headings(kept, counts_of(machine), "h4"),
        element("p", cut, class_="note") if more else NOTHING,
        class_="findings",
    )


def _facts(machine: MachineAudit) -> Markup:
    pairs = [(name, value) for name, value in _pairs(machine) if value not in ("", NOTHING)]
    return element(
        "dl", *(joined((element("dt", name), element("dd", value))) for name, value in pairs), class_="facts"
    )


def _pairs(machine: MachineAudit) -> Iterator[tuple[str, Child]]:
    system = machine.system
    yield "System", name_of(system_name(machine))
    if system is not None:
        yield "Edition", system.edition
        yield "Architecture", system.arch
        yield "Host name", name_of(system.hostname) if system.hostname else ""
    yield "Support", _support(machine, machine.support)
    yield "Firmware", machine.firmware
    yield "CPUs", "" if machine.cpus is None else f"{machine.cpus:,}"
    yield "Memory", "" if machine.memory_bytes is None else size(machine.memory_bytes)
    yield "Network cards", f"{machine.nics:,}"
    yield "Powered on", {None: "", True: "yes", False: "no"}[machine.powered_on]
    yield "Runs on", joined((each for each in (machine.host, machine.cluster) if each), " · ")
    yield "Rests on", ORIGINS[machine.origin]
    yield "Described by", machine.described_by
    yield "Read by", machine.read_by
    yield "Audited in", format_seconds(machine.seconds) if machine.seconds > 0 else ""


def _support(machine: MachineAudit, support: SupportAudit | None) -> Markup:
    word, colour = SUPPORT[support_state(machine)]
    parts: list[Child] = [element("span", word, class_=f"badge colour-{colour}")]
    if support is not None:
        ends = (("standard until", support.standard_end), ("extended until", support.extended_end))
        parts += [f", {name} {day}" for name, day in ends if day]
        parts += [joined((" (", link(support.source, "source"), ")"))] if support.source else []
        parts += [f". virtio drivers: {support.virtio}"] if support.virtio else []
        parts += [f". Certified by {', '.join(support.certified)}"] if support.certified else []
        parts += [f". Successor: {support.successor}"] if support.successor else []
    return joined(parts)


def _chain(links: Sequence[Link]) -> Markup:
    if not links:
        return NOTHING
    items = [element("li", *_link(each)) for each in links[:CHAIN_LINKS]]
    more = len(links) - len(items)
    items += [element("li", f"and {counted(more, 'more link')}, in the JSON document")] if more else []
    return joined((element("h4", "Boot chain"), element("ol", *items, class_="chain")))


def _link(link: Link) -> Iterator[Markup]:
    word, colour = _LINKS.get(str(link.state.value), _NOT_SEEN)
    yield joined((element("strong", link.name), " ", element("span", word, class_=f"badge colour-{colour}"), " "))
    yield element("bdi", link.message)
    yield evidence_list(link.evidence)


def _disks(disks: Sequence[DiskAudit]) -> Markup:
    if not disks:
        return NOTHING
    head = [element("th", text, scope="col") for text in ("Disk", "Format")]
    head += [element("th", text, scope="col", class_="number") for text in ("Virtual", "Allocated", "Used")]
    rows = [
        element(
            "tr",
            element("th", name_of(disk.path), scope="row"),
            element("td", disk.format),
            *(
                element("td", size(count), class_="number")
                for count in (disk.virtual_bytes, disk.allocated_bytes, disk.used_bytes)
            ),
        )
        for disk in disks
    ]
    table = element(
        "table",
        element("caption", "Disks"),
        element("thead", element("tr", *head)),
        element("tbody", *rows),
        class_="small",
    )
    return element("div", table, class_="scroll")


def _plan(plan: str, limit: int) -> Markup:
    """As one text in one element: the style of its lines is the script's, once it is opened."""
    if not plan:
        return NOTHING
    lines = plan.count("\n")
    return element(
        "details",
        element("summary", f"The plan, with its diffs ({counted(lines, 'line')})"),
        element("pre", long_text(plan, limit), tabindex=0),
        class_="plan",
    )
