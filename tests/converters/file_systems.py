"""File systems of their own for tests, on loop files: what the host's folders stand on may not be able to do the thing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2v.core.run import find_program
from p2v.core.units import MIB
from tests import loop_devices

REFLINKING = {"xfs": ("mkfs.xfs", "-q", "-m", "reflink=1"), "btrfs": ("mkfs.btrfs", "-q")}
"""Those that share blocks between files, and what makes them."""


def missing(kind: str) -> str:
    """Why there can be no file system of this kind; empty when there can."""
    program = REFLINKING[kind][0]
    if reason := loop_devices.why_not():
        return reason
    return "" if find_program(program) else f"{program} is not installed"


@contextmanager
def mounted(kind: str, folder: Path, size: int = 400 * MIB) -> Iterator[Path]:
    """An empty file system, mounted in ``folder`` while the context lasts."""
    with loop_devices.loop_device(folder / f"{kind}.image", size) as device:
        subprocess.run([*REFLINKING[kind], device], check=True, timeout=60)
        with loop_devices.mounted(device, folder / f"{kind}-mounted", "-t", kind) as place:
            yield place


def used_bytes(place: Path) -> int:
    """What the files of a file system take of it."""
    subprocess.run(["sync", "-f", place], check=True, timeout=60)
    done = subprocess.run(["df", "-B1", "--output=used", place], check=True, capture_output=True, text=True, timeout=60)
    return int(done.stdout.split()[-1])


def all_shared(file: Path) -> bool:
    """Whether every extent of a file is shared with another one, by FIEMAP's flag."""
    subprocess.run(["sync", file], check=True, timeout=60)
    done = subprocess.run(["filefrag", "-v", file], check=True, capture_output=True, text=True, timeout=60)
    extents = [line for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    return bool(extents) and all("shared" in line for line in extents)
