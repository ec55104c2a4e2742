"""Storages that give no answer, take nothing more, or wait for ever, when the chaos test says so."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from p2v.core.units import KIB, MIB
from tests.batch.cluster.clusters import until
from tests.loop_devices import mounted, why_not

_SMALL_BYTES = 768 * MIB
"""A conversion wants a quarter of a GiB to be free before it begins."""
_PIECES = (MIB, 4 * KIB)
FAR_SOURCE, FAR_TARGET = "far-source", "far-target"
"""Folders of mounts whose servers are stopped now and then."""
_READ_RATE = 8 * MIB
"""Bytes a second that the far source gives: a read is under way at its server most of the time, and cannot be killed then."""


def missing() -> str:
    """What such storages need that is not here; empty: nothing."""
    wanted = ("bindfs", "fusermount3", "fsfreeze", "setpriv", "mkfs.ext4")
    gone = [each for each in wanted if shutil.which(each) is None]
    if gone:
        return f"not installed: {', '.join(gone)}"
    return why_not() or ("" if Path("/dev/fuse").exists() else "this kernel has no FUSE")


@dataclass
class Server:
    """A folder that is reached through a file system's server, which can be stopped: then nobody gets an answer."""

    process: subprocess.Popen[bytes]
    is_stopped: bool = False

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        self.is_stopped = True

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.is_stopped = False


@contextmanager
def served(real: Path, place: Path, *options: str) -> Iterator[Server]:
    """``real`` mounted at ``place`` by a server of its own. At the end it goes on, and goes."""
    for each in (real, place):
        each.mkdir(parents=True, exist_ok=True)
    # whoever is left waiting for it gets an error, and not no answer, should the test be killed
    command = ["setpriv", "--pdeathsig", "KILL", "--", "bindfs", "-f", *options, str(real), str(place)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = Server(process)
    try:
        until(lambda: f" {place} " in Path("/proc/self/mounts").read_text(), "the mount of a server")
        yield server
    finally:
        server.go_on()
        subprocess.run(["fusermount3", "-u", "-z", str(place)], check=False, capture_output=True, timeout=60)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


@dataclass
class Small:
    """A file system of its own that can be filled up, and frozen: who writes to it then cannot even be killed."""

    place: Path
    is_full: bool = False
    is_frozen: bool = False

    def fill(self) -> None:
        """Let it take nothing more."""
        self.is_full = True
        ballast = os.open(self.place / "ballast", os.O_WRONLY | os.O_CREAT)
        try:
            end = 0
            for piece in _PIECES:
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(ballast, end, piece)
                        end += piece
        finally:
            os.close(ballast)

    def free(self) -> None:
        (self.place / "ballast").unlink(missing_ok=True)
        self.is_full = False

    def freeze(self) -> None:
        subprocess.run(["fsfreeze", "--freeze", str(self.place)], check=True, timeout=120)
        self.is_frozen = True

    def thaw(self) -> None:
        subprocess.run(["fsfreeze", "--unfreeze", str(self.place)], check=False, timeout=120, capture_output=True)
        self.is_frozen = False


@contextmanager
def small(folder: Path) -> Iterator[Small]:
    """One on a loop device. At the end it is thawed, and gone."""
    image = folder / "small.ext4"
    with image.open("wb") as file:
        file.truncate(_SMALL_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
    with mounted(image, folder / "small", "-o", "loop") as place:
        made = Small(place)
        try:
            yield made
        finally:
            made.thaw()


@dataclass
class Storages:
    """All of a chaos test. Pairs: where files really lie, and by which name the batch knows them."""

    folder: Path
    small: Small
    far_source: Server
    far_target: Server
    sources: tuple[tuple[Path, Path], ...] = field(init=False)
    targets: tuple[tuple[Path, Path], ...] = field(init=False)

    def __post_init__(self) -> None:
        near, out, little = self.folder / "near", self.folder / "out", self.small.place / "out"
        near.mkdir()
        self.sources = ((near, near), (self.folder / f"{FAR_SOURCE}.real", self.folder / FAR_SOURCE))
        self.targets = (
            (out, out),
            (little, little),
            (self.folder / f"{FAR_TARGET}.real", self.folder / FAR_TARGET),
        )

    def calm(self) -> None:
        """Let all of them work again."""
        self.small.thaw()
        self.small.free()
        self.far_source.go_on()
        self.far_target.go_on()


@contextmanager
def storages(folder: Path) -> Iterator[Storages]:
    """All that a chaos test needs, below a folder."""
    with (
        small(folder) as little,
        served(folder / f"{FAR_SOURCE}.real", folder / FAR_SOURCE, f"--read-rate={_READ_RATE}") as source,
        served(folder / f"{FAR_TARGET}.real", folder / FAR_TARGET) as target,
    ):
        yield Storages(folder, little, source, target)
