"""A stand-in for p2v at a worker of Dask: it copies nothing, takes its turn at booting as p2v does, and boots until it is told.

``dask worker --preload tests.batch.cluster.stand_in`` has conversions done by it; run as a program it is one.
``convert JOURNAL NAME``: lines go into the journal, which all conversions share, and ``JOURNAL.NAME`` ends the boot.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

from p2v.batch.children import LocalStarter
from p2v.cli import console
from p2v.core.events import BytesDone, phase
from p2v.core.turns import boot_turn


def convert(journal: Path, name: str) -> None:
    def note(what: str) -> None:
        descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{name} {what}\n".encode())
        os.close(descriptor)

    report = console.reporter("json")
    with phase(report, "copy", "Copying", 7):
        report(BytesDone("copy", 7))
    note("copied")
    with boot_turn(report), phase(report, "boot", "Booting"):
        note("boots")
        while not journal.with_name(f"{journal.name}.{name}").exists():
            time.sleep(0.05)
        note("booted")


if __name__ == "__main__":
    convert(Path(sys.argv[2]), sys.argv[3])
else:
    from p2v.batch.cluster import worker

    setattr(worker, "LocalStarter", partial(LocalStarter, program=(sys.executable, "-m", __name__)))  # noqa: B010 - it is no name of theirs
