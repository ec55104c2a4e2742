"""Every error a user can meet: facts in fields, one sentence, a hint, an exit code on the class.

Only ``p2v.cli`` prints them and exits. Engines raise the most exact class below; a new kind of failure
is a new class here, not a new text. Exit codes follow sysexits where it has one (DESIGN.md section 5).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(eq=False)
class P2vError(Exception):
    """Root of the suite's errors; subclasses add fields and say them in ``sentence``."""

    exit_code: ClassVar[int] = 70
    code: ClassVar[str] = "bug"

    def sentence(self) -> str:
        """One sentence: what, where."""
        return type(self).__name__

    def hint(self) -> str:
        """What to do next; empty when there is nothing to say."""
        return ""

    def __str__(self) -> str:
        return self.sentence()

    # Exception's own pickling hands ``args`` to the constructor, which a dataclass leaves empty.
    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), tuple(getattr(self, f.name) for f in dataclasses.fields(self)))


@dataclass(eq=False)
class Usage(P2vError):
    """The command line (or a document it names) asks for something that makes no sense."""

    message: str
    advice: str = ""
    exit_code: ClassVar[int] = 64
    code: ClassVar[str] = "usage"

    def sentence(self) -> str:
        return self.message

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class BadImage(P2vError):
    """A disk image contradicts itself or its format's specification."""

    file: Path
    problem: str
    advice: str = "The copy may be incomplete; compare its size with the original's."
    exit_code: ClassVar[int] = 65
    code: ClassVar[str] = "bad-image"

    def sentence(self) -> str:
        return f"{self.file}: {self.problem}"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class UnsupportedImage(BadImage):
    """A sound image of a kind this version does not read."""

    advice: str = "Convert it with the tool that made it to a variant in the README's table."
    code: ClassVar[str] = "unsupported-image"


@dataclass(eq=False)
class AmbiguousFormat(BadImage):
    """The contents do not settle the format, or contradict what the name or the user says."""

    advice: str = "Say what it is with --input-format."
    code: ClassVar[str] = "ambiguous-format"


@dataclass(eq=False)
class NoKnownFormat(AmbiguousFormat):
    """The contents are no format's, nor those of a raw disk with a partition table or a file system."""

    advice: str = "If it is a raw disk all the same, say --input-format raw; otherwise check that the copy is complete."


@dataclass(eq=False)
class ForbiddenReference(BadImage):
    """An image names a file outside its own folder (backing file, extent file)."""

    advice: str = (
        "An image that names host files can read anything; check where the image came from, then put the files "
        "beside it or allow their folder with --allow DIR."
    )
    code: ClassVar[str] = "forbidden-reference"


@dataclass(eq=False)
class ParentMissing(BadImage):
    """A child disk (snapshot, checkpoint, differencing disk) without the disk it holds changes to."""

    problem: str
    advice: str = (
        "Put the parent beside it, say where it is with --parent FILE, or allow its folder with --allow DIR."
    )
    code: ClassVar[str] = "parent-missing"

    def sentence(self) -> str:
        return f"{self.file}: holds only changes to {self.problem}, which is not there"


@dataclass(eq=False)
class WrongParent(BadImage):
    """The parent of a child disk is another disk than the one it was made over, or was changed since."""

    advice: str = "Reading it would give a damaged disk; find the parent it was made over and say --parent FILE."
    code: ClassVar[str] = "wrong-parent"


@dataclass(eq=False)
class BadDescription(P2vError):
    """A machine's description (.vmx, OVF, ...) contradicts itself or its format, or names what is not there."""

    file: Path
    problem: str
    advice: str = "Export or copy the machine again, or name its disks alone."
    exit_code: ClassVar[int] = 65
    code: ClassVar[str] = "bad-description"

    def sentence(self) -> str:
        return f"{self.file}: {self.problem}"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class BadTarget(P2vError):
    """What the suite wrote does not stand its own checks: a bug of ours, or failing storage."""

    file: Path
    problem: str
    code: ClassVar[str] = "bad-target"

    def sentence(self) -> str:
        return f"{self.file}: {self.problem}"

    def hint(self) -> str:
        return "Nothing was published. Check the storage, and report this with the output of `p2v doctor`."


