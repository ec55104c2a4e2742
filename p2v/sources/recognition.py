"""What a path given as a source is: a machine's description, a folder or an archive with one in it, or a disk.

By contents, not by names: names only say which files of a folder are worth a look.
"""

from __future__ import annotations

import importlib
import os
import stat
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol, cast, runtime_checkable

from converters.formats import FORMATS
from converters.references import NOTHING_SAID, Lookup
from converters.source_file import open_source
from p2v.core.errors import NoSource, P2vError, Usage
from p2v.core.events import Reporter
from p2v.core.text import printable
from p2v.machine import Machine
from p2v.sources.description import Description, Folder, Members, Surroundings, archived, is_file, read_small

HEAD_BYTES = 64 * 1024
_CANDIDATES_AT_MOST = 64
_DISK_SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)
_ARCHIVE_HEADS = (b"PK\x03\x04", b"\x1f\x8b\x08")
# What the first sector of a disk with partitions, or of a file system for the PC, ends with.
_BOOT_SIGN, _BOOT_SIGN_AT = b"\x55\xaa", 510
_TAR, _TAR_AT = b"ustar", 257


class Reader(Protocol):
    """What the module of a kind of description has."""

    KIND: str

    def recognises(self, head: bytes) -> bool:
        """Whether a file's first bytes are such a description's."""
        ...

    def read(self, description: Description) -> Machine:
        """The machine. Raises BadDescription, ForbiddenReference."""
        ...


@runtime_checkable
class PackageReader(Reader, Protocol):
    """A reader of descriptions that may tell of several machines, and how to know their files (OVF)."""

    def systems(self, description: Description) -> tuple[str, ...]:
        """The names of the machines, as ``read`` takes them. Raises BadDescription."""
        ...

    def read(self, description: Description, name: str | None = None) -> Machine:
        """The machine; of several the one called ``name``."""
        ...

    def verify(
        self, description: Description, *, report: Reporter, cancelled: threading.Event | None
    ) -> tuple[str, ...]:
        """Read the files through their digests; the names of those that are right. Raises BadDescription."""
        ...


@dataclass(frozen=True, slots=True)
class SourceKind:
    """A kind of description: its module, the suffixes its files have, folders of copies that are not the machine's own."""

    module: str
    suffixes: tuple[str, ...]
    old_copies: tuple[str, ...] = ()

    @property
    def reader(self) -> Reader:
        """The module; imported when it is needed, which most runs do not."""
        return cast(Reader, importlib.import_module(f"p2v.sources.{self.module}"))


_SNAPSHOTS = ("snapshots",)
KINDS: tuple[SourceKind, ...] = (
    SourceKind("vmx", (".vmx",)),
    SourceKind("ovf", (".ovf",)),
    # Windows Virtual PC's .vmcx is a shortcut to a .vmc
    SourceKind("vmc", (".vmc", ".vmcx")),
    SourceKind("hyperv", (".xml",), _SNAPSHOTS),
    SourceKind("hyperv_exp", (".exp",), _SNAPSHOTS),
    SourceKind("vmcx", (".vmcx",), _SNAPSHOTS),
    SourceKind("virtualbox", (".vbox", ".xml")),
    SourceKind("libvirt", (".xml",)),
    SourceKind("xen", (".cfg", ".xl", ".sxp")),
    SourceKind("proxmox", (".conf",)),
)


def load_readers() -> None:
    """Import every reader now: who forks a process for each of many sources imports them once, and not in each of them."""
    for kind in KINDS:
        _ = kind.reader


def read_machine(path: Path, lookup: Lookup = NOTHING_SAID, name: str | None = None) -> Machine | None:
    """The machine that a description, or the one description in a folder or archive, tells of; None for a disk.

    ``name``: which one, where a description tells of several. Raises what readers raise, NoSource, NotPermitted, ReadFailed, and
    Usage for a folder or an archive with several machines in it and a name where there is one machine.
    """
    found = _find(path, lookup)
    if found is None:
        return None
    reader, description = found
    if name is not None and not isinstance(reader, PackageReader):
        raise Usage(f"{path}: it describes one machine, which needs no name to be told from others")
    machine = reader.read(description, name) if isinstance(reader, PackageReader) else reader.read(description)
    return _with_surroundings(replace(machine, description=path), description)


def verify_files(
    path: Path, lookup: Lookup, report: Reporter, cancelled: threading.Event | None = None
) -> tuple[str, ...]:
    """Whether the files that a description names arrived whole, where it says how to tell (an OVF package's manifest).

    Reads them all; returns the names that were right. Raises BadDescription, CopyCancelled and what reading raises.
    """
    found = _find(path, lookup)
    if found is None:
        return ()
    reader, description = found
    return reader.verify(description, report=report, cancelled=cancelled) if isinstance(reader, PackageReader) else ()


def _find(path: Path, lookup: Lookup) -> tuple[Reader, Description] | None:
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return _in_named_member(path, lookup)
    except (OSError, ValueError):
        return None  # not ours to look at, or no name: whoever opens it says what is wrong
    if is_folder:
        return _in_folder(path, lookup)
    try:
        head = _head(path)
    except NoSource:
        return None  # whoever opens it says what is wrong
    if _is_archive(head):
        return _in_archive(path, lookup)
    reader = _reader_of(head)
    return None if reader is None else (reader, _description(path, Folder(_machine_folder(path), path, lookup), lookup))


