"""libguestfs' Python module is read when an appliance is started; a host may be without it."""

from __future__ import annotations

import sys

import pytest

from drivers.appliance_launch import open_appliance
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import ToolMissing


def test_a_host_without_the_library_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "guestfs", None)
    with pytest.raises(ToolMissing) as caught, open_appliance((), Acceleration(Accelerator.TCG, "in a test")):
        pass
    assert caught.value.package == "python3-guestfs"
