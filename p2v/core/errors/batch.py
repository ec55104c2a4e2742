"""Batches that cannot be read, or not be run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from p2v.core.errors.root import P2vError


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing in a manifest that makes no sense. ``line`` counts from 1, 0 where there is none; ``where``: which value."""

    line: int
    where: str
    message: str

    def sentence(self) -> str:
        """It as one line."""
        place = [f"line {self.line}"] if self.line else []
        return ": ".join([*place, *([self.where] if self.where else []), self.message])


@dataclass(eq=False)
class BadManifest(P2vError):
    """A manifest of a batch cannot be understood; all of its mistakes, in the order of their lines."""

    manifest: Path
    mistakes: tuple[Mistake, ...]
    exit_code: ClassVar[int] = 64
    code: ClassVar[str] = "bad-manifest"

    def sentence(self) -> str:
        if len(self.mistakes) == 1:
            return f"{self.manifest}: {self.mistakes[0].sentence()}"
        return "\n".join(
            [f"{self.manifest}: {len(self.mistakes)} mistakes", *(f"  {each.sentence()}" for each in self.mistakes)]
        )

    def hint(self) -> str:
        return "docs/schema/batch-1.schema.json has every key; `p2v batch init FOLDER` writes a manifest to begin with."
