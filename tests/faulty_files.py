"""A FUSE file system with one file of which some ranges cannot be read, answers are short, late or never, or all is gone.

``python -m tests.faulty_files MOUNTPOINT BACKING CONTROL`` serves it in the foreground; ``faulty_file`` runs that as a program
and unmounts always. What goes wrong is in CONTROL, a JSON file that is looked at before each read.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from p2v.core.run import find_program

NAME = "disk"
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Faults:
    """``bad``: ranges (offset, length) that give ``error``; with ``times``, each so often only. ``gone``: everything gives it.

    ``short``: at most so many bytes a read. ``hangs``: ranges whose reads are answered when they are taken out.
    """

    bad: tuple[tuple[int, int], ...] = ()
    times: int = 0
    gone: int = 0
    gone_after: int = -1
    """Reads that are answered before everything is gone; -1: no end."""
    short: int = 0
    hangs: tuple[tuple[int, int], ...] = ()


def why_not() -> str:
    """Why there is no FUSE here; empty when there is."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is not there, or not for us"
    if find_program("fusermount3") is None and find_program("fusermount") is None:
        return "fusermount is not installed (package fuse3)"
    if not (ctypes.util.find_library("fuse3") or ctypes.util.find_library("fuse")):
        return "libfuse is not installed (package libfuse3-3)"
    try:
        import mfusepy  # noqa: F401
    except (ImportError, OSError):
        return "the Python module mfusepy is not installed"
    return ""


NEEDS_FUSE = pytest.mark.skipif(bool(why_not()), reason=why_not())


@dataclass
class FaultyFile:
    """The mounted file, and what goes wrong with it."""

    path: Path
    control: Path
    log: Path
    server: subprocess.Popen[bytes] | None = None

    def end(self) -> None:
        """The program that serves it dies."""
        assert self.server is not None
        self.server.kill()
        self.server.wait(60)

    def set(self, faults: Faults) -> None:
        """From now on this goes wrong."""
        fresh = self.control.with_name("control.new")
        fresh.write_text(json.dumps(asdict(faults)))
        fresh.rename(self.control)

    def reads(self) -> list[tuple[int, int, bool]]:
        """Every read so far: offset, length, whether it failed."""
        rows = (line.split() for line in self.log.read_text().splitlines())
        return [(int(offset), int(length), failed == "1") for offset, length, failed in rows]


@contextmanager
def faulty_file(folder: Path, backing: Path, faults: Faults = Faults(), *, direct: bool = False) -> Iterator[FaultyFile]:
    """Mount ``backing`` below ``folder``. ``direct``: reads of any size come through, around the page cache."""
    mount, control, log = folder / "fuse", folder / "control", folder / "reads"
    mount.mkdir()
    log.touch()
    file = FaultyFile(mount / NAME, control, log)
    file.set(faults)
    words = [sys.executable, "-m", "tests.faulty_files", *map(str, (mount, backing, control, log)), "direct" if direct else ""]
    server = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=(folder / "fuse.log").open("w"))
    try:
        file.server = server
        _await(file.path, server)
        yield file
    finally:
        # readers that hang get an answer
        file.set(Faults())
        program = find_program("fusermount3") or find_program("fusermount")
        subprocess.run([str(program), "-u", "-z", str(mount)], timeout=300, check=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(5)
        server.kill()
        server.wait(60)


def _await(path: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not path.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the FUSE server did not start (status {server.poll()})")
        time.sleep(0.02)


class Operations:
    """One file, and its faults, as mfusepy wants them."""

    use_ns = True

    def __init__(self, backing: str, control: str, log: str, refuse: Callable[[int], Exception]) -> None:
        self.fd = os.open(backing, os.O_RDONLY)
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND)
        self.control = Path(control)
        self.refuse = refuse
        self.failed: dict[tuple[int, int], int] = {}
        self.count = 0

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """What stat tells."""
        if path == "/":
            return {"st_mode": 0o40755, "st_nlink": 2}
        if path != f"/{NAME}":
            raise self.refuse(errno.ENOENT)
        return {"st_mode": 0o100444, "st_nlink": 1, "st_size": os.fstat(self.fd).st_size, "st_mtime": 1_700_000_000 * 10**9}

    def readdir(self, path: str, fh: int) -> list[str]:
        """One file."""
        return [".", "..", NAME]

    def open(self, path: str, flags: int) -> int:
        """Always."""
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Bytes of the file below, or what goes wrong."""
        self.count += 1
        faults = current(self.control)
        gone = faults.gone and self.count > faults.gone_after
        failed = bool(gone) or self.is_bad(faults, offset, size)
        os.write(self.log, f"{offset} {size} {int(failed)}\n".encode())
        if failed:
            raise self.refuse(faults.gone if gone else errno.EIO)
        while any(start < offset + size and start + length > offset for start, length in current(self.control).hangs):
            time.sleep(0.1)
        return os.pread(self.fd, min(size, faults.short or size), offset)

    def is_bad(self, faults: Faults, offset: int, size: int) -> bool:
        """Whether a range cannot be read this time."""
        for start, length in faults.bad:
            if start < offset + size and start + length > offset:
                self.failed[start, length] = self.failed.get((start, length), 0) + 1
                if not faults.times or self.failed[start, length] <= faults.times:
                    return True
        return False


def serve(mount: str, backing: str, control: str, log: str, how: str) -> None:
    """Serve until unmounted."""
    import mfusepy

    class Served(Operations, mfusepy.Operations):  # type: ignore[misc]
        """mfusepy looks at the class for what is not there."""

    served = Served(backing, control, log, mfusepy.FuseOSError)
    mfusepy.FUSE(served, mount, foreground=True, ro=True, direct_io=how == "direct")


def current(control: Path) -> Faults:
    """What goes wrong now."""
    data = json.loads(control.read_text())
    faults = Faults(**data)
    return replace(faults, bad=tuple((at, size) for at, size in faults.bad), hangs=tuple((at, n) for at, n in faults.hangs))


if __name__ == "__main__":
    serve(*sys.argv[1:6])
