"""The manifest of an OVF package: digests of its files, checked before anything is copied.

Source: DSP0243 1.1.1, 5.1 and 2.1.1, 6.2 (``SHA1(file)= digest`` a line; SHA-1, SHA-256; products also write SHA-512). The
signature in a ``.cert`` is not checked: who signed a package is no question of whether it arrived whole.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from converters.archives import open_stored
from converters.piece_walk import CopyCancelled
from converters.source_file import shown, shown_names
from p2v.core.errors import BadDescription, NoSource
from p2v.core.events import BytesDone, Reporter, phase, silent
from p2v.core.units import MIB
from p2v.sources.description import Description
from p2v.sources.draft import Draft

_LINES_AT_MOST = 20_000
_LOOKED_FOR_AT_MOST = 32
_LINE = re.compile(r"\s*([A-Za-z0-9-]{3,10})\s*\(\s*(.+?)\s*\)\s*=\s*([0-9A-Fa-f]+)\s*")
_ALGORITHMS = {"SHA1": "sha1", "SHA-1": "sha1", "SHA256": "sha256", "SHA-256": "sha256", "SHA384": "sha384", "SHA-384": "sha384",
               "SHA512": "sha512", "SHA-512": "sha512"}  # fmt: skip
_READ_BYTES = 4 * MIB
_ADVICE = "The package is not as it was made: download or export it again. To use it as it is, remove its manifest (.mf)."


@dataclass(frozen=True, slots=True)
class Entry:
    """What a manifest says of one file: its name among those around the description, and its digest (small letters)."""

    name: str
    algorithm: str
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest; ``odd_lines`` is how many of its lines are none."""

    name: str
    entries: tuple[Entry, ...]
    odd_lines: int = 0


def manifest(description: Description) -> Manifest | None:
    """The manifest that stands beside an .ovf under its name, or alone there; None where there is none.

    Raises BadDescription for one that says two things of a file, or cannot be read.
    """
    name = _beside(description, ".mf")
    if name is None:
        return None
    raw = description.around.read(name)
    if raw is None:
        raise description.error(f"has a manifest, {shown(name)}, that cannot be read or is too large")
    lines = raw.decode("utf-8", "surrogateescape").removeprefix("\ufeff").rstrip("\0").splitlines()
    if len(lines) > _LINES_AT_MOST:
        raise description.error(f"has a manifest of more than {_LINES_AT_MOST} lines")
    entries: dict[tuple[str, str], Entry] = {}
    odd = 0
    for line in lines:
        if not line.strip():
            continue
        entry = _entry(line, PurePosixPath(name).parent.as_posix())
        if entry is None:
            odd += 1
        elif entries.setdefault((entry.name, entry.algorithm), entry) != entry:
            raise description.error(f"has a manifest with two digests of {shown(entry.name)}", _ADVICE)
    return Manifest(name, tuple(entries.values()), odd)


def check(draft: Draft, used: Iterable[str]) -> None:
    """Check what costs nothing: the description's own digest, and that what is listed and what is there are the same files.

    ``used`` are the files the description refers to. The disks' digests are ``verify``'s. Raises BadDescription.
    """
    description = draft.description
    if _beside(description, ".cert") is not None:
        draft.warn("signature", "the package is signed; its signature is not checked, the digests in its manifest are")
    found = manifest(description)
    if found is None:
        return
    if found.odd_lines:
        draft.warn("manifest", f"{found.odd_lines} lines of {found.name} are no digests this version knows; they are not used")
    own = description.name
    for entry in found.entries:
        if entry.name == own and hashlib.new(entry.algorithm, description.data, usedforsecurity=False).hexdigest() != entry.digest:
            raise description.error(f"does not have the digest that {found.name} says it has", _ADVICE)
    listed = {entry.name for entry in found.entries}
    there = set(description.around.names())
    # of a large folder not all names are given; looking for one takes a walk through it
    doubtful = sorted(listed - there)[:_LOOKED_FOR_AT_MOST]
    missing = [name for name in doubtful if description.disk(name) is None]
    if missing:
        raise description.error(f"has a manifest that lists files that are not there: {shown_names(missing)}", _ADVICE)
    unlisted = sorted({own, *(_joined(description.around.home, name) for name in used)} - listed)
    if unlisted:
        names = shown_names(unlisted)
        draft.warn("manifest-unlisted", f"{found.name} has no digest of {names}; whether they are whole is not known")


def verify(
    description: Description, *, report: Reporter = silent, cancelled: threading.Event | None = None
) -> tuple[str, ...]:
    """Read every listed file through its digest, as it is stored (disks in archives are neither inflated nor joined).

    To be called before the copy; reads each file once, in one thread. Returns the names that were checked, none where there
    is no manifest. Raises BadDescription with all files that differ, CopyCancelled, and what reading a file raises.
    """
    found = manifest(description)
    if found is None:
        return ()
    own = description.name
    entries: dict[str, list[Entry]] = {}
    for entry in found.entries:
        if entry.name != own:
            entries.setdefault(entry.name, []).append(entry)
    wrong = []
    with phase(report, "manifest", "checking the package's digests"):
        for name, stated in entries.items():
            path = description.disk(name)
            if path is None:
                raise NoSource(str(description.path.parent / name), "is listed in the manifest and is not there")
            digests = _digests(path, {entry.algorithm for entry in stated}, report, cancelled)
            wrong += [name for entry in stated if digests[entry.algorithm] != entry.digest]
    if wrong:
        names = ", ".join(shown(name) for name in dict.fromkeys(wrong))
        raise BadDescription(description.path, f"files differ from their digests in {found.name}: {names}", _ADVICE)
    return tuple(entries)


def _digests(path: Path, algorithms: set[str], report: Reporter, cancelled: threading.Event | None) -> dict[str, str]:
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with closing(open_stored(path)) as file:
        offset = 0
        while offset < file.size:
            if cancelled is not None and cancelled.is_set():
                raise CopyCancelled(str(path))
            data = file.pread(_READ_BYTES, offset)
            if not data:
                break
            for each in hashes.values():
                each.update(data)
            offset += len(data)
            report(BytesDone("manifest", len(data)))
    return {name: each.hexdigest() for name, each in hashes.items()}


def _entry(line: str, folder: str) -> Entry | None:
    match = _LINE.fullmatch(line)
    algorithm = _ALGORITHMS.get(match[1].upper()) if match else None
    if match is None or algorithm is None or len(match[3]) != 2 * hashlib.new(algorithm, usedforsecurity=False).digest_size:
        return None
    return Entry(_joined(folder, match[2]), algorithm, match[3].lower())


def _joined(folder: str, name: str) -> str:
    return posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))


def _beside(description: Description, suffix: str) -> str | None:
    """The file with that suffix in the description's own folder: of its name, else the only one."""
    found = [n for n in description.beside() if n.lower().endswith(suffix) and "/" not in n and not n.startswith("._")]
    own = description.path.stem.lower()
    same = [name for name in found if PurePosixPath(name).stem.lower() == own]
    chosen = same[0] if same else found[0] if len(found) == 1 else None
    return None if chosen is None else posixpath.join(description.around.home, chosen)
