"""The files of an NTFS, by libfsntfs: what ``drivers.offline`` needs of one.

Names are found in any case, as Windows finds them. Owners and modes are what ntfs-3g shows without a mapping of users. A
reparse point (a junction, a file that Windows keeps elsewhere) is no file and no folder here: what stands behind it is
Windows' own affair. One that its overlay filter compressed (CompactOS) is a file; ntfs-3g shows it as a link that leads nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from drivers.tree import FileType, Kept, Stat

_REPARSE_POINT = 0x400
_ENCRYPTED = 0x4000
_OF_OVERLAY_FILTER = "WofCompressedData"
_MODE = 0o777


def stat_of(handle: Any, *, is_root: bool) -> Stat:
    """What lstat would tell of a file entry."""
    if is_root:
        return Stat(FileType.DIRECTORY, 0, _MODE, 0, 0)
    flags = handle.file_attribute_flags
    if flags & _REPARSE_POINT:
        # its own data is all holes, and libfsntfs reads what stands in the stream
        if handle.has_alternate_data_stream_by_name(_OF_OVERLAY_FILTER) and not handle.has_directory_entries_index():
            return Stat(FileType.FILE, handle.size, _MODE, 0, 0, Kept.COMPRESSED)
        return Stat(FileType.OTHER, 0, _MODE, 0, 0, Kept.ELSEWHERE)
    if handle.has_directory_entries_index():
        return Stat(FileType.DIRECTORY, 0, _MODE, 0, 0)
    kept = Kept.ENCRYPTED if flags & _ENCRYPTED else Kept.PLAIN
    return Stat(FileType.FILE, handle.size if handle.has_default_data_stream() else 0, _MODE, 0, 0, kept)


def find(volume: Any, parts: tuple[str, ...]) -> Any:
    """The file entry at a path of plain names; None when there is none. Raises OSError where the volume is damaged."""
    if any("\\" in part for part in parts):
        return None
    return volume.get_file_entry_by_path("\\" + "\\".join(parts)) if parts else volume.get_root_directory()


def names(handle: Any) -> Iterator[str | None]:
    """Names in a folder; None for one that cannot be told."""
    for index in range(handle.number_of_sub_file_entries):
        try:
            yield handle.get_sub_file_entry(index).name
        except OSError:
            yield None
