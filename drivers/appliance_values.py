"""What is said to the appliance and what it says: disks, file systems, checks, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from p2v.core.errors import P2vError
from p2v.core.units import SECTOR_BYTES

APPLIANCE = "the libguestfs appliance"


@dataclass(eq=False)
class ApplianceFailed(P2vError):
    """libguestfs refused or failed a call, in its own words."""

    operation: str
    message: str
    exit_code: ClassVar[int] = 74
    code: ClassVar[str] = "appliance-failed"

    def sentence(self) -> str:
        return f"{APPLIANCE} failed to {self.operation}: {self.message}"


@dataclass(eq=False)
class ApplianceNotStarted(ApplianceFailed):
    """The appliance did not come up."""

    exit_code: ClassVar[int] = 69
    code: ClassVar[str] = "appliance-not-started"

    def hint(self) -> str:
        return "Run `p2v doctor`: it finds out what the appliance needs on this host and whether KVM works."


@dataclass(eq=False)
class ApplianceStopped(ApplianceFailed):
    """Somebody else asked for the appliance's end: what it was for has failed already."""

    code: ClassVar[str] = "appliance-stopped"


@dataclass(frozen=True, slots=True)
class ApplianceDisk:
    """A disk for the appliance: an image file, or an NBD export as ``nbd+unix:///?socket=...``.

    ``read_only``: libguestfs puts a throw-away overlay over it; journals are replayed there, the disk is never written.
    """

    path_or_uri: Path | str
    format: str
    read_only: bool
    sector_bytes: int = SECTOR_BYTES
    """What the kernel in the appliance takes its sectors for: it reads partition tables with that."""


@dataclass(frozen=True, slots=True)
class FoundFileSystem:
    """A file system that the appliance sees; ``disk`` is None where it is on no plain partition (LVM, md).

    ``partition`` 0 stands for a whole disk. ``kind`` ``unknown`` where nothing was recognised. ``size_bytes`` 0: there
    is no such device after all.
    """

    device: str
    disk: int | None
    partition: int
    kind: str
    uuid: str | None
    label: str | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FileSystemCheck:
    """What a checker that only looks said. ``checked`` False: there is no checker, ``output`` says why."""

    device: str
    kind: str
    checked: bool
    clean: bool
    output: str
