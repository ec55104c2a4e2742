"""A Chromium, and pages of batches as files for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.batch.report.samples import Sample
from tests.pages.browsing import chromium, page
from tests.pages.chromium import Page

__all__ = ["chromium", "page"]

Show = Callable[..., Page]


@pytest.fixture
def show(page: Page, tmp_path: Path) -> Show:
    """Shows the page of a batch; ``refresh_seconds`` as ``batch_html`` takes it."""

    def shown(sample: Sample, refresh_seconds: int | None = None) -> Page:
        page.go(written(sample, tmp_path, refresh_seconds))
        return page

    return shown


def written(sample: Sample, folder: Path, refresh_seconds: int | None = None) -> str:
    """The page in a file; its address."""
    file = folder / "batch.html"
    file.write_text(sample.html(refresh_seconds), "utf-8")
    return file.as_uri()
