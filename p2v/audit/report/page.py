"""The whole page: head, sections in order, foot."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib import resources

from p2v.audit.document import AuditDocument, MachineAudit, Verdict
from p2v.audit.report.finding_list import Rules, below_headings, rule_lists, rules_of
from p2v.audit.report.limits import FINDINGS_LETTERS, fitting
from p2v.audit.report.machine_details import machine_details
from p2v.audit.report.markup import NOTHING, Markup, element, joined, link, page
from p2v.audit.report.overview import overview
from p2v.audit.report.sizing_section import sizing_blocks
from p2v.audit.report.tables import controls, left_aside_table, machine_table, rule_section, suppressed_count
from p2v.audit.report.words import counted, group_of

TITLE = "Audit before moving to KVM"
_EVERYTHING_OPEN = "details::details-content{content-visibility:visible;block-size:auto}"


def report_html(document: AuditDocument) -> str:
    """The report as one HTML file: UTF-8, nothing outside of itself, no script of anybody else's."""
    rules = rules_of(document.rules)
    document = replace(document, machines=tuple(sorted(document.machines, key=_badness)))
    sections = [
        overview(document),
        _section(
            "machines", "Machines", controls(document), _status(), machine_table(document.machines, document.rules)
        ),
        _section("fleet", "The fleet together", _fleet(document, rules)),
        _section("sizing", "Sizing", *sizing_blocks(document.sizing)) if document.sizing else NOTHING,
        _section("details", "Each machine", *machine_details(document.machines, rules)),
        _section("rules", "The rules that fired", rule_section(document, rules)),
        _section("left-aside", "Left aside", left_aside_table(document.left_aside)),
    ]
    body = joined(
        (
            element("a", "Skip to the overview", href="#main", class_="skip"),
            _header(document),
            _contents(document),
            element("main", *sections, id="main", tabindex=-1),
            element("footer", element("p", f"Made by p2v {document.suite_version}. Schema {document.schema}.")),
        ),
        "\n",
    )
    return page(f"{TITLE}, {document.as_of}", (_data("report.css"),), _EVERYTHING_OPEN, _data("report.js"), body)


def _badness(machine: MachineAudit) -> int:
    """Machines are shown the worst first, otherwise in the order of the audit."""
    return list(Verdict).index(machine.verdict)


def _data(name: str) -> str:
    return resources.files("p2v.audit.report").joinpath(name).read_text("utf-8")


def _header(document: AuditDocument) -> Markup:
    told = [counted(len(document.machines), "machine"), f"judged as of {document.as_of}"]
    suppressed = suppressed_count(document)
    told += [f"{counted(suppressed, 'finding')} suppressed with a reason"] if suppressed else []
    return element(
        "header",
        element("h1", TITLE),
        element("p", " · ".join(told)),
        element("button", "Dark or light", type="button", id="theme", hidden=True),
    )


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
    there = [each for each in _SECTIONS if document.sizing or each[0] != "sizing"]
    items = [element("li", link(f"#{anchor}", text)) for anchor, text in there]
    return element("nav", element("ul", *items), aria_label="Sections")


def _status() -> Markup:
    """Said aloud by screen readers whenever the filter has changed it."""
    return element("p", element("output", id="status", for_="search verdict support rule"), class_="status")


def _section(anchor: str, title: str, *contents: Markup) -> Markup:
    heading = element("h2", title, id=f"{anchor}-title")
    return element("section", heading, *contents, id=anchor, aria_labelledby=f"{anchor}-title")


def _fleet(document: AuditDocument, rules: Rules) -> Markup:
    if not document.fleet:
        return element("p", "Nothing that only several machines together show.")
    items = rule_lists(document.fleet, rules)
    kept = items[: len(fitting([item for _, item in items], FINDINGS_LETTERS))]
    cut = element("p", "More are in the JSON document.", class_="note") if len(kept) < len(items) else NOTHING
    return joined((below_headings(kept, Counter(map(group_of, document.fleet)), "h3"), cut))
