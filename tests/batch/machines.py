"""Machines and batches for tests of what batches are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2v.batch.jobs import Batch, Budget, Failure, MachineJob

FAILURE = Failure(code="io", exit_code=74, message="disk.img: cannot read", hint="Look at its cable.", may_help=True)


def machine(name: str, **more: Any) -> MachineJob:
    """One that nobody looks for on disk."""
    return MachineJob(name=name, sources=(Path("/src") / f"{name}.vmdk",), folder=Path("/out"), **more)


def batch(folder: Path, *machines: MachineJob | str) -> Batch:
    """A manifest of machines, or of their names."""
    made = tuple(machine(each) if isinstance(each, str) else each for each in machines)
    return Batch(made, Budget(), folder / "batch.sqlite", folder / "jobs.yaml")
