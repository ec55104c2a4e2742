"""One Chromium for the tests of a module; a conftest.py takes these fixtures over by importing them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pages.chromium import Chromium, Page, opened, running


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


LANDMARKS = {
    "banner", "navigation", "main", "contentinfo", "search", "table", "columnheader", "rowheader", "status",
}  # fmt: skip


def accessibility_tree(page: Page) -> list[tuple[str, str]]:
    """Role and name of all that the page shows to who does not see it."""
    nodes: list[dict[str, Any]] = page.call("Accessibility.getFullAXTree")["nodes"]
    return [(each["role"]["value"], each.get("name", {}).get("value", "")) for each in nodes if not each["ignored"]]


def require_headings_in_order(page: Page) -> None:
    """Headings begin with the first level and leave none out."""
    levels = page.value("[...document.querySelectorAll('h1, h2, h3, h4')].map(each => Number(each.localName[1]))")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