@dataclass(eq=False)
class NoSource(P2vError):
    """The named source does not exist, or is no disk at all."""

    source: str
    problem: str
    advice: str = "Name a disk image or a block device."
    exit_code: ClassVar[int] = 66
    code: ClassVar[str] = "no-source"

    def sentence(self) -> str:
        return f"{self.source}: {self.problem}"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class ToolMissing(P2vError):
    """A program or library the step needs is not on this host."""

    tool: str
    package: str
    exit_code: ClassVar[int] = 69
    code: ClassVar[str] = "tool-missing"

    def sentence(self) -> str:
        return f"{self.tool} is not available on this host"

    def hint(self) -> str:
        return f"Install {self.package}, then run `p2v doctor`."


@dataclass(eq=False)
class ProgramFailed(P2vError):
    """A program the suite started failed."""

    program: str
    exit_status: int
    stderr_tail: str
    exit_code: ClassVar[int] = 74
    code: ClassVar[str] = "program-failed"

    def sentence(self) -> str:
        last = self.stderr_tail.strip().splitlines()
        reason = f": {last[-1]}" if last else ""
        return f"{self.program} failed with exit status {self.exit_status}{reason}"


@dataclass(eq=False)
class ProgramTimedOut(P2vError):
    """A program the suite started did not end in its time; its process group was ended."""

    program: str
    seconds: float
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "program-timed-out"

    def sentence(self) -> str:
        return f"{self.program} did not end within {self.seconds:g} seconds"


@dataclass(eq=False)
class NoSpace(P2vError):
    """A folder has less free space than the step needs (bytes)."""

    folder: Path
    needed: int
    free: int
    advice: str = "Free some space or name another folder with -o."
    exit_code: ClassVar[int] = 73
    code: ClassVar[str] = "no-space"

    def sentence(self) -> str:
        return f"{self.folder}: {self.needed} bytes are needed and {self.free} are free"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class TargetExists(P2vError):
    """A file would have to be replaced."""

    target: Path
    advice: str = "Choose another name with --name, another folder with -o, or remove the file."
    exit_code: ClassVar[int] = 73
    code: ClassVar[str] = "target-exists"

    def sentence(self) -> str:
        return f"{self.target}: exists already"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class TargetBusy(P2vError):
    """Another run is writing this target."""

    target: Path
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "target-busy"

    def sentence(self) -> str:
        return f"{self.target}: another run is writing it"

    def hint(self) -> str:
        return "Wait for that run, or end it, and try again."


@dataclass(eq=False)
class UnfitDevice(P2vError):
    """A block device that a disk cannot be written to."""

    device: Path
    problem: str
    advice: str = "Name another device with --to-device; nothing was written."
    exit_code: ClassVar[int] = 73
    code: ClassVar[str] = "unfit-device"

    def sentence(self) -> str:
        return f"{self.device}: {self.problem}"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class DeviceInUse(P2vError):
    """A block device that was to be written has users; each of ``users`` says who in words."""

    device: Path
    users: tuple[str, ...]
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "device-in-use"

    def sentence(self) -> str:
        return f"{self.device}: is in use: " + "; ".join(self.users)

    def hint(self) -> str:
        return "Nothing was written. Unmount it, or stop what uses it, if it really is the device you mean."


