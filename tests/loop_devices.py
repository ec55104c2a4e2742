"""Real block devices and file systems for tests: loop devices over files, and mounts, which only root can make."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2v.core.run import find_program


def why_not() -> str:
    """Why there are no loop devices here; empty when there are."""
    if os.geteuid() != 0:
        return "making loop devices needs root"
    if find_program("losetup") is None:
        return "losetup is not installed"
    return "" if Path("/dev/loop-control").exists() else "this kernel has no loop devices"


NEEDS_LOOP_DEVICES = pytest.mark.skipif(bool(why_not()), reason=why_not())


@contextmanager
def loop_device(file: Path, size: int | None = None, *, fill: bytes = b"", options: tuple[str, ...] = ()) -> Iterator[Path]:
    """A loop device over ``file``, which is made with ``size`` bytes, all of them ``fill`` where one is given."""
    if size is not None:
        with file.open("wb") as made:
            made.truncate(size)
            for at in range(0, size if fill else 0, 1 << 20):
                made.seek(at)
                made.write(fill * min(1 << 20, size - at))
    done = subprocess.run(
        ["losetup", "--find", "--show", *options, file], check=True, capture_output=True, text=True, timeout=600
    )
    device = Path(done.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True, timeout=600)


@contextmanager
def mounted(device: Path, place: Path, *options: str) -> Iterator[Path]:
    """A device, or with ``-o loop`` an image of one, mounted at a folder, which is made."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", *options, device, place], check=True, timeout=600)
    try:
        yield place
    finally:
        # what was killed may have it open for a moment longer
        for _ in range(100):
            if subprocess.run(["umount", place], capture_output=True, timeout=600, check=False).returncode == 0:
                break
            time.sleep(0.1)
        else:
            subprocess.run(["umount", place], check=True, timeout=600)


@contextmanager
def tmpfs(place: Path, size: int) -> Iterator[Path]:
    """A file system of ``size`` bytes in memory, mounted at a folder, which is made."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    with mounted(Path("tmpfs"), place, "-t", "tmpfs", "-o", f"size={size}"):
        yield place
