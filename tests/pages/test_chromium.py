"""The browser that looks at pages leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages.chromium import processes_with, running

pytestmark = pytest.mark.xdist_group("chromium")


def test_it_is_ended_with_all_its_processes_when_a_test_fails(tmp_path: Path) -> None:
    def failing() -> None:
        with running(tmp_path) as chromium:
            chromium.call("Target.createTarget", url="about:blank")
            assert processes_with(tmp_path)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert processes_with(tmp_path) == []
