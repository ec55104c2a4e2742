"""One guest through both: virt-v2v as its users run it, and ours as ours do."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from p2v.acceleration import acceleration
from p2v.core.run import SystemRunner
from tests.pipeline.running import p2v

VIRT_V2V = "virt-v2v"
#: What the list of differences was made with: another version may do other things.
VERSION = "virt-v2v 2.2.0"
_SECONDS = 1200.0


@dataclass(frozen=True)
class Given:
    """What both are given: the guest's disks, the medium of drivers; and the helpers that virt-v2v needs."""

    disks: tuple[Path, ...]
    medium: Path
    helpers: Path


def version() -> str:
    """What the installed virt-v2v calls itself; empty when there is none."""
    if shutil.which(VIRT_V2V) is None:
        return ""
    return SystemRunner().run([VIRT_V2V, "--version"], timeout=30.0).stdout.strip()


def by_virt_v2v(given: Given, folder: Path) -> tuple[Path, ...]:
    """Raw disks as virt-v2v makes them, and what it said in ``folder/said.txt``."""
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    environment = {
        "LIBGUESTFS_BACKEND": "direct",
        "VIRTIO_WIN": str(given.medium),
        "VIRT_TOOLS_DATA_DIR": str(given.helpers),
        "VIRT_V2V_TMPDIR": str(scratch),
    }
    if not acceleration(SystemRunner()).kvm:
        environment["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"
    words = [VIRT_V2V, "-i", "disk", "-if", "raw", *map(str, given.disks)]
    words += ["-o", "local", "-os", str(folder), "-of", "raw", "-on", "vm"]
    ran = SystemRunner().run(words, timeout=_SECONDS, env=environment)
    (folder / "said.txt").write_text(f"{ran.stdout}{ran.stderr}")
    shutil.rmtree(scratch)
    return _results(folder, [f"vm-sd{chr(ord('a') + number)}" for number in range(len(given.disks))])


def by_us(given: Given, folder: Path) -> tuple[Path, ...]:
    """Raw disks as ``p2v convert`` makes them."""
    ran = p2v(
        "convert", *given.disks, "-o", folder, "--name", "vm", "--format", "raw", "--virtio-win", given.medium, "--progress", "none"
    )
    assert ran.status == 0, ran.out + ran.err
    count = len(given.disks)
    return _results(folder, ["vm.img"] if count == 1 else [f"vm-disk{number + 1}.img" for number in range(count)])


def _results(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    found = tuple(folder / name for name in names)
    assert all(path.exists() for path in found), sorted(path.name for path in folder.iterdir())
    return found
