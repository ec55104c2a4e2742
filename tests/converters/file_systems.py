"""File systems of their own for tests, on loop files: what the host's folders stand on may not be able to do the thing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2v.core.run import find_program
from p2v.core.units import MIB
from tests.loop_devices import loop_device, why_not

REFLINKING = {"xfs": ("mkfs.xfs", "-q", "-m", "reflink=1"), "btrfs": ("mkfs.btrfs", "-q")}
"""Those that share blocks between files, and what makes them."""


def missing(kind: str) -> str:
    """Why there can be no file system of this kind; empty when there can."""
    program = REFLINKING[kind][0]
    if reason := why_not():
        return reason
    return "" if find_program(program) else f"{program} is not installed"


@contextmanager
def mounted(kind: str, folder: Path, size: int = 400 * MIB) -> Iterator[Path]:
    """An empty file system, mounted in ``folder`` while the context lasts."""
    place = folder / f"{kind}-mounted"
    place.mkdir()
    with loop_device(folder / f"{kind}.image", size) as device:
        subprocess.run([*REFLINKING[kind], device], check=True, timeout=60)
        subprocess.run(["mount", "-t", kind, device, place], check=True, timeout=60)
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True, timeout=60)


@contextmanager
def small_file_system(folder: Path, size: int) -> Iterator[None]:
    """A tmpfs of ``size`` bytes on ``folder``."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True, timeout=30)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True, timeout=30)


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
