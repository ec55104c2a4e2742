"""The table of machines with what filters it, the rules explained, and what was left aside."""

from __future__ import annotations

from collections.abc import Sequence

from p2v.audit.catalogue_file import Rule
from p2v.audit.document import AuditDocument, LeftAside, MachineAudit, Verdict
from p2v.audit.report.figures import space
from p2v.audit.report.finding_list import Rules
from p2v.audit.report.limits import NAMED_MACHINES
from p2v.audit.report.machine_details import anchor_of, counts_of
from p2v.audit.report.words import (
    GROUPS,
    SEVERITIES,
    SUPPORT,
    VERDICTS,
    support_state,
    system_name,
)
from p2v.pages.layout import choice, filter_form
from p2v.pages.markup import NOTHING, Child, Markup, element, joined, link, name_of
from p2v.pages.words import counted, size

_COLUMNS = (
    ("Machine", False),
    ("Verdict", True),
    ("System", False),
    ("Support", True),
    ("Blockers", True),
    ("Warnings", True),
    ("Unknown", True),
    ("CPUs", True),
    ("Memory", True),
    ("Virtual", True),
    ("Allocated", True),
    ("Used", True),
)
"""Columns, and whether they sort by a number."""


def controls(document: AuditDocument) -> Markup:
    """What filters. Hidden until the script is there to do it."""
    used = {each.rule for machine in document.machines for each in machine.findings}
    rules = [(str(index), rule.title or rule.id) for index, rule in enumerate(document.rules) if rule.id in used]
    return filter_form(
        choice("Verdict", "verdict", [(str(index), VERDICTS[each][0]) for index, each in enumerate(Verdict)]),
        choice("Support", "support", [(str(index), each[0]) for index, each in enumerate(SUPPORT.values())]),
        choice("Rule", "rule", sorted(rules, key=lambda each: each[1].lower())),
    )


def machine_table(machines: Sequence[MachineAudit], rules: Sequence[Rule]) -> Markup:
    """One row a machine; its name leads to its details."""
    places = {rule.id: index for index, rule in enumerate(rules)}
    head = [
        element("th", text, scope="col", data_numeric=numeric, class_="number" if numeric and index > 3 else None)
        for index, (text, numeric) in enumerate(_COLUMNS)
    ]
    rows = [_row(index, machine, places) for index, machine in enumerate(machines)]
    table = element(
        "table",
        element("caption", f"All {counted(len(machines), 'machine')}"),
        element("thead", element("tr", *head)),
        element("tbody", joined(rows)),
        id="machine-table",
    )
    return element("div", table, class_="scroll tall", tabindex=0, role="region", aria_label="Table of machines")


def _row(index: int, machine: MachineAudit, places: dict[str, int]) -> Markup:
    verdict, colour = VERDICTS[machine.verdict]
    support = support_state(machine)
    support_word, support_colour = SUPPORT[support]
    taken, counts = space(machine.disks), counts_of(machine)
    rules = sorted({places[each.rule] for each in machine.findings if each.rule in places})
    numbers = [(counts[group], f"{counts[group]:,}") for group in GROUPS[:3]]
    numbers.append((-1, "–") if machine.cpus is None else (machine.cpus, f"{machine.cpus:,}"))
    sizes = (
        machine.memory_bytes,
        taken.virtual if taken.disks else None,
        taken.allocated if taken.disks else None,
        taken.used,
    )
    numbers += [(-1 if count is None else count, size(count)) for count in sizes]
    order = list(Verdict).index(machine.verdict)
    support_order = list(SUPPORT).index(support)
    return element(
        "tr",
        element("th", link(f"#{anchor_of(index)}", name_of(machine.name)), scope="row"),
        element("td", element("span", verdict, class_=f"badge colour-{colour}"), data_sort=order),
        element("td", name_of(system_name(machine))),
        element("td", element("span", support_word, class_=f"badge colour-{support_colour}"), data_sort=support_order),
        *(element("td", text, data_sort=value, class_="number") for value, text in numbers),
        data_rules=" ".join(map(str, rules)),
    )


def rule_section(document: AuditDocument, rules: Rules) -> Markup:
    """Each rule that fired: what it means, what it wants to see, what to do, and for which machines it fired."""
    machines: dict[str, list[tuple[int, MachineAudit]]] = {}
    for index, machine in enumerate(document.machines):
        for rule in {each.rule for each in machine.findings}:
            machines.setdefault(rule, []).append((index, machine))
    return joined(_rule(rule, rules.anchors[rule.id], machines.get(rule.id, ())) for rule in document.rules)


def _rule(rule: Rule, anchor: str, machines: Sequence[tuple[int, MachineAudit]]) -> Markup:
    word, colour = SEVERITIES[rule.severity]
    pairs: list[tuple[str, Child]] = [
        ("Means", rule.meaning),
        ("Is seen in", rule.evidence),
        ("What to do", rule.remedy),
    ]
    pairs.append(("Conversion", "sets it right by itself" if rule.fixed_by_conversion else "does not change it"))
    option = element("code", f"--suppress '{rule.id}=REASON'")
    pairs.append(
        ("Suppress", joined((option, f", for one machine {rule.id}@NAME=REASON; the reason stays in the report")))
    )
    return element(
        "article",
        element(
            "h3", rule.title, " ", element("code", rule.id), " ", element("span", word, class_=f"badge colour-{colour}")
        ),
        element(
            "dl",
            *(joined((element("dt", name), element("dd", value))) for name, value in pairs if value),
            class_="facts",
        ),
        _machines(machines),
        id=anchor,
        class_="rule",
    )


def _machines(machines: Sequence[tuple[int, MachineAudit]]) -> Markup:
    if not machines:
        return NOTHING
    items = [
        element("li", link(f"#{anchor_of(index)}", name_of(machine.name)))
        for index, machine in machines[:NAMED_MACHINES]
    ]
    more = len(machines) - len(items)
    items += [element("li", f"and {more:,} more: choose the rule above the table")] if more else []
    return element(
        "details",
        element("summary", f"Fired for {counted(len(machines), 'machine')}"),
        element("ul", *items, class_="names"),
    )


def suppressed_count(document: AuditDocument) -> int:
    """Findings that somebody gave a reason for."""
    every = [*document.fleet, *(each for machine in document.machines for each in machine.findings)]
    return sum(bool(each.suppressed) for each in every)


def left_aside_table(left: Sequence[LeftAside]) -> Markup:
    """What was named or found and is no machine's."""
    if not left:
        return element("p", "Nothing was left aside.")
    rows = [
        element("tr", element("th", name_of(each.path), scope="row"), element("td", element("bdi", each.why)))
        for each in left
    ]
    table = element(
        "table",
        element("caption", "Left aside"),
        element("thead", element("tr", element("th", "Path", scope="col"), element("th", "Why", scope="col"))),
        element("tbody", joined(rows)),
    )
    return element("div", table, class_="scroll")
