"""Files that a start needs, as they were looked for: a value that survives JSON. Facts are only read, never judged."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class StartRole(enum.Enum):
    """What a start wants a file for."""

    KERNEL = "kernel"
    INITRAMFS = "initramfs"
    INIT = "init"
    """The first program that a Linux kernel runs."""
    MANAGER = "manager"
    """What the boot sector or the firmware of a Windows machine starts: bootmgr, NTLDR with NTDETECT.COM."""
    LOADER = "loader"
    """What the boot manager starts: winload."""
    DRIVER = "driver"
    """What a loader of Windows brings in before anything runs."""


@dataclass(frozen=True, slots=True)
class StartFile:
    """A file that a start needs. ``path``: as what names it has it; ``found``: where that leads; empty: nothing is there.

    ``size`` in bytes. ``problem``: what is wrong with it (``is empty``). ``kind``: of a first program ``elf``, ``script`` or
    ``other``. ``hands_over``: of a script, whether it runs another program in its place.
    """

    role: StartRole
    path: str
    found: str = ""
    size: int = 0
    problem: str = ""
    kind: str = ""
    hands_over: bool = False
