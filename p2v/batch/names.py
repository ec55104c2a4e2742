"""Names of a batch's machines, for who needs them at once and must leave no trace: completion in a shell, at a press of a key.

Reading a manifest whole takes half a second, and whoever opens a store as its users do writes beside it. Here little is imported,
and SQLite is told to write nothing: neither the file, nor its log, nor the log's index.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from p2v.batch.nodes import TEXT_BYTES_AT_MOST, Node, NotYaml, parse

NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}"
"""Of a machine, and of the files made."""
DEFAULT_JOBS = Path("jobs.yaml")
"""The batch that is meant where none is named."""
_MACHINES_AT_MOST = 100_000
_SQLITE = b"SQLite format 3\0"
# what means something in the address of a file, by https://www.sqlite.org/uri.html
_IN_A_URI = {ord(letter): f"%{ord(letter):02x}" for letter in "%?#"}
# names that are longer cannot be any, and might be gigabytes
_JOBS = "SELECT place, name, state, cancel_wished FROM jobs WHERE length(name) < 64 LIMIT ?"


@dataclass(frozen=True, slots=True)
class KnownMachine:
    """A machine by its name, which is one (``NAME``). ``state``: as the store has it; of a batch that was never run it waits."""

    name: str
    state: str = "waiting"
    cancel_wished: bool = False


def known_machines(path: Path) -> tuple[KnownMachine, ...]:
    """The machines of a batch, given its manifest or its store: as the store has them, or the manifest where there is none.

    What is neither has none, and whatever cannot be a machine's name is left out, whoever wrote it. Nothing is written. A table
    (CSV) that was never run is not read. Raises OSError.
    """
    text = _content(path)
    if text == _SQLITE:
        return tuple(_of_store(path))
    root = _root(text)
    store = store_of(root, path)
    return tuple(_of_store(store) if store.is_file() else _of_manifest(root))


def store_of(root: Node | None, manifest: Path) -> Path:
    """Where the store of a manifest is, as ``p2v.batch.manifest`` has it, where that finds no fault with it."""
    top = _mapping(root)
    folder = manifest.absolute().parent
    if said := _text(top.get("store")):
        return folder / said
    return usual_store(folder / _text(_mapping(top.get("defaults")).get("target")), manifest)


def usual_store(folder: Path, manifest: Path) -> Path:
    """The store of a manifest that names none; ``folder``: where the results of most of its machines go."""
    return folder / f"{manifest.stem}.batch.sqlite"


def _content(path: Path) -> bytes:
    # a pipe is not waited for, and what another program makes of it is not taken away from it
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return b""
        with open(number, "rb", closefd=False) as file:
            begins = file.read(len(_SQLITE))
            # how large a store is matters to nobody
            return begins if begins == _SQLITE else begins + file.read(TEXT_BYTES_AT_MOST)
    finally:
        os.close(number)


def _root(text: bytes) -> Node | None:
    try:
        return parse(text.decode("utf-8-sig"))
    except (NotYaml, UnicodeDecodeError):
        return None


def _mapping(node: Node | None) -> dict[str, Node]:
    return {key.text: value for key, value in (node.pairs if node is not None else None) or ()}


def _text(node: Node | None) -> str:
    return "" if node is None or node.is_nothing else node.text


def _of_manifest(root: Node | None) -> Iterator[KnownMachine]:
    machines = _mapping(root).get("machines")
    for each in (machines.items if machines is not None else None) or ():
        name = _text(_mapping(each).get("name"))
        if re.fullmatch(NAME, name):
            yield KnownMachine(name)


def _of_store(path: Path) -> Iterator[KnownMachine]:
    found: list[tuple[int, KnownMachine]] = []
    for place, name, state, wished in _rows(path):
        if (
            isinstance(place, int)
            and isinstance(name, bytes)
            and isinstance(state, bytes)
            and re.fullmatch(NAME.encode(), name)
        ):
            found.append((place, KnownMachine(name.decode("ascii"), state.decode("utf-8", "replace"), bool(wished))))
    return (machine for _, machine in sorted(found, key=lambda each: each[0]))


def _rows(path: Path) -> list[tuple[object, object, object, object]]:
    """What the store has; nothing where it cannot be read."""
    try:
        # where the store is a link, the log is beside what it leads to
        has_log = Path(f"{path.resolve()}-wal").stat().st_size > 0
    except OSError:
        has_log = False
    # With a log its index is read but not written: where it is not there, or stale, SQLite makes one in its own memory.
    # Without one nobody is writing, or has written anything yet that is not in the file.
    how = "mode=ro&readonly_shm=1" if has_log else "mode=ro&immutable=1"
    try:
        place = str(path.absolute()).translate(_IN_A_URI)
        with closing(sqlite3.connect(f"file:{place}?{how}", uri=True, timeout=0)) as connection:
            connection.text_factory = bytes
            connection.execute("PRAGMA trusted_schema = OFF")
            return connection.execute(_JOBS, (_MACHINES_AT_MOST,)).fetchall()
    except sqlite3.Error:
        return []
