"""The page in a real browser: it filters, refreshes itself and stays as it was, prints, and no text takes it over."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.batch.jobs import State
from tests.batch.report.conftest import Show, written
from tests.batch.report.samples import Sample, batch_of, fleet, hostile, sample
from tests.batch.report.watching import A_WHILE, eventually, load_anew
from tests.pages.browsing import LANDMARKS, accessibility_tree, require_headings_in_order
from tests.pages.chromium import Chromium, Page, opened
from tests.pages.hostile import HOSTILE
from tests.pages.seeing import CONTRAST

pytestmark = pytest.mark.xdist_group("chromium")

EMPTY = Sample(batch_of(()), (), (), {})
SHOWN = (
    "[...document.querySelectorAll('#machine-table tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].textContent)"
)
ROWS = "[...document.querySelectorAll('.rows li')].filter(r => !r.hidden).map(r => r.querySelector('a').textContent)"
PARKED = (
    "[...document.querySelectorAll('.failures > li')].filter(r => !r.hidden).map(r => r.querySelector('a').textContent)"
)
OPENED = "[...document.querySelectorAll('details.machine[open] h3')].map(each => each.textContent)"
OPEN_EVERYTHING = "document.querySelectorAll('details').forEach(each => { each.open = true; })"


def choose(page: Page, field: str, label: str) -> None:
    page.value(
        f"""(() => {{
            const field = document.getElementById({field!r});
            field.value = [...field.options].find(each => each.text === {label!r}).value;
            field.dispatchEvent(new Event("input", {{bubbles: true}}));
        }})()"""
    )


@pytest.mark.parametrize("given", [sample(), hostile(), fleet(20), EMPTY], ids=["sample", "hostile", "fleet", "empty"])
def test_no_errors_in_the_console_and_nothing_asked_of_a_network(show: Show, given: Sample) -> None:
    page = show(given, 3600)
    page.value(OPEN_EVERYTHING)
    page.value(A_WHILE)
    assert page.problems == []
    assert [each for each in page.requests if not each.startswith("data:")] == [page.value("location.href")]


def test_texts_from_others_stay_texts(show: Show) -> None:
    page = show(hostile())
    assert page.value("window.hacked") is None
    assert page.value("document.scripts.length") == 1
    made = "iframe, object, embed, plaintext, textarea, [onerror], [onload], [onmouseover], img:not([src^='data:image/png'])"
    assert page.value(f'document.querySelectorAll("{made}").length') == 0
    assert page.value("[...document.links].every(each => each.protocol === 'file:')")
    assert len(page.value(SHOWN)) == len(HOSTILE)


def test_boot_screens_are_seen(show: Show) -> None:
    page = show(sample())
    page.until("[...document.images].every(each => each.complete)")
    assert page.value("[...document.images].map(each => each.naturalWidth)") == [160] * 5
    assert page.value("[...document.images].every(each => each.alt.length > 20)")


@pytest.mark.parametrize(
    ("field", "label", "names"),
    [
        ("state", "Parked", ["vault", "old-nt"]),
        ("state", "Converted, not verified", ["print"]),
        ("wave", "1", ["later"]),
        ("reason", "not-booted", ["old-nt"]),
    ],
)
def test_choices_filter_all_that_stands_about_a_machine(show: Show, field: str, label: str, names: list[str]) -> None:
    page = show(sample())
    assert len(page.value(ROWS)) == 11
    choose(page, field, label)
    assert page.value(SHOWN) == names
    assert page.value(ROWS) == [each for each in names if each != "later"]
    assert page.value(PARKED) == [each for each in names if each in ("vault", "old-nt")]
    page.click("#clear")
    assert len(page.value(ROWS)) == 11


def test_search_looks_into_warnings_and_failures(show: Show) -> None:
    page = show(sample())
    page.click("#search")
    page.call("Input.insertText", text="names a disk by its path")
    assert page.value(SHOWN) == ["files"]


def test_a_link_of_the_timeline_opens_the_machine(show: Show) -> None:
    page = show(sample())
    page.click(".rows li:nth-child(3) a")
    page.until(f"{OPENED}.length")
    assert page.value(OPENED) == ["web02"]


def test_a_page_that_is_loaded_anew_stays_as_it_was(show: Show, tmp_path: Path) -> None:
    given = fleet(60)
    page = show(given, 3600)
    choose(page, "state", "Converted and verified")
    page.value("document.querySelectorAll('#machine-table thead button')[7].click()")
    page.click("#theme")
    page.value("document.querySelectorAll('.chart details')[1].open = true")
    page.value("document.documentElement.style.scrollBehavior = 'auto'")
    page.value("location.hash = '#job-40'")
    page.until(f"{OPENED}.length")
    page.value("scrollBy({top: 17, behavior: 'instant'})")
    page.value(A_WHILE)
    page.value("document.querySelector('.rows').closest('.scroll').scrollTop = 55")
    page.value("document.getElementById('state').focus({preventScroll: true})")
    look = f"""({{shown: {SHOWN}, open: {OPENED}, theme: document.documentElement.dataset.theme,
        focus: document.activeElement.id,
        top: Math.round(document.getElementById('job-40').getBoundingClientRect().top),
        state: document.getElementById('state').value,
        charts: [...document.querySelectorAll('.chart details')].map(each => each.open),
        sorted: document.querySelectorAll('#machine-table thead th')[7].ariaSort,
        rows: document.querySelector('.rows').closest('.scroll').scrollTop}})"""
    before = page.value(look)
    assert abs(before["top"]) < 200, "it is where the link leads"
    cancelled = tuple(
        replace(job, state=State.PARKED) if number == 20 else job for number, job in enumerate(given.jobs)
    )
    written(replace(given, jobs=cancelled), tmp_path, 3600)
    load_anew(page)
    after = page.value(look)
    assert set(before["shown"]) - set(after["shown"]) == {"machine-0020"}, "the new page is there"
    assert after["shown"] == [each for each in before["shown"] if each != "machine-0020"]
    assert abs(before["top"] - after["top"]) <= 2
    assert before["open"] == after["open"] == ["machine-0039"]
    for name in ("theme", "focus", "state", "charts", "rows", "sorted"):
        assert before[name] == after[name], name
    assert page.problems == []


def test_an_open_page_loads_itself_anew(show: Show, tmp_path: Path) -> None:
    page = show(fleet(20), 1)
    written(sample(), tmp_path, 1)
    eventually(page, "document.title.startsWith('10 of 14')")


def test_whoever_stops_the_refreshing_is_left_alone(show: Show) -> None:
    page = show(fleet(3), 3600)
    page.click("#refresh")
    page.value("window.isOld = true")
    hurry = "document.getElementById('refreshing').dataset.seconds = 0"
    page.value(hurry)
    page.value("new Promise(done => setTimeout(done, 4500))")
    assert page.value("window.isOld")
    load_anew(page)
    assert page.value("document.getElementById('refresh').checked") is False, "it is remembered"
    page.value("window.isOld = true")
    page.click("#refresh")
    page.value(hurry)
    eventually(page, "!window.isOld")


def test_whoever_has_words_marked_is_not_disturbed(show: Show) -> None:
    page = show(fleet(3), 3600)
    page.value("getSelection().selectAllChildren(document.querySelector('h1'))")
    page.value("window.isOld = true")
    page.value("document.getElementById('refreshing').dataset.seconds = 0")
    page.click("#search")
    page.value("getSelection().selectAllChildren(document.querySelector('h1'))")
    page.value("new Promise(done => setTimeout(done, 4500))")
    assert page.value("window.isOld")
    page.value("getSelection().removeAllRanges()")
    eventually(page, "!window.isOld")


def test_an_ended_batch_s_page_stays(show: Show) -> None:
    page = show(fleet(3))
    assert page.value("document.getElementById('refresh')") is None
    assert page.value("document.querySelector('meta[http-equiv=refresh]')") is None


def test_without_scripts_it_is_loaded_anew_too(chromium: Chromium, tmp_path: Path) -> None:
    with opened(chromium, scripts=False) as page:
        page.go(written(fleet(20), tmp_path, 1))
        written(sample(), tmp_path, 1)
        eventually(page, "document.title.startsWith('10 of 14')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_charts_have_the_contrast_that_wcag_asks_for(show: Show, scheme: str) -> None:
    page = show(sample(), 3600)
    page.window(1280, 900, scheme)
    page.value(OPEN_EVERYTHING)
    found = page.value(CONTRAST)
    assert len(found["texts"]) > 20
    assert [each for each in found["texts"] if each[1] < 4.5] == []
    figures = [each for each in found["figures"] if each[0] != "rest"]
    colours = {
        "copy",
        "rewrite",
        "boot",
        "finish",
        "other",
        "failed",
    }
    assert {f"fill-{each}" for each in colours} <= {each[0] for each in figures}
    assert [each for each in figures if each[1] < 3] == []


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_the_page_itself_never_scrolls_sideways(show: Show, width: int) -> None:
    for given in (sample(), hostile()):
        page = show(given, 3600)
        page.window(width, 800)
        page.value(OPEN_EVERYTHING)
        assert page.value("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [700, 980])
def test_nothing_runs_out_of_its_frame_or_off_the_paper(show: Show, width: int) -> None:
    page = show(sample())
    page.window(width, 1000)
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.value("document.documentElement.scrollWidth") <= width
    out = """[...document.querySelectorAll('.chart, .body, .screens figure')]
        .flatMap(frame => [...frame.querySelectorAll('table, pre, svg, p, img')]
        .filter(each => each.getBoundingClientRect().right > frame.getBoundingClientRect().right)).map(each => each.textContent)"""
    assert page.value(out) == []


def test_what_the_accessibility_tree_says(show: Show) -> None:
    page = show(sample(), 3600)
    told = accessibility_tree(page)
    roles = {role for role, _ in told}
    assert LANDMARKS | {"checkbox"} <= roles
    pictures = [name for role, name in told if role in ("image", "img")]
    assert any("copy: 15 min 00 s" in each for each in pictures), "a line of the timeline is told in words"
    assert [each for each in pictures if len(each) < 10] == []
    headings = {name for role, name in told if role == "heading"}
    assert {job.machine.name for job in sample().jobs} <= headings, "also of machines that are out of sight"
    named = ("button", "link", "searchbox", "combobox", "region", "table", "checkbox", "figure")
    assert [role for role, name in told if role in named and not name] == []


def test_headings_leave_no_level_out(show: Show) -> None:
    require_headings_in_order(show(sample()))


@pytest.mark.parametrize("scripts", [True, False])
def test_everything_is_printed_also_what_is_closed(chromium: Chromium, tmp_path: Path, scripts: bool) -> None:
    with opened(chromium, scripts=scripts) as page:
        page.go(written(sample(), tmp_path, 3600))
        page.pdf(tmp_path / "batch.pdf")
    command: list[str | Path] = ["pdftotext", "-layout", tmp_path / "batch.pdf", "-"]
    text = " ".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    for job in sample().jobs:
        assert f"{job.machine.sources[0]}" in text
    assert "/etc/fstab names a disk by its path" in text
    assert "Open all" not in text
    assert "Refresh every" not in text
    images: list[str | Path] = ["pdfimages", "-list", tmp_path / "batch.pdf"]
    listed = subprocess.run(images, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len([each for each in listed if " image " in each]) >= 2, "screens are printed"


def test_a_thousand_machines_load_and_filter(show: Show) -> None:
    given = fleet(1000)
    assert len(given.html(3600).encode()) < 6_000_000
    page = show(given, 3600)
    assert len(page.value(SHOWN)) == 1000
    assert len(page.value(ROWS)) == 900
    choose(page, "state", "Parked")
    assert len(page.value(SHOWN)) == len(page.value(ROWS)) == 18
    page.click("#clear")
    page.click("#search")
    page.call("Input.insertText", text="machine-0777")
    page.until(f"{SHOWN}.length === 1")
    assert page.problems == []
