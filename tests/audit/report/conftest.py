"""A Chromium, and reports as files for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from p2v.audit.document import AuditDocument
from p2v.audit.report import report_html
from tests.pages.browsing import chromium, page
from tests.pages.chromium import Page

__all__ = ["chromium", "page"]

Show = Callable[[AuditDocument], Page]


@pytest.fixture
def show(page: Page, tmp_path: Path) -> Show:
    """Shows the report of a document in the page."""

    def shown(document: AuditDocument) -> Page:
        page.go(written(document, tmp_path))
        return page

    return shown


def written(document: AuditDocument, folder: Path) -> str:
    """The report in a file; its address."""
    file = folder / "report.html"
    file.write_text(report_html(document), "utf-8")
    return file.as_uri()
