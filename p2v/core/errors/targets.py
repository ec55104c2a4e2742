"""Targets that cannot be written, or must not be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from p2v.core.errors.root import P2vError
from p2v.core.units import format_bytes


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
class NoSpace(P2vError):
    """A folder has less free space than the step needs (bytes; ``needed`` 0, ``free`` -1: nobody knows how much that is)."""

    folder: Path
    needed: int
    free: int
    advice: str = "Free some space or name another folder with -o."
    exit_code: ClassVar[int] = 73
    code: ClassVar[str] = "no-space"

    def sentence(self) -> str:
        if self.free < 0:
            return f"{self.folder}: there is no room left"
        if self.needed <= self.free:
            # a quota, or what others were given meanwhile
            return f"{self.folder}: there is no room left on its storage ({format_bytes(self.free)} are free)"
        needed, free = format_bytes(self.needed), format_bytes(self.free)
        if needed == free:
            needed, free = f"{self.needed} bytes", f"{self.free} bytes"
        return f"{self.folder}: {needed} are needed and {free} are free"

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
