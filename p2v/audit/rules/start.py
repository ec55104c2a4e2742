"""The chain of any machine's start, and the checks that its links are."""

from __future__ import annotations

from p2v.audit.chain import Link
from p2v.audit.examined import Check, Examined
from p2v.audit.rules import start_linux, start_other, start_windows

CHECKS: tuple[Check, ...] = (start_linux.check, start_windows.check, start_other.check)

SAID_OTHERWISE = {
    "linux.boot-loader.root-absent": "start.linux.root-missing",
    "linux.fstab.unresolved": "start.linux.mount-missing",
    "linux.firmware.uefi": "start.linux.no-removable-loader",
    "windows.boot-sector": "start.windows.boot-sector-unseen",
}
"""Warnings of the plan's for which one of these rules says the same, and more: by id of the plan's finding."""


def chain(examined: Examined) -> tuple[Link, ...]:
    """The links from the firmware to the first program (or to the drivers of the disk), in the order of a start."""
    every = (*start_linux.links(examined), *start_windows.links(examined), *start_other.links(examined))
    return tuple(each.link() for each in every)