def _in_folder(path: Path, lookup: Lookup) -> tuple[Reader, Description]:
    names = Folder(path, path, lookup).names()
    found = [(name, reader) for name in _candidates(names) if (reader := _reader_at(path / name)) is not None]
    if not found:
        raise NoSource(
            str(path), "is a folder without a machine's description in it", "Name the machine's disks themselves."
        )
    name, reader = _only(path, found)
    file = path / name
    return reader, _description(file, Folder(path, file, lookup), lookup)


def _in_archive(path: Path, lookup: Lookup) -> tuple[Reader, Description] | None:
    members = archived(path)
    if members is None:
        return None
    found = [(name, reader) for name in _candidates(members) if (reader := _reader_at(path / name)) is not None]
    if not found:
        return None  # an archive of disks
    name, reader = _only(path, found)
    return reader, _member(path, members, name, lookup)


def _in_named_member(path: Path, lookup: Lookup) -> tuple[Reader, Description] | None:
    """A path that leads into an archive, to a description."""
    archive = next((above for above in path.parents if is_file(above)), None)
    members = archived(archive) if archive is not None else None
    if archive is None or members is None:
        return None
    name = path.relative_to(archive).as_posix()
    reader = _reader_at(path) if name in members else None
    return None if reader is None else (reader, _member(archive, members, name, lookup))


def _member(archive: Path, members: tuple[str, ...], name: str, lookup: Lookup) -> Description:
    folder = str(PurePosixPath(name).parent)
    return _description(archive / name, Members(archive, members, "" if folder == "." else folder), lookup)


def _description(path: Path, around: Surroundings, lookup: Lookup) -> Description:
    return Description(path, read_small(path), around, lookup)


def _with_surroundings(machine: Machine, description: Description) -> Machine:
    around, lookup = description.around, description.lookup
    if not isinstance(around, Folder):
        return machine
    # a chain of child disks may lie in several of the machine's folders
    root, names = around.root.resolve(), around.names()
    below = tuple(dict.fromkeys(root / PurePosixPath(name).parent for name in names))
    wider = replace(lookup, folders=(*lookup.folders, *below), allowed=(*lookup.allowed, root))
    beside = tuple(root / name for name in names if name.lower().endswith(_DISK_SUFFIXES))
    return replace(machine, disks=tuple(replace(disk, lookup=wider) for disk in machine.disks), beside=beside)


def may_describe(names: Sequence[str]) -> list[str]:
    """Names that may be descriptions, those of a machine as it is before those of its snapshots."""
    known = [name for name in names if any(name.lower().endswith(kind.suffixes) for kind in KINDS)]
    copies = {folder for kind in KINDS for folder in kind.old_copies}
    own = [name for name in known if not copies & {part.lower() for part in PurePosixPath(name).parts[:-1]}]
    return own or known


def described_in(path: Path) -> tuple[Path, ...]:
    """Where the descriptions stand in an archive, as paths that ``read_machine`` takes; empty for what is no archive.

    Raises what opening the archive raises.
    """
    members = archived(path) if is_file(path) else None
    return tuple(path / name for name in _candidates(members or ()) if _reader_at(path / name) is not None)


def machine_names(path: Path, lookup: Lookup = NOTHING_SAID) -> tuple[str, ...]:
    """The names of the machines that a package describes; empty for anything that describes one machine, or none.

    Raises what readers raise, and Usage for a folder or an archive with several descriptions in it.
    """
    found = _find(path, lookup)
    if found is None or not isinstance(found[0], PackageReader):
        return ()
    return found[0].systems(found[1])


def _candidates(names: Sequence[str]) -> list[str]:
    return may_describe(names)[:_CANDIDATES_AT_MOST]


def _only(path: Path, found: list[tuple[str, Reader]]) -> tuple[str, Reader]:
    if len(found) > 1:
        names = ", ".join(printable(name, keep="") for name, _ in found[:12])
        raise Usage(f"{path}: has {len(found)} machines in it: {names}", f"Name one, as in {path}/{found[0][0]}.")
    return found[0]


def _reader_at(path: Path) -> Reader | None:
    try:
        return _reader_of(read_small(path)[:HEAD_BYTES])
    except P2vError:
        return None


def _reader_of(head: bytes) -> Reader | None:
    # disks are told by a look at their first bytes, before any reader is imported
    if not _is_text(head) and not head.startswith(_BINARY_HEADS):
        return None
    readers = (kind.reader for kind in KINDS)
    return next((reader for reader in readers if reader.recognises(head)), None)


# Descriptions that are no text: Hyper-V's .vmcx.
_BINARY_HEADS = (b"\x14\x20\x28\x01",)


def _is_text(head: bytes) -> bool:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return True
    if head[1:8:2] == b"\0\0\0\0" or head[:8:2] == b"\0\0\0\0":
        return head.lstrip(b"\0")[:1] == b"<"  # UTF-16 without its mark
    if head[:1] == b"\0" or (head[_BOOT_SIGN_AT:].startswith(_BOOT_SIGN) and b"\0" in head[:_BOOT_SIGN_AT]):
        return False  # a disk without boot code, or with less of it than would show
    # files copied off VMFS may end in NULs; no text begins with them
    return bool(head) and b"\0" not in head[:256].rstrip(b"\0")


def _is_archive(head: bytes) -> bool:
    return head.startswith(_ARCHIVE_HEADS) or head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR


def _head(path: Path) -> bytes:
    with closing(open_source(path)) as file:
        return b"" if file.is_block_device else file.pread(min(HEAD_BYTES, file.size), 0)


def _machine_folder(path: Path) -> Path:
    """The folder that is the machine's: Hyper-V keeps descriptions in one of their own inside it."""
    folder = Path(os.path.abspath(path)).parent
    return folder.parent if folder.name.lower() in ("virtual machines", "snapshots") else folder
