"""What the batch's page looks like, and how long a browser takes over a large one: for people to look at.

``python -m tests.batch.report.look FOLDER [MACHINES]`` writes pictures of the sample's page (light, dark, narrow, printed) and of
the large one into the folder, and prints times.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.batch.report.samples import fleet, sample
from tests.pages.chromium import Chromium, Page, opened, running

_LOADED = """(() => { const n = performance.getEntriesByType('navigation')[0];
  const paint = performance.getEntriesByName('first-contentful-paint')[0];
  return {paint: paint ? paint.startTime : -1, loaded: n.loadEventEnd, elements: document.querySelectorAll('*').length}; })()"""
_FILTER = """(() => { const field = document.getElementById('search'); const started = performance.now();
  field.value = %s; field.dispatchEvent(new Event('input', {bubbles: true})); document.body.offsetHeight;
  return performance.now() - started; })()"""
_PARTS = ("overview", "parked", "timeline", "machines", "phases", "screens", "details")


def look(folder: Path, machines: int) -> None:
    """Pictures and times."""
    folder.mkdir(parents=True, exist_ok=True)
    small, large = folder / "sample.html", folder / "large.html"
    small.write_text(sample().html(30), "utf-8")
    with running(folder) as chromium:
        for name, width, scheme in (("light", 1280, "light"), ("dark", 1280, "dark"), ("narrow", 390, "light")):
            with opened(chromium) as page:
                page.window(width, 1000, scheme)
                page.go(small.as_uri())
                _parts(page, folder, name)
                page.pdf(folder / "sample.pdf")
        subprocess.run(["pdftoppm", "-r", "60", "-png", folder / "sample.pdf", folder / "print"], check=True)
        _measure(chromium, large, machines)


def _parts(page: Page, folder: Path, name: str) -> None:
    page.value(
        "document.querySelectorAll('details.machine').forEach((each, index) => { each.open = index % 3 === 0; })"
    )
    for part in _PARTS:
        page.value(f"document.getElementById({part!r}).scrollIntoView({{behavior: 'instant'}})")
        page.screenshot(folder / f"{name}-{part}.png")


def _measure(chromium: Chromium, file: Path, machines: int) -> None:
    given = fleet(machines)
    started = time.perf_counter()
    text = given.html(30)
    times: dict[str, float] = {"made_seconds": time.perf_counter() - started, "bytes": len(text.encode())}
    file.write_text(text, "utf-8")
    with opened(chromium) as page:
        page.window(1280, 1000)
        page.go(file.as_uri())
        times |= page.value(_LOADED)
        times |= {"search_ms": page.value(_FILTER % "'0999'"), "clear_ms": page.value(_FILTER % "''")}
        _parts(page, file.parent, "large")
    print(json.dumps({name: round(value, 2) for name, value in times.items()}))


if __name__ == "__main__":
    look(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
