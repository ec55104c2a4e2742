"""The service program, as it was built for each processor: what is carried into a guest, and no guest's code is
needed for it.

The two files are part of the source, because who converts a guest has no cross compiler; a test builds them anew with
``drivers/windows/firstboot/build`` and compares every byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Program:
    """A build of it: its file on this host, its size in bytes and its SHA-256."""

    source: str
    size: int
    sha256: str


def _program(arch: str, size: int, sha256: str) -> Program:
    return Program(str(_FOLDER / f"firstboot-{arch}.exe"), size, sha256)


PROGRAMS = {
    "x86": _program("x86", 8704, "d2becb11bc3c309cf5afdfd5fd6a42910c8435e5007de5ab0a2b84146b614b8d"),
    "x64": _program("x64", 8704, "b6e4d2713c9d16dda22a0d2a61da495fe232a695629b47497972d3ccda94f7ae"),
}
"""By the names of ``GuestTools.program``."""
