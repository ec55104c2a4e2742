"""Disks inside other files: members of tar archives (OVA) and zip archives, gzip files; read in place, nothing unpacked.

Names in an archive are names only: they are compared, never joined to a path of the host's. Links and devices in it are no disks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from converters.inflated_file import InflatedFile, Wrapping
from converters.source_file import SourceFile, open_source, shown
from converters.windows import Window
from p2v.core.errors import NoSource, UnsupportedImage

if TYPE_CHECKING:
    from converters.archive_members import Member

# gzip in tar in gzip is the deepest anybody packs a disk.
_DEEPEST = 3
_GZIP, _ZIP, _TAR, _TAR_AT = b"\x1f\x8b\x08", b"PK\x03\x04", b"ustar", 257


LooksLikeDisk = Callable[[SourceFile], bool]


def open_source_or_member(path: Path, looks_like_disk: LooksLikeDisk) -> SourceFile:
    """Open a file, or the disk in an archive: the only one there is, or the one a path below the archive names.

    Raises NoSource, NotPermitted, ReadFailed, BadImage, UnsupportedImage.
    """
    archive, wanted = _split(path)
    file = open_source(archive)
    try:
        for _ in range(_DEEPEST):
            inside = _inside(file, wanted, looks_like_disk)
            if inside is None:
                break
            file, wanted = inside
        else:
            raise UnsupportedImage(archive, "holds archives in archives", "Unpack it, and name the disk in it.")
        if wanted:
            raise NoSource(str(path), f"{archive.name} is no archive, so nothing is in it")
    except BaseException:
        file.close()
        raise
    return file


def _split(path: Path) -> tuple[Path, str]:
    """A path that leads into a file, as that file and the rest."""
    for above in path.parents:
        try:
            is_file = above.is_file()
        except OSError:
            continue  # not ours to look into; opening it says so
        if is_file:
            return above, path.relative_to(above).as_posix()
    return path, ""


def _inside(file: SourceFile, wanted: str, looks_like_disk: LooksLikeDisk) -> tuple[SourceFile, str] | None:
    """The file inside a file, and what is still wanted below it; None when it is no archive."""
    head = file.pread(_TAR_AT + len(_TAR), 0)
    if head.startswith(_GZIP):
        name = file.path.name.removesuffix(".gz")
        return InflatedFile(file, Wrapping.GZIP, file.path / (name if name != file.path.name else "inflated")), wanted
    is_zip = head.startswith(_ZIP)
    if is_zip or head[_TAR_AT:].startswith(_TAR):
        # Only archives need it and the libraries it imports, so it is no import of every start.
        from converters.archive_members import tar_members, zip_members

        return _chosen(file, tuple(zip_members(file) if is_zip else tar_members(file)), wanted, looks_like_disk)
    return None


def _chosen(
    file: SourceFile, members: tuple[Member, ...], wanted: str, looks_like_disk: LooksLikeDisk
) -> tuple[SourceFile, str]:
    if wanted:
        found = [m for m in members if m.name == wanted] or [m for m in members if PurePosixPath(m.name).name == wanted]
    else:
        found = [member for member in members if _is_disk(file, member, looks_like_disk)]
    if len(found) != 1:
        names = ", ".join(shown(member.name) for member in (found or members)[:12]) or "nothing"
        what = f"has {len(found)} members" if found else "has no member"
        what += f" called {shown(wanted)}" if wanted else " that are disks" if found else " that is a disk"
        raise NoSource(str(file.path), f"{what}; in it: {names}", f"Name one as in {file.path.name}/NAME.")
    return _opened(file, found[0]), ""


def _opened(file: SourceFile, member: Member) -> SourceFile:
    path = file.path / member.name.replace("/", "_")
    window = Window(file, member.offset, member.length, path)
    return InflatedFile(window, Wrapping.NONE, path) if member.deflated else window


def _is_disk(file: SourceFile, member: Member, looks_like_disk: LooksLikeDisk) -> bool:
    if member.deflated:
        # Inflating each member only to look at it would take for ever.
        return PurePosixPath(member.name).suffix.lower() not in ("", ".ovf", ".mf", ".cert", ".xml", ".txt", ".nvram", ".json")
    # closing a window closes its archive, so it is not closed here
    window = Window(file, member.offset, member.length, file.path / "member")
    return window.pread(len(_GZIP), 0) == _GZIP or looks_like_disk(window)
