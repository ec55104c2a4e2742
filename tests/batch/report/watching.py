"""Waiting for what a page does by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.pages.chromium import PATIENCE_SECONDS, ChromiumFailed, Page

A_WHILE = "new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))"


def eventually(page: Page, script: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Wait until an expression is true, also of a page that is loaded anew meanwhile."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with suppress(ChromiumFailed):  # it was asked between two pages
            if page.value(script):
                return
        assert time.monotonic() < deadline, f"it does not become true: {script}"
        meanwhile()
        time.sleep(0.05)


def load_anew(page: Page, meanwhile: Callable[[], object] = lambda: None) -> None:
    """As the page does by itself, and its reader may."""
    page.value("window.isOld = true")
    page.call("Page.reload")
    eventually(page, "document.readyState === 'complete' && !window.isOld", meanwhile)
    page.value(A_WHILE)


@contextmanager
def drawn(page: Page) -> Iterator[Callable[[], list[int]]]:
    """Watches what is drawn: called, it gives of each frame so far how far the page was scrolled in it, in pixels.

    A frame is only sent when the ones before have been heard: call it again and again.
    """
    heard = 0

    def offsets() -> list[int]:
        nonlocal heard
        with suppress(ChromiumFailed):  # it was asked between two pages
            page.value("0")  # all that came until now
        frames = [each["params"] for each in page.chromium.events if each["method"] == "Page.screencastFrame"]
        for each in frames[heard:]:
            page.call("Page.screencastFrameAck", sessionId=each["sessionId"])
        heard = len(frames)
        return [round(each["metadata"]["scrollOffsetY"]) for each in frames]

    page.call("Page.startScreencast", format="jpeg", quality=10)
    yield offsets
    page.call("Page.stopScreencast")
