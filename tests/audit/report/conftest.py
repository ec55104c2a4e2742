"""One Chromium for the tests of a module, and reports as files for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2v.audit.document import AuditDocument
from p2v.audit.report import report_html
from tests.audit.chromium import Chromium, Page, opened, running

Show = Callable[[AuditDocument], Page]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Running until the module's tests are over."""
    with running(tmp_path_factory.mktemp("chromium")) as made:
        yield made


@pytest.fixture
def page(chromium: Chromium) -> Iterator[Page]:
    """A new page, in a window of a desktop's size."""
    with opened(chromium) as made:
        made.window(1280, 900)
        yield made


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