@dataclass(eq=False)
class SourceInUse(P2vError):
    """A block device that was to be copied may be written meanwhile; each of ``users`` says by whom in words."""

    device: Path
    users: tuple[str, ...]
    advice: str = "Shut down or unmount what uses it; or say --live for the best copy of a running system that can be had."
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "source-in-use"

    def sentence(self) -> str:
        return f"{self.device}: is in use, and a copy of it would not be of one moment: " + "; ".join(self.users)

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class NotHeldStill(P2vError):
    """A source in use that could not be kept still, or not for long enough: what was copied is not of one moment."""

    what: str
    problem: str
    advice: str = "Nothing was made of it. Try again at a quieter time; docs/live.md has the ways, and how to choose one."
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "not-held-still"

    def sentence(self) -> str:
        return f"{self.what}: {self.problem}"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class DeviceNotEmpty(P2vError):
    """A block device that was to be written holds something; each of ``contents`` says what in words."""

    device: Path
    contents: tuple[str, ...]
    exit_code: ClassVar[int] = 73
    code: ClassVar[str] = "device-not-empty"

    def sentence(self) -> str:
        return f"{self.device}: is not empty: " + "; ".join(self.contents)

    def hint(self) -> str:
        return "Nothing was written. If what is on it may be lost, say --overwrite-device."


@dataclass(eq=False)
class ReadFailed(P2vError):
    """The host could not read or write a file."""

    file: str
    problem: str
    exit_code: ClassVar[int] = 74
    code: ClassVar[str] = "io"

    def sentence(self) -> str:
        return f"{self.file}: {self.problem}"


@dataclass(eq=False)
class Unreadable(ReadFailed):
    """The storage under a file says that it cannot read a range of it (bytes of the file), and might others."""

    offset: int = 0
    length: int = 0
    reason: str = ""
    """In the host's words."""
    code: ClassVar[str] = "unreadable"


@dataclass(eq=False)
class BadSectors(ReadFailed):
    """A range of a source cannot be read, also not in small pieces; ``offset`` and ``length`` in bytes of ``file``.

    ``at``: where in the disk, as its guest sees it. ``known``: all such ranges that are known by now (offset and length in the
    disk). ``holds``: what of the guest stands there, where that was found out.
    """

    offset: int
    length: int
    disk: int
    at: int
    known: tuple[tuple[int, int], ...]
    holds: tuple[str, ...] = ()
    code: ClassVar[str] = "bad-sectors"

    def sentence(self) -> str:
        total = sum(length for _, length in self.known)
        count = f"; known so far: {len(self.known)} such ranges, {total} bytes" if len(self.known) > 1 else ""
        holds = f"; it holds {', '.join(self.holds)}" if self.holds else ""
        where = "" if self.at == self.offset else f" (byte {self.at} of the disk)"
        return f"{self.file}: {self.length} bytes at byte {self.offset}{where} cannot be read: {self.problem}{holds}{count}"

    def hint(self) -> str:
        return (
            "--skip-bad-sectors goes on with zeroes in such places and tells which files they hit. Of a disk that is dying, "
            "make an image with GNU ddrescue first and convert that."
        )


@dataclass(eq=False)
class SourceGone(ReadFailed):
    """A source that was there does not answer any more: unplugged, unmounted, or its server went away."""

    code: ClassVar[str] = "source-gone"

    def hint(self) -> str:
        return "Look at its cable, its mount or its server; the same command goes on where this one ended."


@dataclass(eq=False)
class SourceFailing(ReadFailed):
    """So much of a source cannot be read that going on would take forever."""

    code: ClassVar[str] = "source-failing"

    def hint(self) -> str:
        return (
            "GNU ddrescue gets what can be got of such a disk into an image; convert that. The same command goes on where "
            "this one ended."
        )


@dataclass(eq=False)
class NotPermitted(P2vError):
    """The user may not read or write something."""

    file: str
    action: str
    exit_code: ClassVar[int] = 77
    code: ClassVar[str] = "permission"

    def sentence(self) -> str:
        return f"{self.file}: no permission to {self.action} it"

    def hint(self) -> str:
        return "Check the owner and mode of the file and of its folder, or run as a user who may."


