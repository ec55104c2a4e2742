"""The whole page: head, sections in order, foot."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from p2v.audit.document import AuditDocument, MachineAudit, Verdict
from p2v.audit.report.finding_list import Rules, below_headings, rule_lists, rules_of
from p2v.audit.report.limits import FINDINGS_LETTERS
from p2v.audit.report.machine_details import machine_details
from p2v.audit.report.overview import overview
from p2v.audit.report.sizing_section import sizing_blocks
from p2v.audit.report.tables import controls, left_aside_table, machine_table, rule_section, suppressed_count
from p2v.audit.report.words import group_of
from p2v.pages.layout import contents, filter_status, header, section, whole_page
from p2v.pages.markup import NOTHING, Markup, element, joined
from p2v.pages.shares import fitting
from p2v.pages.words import counted

TITLE = "Audit before moving to KVM"
_OWN = ("p2v.audit.report", "report.css", "report.js")


def report_html(document: AuditDocument) -> str:
    """The report as one HTML file: UTF-8, nothing outside of itself, no script of anybody else's."""
    rules = rules_of(document.rules)
    document = replace(document, machines=tuple(sorted(document.machines, key=_badness)))
    sections = [
        overview(document),
        section(
            "machines",
            "Machines",
            controls(document),
            filter_status("search verdict support rule"),
            machine_table(document.machines, document.rules),
        ),
        section("fleet", "The fleet together", _fleet(document, rules)),
        section("sizing", "Sizing", *sizing_blocks(document.sizing)) if document.sizing else NOTHING,
        section("details", "Each machine", *machine_details(document.machines, rules)),
        section("rules", "The rules that fired", rule_section(document, rules)),
        section("left-aside", "Left aside", left_aside_table(document.left_aside)),
    ]
    foot = element("footer", element("p", f"Made by p2v {document.suite_version}. Schema {document.schema}."))
    parts = (_header(document), _contents(document), element("main", *sections, id="main", tabindex=-1), foot)
    return whole_page(f"{TITLE}, {document.as_of}", _OWN, "the overview", parts)


def _badness(machine: MachineAudit) -> int:
    """Machines are shown the worst first, otherwise in the order of the audit."""
    return list(Verdict).index(machine.verdict)


def _header(document: AuditDocument) -> Markup:
    told = [counted(len(document.machines), "machine"), f"judged as of {document.as_of}"]
    suppressed = suppressed_count(document)
    told += [f"{counted(suppressed, 'finding')} suppressed with a reason"] if suppressed else []
    return header(TITLE, told)


_SECTIONS = (
    ("overview", "Overview"),
    ("machines", "Machines"),
    ("fleet", "Fleet"),
    ("sizing", "Sizing"),
    ("details", "Details"),
    ("rules", "Rules"),
    ("left-aside", "Left aside"),
)


def _contents(document: AuditDocument) -> Markup:
    return contents([each for each in _SECTIONS if document.sizing or each[0] != "sizing"])


def _fleet(document: AuditDocument, rules: Rules) -> Markup:
    if not document.fleet:
        return element("p", "Nothing that only several machines together show.")
    items = rule_lists(document.fleet, rules)
    kept = items[: len(fitting([item for _, item in items], FINDINGS_LETTERS))]
    cut = element("p", "More are in the JSON document.", class_="note") if len(kept) < len(items) else NOTHING
    return joined((below_headings(kept, Counter(map(group_of, document.fleet)), "h3"), cut))
