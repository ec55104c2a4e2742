"""Batches: manifests that cannot be read, leases that were lost, and the store of what became of each machine."""

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


@dataclass(eq=False)
class LeaseLost(P2vError):
    """A worker's right to a machine has gone to another, or ended; ``fence``: the number of its lease. It must stop."""

    job: str
    fence: int
    problem: str
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "lease-lost"

    def sentence(self) -> str:
        return f"{self.job}: lease {self.fence} is lost: {self.problem}"

    def hint(self) -> str:
        return "Nothing got its final name by this run; `p2v batch status` tells who has the machine now."


@dataclass(eq=False)
class BadStore(P2vError):
    """A batch's store that is none, is damaged, or was made by a p2v that knows more."""

    file: Path
    problem: str
    advice: str = "Name the store that the manifest's batch made; a damaged one is best replaced by a copy of it."
    exit_code: ClassVar[int] = 65
    code: ClassVar[str] = "bad-store"

    def sentence(self) -> str:
        return f"{self.file}: {self.problem}"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class StoreBusy(P2vError):
    """Another process kept the store's write lock for longer than any of ours does."""

    file: Path
    seconds: float
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "store-busy"

    def sentence(self) -> str:
        return f"{self.file}: another process has kept it locked for {self.seconds:g} seconds"

    def hint(self) -> str:
        return "See whether a p2v batch is stopped (SIGSTOP) or hangs on its storage; go on or end it, then try again."


@dataclass(eq=False)
class StoreElsewhere(P2vError):
    """A batch's store that another host has, or had when it was last seen, on a file system that both can reach.

    ``over``: the kind of that file system here, empty where it is a disk of this host; ``note``: the file that names the host.
    """

    file: Path
    host: str
    over: str
    note: Path
    exit_code: ClassVar[int] = 64
    code: ClassVar[str] = "store-elsewhere"

    def sentence(self) -> str:
        where = f"on {self.over}, and " if self.over else ""
        return f"{self.file}: {where}the store of a batch of the host {self.host}; two hosts must never open it, not even to read"

    def hint(self) -> str:
        return (
            f"Use p2v batch on {self.host}. For a batch of this host's own name another file by the manifest's `store`, on a disk "
            f"of this host. If {self.host} is gone for good, or has a new name, and no p2v runs on it: remove {self.note}"
        )


@dataclass(eq=False)
class RunElsewhere(P2vError):
    """A run of another host has leases in this store, which is where several hosts can reach it."""

    file: Path
    host: str
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "run-elsewhere"

    def sentence(self) -> str:
        return f"{self.file}: a run on the host {self.host} has machines under way, and two hosts must never open a store"

    def hint(self) -> str:
        return f"Stop the run on {self.host}; if that host is dead, its leases run out within a minute: try again then."


@dataclass(eq=False)
class NoSuchJob(P2vError):
    """A machine that the batch does not have."""

    job: str
    file: Path
    exit_code: ClassVar[int] = 64
    code: ClassVar[str] = "no-such-job"

    def sentence(self) -> str:
        return f"{self.job}: the batch has no machine of that name ({self.file})"

    def hint(self) -> str:
        return "`p2v batch status` lists their names."
