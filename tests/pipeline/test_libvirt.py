"""A guest converted into a real libvirtd: volumes in its pool, defined, started, and (make matrix) up: it answers a button."""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path

import pytest

from p2v.core.workspace import socket_folder
from tests.fixtures.pack import packed
from tests.pipeline.running import p2v, state
from tests.targets.libvirtd import ONE_WORKER, libvirtd, why_not

SECONDS = 420.0


def virsh(uri: str, *words: str) -> str:
    done = subprocess.run(["virsh", "--quiet", "--connect", uri, *words], capture_output=True, text=True, timeout=300, check=True)
    return done.stdout


def answers_the_power_button(uri: str, name: str) -> bool:
    """Whether a guest shuts down when it is asked to, which takes its system to be up; within the time."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if virsh(uri, "domstate", name).strip() == "shut off":
            return True
        with contextlib.suppress(subprocess.CalledProcessError):
            virsh(uri, "shutdown", "--mode", "acpi", name)
        time.sleep(5)
    return False


@ONE_WORKER
@pytest.mark.appliance
@pytest.mark.timeout(1800)
@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize(
    "boot",
    [
        pytest.param(False, id="started"),
        # the same guest on the same hardware is booted in test_convert.py
        pytest.param(True, id="up", marks=[pytest.mark.boots, pytest.mark.matrix]),
    ],
)
def test_a_guest_is_converted_into_libvirt_and_started_there(tmp_path: Path, boot: bool) -> None:
    source = packed("vmware", "vmdk-sparse")
    before = state(source)
    with socket_folder() as folder, libvirtd(folder) as uri:
        (tmp_path / "pool").mkdir()
        virsh(uri, "pool-define-as", "tank", "dir", "--target", str(tmp_path / "pool"))
        virsh(uri, "pool-start", "tank")
        where = ("--to", "libvirt", "--connect", uri, "--pool", "tank", "--start")
        ran = p2v("convert", source, "-o", tmp_path / "out", "--name", "vm", "--network", "user", *where)
        assert ran.status == 0, ran.err
        assert state(source) == before
        assert virsh(uri, "vol-list", "--pool", "tank").split()[0] == "vm.qcow2"
        assert virsh(uri, "domstate", "vm").strip() == "running"
        if boot:
            assert answers_the_power_button(uri, "vm")
        # what is there is never replaced
        again = p2v("convert", source, "-o", tmp_path / "again", "--name", "vm", "--network", "user", *where)
        assert again.status == 73, again.err
        assert not (tmp_path / "again").exists()
