"""Wine for the tests of what runs in a Windows guest: made once, since its drive C takes some seconds and 700 MB."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.drivers.windows.wine import Wine


@pytest.fixture(scope="session")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wine]:
    """For tests marked with ``ON_WINE``."""
    made = Wine(tmp_path_factory.mktemp("wine") / "prefix")
    try:
        made.make()
        yield made
    finally:
        made.cut()
        shutil.rmtree(made.folder, ignore_errors=True)
