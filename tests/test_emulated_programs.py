"""What sample guests for other architectures leave on the machine that makes them: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures import emulated
from tests.fixtures.emulated import ARM64, PPC64EL, S390X, Foreign
from tests.fixtures.programs import in_own_mounts

_LISTED = 'cd /proc/sys/fs/binfmt_misc; [ -e register ] || mount -t binfmt_misc b "$PWD"; cd "$PWD"; ls'


def registered() -> set[str]:
    """Names in binfmt_misc, whether or not it is mounted where we are."""
    return set(in_own_mounts(_LISTED).stdout.split())


@pytest.mark.matrix
@pytest.mark.parametrize("foreign", [ARM64, PPC64EL, S390X], ids=["arm64", "ppc64el", "s390x"])
def test_what_is_registered_for_a_guest_is_taken_back(foreign: Foreign) -> None:
    if not Path(foreign.interpreter).exists():
        pytest.skip(f"{foreign.interpreter} is not installed (make setup-matrix)")
    name = emulated.registered_name(foreign)
    mounts = Path("/proc/mounts").read_text("utf-8")
    assert name not in registered()

    def failing() -> None:
        with emulated.running(foreign):
            assert name in registered()
            raise RuntimeError("what was made fails")

    with pytest.raises(RuntimeError):
        failing()
    assert name not in registered()
    assert Path("/proc/mounts").read_text("utf-8") == mounts
