"""Waiting for what a page does by itself."""

from __future__ import annotations

import time
from contextlib import suppress

from tests.pages.chromium import PATIENCE_SECONDS, ChromiumFailed, Page

A_WHILE = "new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))"


def eventually(page: Page, script: str) -> None:
    """Wait until an expression is true, also of a page that is loaded anew meanwhile."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with suppress(ChromiumFailed):  # it was asked between two pages
            if page.value(script):
                return
        assert time.monotonic() < deadline, f"it does not become true: {script}"
        time.sleep(0.05)


def load_anew(page: Page) -> None:
    """As the page does by itself, and its reader may."""
    page.value("window.isOld = true")
    page.call("Page.reload")
    eventually(page, "document.readyState === 'complete' && !window.isOld")
    page.value(A_WHILE)