@dataclass(eq=False)
class GuestNotUnderstood(P2vError):
    """No operating system was found in the disks, or none that can be rewritten."""

    disk: str
    problem: str
    advice: str = "`p2v inspect` shows what was found in it."
    exit_code: ClassVar[int] = 76
    code: ClassVar[str] = "guest-not-understood"

    def sentence(self) -> str:
        return f"{self.disk}: {self.problem}"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class ReaderCrashed(P2vError):
    """The confined child that reads guest contents died, hung or broke a limit."""

    disk: str
    how: str
    exit_code: ClassVar[int] = 65
    code: ClassVar[str] = "reader-crashed"

    def sentence(self) -> str:
        return f"{self.disk}: reading its contents {self.how}"

    def hint(self) -> str:
        return "The image may be damaged or made to do harm; try --reader appliance."


@dataclass(eq=False)
class Blocked(P2vError):
    """The plan has blockers; all of them are in ``reasons``."""

    disk: str
    reasons: tuple[str, ...]
    exit_code: ClassVar[int] = 4
    code: ClassVar[str] = "blocked"

    def sentence(self) -> str:
        return f"{self.disk}: cannot be converted: " + "; ".join(self.reasons)

    def hint(self) -> str:
        return "`p2v plan` shows every blocker with what to do about it."


@dataclass(eq=False)
class PlanStale(P2vError):
    """What a plan expects to find is not there."""

    where: str
    expected: str
    found: str
    exit_code: ClassVar[int] = 78
    code: ClassVar[str] = "plan-stale"

    def sentence(self) -> str:
        return f"{self.where}: the plan expects {self.expected}, found {self.found}"

    def hint(self) -> str:
        return "The source changed since it was planned; make a new plan."


@dataclass(eq=False)
class NotInPlace(P2vError):
    """A disk that can be converted, but not where it stands."""

    file: Path
    problem: str
    advice: str = "Convert it with a copy (without --in-place); nothing was written to it."
    exit_code: ClassVar[int] = 4
    code: ClassVar[str] = "not-in-place"

    def sentence(self) -> str:
        return f"{self.file}: cannot be converted in place: {self.problem}"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class DiskInUse(P2vError):
    """A disk that would be written to is open elsewhere."""

    file: Path
    how: str
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "disk-in-use"

    def sentence(self) -> str:
        return f"{self.file}: is in use: {self.how}"

    def hint(self) -> str:
        return "Shut the machine down, or unmount the disk, and try again. Nothing was written to it."


@dataclass(eq=False)
class BadJournal(P2vError):
    """An undo journal that is damaged, or not one."""

    file: Path
    problem: str
    exit_code: ClassVar[int] = 65
    code: ClassVar[str] = "bad-journal"

    def sentence(self) -> str:
        return f"{self.file}: {self.problem}"

    def hint(self) -> str:
        return "Nothing was written to any disk. Look for a sound copy of the journal."


@dataclass(eq=False)
class UsedSince(P2vError):
    """A disk is not as an in-place conversion left it: to put old bytes into it could damage it."""

    file: Path
    what: str
    exit_code: ClassVar[int] = 78
    code: ClassVar[str] = "used-since"

    def sentence(self) -> str:
        return f"{self.file}: is not as the conversion left it: {self.what}"

    def hint(self) -> str:
        return (
            "What was written since and what would be put back do not belong together; nothing was written. "
            "`p2v undo --force` puts it back all the same."
        )


@dataclass(eq=False)
class Interrupted(P2vError):
    """A disk between two states: a conversion in place was killed while it wrote."""

    file: Path
    journal: Path
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "interrupted"

    def sentence(self) -> str:
        return f"{self.file}: an in-place conversion of it was interrupted while it wrote (journal: {self.journal})"

    def hint(self) -> str:
        return f"The same `p2v convert --in-place` finishes it; `p2v undo {self.journal}` takes it back."


@dataclass(eq=False)
class NotCommitted(P2vError):
    """The boot check of a conversion in place failed before anything was written to the disks."""

    disk: str
    reason: str
    exit_code: ClassVar[int] = 3
    code: ClassVar[str] = "not-committed"

    def sentence(self) -> str:
        return f"{self.disk}: the boot check failed, so nothing was written: {self.reason}"

    def hint(self) -> str:
        return "The disks are as they were; NAME.failed.png and .log show the boot. --force writes the changes all the same."
