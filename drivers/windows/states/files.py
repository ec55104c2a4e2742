"""Files without which Windows does not start, and how their contents are kept. Pure.

Sources: Microsoft, "Compact OS, single-instancing, and image optimization", "Windows Image File Boot (WIMBoot) overview".

Nothing is ever written over a file that the overlay filter compressed: what is carried into a guest expects nothing in its place,
and a driver that is there counts as there. (ntfs-3g shows such a file as a link that leads nowhere.) Hives are never compressed so.
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.plan import Finding
from drivers.windows.facts import WindowsFacts

_SHOWN = 4


def blockers(windows: WindowsFacts) -> Iterator[Finding]:
    """What cannot start by itself."""
    if windows.encrypted_files:
        message = f"{_listed(windows.encrypted_files)}: encrypted by NTFS (EFS), which no start can read"
        yield Finding("windows.encrypted-files", message, "Decrypt them where it runs: `cipher /d /s:C:\\Windows\\System32`.")


def warnings(windows: WindowsFacts) -> Iterator[Finding]:
    """What is kept compressed, or in other places."""
    if windows.compressed or windows.compressed_files:
        what = f"{_listed(windows.compressed_files)} are" if windows.compressed_files else "its system files are"
        message = f"{what} kept compressed (CompactOS): they count as present, and none of them is written over"
        yield Finding("windows.compact", message, "Nothing has to be done; `compact /CompactOS:never` unpacks them where it runs.")
    if windows.missing_files:
        names = _listed(windows.missing_files)
        message = f"{names}: kept elsewhere (reparse points, as WIMBoot has them into an image on another partition)"
        hint = "Give every disk that the machine has. What such files hold was not looked at; they count as present."
        yield Finding("windows.files-elsewhere", message, hint)


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
