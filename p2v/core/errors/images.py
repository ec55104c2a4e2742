"""Images and descriptions that are not what they should be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from p2v.core.errors.root import P2vError


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
