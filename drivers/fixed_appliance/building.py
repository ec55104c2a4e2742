"""Building an appliance of the installed packages, as libguestfs has supermin do, and making it quicker to start."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from drivers.fixed_appliance.kernel import plain_kernel
from drivers.fixed_appliance.parts import FIXED_MARK, Parts
from drivers.fixed_appliance.startup import quicker_archive, thinned
from p2v.core.run import Runner
from p2v.core.units import GIB, MIB
from p2v.core.workspace import require_space

# 0.75 GiB are taken, of a root file system that says 4 GiB.
NEEDED_BYTES = 3 * GIB // 2
FILES = ("kernel", "initrd", "root")
_INIT = "init.tar.gz"
_SECONDS = 300.0
_LARGEST_KERNEL_BYTES = 256 * MIB
_HOLE_BYTES = 64 * 1024
_WORDS = "Made by p2v of packages that are installed on this host, for itself alone: `p2v doctor --remove-appliance` removes it.\n"


def build(parts: Parts, folder: Path, runner: Runner) -> None:
    """Build it as ``folder``/fixed; ``folder`` is empty and the caller's to remove.

    Raises Unsuitable, ProgramFailed, ProgramTimedOut, ToolMissing, NoSpace, OSError.
    """
    require_space(folder, NEEDED_BYTES)
    descriptions, made = folder / "supermin.d", folder / "fixed"
    descriptions.mkdir()
    for path in parts.supermin.iterdir():
        if path.is_file():
            shutil.copyfile(path, descriptions / path.name)
    init = descriptions / _INIT
    if init.exists():
        init.write_bytes(quicker_archive(init.read_bytes()))
    for_this_host = ("--copy-kernel", "-f", "ext2", "--host-cpu", os.uname().machine)
    runner.run(["supermin", "--build", *for_this_host, str(descriptions), "-o", str(made)], timeout=_SECONDS)
    with (made / "kernel").open("rb") as file:
        kernel = file.read(_LARGEST_KERNEL_BYTES)
    _replace(made / "kernel", plain_kernel(kernel))
    _replace(made / "initrd", thinned((made / "initrd").read_bytes()))
    (made / FIXED_MARK).write_text(_WORDS, "utf-8")


def _replace(file: Path, data: bytes) -> None:
    """A new file (the old one may be a link to the system's) with holes where there are zeroes only."""
    file.unlink()
    with file.open("xb") as out:
        for at in range(0, len(data), _HOLE_BYTES):
            piece = data[at : at + _HOLE_BYTES]
            if piece.count(0) != len(piece):
                out.seek(at)
                out.write(piece)
        out.truncate(len(data))
