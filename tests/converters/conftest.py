"""Images every reader test uses, made once a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.converters.images import VARIANTS, make_image, patterned


@pytest.fixture(scope="session")
def content() -> bytes:
    """The raw disk behind all images."""
    return patterned()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> dict[str, Path]:
    """One image of each variant, by the variant's name; not to be written."""
    folder = tmp_path_factory.mktemp("images")
    return {variant.name: make_image(folder / variant.name, variant, content) for variant in VARIANTS}
