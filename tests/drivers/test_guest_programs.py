"""Running a guest's own programs: what counts as done, as failed, and what stays of the file's label. Without an appliance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from drivers.appliance_tree import ApplianceGuest
from drivers.appliance_values import ApplianceFailed
from drivers.guest_programs import GuestProgramFailed, run_all
from drivers.plan import GuestProgram
from p2v.core.events import silent

IMAGE = "/boot/initrd.img-6.1"
PROGRAM = GuestProgram(("/usr/sbin/update-initramfs", "-u", "-k", "6.1"), IMAGE, "asked for")
LABEL = b"u:r:boot_t:s0\0"


@dataclass
class Guest:
    """What is asked of an appliance's guest here; ``does`` is what the program does to it."""

    does: Callable[[Guest], None]
    stat: dict[str, int] | None = field(
        default_factory=lambda: {"st_ino": 1, "st_size": 9, "st_mtime_sec": 5, "st_mtime_nsec": 0}
    )
    labels: dict[str, bytes] = field(default_factory=dict)
    ran: list[list[str]] = field(default_factory=list)

    @property
    def appliance(self) -> Guest:
        return self

    def call(self, operation: str, *arguments: Any, **options: float) -> Any:
        if operation == "command":
            assert options["seconds"] <= 3600
            self.ran.append(arguments[0])
            return self.does(self)
        assert operation == "lstatns"
        if self.stat is None:
            raise ApplianceFailed(operation, "No such file or directory")
        return dict(self.stat)

    def label(self, path: str) -> bytes | None:
        return self.labels.get(path)

    def set_label(self, path: str, label: bytes) -> None:
        self.labels[path] = label

    def sync(self) -> None:
        """Nothing to write out."""


def rebuild(guest: Guest) -> None:
    guest.stat = {"st_ino": 2, "st_size": 12, "st_mtime_sec": 6, "st_mtime_nsec": 0}
    guest.labels.clear()


def ran(guest: Guest) -> str:
    """What the one program's result says; its error's sentence where it failed."""
    try:
        (done,) = run_all(cast("ApplianceGuest", guest), (PROGRAM,), silent)
    except GuestProgramFailed as error:
        return error.sentence()
    return done.summary


def test_a_program_that_made_a_new_file_is_done_and_the_file_keeps_its_label() -> None:
    guest = Guest(rebuild, labels={IMAGE: LABEL})
    assert ran(guest) == "run /usr/sbin/update-initramfs -u -k 6.1"
    assert (guest.ran, guest.labels) == ([list(PROGRAM.argv)], {IMAGE: LABEL})


def test_a_file_without_label_gets_none() -> None:
    guest = Guest(rebuild)
    ran(guest)
    assert guest.labels == {}


def test_what_a_failing_program_said_is_the_error() -> None:
    def fail(guest: Guest) -> None:
        raise ApplianceFailed("command", "gzip: stdout: No space left on device")

    assert "No space left on device" in ran(Guest(fail))


def empty(guest: Guest) -> None:
    guest.stat = {"st_ino": 2, "st_size": 0, "st_mtime_sec": 6, "st_mtime_nsec": 0}


def remove(guest: Guest) -> None:
    guest.stat = None


@pytest.mark.parametrize("does", [lambda guest: None, empty, remove])
def test_a_program_that_leaves_no_new_file_has_failed_whatever_it_says(does: Callable[[Guest], None]) -> None:
    assert "is not a new one" in ran(Guest(does))
