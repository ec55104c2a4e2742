"""Opening a medium of Windows drivers: a CD image or a folder of this host, read in the confined child, never mounted."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from drivers.changes import CARRIED_BYTES_AT_MOST
from drivers.confinement import Limits, confined, confined_over_tree
from drivers.tree import FileType, GuestTree, Stat
from drivers.windows.inf_text import BadInf
from drivers.windows.iso9660 import IsoTree
from drivers.windows.virtio_win import DriverCatalogue, read_catalogue
from p2v.core import jsonio
from p2v.core.disk import Extent, StoredAt
from p2v.core.errors import NoSource, ReaderCrashed
from p2v.core.units import MIB

_T = TypeVar("_T")
DEFAULT_MEDIA = ("/usr/share/virtio-win", "/usr/local/share/virtio-win", "/usr/share/drivers/windows")
_ADVICE = "Name virtio-win.iso from Fedora's virtio-win project, or a folder with its drivers, with --virtio-win."
_LIMITS = Limits(result_bytes=64 * MIB)


@dataclass(frozen=True, slots=True)
class MediumMember:
    """A file of a medium as it is carried: ``offset`` in the CD image, None for a file of its own. ``size`` in bytes."""

    source: str
    """The image, or the file of the host."""
    member: str
    """Its path on the medium."""
    offset: int | None
    size: int
    sha256: str


class ImageFile:
    """Implements ``p2v.core.disk.DiskReader`` over a file of this host, as it stands."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # a FIFO of that name must not make us wait
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(self._fd)
        self._size, self.is_regular = status.st_size, stat.S_ISREG(status.st_mode)

    @property
    def virtual_size(self) -> int:
        """See ``DiskReader``."""
        return self._size

    @property
    def files(self) -> tuple[Path, ...]:
        """See ``DiskReader``."""
        return (self._path,)

    def pread(self, length: int, offset: int) -> bytes:
        """See ``DiskReader``."""
        return os.pread(self._fd, length, offset)

    def extents(self) -> Iterator[Extent]:
        """See ``DiskReader``."""
        if self._size:
            yield Extent(0, self._size, zero=False, allocated=True, stored=StoredAt(self._path, 0))

    def close(self) -> None:
        """See ``DiskReader``."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> ImageFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class HostFolder:
    """Implements ``drivers.tree.GuestTree`` over a folder of this host; links count as what they lead to below the folder."""

    root: Path

    def read(self, path: str, limit: int = 4 * MIB) -> bytes:
        """See ``GuestTree.read``."""
        data = self.read_range(path, limit + 1, 0)
        if len(data) > limit:
            raise ValueError(f"{path} has more than {limit} bytes")
        return data

    def read_range(self, path: str, length: int, offset: int) -> bytes:
        """See ``GuestTree.read_range``."""
        try:
            with ImageFile(self.place(path)) as file:
                if not file.is_regular:
                    raise FileNotFoundError(path)
                return file.pread(length, offset)
        except OSError as error:
            raise FileNotFoundError(path) from error

    def exists(self, path: str) -> bool:
        """See ``GuestTree.exists``."""
        try:
            return self.place(path).exists()
        except FileNotFoundError:
            return False

    def list(self, path: str) -> tuple[str, ...]:
        """See ``GuestTree.list``."""
        try:
            return tuple(sorted(os.listdir(self.place(path))))
        except OSError:
            return ()

    def lstat(self, path: str) -> Stat:
        """See ``GuestTree.lstat``."""
        try:
            found = os.stat(self.place(path))
        except OSError as error:
            raise FileNotFoundError(path) from error
        kinds = {stat.S_IFREG: FileType.FILE, stat.S_IFDIR: FileType.DIRECTORY}
        kind = kinds.get(stat.S_IFMT(found.st_mode), FileType.OTHER)
        return Stat(kind, found.st_size, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)

    def readlink(self, path: str) -> str:
        """There are no links here."""
        raise FileNotFoundError(path)

    def place(self, path: str) -> Path:
        """The file of the host. Raises FileNotFoundError for one that is outside the folder."""
        root = os.path.realpath(self.root)
        try:
            place = os.path.realpath(os.path.join(root, path.lstrip("/")))
        except ValueError as error:
            raise FileNotFoundError(path) from error
        if place != root and not place.startswith(root.rstrip("/") + "/"):
            raise FileNotFoundError(path)
        return Path(place)


def find_media(paths: Sequence[str] = DEFAULT_MEDIA) -> Path | None:
    """The first of the usual places that holds anything."""
    for folder in map(Path, paths):
        try:
            if folder.is_dir() and any(folder.iterdir()):
                return folder
        except OSError:
            continue
    return None


def read_media(path: Path) -> DriverCatalogue:
    """The catalogue of a CD image or a folder; of a folder without drivers, that of the (last by name) CD image in it.

    Raises NoSource when it cannot be read or has no drivers, BadImage for a damaged image, ReaderCrashed.
    """
    path = path.absolute()
    found = _read(path)
    if not found.packages and found.kind == "folder":
        images = _images_in(path)
        found = _read(images[-1]) if images else found
    if not found.packages:
        why = f" ({found.problems[0].path}: {found.problems[0].text})" if found.problems else ""
        raise NoSource(str(path), f"holds no driver packages of Windows{why}", _ADVICE)
    return found


def locate(catalogue: DriverCatalogue, members: Sequence[str]) -> tuple[MediumMember, ...]:
    """Where files of a medium stand and their digests, in the order asked for.

    Raises NoSource when one cannot be read any more, and as ``read_media``.
    """
    place = Path(catalogue.source)
    folder = HostFolder(place)
    data = _over(place, lambda tree: [jsonio.encode(jsonio.converter(), _measured(tree, member)) for member in members])
    rows = _checked(data, tuple[_Measured | None, ...], place)
    if len(rows) != len(members):
        raise ReaderCrashed(str(place), f"gave {len(rows)} digests of {len(members)} files")
    found = []
    for member, row in zip(members, rows, strict=True):
        if row is None:
            raise NoSource(str(place), f"has no {member} any more, or none that is carried", "Try again.")
        source = str(place) if catalogue.kind == "iso" else str(folder.place(member))
        found.append(MediumMember(source, member, row.offset, row.size, row.sha256))
    return tuple(found)


def _read(place: Path) -> DriverCatalogue:
    data = _over(place, lambda tree: jsonio.encode(jsonio.converter(), _catalogue(tree, str(place))))
    return _checked(data, DriverCatalogue, place)


def _checked(data: Any, kind: type[_T], place: Path) -> _T:
    """What the child gave, which may have been taken over by what it read. Raises ReaderCrashed."""
    try:
        return jsonio.decode(jsonio.converter(), data, kind)
    except jsonio.BadDocument as error:
        raise ReaderCrashed(str(place), f"gave a catalogue that is none: {str(error)[:200]}") from error


def _images_in(folder: Path) -> list[Path]:
    # the newest is the last by name, and what a link without a version leads to
    return sorted(each for each in folder.iterdir() if each.suffix.lower() == ".iso" and each.is_file())


def _catalogue(tree: GuestTree, source: str) -> DriverCatalogue:
    label, kind = (tree.label, "iso") if isinstance(tree, IsoTree) else ("", "folder")
    try:
        return read_catalogue(tree, source, kind, label)
    except BadInf as error:
        raise NoSource(source, str(error), _ADVICE) from error


def _over(place: Path, work: Callable[[GuestTree], Any]) -> Any:
    """Do something in the confined child, over the tree of a folder or an image."""
    try:
        if place.is_dir():
            return confined_over_tree(work, HostFolder(place), limits=_LIMITS)
        if not place.is_file():
            raise NoSource(str(place), "is neither a file nor a folder" if place.exists() else "is not there", _ADVICE)
        with ImageFile(place) as reader:
            return confined(lambda readers: work(IsoTree(readers[0])), (reader,), limits=_LIMITS)
    except OSError as error:
        raise NoSource(str(place), error.strerror or "cannot be read", _ADVICE) from error


@dataclass(frozen=True, slots=True)
class _Measured:
    offset: int | None
    size: int
    sha256: str


def _measured(tree: GuestTree, member: str) -> _Measured | None:
    """A file of the medium; None for what is not there, too large, or in pieces."""
    try:
        data = tree.read(member, CARRIED_BYTES_AT_MOST)
        extents = tree.file(member).extents if isinstance(tree, IsoTree) else ()
    except (FileNotFoundError, ValueError):
        return None
    if len(extents) > 1:
        return None
    return _Measured(extents[0][0] if extents else None, len(data), hashlib.sha256(data).hexdigest())
