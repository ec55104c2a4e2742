"""Supplements for initramfs images, built while the appliance starts.

``Supplements`` is the side of the pipeline; ``python -m p2v.supplements FOLDER`` is the process that builds:
it takes its task as JSON on standard input and leaves numbered files in FOLDER.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from converters.image import open_disk
from converters.references import DiskSpec
from drivers.appliance_tree import ApplianceTree
from drivers.changes import Change, ExtendInitramfs
from drivers.facts import GuestFacts, ReadBy
from drivers.linux.supplement import build_supplement
from drivers.workshop import build_all
from p2v.core import jsonio
from p2v.core.errors import P2vError, ProgramFailed
from p2v.core.run import Completed, SystemRunner
from p2v.core.units import MIB
from p2v.core.workspace import temporary_folder
from p2v.documents import PlanDocument

_SECONDS = 600.0
_LARGEST_BYTES = 512 * MIB
_CONVERTER = jsonio.converter(Change)


@dataclass(frozen=True, slots=True)
class _Task:
    disks: tuple[DiskSpec, ...]
    facts: GuestFacts
    changes: tuple[ExtendInitramfs, ...]


@dataclass(frozen=True, slots=True)
class Supplements:
    """The bytes for each initramfs that the plan extends; made by ``building``."""

    changes: tuple[ExtendInitramfs, ...]
    folder: Path
    built: Future[Completed] | None

    def get(self, change: ExtendInitramfs, tree: ApplianceTree) -> bytes:
        """What to append, waiting for it if need be. Raises what building raised, as ProgramFailed.

        ``tree``: the guest in the appliance, from which it is built where the host may not read the guest's files.
        """
        if self.built is None:
            return build_supplement(change, tree, self.folder, SystemRunner())
        self.built.result()
        return _read_untrusted(self.folder / str(self.changes.index(change)))


@contextmanager
def building(document: PlanDocument) -> Iterator[Supplements]:
    """Start building in the background; leaving the context waits for the builder's end."""
    changes = tuple(c for c in document.plan.changes if isinstance(c, ExtendInitramfs))
    with temporary_folder() as folder:
        if not changes or document.facts.read_by is ReadBy.APPLIANCE:
            yield Supplements(changes, folder, None)
            return
        disks = tuple(s.spec.absolute() for s in document.sources)
        task = jsonio.encode(_CONVERTER, _Task(disks, document.facts, changes))
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="p2v-supplements") as pool:
            yield Supplements(changes, folder, pool.submit(_start, folder, jsonio.canonical(task)))


def _start(folder: Path, task: bytes) -> Completed:
    # -P: nothing is imported from the folder this runs in, which is not ours
    argv = [sys.executable, "-P", "-m", "p2v.supplements", str(folder)]
    return SystemRunner().run(argv, timeout=_SECONDS, stdin=task)


def _read_untrusted(path: Path) -> bytes:
    """A file that the builder left; it is not believed to be one."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_BYTES:
            raise ProgramFailed("p2v.supplements", 0, f"left {path.name} as no file of a sensible size")
        return file.read()


def main() -> int:
    """The builder's process. Says what went wrong in one line on stderr."""
    folder = Path(sys.argv[1])
    task = jsonio.decode(_CONVERTER, json.load(sys.stdin), _Task)
    with ExitStack() as stack:
        try:
            readers = [stack.enter_context(open_disk(d.path, d.input_format, d.lookup)) for d in task.disks]
            build_all(readers, task.facts, task.changes, folder, SystemRunner())
        except P2vError as error:
            sys.stderr.write(error.sentence() + "\n")
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
