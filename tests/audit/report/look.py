"""What a report looks like, and how long a browser takes over a large one: for people to look at.

``python -m tests.audit.report.look FOLDER [MACHINES]`` writes pictures of the sample's report (light, dark, narrow, printed) and of
the large one into the folder, and prints times.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from p2v.audit.report import report_html
from tests.audit.documents import SIZING, fleet, sample
from tests.pages.chromium import Chromium, opened, running

_PAINT = "performance.getEntriesByName('first-contentful-paint').map(each => each.startTime)"
_LOADED = """(() => { const n = performance.getEntriesByType('navigation')[0];
  return {interactive: n.domInteractive, loaded: n.loadEventEnd, elements: document.querySelectorAll('*').length}; })()"""
_FILTER = """(() => { const field = document.getElementById('search'); const started = performance.now();
  field.value = %s; field.dispatchEvent(new Event('input', {bubbles: true})); document.body.offsetHeight;
  return performance.now() - started; })()"""
_SORT = """(() => { const started = performance.now(); document.querySelectorAll('#machine-table thead button')[9].click();
  document.body.offsetHeight; return performance.now() - started; })()"""


def look(folder: Path, machines: int) -> None:
    """Pictures and times."""
    folder.mkdir(parents=True, exist_ok=True)
    with running(folder) as chromium:
        small = folder / "sample.html"
        small.write_text(report_html(replace(sample(), sizing=SIZING)), "utf-8")
        for name, width, height, scheme in (
            ("light", 1280, 2600, "light"),
            ("dark", 1280, 2600, "dark"),
            ("narrow", 390, 3200, "light"),
        ):
            with opened(chromium) as page:
                page.window(width, height, scheme)
                page.go(small.as_uri())
                page.screenshot(folder / f"{name}.png")
                page.value("document.querySelectorAll('details').forEach(each => { each.open = true; })")
                page.value("document.querySelector('#details').scrollIntoView({behavior: 'instant'})")
                page.screenshot(folder / f"{name}-details.png")
                page.pdf(folder / "sample.pdf")
        subprocess.run(["pdftoppm", "-r", "60", "-png", folder / "sample.pdf", folder / "print"], check=True)
        _measure(chromium, folder, machines)


def _measure(chromium: Chromium, folder: Path, machines: int) -> None:
    document = fleet(machines)
    started = time.perf_counter()
    text = report_html(document)
    times: dict[str, float] = {"made_seconds": time.perf_counter() - started, "bytes": len(text.encode())}
    large = folder / "large.html"
    large.write_text(text, "utf-8")
    for _ in range(3):
        with opened(chromium) as page:
            page.window(1280, 1000)
            page.go(large.as_uri())
            page.screenshot(folder / "large.png")
            times |= {"first_paint_ms": min(page.value(_PAINT)), **page.value(_LOADED)}
            times |= {
                "first_search_ms": page.value(_FILTER % "'0999'"),
                "next_search_ms": page.value(_FILTER % "'debian'"),
            }
            times |= {"clear_ms": page.value(_FILTER % "''"), "sort_ms": page.value(_SORT)}
        print(json.dumps({name: round(value, 1) for name, value in times.items()}))


if __name__ == "__main__":
    look(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
