"""Supplements for initramfs images, built while the appliance starts.

``Supplements`` is the side of the pipeline; ``python -m p2v.supplements FOLDER`` is the process that builds:
it takes its task as JSON on standard input and leaves numbered files in FOLDER.
"""

from __future__ import annotations

import json
import os
import select
import socket
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from converters.image import open_disk
from converters.references import DiskSpec
from drivers.changes import ExtendInitramfs
from drivers.facts import GuestFacts, ReadBy
from drivers.remote_tree import BadQuestion, RemoteTree, answer_one
from drivers.tree import GuestTree
from drivers.workshop import build_all, build_over
from p2v.core import jsonio, jsontext
from p2v.core.errors import P2vError, ProgramFailed
from p2v.core.run import Completed, SystemRunner
from p2v.core.units import MIB
from p2v.core.workspace import reachable_parent, temporary_folder
from p2v.documents import PlanDocument, document_converter

_SECONDS = 600.0
_LARGEST_BYTES = 512 * MIB
_TREE_SOCKET = "tree.sock"
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class _Task:
    disks: tuple[DiskSpec, ...]
    """Empty where the guest's tree is to be asked for at the socket ``_TREE_SOCKET``."""
    facts: GuestFacts
    changes: tuple[ExtendInitramfs, ...]


@dataclass(frozen=True, slots=True)
class Supplements:
    """The bytes for each initramfs that the plan extends; made by ``building``."""

    changes: tuple[ExtendInitramfs, ...]
    facts: GuestFacts
    folder: Path
    built: Future[Completed] | None

    def get(self, change: ExtendInitramfs, tree: GuestTree) -> bytes:
        """What to append, waiting for it if need be. Raises what building raised, as ProgramFailed.

        ``tree``: the guest in the appliance, from which it is built where the host may not read the guest's files.
        """
        if self.built is None:
            _build_over_tree(change, self.facts, tree, self.folder)
            return _read_untrusted(self.folder / "0")
        self.built.result()
        return _read_untrusted(self.folder / str(self.changes.index(change)))


@contextmanager
def building(document: PlanDocument) -> Iterator[Supplements]:
    """Start building in the background; leaving the context waits for the builder's end."""
    changes = tuple(c for c in document.plan.changes if isinstance(c, ExtendInitramfs))
    with temporary_folder(reachable_parent()) as folder:
        if not changes or document.facts.read_by is ReadBy.APPLIANCE:
            yield Supplements(changes, document.facts, folder, None)
            return
        disks = tuple(s.spec.absolute() for s in document.sources)
        task = jsonio.encode(document_converter(), _Task(disks, document.facts, changes))
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="p2v-supplements") as pool:
            yield Supplements(changes, document.facts, folder, pool.submit(_start, folder, jsontext.canonical(task)))


def _build_over_tree(change: ExtendInitramfs, facts: GuestFacts, tree: GuestTree, folder: Path) -> None:
    """Build one supplement from a tree that only this process can read, answering the builder's questions."""
    task = jsonio.encode(document_converter(), _Task((), facts, (change,)))
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(max_workers=1) as pool:
        listener.bind(str(folder / _TREE_SOCKET))
        listener.listen(1)
        built = pool.submit(_start, folder, jsontext.canonical(task))
        try:
            while not built.done():
                if select.select([listener], [], [], _POLL_SECONDS)[0]:
                    with listener.accept()[0] as asking:
                        _answer(asking, tree, built)
        except BadQuestion as error:
            raise ProgramFailed("p2v.supplements", 0, f"it {error}") from error
        finally:
            (folder / _TREE_SOCKET).unlink()
        built.result()


def _answer(asking: socket.socket, tree: GuestTree, built: Future[Completed]) -> None:
    while not built.done():
        waiting = select.select([asking], [], [], _POLL_SECONDS)[0]
        if waiting and not answer_one(asking.fileno(), tree):
            return


def _start(folder: Path, task: bytes) -> Completed:
    # -P: nothing is imported from the folder this runs in, which is not ours
    argv = [sys.executable, "-P", "-m", "p2v.supplements", str(folder)]
    return SystemRunner().run(argv, timeout=_SECONDS, stdin=task)


def _read_untrusted(path: Path) -> bytes:
    """A file that the builder left; it is not believed to be one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_BYTES:
                raise ProgramFailed("p2v.supplements", 0, f"left {path.name} as no file of a sensible size")
            return file.read()
    except OSError as error:
        raise ProgramFailed("p2v.supplements", 0, f"left {path.name} as no file: {error.strerror}") from error


def main() -> int:
    """The builder's process. Says what went wrong in one line on stderr."""
    folder = Path(sys.argv[1])
    task = jsonio.decode(document_converter(), json.load(sys.stdin), _Task)
    with ExitStack() as stack:
        try:
            if not task.disks:
                asking = stack.enter_context(socket.socket(socket.AF_UNIX))
                asking.connect(str(folder / _TREE_SOCKET))
                build_over(RemoteTree(asking.fileno()), task.changes, folder, SystemRunner())
                return 0
            readers = [stack.enter_context(open_disk(d.path, d.input_format, d.lookup)) for d in task.disks]
            build_all(readers, task.facts, task.changes, folder, SystemRunner())
        except P2vError as error:
            sys.stderr.write(error.sentence() + "\n")
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
