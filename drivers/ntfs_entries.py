"""The files of an NTFS, by libfsntfs: what ``drivers.offline`` needs of one.

Names are found in any case, as Windows finds them. Owners and modes are what ntfs-3g shows without a mapping of users. A
reparse point (a junction, a file that Windows keeps compressed or elsewhere) is no file and no folder here: what stands
behind it is Windows' own affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from drivers.tree import FileType, Stat

_REPARSE_POINT = 0x400
_MODE = 0o777


def stat_of(handle: Any, *, is_root: bool) -> Stat:
    """What lstat would tell of a file entry."""
    if is_root:
        return Stat(FileType.DIRECTORY, 0, _MODE, 0, 0)
    # WofCompressedData and deduplication leave a file whose own data is all holes
    if handle.file_attribute_flags & _REPARSE_POINT:
        return Stat(FileType.OTHER, 0, _MODE, 0, 0)
    if handle.has_directory_entries_index():
        return Stat(FileType.DIRECTORY, 0, _MODE, 0, 0)
    return Stat(FileType.FILE, handle.size if handle.has_default_data_stream() else 0, _MODE, 0, 0)


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
