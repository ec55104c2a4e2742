"""The programs of the first start, as they were built for each processor: what is carried into a guest.

The files are part of the source, because who converts a guest has no cross compiler; a test builds them anew with
``drivers/windows/firstboot/build`` and compares every byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Program:
    """A build of one: its file on this host, its size in bytes and its SHA-256."""

    source: str
    size: int
    sha256: str


def _program(name: str, arch: str, size: int, sha256: str) -> Program:
    return Program(str(_FOLDER / f"{name}-{arch}.exe"), size, sha256)


FIRSTBOOT, INSTALLER, REMOVER = "firstboot", "pnpinstall", "pnpremove"
PROGRAMS = {
    FIRSTBOOT: {
        "x86": _program(FIRSTBOOT, "x86", 8704, "d2becb11bc3c309cf5afdfd5fd6a42910c8435e5007de5ab0a2b84146b614b8d"),
        "x64": _program(FIRSTBOOT, "x64", 8704, "b6e4d2713c9d16dda22a0d2a61da495fe232a695629b47497972d3ccda94f7ae"),
    },
    INSTALLER: {
        "x86": _program(INSTALLER, "x86", 2560, "760a568b0873b5621a313c9250463abea17fb58f9422254bc833e45e7f5efe5d"),
        "x64": _program(INSTALLER, "x64", 2560, "64dcf826c593aa329258dfb323c5a2a9601b031e72b984f3902637fc0324a9f9"),
    },
    REMOVER: {
        "x86": _program(REMOVER, "x86", 5120, "9af10e148e94eb5ff6b443db3d0c0ccb59691f7b8c4e5ea04ffe8b9dead60da1"),
        "x64": _program(REMOVER, "x64", 4608, "3a19e73bc0776cb16ad47f6a20c5076c2531c5841c5c5e83ffc5ce8c292f7176"),
    },
}
"""By their names and those of ``GuestTools.program``."""
