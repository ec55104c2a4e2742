"""Programs of the guest's own, run in the appliance: only those of a plan, which has none unless the user asked for them.

The one module that lets the guest's code run. It runs in a chroot of the appliance, a virtual machine without a network that has
the guest's disks and nothing else.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from drivers.appliance_tree import ApplianceGuest
from drivers.appliance_values import ApplianceFailed
from drivers.apply import AppliedChange
from drivers.plan import GuestProgram
from p2v.core.errors import P2vError
from p2v.core.events import ChangeApplied, Reporter

MEMORY_MIB = 1024
"""For building an initramfs: a compressor with a large window among it."""
# without KVM, on a busy machine, Debian's update-initramfs took 160 s for a short list of modules
_SECONDS = 3600.0
_SHOWN_CHARACTERS = 4000


@dataclass(eq=False)
class GuestProgramFailed(P2vError):
    """A program of the guest's ended with an error, or did not do what it was run for; ``output`` is the end of its words."""

    program: str
    output: str
    exit_code: ClassVar[int] = 74
    code: ClassVar[str] = "guest-program-failed"

    def sentence(self) -> str:
        return f"the guest's program {self.program} failed in the appliance: {self.output}"

    def hint(self) -> str:
        return "Convert without --rebuild-initramfs: then no program of the guest's is needed; or mend it in the source."


def run_all(guest: ApplianceGuest, programs: Sequence[GuestProgram], report: Reporter) -> tuple[AppliedChange, ...]:
    """Run the programs in order; one result for each. Raises GuestProgramFailed, ProgramTimedOut (after an hour)."""
    done = []
    for program in programs:
        label = guest.label(program.writes)
        before = _identity(guest, program.writes)
        name = shlex.join(program.argv)
        try:
            guest.appliance.call("command", list(program.argv), seconds=_SECONDS)
        except ApplianceFailed as error:
            raise GuestProgramFailed(name, error.message.strip()[-_SHOWN_CHARACTERS:]) from error
        if _identity(guest, program.writes) in (before, None):
            raise GuestProgramFailed(name, f"it said nothing of an error, and {program.writes} is not a new one")
        # there is no policy loaded in the appliance that would have labelled a new file
        if label is not None and guest.label(program.writes) is None:
            guest.set_label(program.writes, label)
        done.append(AppliedChange(f"run {name}", False, f"{program.writes} was built anew by the guest's own program"))
        report(ChangeApplied(f"run {name}", False))
    guest.sync()
    return tuple(done)


def _identity(guest: ApplianceGuest, path: str) -> tuple[int, ...] | None:
    """What tells whether a file was written since; None where nothing is, or it is empty."""
    try:
        stat = guest.appliance.call("lstatns", path)
    except ApplianceFailed:
        return None
    keys = ("st_ino", "st_size", "st_mtime_sec", "st_mtime_nsec")
    return tuple(int(stat[key]) for key in keys) if int(stat["st_size"]) else None
