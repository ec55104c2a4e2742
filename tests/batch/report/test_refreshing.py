"""An open page that loads itself anew: it does not flicker, keeps what its reader had, waits for printers, says when it is old."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.batch.jobs import State
from tests.batch.report.conftest import Show, written
from tests.batch.report.samples import fleet, sample
from tests.batch.report.watching import A_WHILE, drawn, eventually, load_anew
from tests.pages.chromium import PATIENCE_SECONDS, Page, printed_by_command

pytestmark = pytest.mark.xdist_group("chromium")

IS_DUE = "document.getElementById('refreshing').dataset.seconds = 0"
AGE = "document.getElementById('age').value"


def text_of(pdf: Path) -> str:
    command: list[str | Path] = ["pdftotext", "-layout", pdf, "-"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_page_that_is_being_printed_stays_and_so_it_does_for_a_while(show: Show, tmp_path: Path) -> None:
    page = show(fleet(3), 3600)
    page.value("""addEventListener('afterprint', () => { window.printed = performance.now(); });
        addEventListener('pagehide', () => sessionStorage.setItem('rest', performance.now() - window.printed))""")
    page.value(IS_DUE)
    page.value("dispatchEvent(new Event('beforeprint'))")
    page.value("window.isOld = true")
    page.value("new Promise(done => setTimeout(done, 2500))")
    assert page.value("window.isOld"), "a dialog for printing is open"
    for number in range(3):
        page.pdf(tmp_path / f"{number}.pdf")
        assert "machine-0002" in text_of(tmp_path / f"{number}.pdf")
    eventually(page, "sessionStorage.getItem('rest')")
    assert float(page.value("sessionStorage.getItem('rest')")) >= 10_000


def test_a_command_that_hurries_the_clock_on_prints_a_page_that_refreshes_itself(tmp_path: Path) -> None:
    address = written(sample(), tmp_path, 2)
    printed_by_command(tmp_path, address, tmp_path / "page.pdf", budget_milliseconds=60_000)
    assert "/srv/esx/web04/web04.vmx" in text_of(tmp_path / "page.pdf")


def test_what_is_on_the_screen_does_not_move_while_a_page_is_loaded_anew(show: Show) -> None:
    page = show(fleet(400), 3600)
    page.value("document.getElementById('phases').scrollIntoView({behavior: 'instant'})")
    page.value(A_WHILE)
    place = page.value("Math.round(scrollY)")
    assert place > 1000
    near = {place - 1, place, place + 1}
    with drawn(page) as offsets:
        end = time.monotonic() + PATIENCE_SECONDS
        # what was drawn last may be from before it was scrolled
        while not set(offsets()[-1:]) & near:
            assert time.monotonic() < end
        before = len(offsets())
        load_anew(page, offsets)
        rest = time.monotonic() + 0.5
        while time.monotonic() < rest:
            offsets()
        found = set(offsets()[before:])
    assert found
    assert found <= near


def test_marked_words_and_the_focus_are_kept_also_where_rows_have_another_order(show: Show, tmp_path: Path) -> None:
    given = fleet(30)
    page = show(given, 3600)
    page.value("""(() => { const link = document.querySelector("#machine-table a[href='#job-20']");
        getSelection().setBaseAndExtent(link.querySelector('bdi').firstChild, 2, link.querySelector('bdi').firstChild, 9);
        link.focus({preventScroll: true}); })()""")
    marked = "getSelection().toString()"
    has = "document.activeElement.hash + ' ' + document.activeElement.closest('[id]').id"
    before = page.value(marked), page.value(has), page.value("document.activeElement.closest('tr').rowIndex")
    assert before[:2] == ("chine-0", "#job-20 machine-table")
    others = [replace(job, state=State.PARKED) if 22 <= number < 27 else job for number, job in enumerate(given.jobs)]
    written(replace(given, jobs=tuple(others)), tmp_path, 3600)
    load_anew(page)
    assert page.value(has) == before[1]
    assert page.value(marked) == before[0]
    assert page.value("getSelection().anchorNode.parentElement.closest('tr').cells[0].textContent") == "machine-0019"
    assert page.value("document.activeElement.closest('tr').rowIndex") > before[2], "it is another place"
    page.value("getSelection().selectAllChildren(document.querySelector('#slow-title'))")
    load_anew(page)
    assert page.value(marked) == "What is slow, and why"
    page.value("getSelection().selectAllChildren(document.querySelector('header p'))")
    written(replace(given, now=given.now + 60), tmp_path, 3600)
    load_anew(page)
    assert page.value(marked) == "", "other words stand there"


def test_a_page_says_since_when_nobody_told_it_anything(show: Show) -> None:
    page = show(replace(sample(), now=time.time() - 600), 60)
    assert page.value(AGE).startswith("Last told 10 min ago: the run may have ended")
    page.click("#refresh")
    eventually(page, f"{AGE} === 'Last told 10 min ago: it is not refreshed.'")
    assert "3 h ago" in show(replace(sample(), now=time.time() - 3 * 3600), 60).value(AGE)
    assert show(replace(sample(), now=time.time()), 60).value(AGE) == ""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a plain web server for a folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(PATIENCE_SECONDS)
        server.server_close()


def test_a_page_from_a_plain_web_server_loads_itself_anew_and_asks_for_nothing_else(page: Page, tmp_path: Path) -> None:
    written(fleet(5), tmp_path, 1)
    os.utime(tmp_path / "batch.html", (0, 1_700_000_000))
    with served(tmp_path) as address:
        page.go(f"{address}/batch.html")
        page.value("document.getElementById('search').value = 'web'")
        written(sample(), tmp_path, 1)
        eventually(page, "document.title.startsWith('10 of 14')")
        page.value(A_WHILE)
        assert page.value("document.getElementById('search').value") == "web"
        assert {each for each in page.requests if not each.startswith("data:")} == {f"{address}/batch.html"}
        assert page.problems == []
        page.call("Page.navigate", url="about:blank")
