"""The page by keyboard alone, in a very narrow window, without motion, without scripts, and without colours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.batch.report.conftest import Show, written
from tests.batch.report.samples import hostile, sample
from tests.pages.chromium import Chromium, Page, opened
from tests.pages.nesting import text_of

pytestmark = pytest.mark.xdist_group("chromium")

TAB, ENTER = ("Tab", 9), ("Enter", 13)
HAS_FOCUS = """(() => { const has = document.activeElement, style = getComputedStyle(has);
  return {what: has.id || has.hash || has.textContent.trim() || has.ariaLabel, tag: has.localName,
    seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    top: has.getBoundingClientRect().top, bottom: has.getBoundingClientRect().bottom}; })()"""
OPENED = "[...document.querySelectorAll('details.machine[open] h3')].map(each => each.textContent)"


def walked(page: Page) -> list[dict[str, object]]:
    """All that has the focus, one after the other, from the first on until the page is left."""
    found: list[dict[str, object]] = []
    while True:
        page.press(*TAB)
        has = page.value(HAS_FOCUS)
        if has["tag"] == "body" or (found and (has["what"], has["tag"]) == (found[0]["what"], found[0]["tag"])):
            return found
        found.append(has)
        assert len(found) < 500, "the focus is caught"


def test_all_that_does_something_is_reached_by_keyboard_in_the_page_s_order_and_seen(show: Show) -> None:
    page = show(sample(), 3600)
    page.value("document.documentElement.style.scrollBehavior = 'auto'")
    found = walked(page)
    tops = "[...document.querySelectorAll('main a, main button, main input, main select, main summary')]"
    wanted = page.value(f"{tops}.filter(each => each.checkVisibility()).length")
    inside = [each for each in found if each["tag"] in ("a", "button", "input", "select", "summary")]
    assert len(inside) >= wanted
    assert [each["what"] for each in found[:3]] == ["#main", "theme", "refresh"]
    assert {"search", "state", "wave", "reason", "clear", "open-all", "close-all"} <= {each["what"] for each in found}
    assert [each for each in found if not each["seen"]] == [], "where the focus is can be seen"
    assert [each for each in found if not (float(str(each["bottom"])) > 0 and float(str(each["top"])) < 900)] == []


def test_the_table_is_sorted_and_machines_are_opened_by_keyboard(show: Show) -> None:
    page = show(sample(), 3600)
    page.value("document.querySelector('#machine-table thead button').focus()")
    page.press(*ENTER)
    assert page.value("document.querySelector('#machine-table thead th').ariaSort") == "ascending"
    assert page.value("document.querySelector('#machine-table tbody th').textContent") == "files"
    page.value("document.querySelector('#machine-table tbody a').focus()")
    page.press(*ENTER)
    page.until(f"{OPENED}.length === 1")
    assert page.value(OPENED) == ["files"]
    page.value("document.querySelectorAll('details.machine summary')[1].focus()")
    page.press(*ENTER)
    page.until(f"{OPENED}.length === 2")


def test_a_window_of_320_pixels_is_wide_enough(show: Show) -> None:
    """As one of 1,280 at 400 percent; what needs two dimensions (tables, the timeline) scrolls in a box of its own."""
    for given in (sample(), hostile()):
        page = show(given, 3600)
        page.window(320, 256)
        page.value("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        assert page.value("document.documentElement.scrollWidth") <= 320
        cut = """[...document.querySelectorAll('p, li, dd, dt, h1, h2, h3, h4, label, button, select, input')]
            .filter(each => !each.closest('.scroll, .drawing, .skip') && each.checkVisibility())
            .filter(each => each.getBoundingClientRect().right > 320.5
                || each.clientWidth > 0 && each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== 'inline')
            .map(each => each.outerHTML.slice(0, 200))"""
        assert page.value(cut) == []
    page = show(sample(), 3600)
    page.window(320, 256)
    heights = "[...document.querySelectorAll('.scroll td')].filter(each => each.checkVisibility()).map(each => each.offsetHeight)"
    assert max(page.value(heights)) < 120, "no letters stand one above the other"


@pytest.mark.parametrize(("wish", "behaviour"), [("reduce", "auto"), ("no-preference", "smooth")])
def test_nothing_moves_for_who_does_not_want_it(show: Show, wish: str, behaviour: str) -> None:
    page = show(sample(), 3600)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": wish}])
    assert page.value("getComputedStyle(document.documentElement).scrollBehavior") == behaviour
    assert page.value("document.getAnimations().length") == 0


def test_without_scripts_all_of_it_is_there_in_its_order(chromium: Chromium, tmp_path: Path) -> None:
    given = sample()
    with opened(chromium, scripts=False) as page:
        page.window(1280, 900)
        page.go(written(given, tmp_path, 3600))
        titles = page.value("[...document.querySelectorAll('h2')].map(each => each.textContent)")
        seen = page.value("document.body.innerText")
        unseen = """[...document.querySelectorAll('main *')]
            .filter(each => !each.checkVisibility() && !each.closest('details, form, svg'))
            .map(each => each.outerHTML.slice(0, 100))"""
        assert page.value(unseen) == []
        assert "Open all" not in seen
        assert "Refresh every" not in seen
        page.click("details.machine summary")
        page.until("document.querySelector('details.machine').open")
    assert titles[:5] == ["Overview", "What to do first", "Under way", "Parked, and why", "What is slow, and why"]
    assert titles[-2:] == ["Boot screens", "Each machine"]
    assert "vault: its root is encrypted" in seen


def test_nothing_is_told_by_colour_alone(show: Show) -> None:
    """Each box of a drawing says in words what it is, states are words, and what failed has a line around it."""
    page = show(sample(), 3600)
    boxes = page.value("""[...document.querySelectorAll('.rows rect, .chart rect')]
        .map(each => [each.querySelector('title')?.textContent ?? '', each.getAttribute('class')])""")
    assert len(boxes) > 50
    assert [each for each in boxes if len(each[0]) < 5] == []
    assert page.value(
        "[...document.querySelectorAll('.badge, .tile dt')].every(each => /\\w{3}/.test(each.textContent))"
    )
    failed = "getComputedStyle(document.querySelector('.rows .fill-failed'))"
    plain = "getComputedStyle(document.querySelector('.rows .fill-boot'))"
    assert page.value(f"[{failed}.stroke, {plain}.stroke].map(each => each === 'none')") == [False, True]
    assert re.search(r"failed, parked|failed, to be tried again", text_of(sample().html(), " "))
