"""The report in a real browser: it filters, sorts, opens, prints, asks for nothing, and is not taken over by a guest's texts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from p2v.audit.document import AuditDocument
from p2v.audit.report import report_html
from tests.audit.documents import AGENT, RULES, fleet, hostile, sample
from tests.audit.report.conftest import Show, written
from tests.pages.browsing import LANDMARKS, accessibility_tree, require_headings_in_order
from tests.pages.chromium import Chromium, ChromiumFailed, Page, opened
from tests.pages.hostile import HOSTILE
from tests.pages.seeing import CONTRAST

pytestmark = pytest.mark.xdist_group("chromium")

ENTER = ("Enter", 13)
TAB = ("Tab", 9)
SHOWN = (
    "[...document.querySelectorAll('#machine-table tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].textContent)"
)
ARTICLES = (
    "[...document.querySelectorAll('article:has(details.machine)')].filter(a => !a.hidden)"
    ".map(a => a.querySelector('h3').textContent)"
)


def choose(page: Page, field: str, label: str) -> None:
    page.value(
        f"""(() => {{
            const field = document.getElementById({field!r});
            field.value = [...field.options].find(each => each.text === {label!r}).value;
            field.dispatchEvent(new Event("input", {{bubbles: true}}));
        }})()"""
    )


def search(page: Page, words: str) -> None:
    page.click("#search")
    page.value("document.getElementById('search').select()")
    page.call("Input.insertText", text=words)


@pytest.mark.parametrize(
    "document",
    [sample(), hostile(), fleet(20), AuditDocument(sample().as_of, ())],
    ids=["sample", "hostile", "fleet", "empty"],
)
def test_no_errors_in_the_console_and_nothing_asked_of_a_network(show: Show, document: AuditDocument) -> None:
    page = show(document)
    page.value("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    page.value("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
    assert page.problems == []
    assert [each for each in page.requests if not each.startswith("data:")] == [page.value("location.href")]


def test_a_policy_that_scripts_of_others_cannot_pass(show: Show) -> None:
    """The test of the test above: what a hostile text would try is seen there."""
    page = show(sample())
    page.value(
        "document.body.append(Object.assign(document.createElement('img'), {src: 'https://example.org/seen.png'}))"
    )
    with pytest.raises(ChromiumFailed):
        page.value("document.body.innerHTML = '<b>no</b>'")
    page.value("new Promise(done => setTimeout(done, 50))")
    assert any("Content Security Policy" in str(each) for each in page.problems)


def test_texts_from_guests_stay_texts(show: Show) -> None:
    page = show(hostile())
    assert page.value("window.hacked") is None
    assert page.value("document.scripts.length") == 1
    made = "img, iframe, object, embed, plaintext, textarea, [onerror], [onload], [onmouseover]"
    assert page.value(f"document.querySelectorAll('{made}').length") == 0
    assert page.value("[...document.links].every(each => each.protocol === 'file:' || each.protocol === 'https:')")
    names = page.value(SHOWN)
    assert names[0] == HOSTILE[0]
    assert "abc\\u202egpj.exe\\u2066\\u200f\\ufeff" in names
    assert "\\x80\\xff\\ud800" in names
    assert all(each.isprintable() for each in names)


def test_search_looks_into_names_systems_and_findings(show: Show) -> None:
    page = show(sample())
    search(page, "vioscsi")
    assert page.value(SHOWN) == page.value(ARTICLES) == ["dc-2012"]
    assert page.value("document.getElementById('status').value") == "1 of 4 machines are shown"
    search(page, "DEBIAN 12")
    assert page.value(SHOWN) == ["web01", "print"]
    page.click("#clear")
    assert len(page.value(SHOWN)) == len(page.value(ARTICLES)) == 4
    search(page, "no such thing")
    assert page.value(SHOWN) == []


@pytest.mark.parametrize(
    ("field", "label", "names"),
    [
        ("verdict", "Blocked", ["web01"]),
        ("verdict", "Ready", ["print"]),
        ("support", "Support ended", ["dc-2012"]),
        ("support", "Not known", ["vault"]),
        ("rule", AGENT.title, ["web01", "dc-2012"]),
    ],
)
def test_choices_filter(show: Show, field: str, label: str, names: list[str]) -> None:
    page = show(sample())
    choose(page, field, label)
    assert page.value(SHOWN) == page.value(ARTICLES) == names


def test_headers_sort_by_keyboard_and_say_so(show: Show) -> None:
    page = show(sample())
    sorts = "[...document.querySelectorAll('thead th')].map(each => each.ariaSort)"
    page.value("document.querySelectorAll('#machine-table thead button')[9].focus()")
    page.press(*ENTER)
    assert page.value(SHOWN) == ["print", "vault", "web01", "dc-2012"]
    page.press(*ENTER)
    assert page.value(SHOWN) == ["dc-2012", "web01", "vault", "print"]
    assert [each for each in page.value(sorts) if each] == ["descending"]
    page.click("#machine-table thead th:first-child button")
    assert page.value(SHOWN) == ["dc-2012", "print", "vault", "web01"]
    assert page.value("document.querySelector('#machine-table thead th').ariaSort") == "ascending"
    page.click("#machine-table thead th:nth-child(2) button")
    assert page.value(SHOWN) == ["web01", "vault", "dc-2012", "print"], (
        "verdicts sort by how bad they are, not by their letters"
    )


OPENED = "[...document.querySelectorAll('details.machine[open] h3')].map(each => each.textContent)"


def test_a_link_opens_a_machine_also_when_it_was_filtered_out(show: Show) -> None:
    page = show(fleet(20))
    names = page.value(SHOWN)
    assert page.value(OPENED) == []
    page.click("#machine-table tbody tr:nth-child(3) a")
    page.until(f"{OPENED}.length")
    assert page.value(OPENED) == [names[2]]
    search(page, names[1])
    assert page.value(SHOWN) == [names[1]]
    page.value("location.hash = '#machine-8'")
    page.until(f"{OPENED}.length === 2")
    assert page.value(OPENED) == [names[2], names[7]]
    assert len(page.value(SHOWN)) == 20


def test_machines_are_shown_the_worst_first(show: Show) -> None:
    page = show(sample())
    assert page.value(SHOWN) == page.value(ARTICLES) == ["web01", "vault", "dc-2012", "print"]


def test_open_all_and_close_all_mean_those_that_are_shown(show: Show) -> None:
    page = show(fleet(12))
    search(page, "machine-0003")
    page.click("#open-all")
    assert page.value("document.querySelectorAll('details.machine[open]').length") == 1
    page.click("#clear")
    page.click("#close-all")
    assert page.value("document.querySelectorAll('details.machine[open]').length") == 0


BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def test_dark_and_light_follow_the_reader_and_the_toggle(show: Show) -> None:
    page = show(sample())
    light = page.value(BACKGROUND)
    page.window(1280, 900, "dark")
    dark = page.value(BACKGROUND)
    assert light != dark
    page.click("#theme")
    assert page.value(BACKGROUND) == light
    page.click("#theme")
    assert page.value(BACKGROUND) == dark


def test_lines_of_a_diff_are_coloured_when_the_plan_is_opened(show: Show) -> None:
    page = show(sample())
    text = "r.startContainer.data.slice(r.startOffset, r.endOffset)"
    coloured = f"[...CSS.highlights].map(([name, ranges]) => [name, [...ranges].map(r => {text})])"
    assert page.value(coloured) == []
    page.click(".plan summary")
    page.until("CSS.highlights.size")
    found = dict(page.value(coloured))
    assert found["added"] == ["   +UUID=5f3c / ext4 defaults 0 1"]
    assert found["removed"][0] == "   -/dev/sda1 / ext4 defaults 0 1"
    assert len(found["removed"]) == 2, "what is below Warnings is no diff"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_charts_have_the_contrast_that_wcag_asks_for(show: Show, scheme: str) -> None:
    page = show(sample())
    page.window(1280, 900, scheme)
    found = page.value(CONTRAST)
    assert len(found["texts"]) > 20
    assert [each for each in found["texts"] if each[1] < 4.5] == []
    assert {each[0] for each in found["figures"]} >= {
        "fill-blocker",
        "fill-warning",
        "fill-unknown",
        "fill-ready",
        "fill-used",
    }
    assert [each for each in found["figures"] if each[1] < 3] == []


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_the_page_itself_never_scrolls_sideways(show: Show, width: int) -> None:
    for document in (sample(), hostile()):
        page = show(document)
        page.window(width, 800)
        page.value("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        assert page.value("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [700, 980])
def test_nothing_runs_out_of_its_frame_or_off_the_paper(show: Show, width: int) -> None:
    page = show(sample())
    page.window(width, 1000)
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.value("document.documentElement.scrollWidth") <= width
    out = """[...document.querySelectorAll('.chart, .body')].flatMap(frame => [...frame.querySelectorAll('table, pre, svg, p')]
        .filter(each => each.getBoundingClientRect().right > frame.getBoundingClientRect().right)).map(each => each.textContent)"""
    assert page.value(out) == []


def test_the_keyboard_reaches_the_skip_link_first_and_sees_where_it_is(show: Show) -> None:
    page = show(sample())
    page.press(*TAB)
    assert page.value("document.activeElement.className") == "skip"
    assert page.value("document.activeElement.getBoundingClientRect().left") >= 0
    assert page.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press(*ENTER)
    page.press(*TAB)
    assert page.value("document.activeElement.closest('main') !== null")


def test_what_the_accessibility_tree_says(show: Show) -> None:
    page = show(sample())
    told = accessibility_tree(page)
    roles = {role for role, _ in told}
    assert roles >= LANDMARKS
    pictures = [name for role, name in told if role in ("image", "img")]
    assert len(pictures) == 5
    assert all(len(name) > 30 for name in pictures)
    unnamed = [
        role
        for role, name in told
        if role in ("button", "link", "searchbox", "combobox", "region", "table") and not name
    ]
    assert unnamed == []


def test_headings_leave_no_level_out(show: Show) -> None:
    page = show(sample())
    require_headings_in_order(page)
    ids = page.value("[...document.querySelectorAll('[id]')].map(each => each.id)")
    assert len(ids) == len(set(ids))


def printed(page: Page, folder: Path) -> str:
    page.pdf(folder / "report.pdf")
    done = subprocess.run(
        ["pdftotext", "-layout", folder / "report.pdf", "-"], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("scripts", [True, False])
def test_everything_is_printed_also_what_is_closed(chromium: Chromium, tmp_path: Path, scripts: bool) -> None:
    document = fleet(8, plan_lines=5)
    with opened(chromium, scripts=scripts) as page:
        page.go(written(document, tmp_path))
        text = " ".join(printed(page, tmp_path).split())
    for machine in document.machines:
        assert machine.findings[-1].message in text
        assert machine.plan.split("\n")[-2].strip() in text
    assert "Open all" not in text


VISIBLE = "each => each.checkVisibility()"
SHUT = f"[...document.querySelectorAll('main p, main li, main td, main pre')].filter(each => !({VISIBLE})(each)).length"


def test_what_is_closed_is_told_from_what_is_open(show: Show) -> None:
    """The test of the test below."""
    assert show(fleet(8, plan_lines=5)).value(SHUT) > 100


def test_without_scripts_everything_is_visible_and_nothing_is_there_that_does_nothing(
    chromium: Chromium, tmp_path: Path
) -> None:
    document = fleet(8, plan_lines=5)
    with opened(chromium, scripts=False) as page:
        page.window(1280, 900)
        page.go(written(document, tmp_path))
        shut = page.value(SHUT)
        buttons = page.value(f"[...document.querySelectorAll('button, input, select')].filter({VISIBLE}).length")
        texts = page.value("[...document.querySelectorAll('.found p, pre')].length")
    assert shut == buttons == 0
    assert texts > 8 * 12


def test_a_thousand_machines_load_and_filter(show: Show) -> None:
    document = fleet(1000)
    assert len(report_html(document).encode()) < 25_000_000
    page = show(document)
    assert len(page.value(SHOWN)) == 1000
    search(page, "machine-0999")
    page.until(f"{SHOWN}.length === 1")  # of so many it is searched for the last letter alone
    assert page.value(SHOWN) == ["machine-0999"]
    assert page.problems == []


def test_rules_are_explained_where_findings_lead(show: Show) -> None:
    page = show(sample())
    page.click(".findings .rule a")
    page.until("location.hash")
    assert page.value("document.querySelector(location.hash).querySelector('h3').textContent").startswith(
        RULES[0].title
    )
