"""Findings as lists: below headings of severity, of each rule together, with where they are to be seen and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from p2v.audit.catalogue_file import Rule
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind
from p2v.audit.report.limits import EVIDENCE_LETTERS, EVIDENCE_PIECES, RULE_FINDINGS
from p2v.audit.report.words import EVIDENCE, GROUPS, SUPPRESSED, Group, group_of
from p2v.pages.markup import NOTHING, Markup, element, joined, link, shown, with_commands
from p2v.pages.words import counted


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules that the report explains: what each says, and where in the page."""

    known: Mapping[str, Rule]
    anchors: Mapping[str, str]


def rules_of(rules: Sequence[Rule]) -> Rules:
    """Rules with an anchor each; the anchor is a number, whatever the rule's id is made of."""
    return Rules({each.id: each for each in rules}, {each.id: f"rule-{index}" for index, each in enumerate(rules)})


def rule_lists(findings: Sequence[AuditFinding], rules: Rules) -> list[tuple[Group, Markup]]:
    """All findings, the worst first: one list item for each group and rule."""
    made = []
    for group in GROUPS:
        by_rule: dict[str, list[AuditFinding]] = {}
        for each in findings:
            if group_of(each) == group:
                by_rule.setdefault(each.rule, []).append(each)
        made += [(group, _of_one_rule(rule, found, rules)) for rule, found in by_rule.items()]
    return made


def below_headings(items: Sequence[tuple[Group, Markup]], counts: Mapping[Group, int], heading: str) -> Markup:
    """Items below the headings of their groups. ``counts``: findings of each group, also of those that were cut."""
    sections = []
    for group in GROUPS:
        of_group = [item for its_group, item in items if its_group == group]
        if of_group:
            title = element(heading, f"{group.title} ({counts[group]:,})", class_=f"colour-{group.colour}")
            sections.append(joined((title, element("ul", *of_group, class_="rules"))))
    return joined(sections)


def _of_one_rule(rule: str, findings: Sequence[AuditFinding], rules: Rules) -> Markup:
    """A remedy that all of them have is said once, below them."""
    remedies = {each.remedy for each in findings}
    common = findings[0].remedy if len(remedies) == 1 else ""
    told = [element("li", *_finding(each, each.remedy if not common else "")) for each in findings[:RULE_FINDINGS]]
    more = len(findings) - len(told)
    if more:
        told.append(element("li", f"and {counted(more, 'more finding')} of this rule, in the JSON document"))
    return element(
        "li",
        element("p", _rule_title(rule, rules), class_="rule"),
        element("ul", *told, class_="found"),
        _remedy(common, findings[0]),
    )


def _rule_title(rule: str, rules: Rules) -> Markup:
    known = rules.known.get(rule)
    if known is None:
        return element("code", rule)
    return joined((link(f"#{rules.anchors[rule]}", known.title or rule), " ", element("code", rule)))


def _finding(finding: AuditFinding, remedy: str) -> Iterator[Markup]:
    yield element("p", element("bdi", finding.message))
    if group_of(finding) == SUPPRESSED:
        yield element(
            "p", element("strong", "Suppressed, because: "), element("bdi", finding.suppressed), class_="reason"
        )
    yield evidence_list(finding.evidence)
    yield _remedy(remedy, finding)


def _remedy(remedy: str, finding: AuditFinding) -> Markup:
    if not remedy:
        return NOTHING
    label = "What the conversion does: " if finding.fixed_by_conversion else "What to do: "
    return element("p", element("strong", label), element("bdi", with_commands(remedy)), class_="remedy")


def evidence_list(evidence: Sequence[Evidence]) -> Markup:
    """Where it is to be seen; the first pieces where there are very many."""
    if not evidence:
        return NOTHING
    items = [element("li", *_piece(each)) for each in evidence[:EVIDENCE_PIECES]]
    more = len(evidence) - len(items)
    if more:
        items.append(element("li", f"and {counted(more, 'more piece')} of evidence, in the JSON document"))
    return element("ul", *items, class_="evidence")


def _piece(evidence: Evidence) -> Iterator[Markup]:
    yield element("span", EVIDENCE[evidence.kind], class_="kind")
    yield joined((" ", element("code", element("bdi", shown(evidence.where, EVIDENCE_LETTERS)))))
    if evidence.line is not None:
        yield joined((f", line {evidence.line:,}",))
    if evidence.offset is not None:
        yield joined((f", byte {evidence.offset:,}",))
    if evidence.text:
        text = element("bdi", shown(evidence.text, EVIDENCE_LETTERS))
        # the source of published data is an address, and may be followed; no guest's text is
        is_source = evidence.kind is EvidenceKind.DATA
        yield joined((": ", link(evidence.text, text) if is_source else element("code", text)))
