"""A FUSE file system over a folder to which nothing can be written for a while: it hangs, or gives an error; all else answers.

``python -m tests.faulty_folder MOUNTPOINT BACKING CONTROL`` serves it in the foreground; ``faulty_folder`` runs that as a program
and unmounts always. What goes wrong is in CONTROL, a JSON file that is looked at before each change.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from p2v.core.run import find_program

_START_SECONDS = 120.0
_HOW = (
    "st_atime_ns",
    "st_ctime_ns",
    "st_gid",
    "st_mode",
    "st_mtime_ns",
    "st_nlink",
    "st_size",
    "st_uid",
    "st_blocks",
    "st_ino",
)


@dataclass(frozen=True)
class Trouble:
    """``hangs``: bytes that are written wait until that is over. ``error``: every change gives it."""

    hangs: bool = False
    error: int = 0


@dataclass
class FaultyFolder:
    """The folder as it is mounted, and ``real``, where its files are."""

    place: Path
    real: Path
    control: Path

    def set(self, trouble: Trouble) -> None:
        """From now on this goes wrong."""
        fresh = self.control.with_name("control.new")
        fresh.write_text(json.dumps(asdict(trouble)))
        fresh.rename(self.control)


@contextmanager
def faulty_folder(folder: Path) -> Iterator[FaultyFolder]:
    """One below ``folder``. At the end whoever hangs there gets an answer, and it goes."""
    made = FaultyFolder(folder / "faulty", folder / "faulty.real", folder / "control")
    made.place.mkdir()
    made.real.mkdir()
    made.set(Trouble())
    words = [sys.executable, "-m", "tests.faulty_folder", *map(str, (made.place, made.real, made.control))]
    with (folder / "faulty.log").open("w") as log:
        # whoever is left waiting for it gets an error, and not no answer, should the test be killed
        server = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *words], stdin=subprocess.DEVNULL, stderr=log
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not os.path.ismount(made.place):
            assert server.poll() is None, (folder / "faulty.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield made
    finally:
        made.set(Trouble())
        program = find_program("fusermount3") or find_program("fusermount")
        subprocess.run([str(program), "-u", "-z", str(made.place)], timeout=60, check=False, capture_output=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()
        server.wait(60)


class Operations:
    """A folder's files, and what goes wrong with changes, as mfusepy wants them."""

    use_ns = True

    def __init__(self, real: str, control: str, refuse: Callable[[int], Exception]) -> None:
        self.real, self.control, self.refuse = real, Path(control), refuse

    def at(self, path: str) -> str:
        return self.real + path

    def change(self) -> None:
        """Before each change."""
        if error := json.loads(self.control.read_text())["error"]:
            raise self.refuse(error)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        found = os.lstat(self.at(path))
        return {name.removesuffix("_ns"): getattr(found, name) for name in _HOW}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self.at(path))]

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self.real)
        return {name: getattr(found, name) for name in dir(found) if name.startswith("f_") and name != "f_fsid"}

    def open(self, path: str, flags: int) -> int:
        return os.open(self.at(path), flags & ~os.O_DIRECT)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self.change()
        return os.open(self.at(path), os.O_RDWR | os.O_CREAT, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        while json.loads(self.control.read_text())["hangs"]:
            time.sleep(0.05)
        self.change()
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self.change()
        os.truncate(self.at(path) if fh is None else fh, length)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self.change()
        os.fsync(fh)
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self.change()
        os.mkdir(self.at(path), mode)
        return 0

    def unlink(self, path: str) -> int:
        self.change()
        os.unlink(self.at(path))
        return 0

    def rmdir(self, path: str) -> int:
        self.change()
        os.rmdir(self.at(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        self.change()
        os.rename(self.at(old), self.at(new))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        self.change()
        os.chmod(self.at(path), mode)
        return 0

    def chown(self, path: str, user: int, group: int) -> int:
        self.change()
        os.chown(self.at(path), user, group)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        self.change()
        now = time.time_ns()
        os.utime(self.at(path), ns=times or (now, now))
        return 0


def serve(mount: str, real: str, control: str) -> None:
    """Serve until unmounted."""
    import mfusepy

    class Served(Operations, mfusepy.Operations):  # type: ignore[misc]
        """mfusepy looks at the class for what is not there."""

    mfusepy.FUSE(Served(real, control, mfusepy.FuseOSError), mount, foreground=True, hard_remove=True)


if __name__ == "__main__":
    serve(*sys.argv[1:4])
