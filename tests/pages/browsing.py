"""One Chromium for the tests of a module; a conftest.py takes these fixtures over by importing them."""

from __future__ import annotations

from collections.abc import Iterator

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
