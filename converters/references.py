"""Files that an image names: parents, extents, data files. What may be opened, and where it is looked for.

An image is not believed: a name in it is followed only below the folders that belong to the disk (the image's own and
those the user allowed or named), whatever it looks like and whatever links stand in the way. A name that
leads elsewhere may still mean a file that was moved beside the image, so its last component is looked for there. What a
member of an archive names is looked for among the members and nowhere else.
"""

from __future__ import annotations

import enum
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from converters.mapped import MappedDisk
from converters.source_file import SourceFile, open_source, shown
from p2v.core.errors import BadImage, ForbiddenReference, NoSource, P2vError, ParentMissing, UnsupportedImage

# VMware allows 32 snapshots in a chain, Hyper-V 50 checkpoints.
MAX_CHAIN = 128
# Files whose headers are looked at in the search for one parent, in all folders together.
MAX_CANDIDATES = 2048


class SizeBy(enum.Enum):
    """What tells the size of a VHD."""

    CREATOR = "creator"
    """As the program that made it presents the disk."""
    CURRENT_SIZE = "current-size"
    GEOMETRY = "geometry"


class Fit(enum.IntEnum):
    """How well a file suits as the parent of an image that knows its parent by an identifier alone."""

    NONE = 0
    CHANGED = 1
    """The right disk in another state."""
    RIGHT = 2


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the user says about files that images name.

    ``parents``: the parent of the disk, that one's parent, and so on; ``folders``: further places to look for
    files by their last name; ``allowed``: folders below which a name may lead.
    """

    parents: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()
    allowed: tuple[Path, ...] = ()
    size_by: SizeBy = SizeBy.CREATOR


NOTHING_SAID = Lookup()


@dataclass(frozen=True, slots=True)
class DiskSpec:
    """How to open a disk: where it is, its format (None: look at the contents), and what the user says about files
    that it names. Paths in it are absolute where it is handed to another process.

    ``undo_journal``: the disk is wanted as it was before the conversion in place that wrote this journal, in which it is the
    disk ``undo_disk``.
    """

    path: Path
    input_format: str | None = None
    lookup: Lookup = NOTHING_SAID
    undo_journal: Path | None = None
    undo_disk: int = 0

    def absolute(self) -> DiskSpec:
        """The same, whatever folder it is opened from."""
        lookup = self.lookup
        made = Lookup(
            tuple(p.absolute() for p in lookup.parents),
            tuple(p.absolute() for p in lookup.folders),
            tuple(p.absolute() for p in lookup.allowed),
            lookup.size_by,
        )
        journal = self.undo_journal.absolute() if self.undo_journal is not None else None
        return DiskSpec(self.path.absolute(), self.input_format, made, journal, self.undo_disk)


# A file's device and inode, and for a member of an archive its path.
Identity = tuple[int, int, str]
OpenImage = Callable[[SourceFile, "str | None", "Opening"], MappedDisk]


@dataclass(frozen=True, slots=True)
class Opening:
    """One image of a chain being opened: how it may find what it names.

    ``chain`` has the files from the disk itself down to this image, ``roots`` the folders names may lead into.
    """

    lookup: Lookup
    open_image: OpenImage
    roots: tuple[Path, ...]
    chain: tuple[Identity, ...] = field(default=())

    def beside(self, image: SourceFile, name: str) -> SourceFile:
        """Open a file that ``image`` names as a part of itself (an extent, a data file).

        Raises ForbiddenReference when the name leads out of the disk's folders and no file of that name is in
        them; BadImage when there is none; what ``open_source`` raises.
        """
        found = self._open_if_there(image, name)
        if found is None:
            where, advice = "does not exist", "Put it beside the image, or say where it is with --extent-dir."
            if image.siblings is not None:
                where, advice = "is not in the archive", "Export the disk again, or put all of its files into one archive."
            raise BadImage(image.path, f"names the file {shown(name)}, which {where}", advice)
        return found

    def parent(self, child: SourceFile, names: Sequence[str], input_format: str | None = None) -> MappedDisk:
        """Open the parent of ``child``: the one the user named for this level, else the first of ``names`` there is.

        Whether it is the right one (identifiers, size) is for the caller to check. Raises ParentMissing,
        ForbiddenReference, BadImage (loops, chains that are too long) and what opening an image raises.
        """
        return self._parent(child, lambda: self._open_first(child, names), input_format)

    def parent_among(
        self, child: SourceFile, suffix: str, fit: Callable[[SourceFile], Fit], what: str, input_format: str | None = None
    ) -> MappedDisk:
        """Open the parent of a ``child`` that names no file: the one the user named for this level, else the best of
        the files called ``suffix`` (in small letters) that stand in the disk's folders themselves.

        ``fit`` judges a file by its header; ``what`` says in errors which disk is looked for. Checking and errors:
        as in ``parent``.
        """
        return self._parent(child, lambda: self._open_best(child, suffix, fit, what), input_format)

    def _parent(self, child: SourceFile, find: Callable[[], SourceFile], input_format: str | None) -> MappedDisk:
        chain = (*self.chain, _identity(child))
        if len(chain) > MAX_CHAIN:
            raise BadImage(child.path, f"its chain of parents is longer than {MAX_CHAIN} images")
        level = len(self.chain)
        roots = self.roots
        if level < len(self.lookup.parents):
            file = open_source(self.lookup.parents[level])
            # Whoever names a parent lets it have its own parts beside it.
            roots = (*roots, *_own_folder(file))
        else:
            file = find()
        try:
            if _identity(file) in chain:
                raise BadImage(child.path, f"its chain of parents is a loop: {file.path.name} comes up again")
            return self.open_image(file, input_format, Opening(self.lookup, self.open_image, roots, chain))
        except BaseException:
            file.close()
            raise

    def _open_best(self, child: SourceFile, suffix: str, fit: Callable[[SourceFile], Fit], what: str) -> SourceFile:
        best, found = Fit.NONE, None
        folders = (*_own_folder(child), *self.roots, *(f.resolve() for f in self.lookup.folders))
        for path in _candidates(dict.fromkeys(folders), suffix):
            try:
                file = open_source(path)
            except P2vError:
                continue  # no disk, or not ours to read; it may still be no parent of this child
            try:
                suits = Fit.NONE if _identity(file) == _identity(child) else fit(file)
            finally:
                file.close()
            if suits > best:
                best, found = suits, path
            if best is Fit.RIGHT:
                break
        if found is None:
            raise ParentMissing(child.path, what)
        return open_source(found)

    def _open_first(self, child: SourceFile, names: Sequence[str]) -> SourceFile:
        forbidden: ForbiddenReference | None = None
        for name in names:
            try:
                found = self._open_if_there(child, name)
            except ForbiddenReference as error:
                forbidden = forbidden or error
                continue
            if found is not None:
                return found
        if forbidden is not None:
            raise forbidden
        raise ParentMissing(child.path, shown(names[0]) if names else "a disk it does not name")

    def _open_if_there(self, image: SourceFile, name: str) -> SourceFile | None:
        """The file a name means, None where there is none. Raises ForbiddenReference and what opening a file raises."""
        if not name or "\0" in name:
            raise ForbiddenReference(image.path, f"names the file {shown(name)}, which is no name")
        place = _as_path(name)
        if place is None:
            raise ForbiddenReference(image.path, f"names {shown(name)}, which is no file beside it")
        if image.siblings is not None:
            return image.siblings(place)
        if image.path != image.host_path:
            what = f"is compressed or in parts and names the file {shown(name)}, which is not looked for"
            raise UnsupportedImage(image.path, what, "Unpack it or join its parts, and name the disk.")
        found = self._find(image, name, place)
        return None if found is None else _open_named(image, found, name)

    def _find(self, image: SourceFile, name: str, place: str) -> Path | None:
        """The file of the host a name means, None where there is none. Raises ForbiddenReference."""
        if image.is_block_device:
            # Its own folder is /dev, and its guest may have written the name.
            raise ForbiddenReference(image.path, f"is a device and names the file {shown(name)}")
        folder = _resolved(image, image.host_path, name).parent
        target = _resolved(image, folder / place, name)
        inside = any(target.is_relative_to(root) for root in (folder, *self.roots))
        if inside and _exists(target):
            return target
        moved = self._moved(image, folder, PurePosixPath(place).name, name)
        if moved is None and not inside:
            raise ForbiddenReference(image.path, f"names the file {shown(name)}, outside its own folder")
        return moved

    def _moved(self, image: SourceFile, folder: Path, last: str, name: str) -> Path | None:
        if last in ("", ".", ".."):
            return None
        for place in (folder, *(f.resolve() for f in self.lookup.folders)):
            target = _resolved(image, place / last, name)
            if target.is_relative_to(place) and _exists(target):
                return target
        return None


def open_part(first: SourceFile, name: str) -> SourceFile:
    """Open another part of a file that was cut in parts, by its name. Raises as ``Opening.beside``."""
    return Opening(NOTHING_SAID, _no_image, _own_folder(first)).beside(first, name)


def named_file(owner: Path, name: str, lookup: Lookup, roots: Sequence[Path] = ()) -> Path | None:
    """The file of the host that a description of a machine (``owner``) means by a name in it; None where there is none.

    The same rules as for what an image names: nothing outside the description's own folder, ``roots`` and what the user
    allowed is looked at; a file that was moved is looked for by its last name. Raises ForbiddenReference, NoSource and what
    opening a file raises.
    """
    place = _as_path(name) if name and "\0" not in name else None
    with closing(open_source(owner)) as file:
        if place is None:
            raise ForbiddenReference(owner, f"names {shown(name)}, which is no file beside it")
        allowed = (*_own_folder(file), *(folder.resolve() for folder in (*roots, *lookup.allowed)))
        try:
            return Opening(lookup, _no_image, allowed)._find(file, name, place)
        except ForbiddenReference:
            # a path of the old host's that this one has not is a file that is missing, and nothing worse
            if _exists(_resolved(file, owner.parent / place, name)):
                raise
            return None


def _no_image(file: SourceFile, _format: str | None, _opening: Opening) -> MappedDisk:
    raise AssertionError(f"{file.path} is a part and was opened as an image")


def first_opening(file: SourceFile, lookup: Lookup, open_image: OpenImage) -> Opening:
    """For the disk the user named. Raises NoSource where an allowed folder is none."""
    for folder in (*lookup.allowed, *lookup.folders):
        if not folder.is_dir():
            raise NoSource(str(folder), "is no folder", "--allow and --extent-dir name folders.")
    roots = (*_own_folder(file), *(folder.resolve() for folder in lookup.allowed))
    return Opening(lookup, open_image, roots)


def _candidates(folders: Iterable[Path], suffix: str) -> Iterator[Path]:
    """Files called ``suffix`` in the folders themselves, in the order of their names, a bounded number of them."""
    left = MAX_CANDIDATES
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                named = (entry.name for entry in entries if entry.name.lower().endswith(suffix))
                names = sorted(itertools.islice(named, left))
        except OSError:
            continue  # a folder that cannot be listed holds nothing to be found
        left -= len(names)
        for path in (folder / name for name in names):
            # a link within the folder is as good as the file; one that leads out of it is nobody's business
            if not path.is_symlink() or _stays_in(folder, path):
                yield path


def _stays_in(folder: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder)
    except (OSError, RuntimeError):
        return False  # a link that leads to itself


def _as_path(name: str) -> str | None:
    """A name as a path of this host; None for URLs and the like (``nbd:``, ``json:``, ``file:``).

    A Windows path's drive or share says nothing here, so only its last component is left.
    """
    windows = PureWindowsPath(name)
    if windows.drive and (name[1:2] == ":" or windows.drive.startswith("\\\\")) and not name.startswith("/"):
        return f"/nonexistent/{windows.name}"
    if ":" in name.replace("\\", "/").split("/", 1)[0]:
        return None
    return name.replace("\\", "/")


def _resolved(image: SourceFile, path: Path, name: str) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ForbiddenReference(image.path, f"names the file {shown(name)}, which cannot be followed") from error


def _own_folder(file: SourceFile) -> tuple[Path, ...]:
    """The folder whose files belong to an image: that of its file; a device, and what is in an archive, has none."""
    if file.is_block_device or file.path != file.host_path:
        return ()
    return (file.host_path.resolve().parent,)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False  # a name longer than names can be, a folder nobody may look into


def _open_named(image: SourceFile, path: Path, name: str) -> SourceFile:
    try:
        file = open_source(path)
    except NoSource as error:
        raise BadImage(image.path, f"names the file {shown(name)}, which {error.problem}") from error
    if file.is_block_device:
        file.close()
        raise ForbiddenReference(image.path, f"names {shown(name)}, which is a device of this host")
    return file


def _identity(file: SourceFile) -> Identity:
    found = os.stat(file.host_path)
    inside = "" if file.siblings is None else str(file.path)
    return found.st_dev, found.st_ino, inside
