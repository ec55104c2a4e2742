"""Files of a guest whose contents nobody needs once it was shut down: swap files, page files. Pure: names alone.

What a file is called is no proof. ``drivers.file_places`` looks at each before it says where it stands.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from drivers.facts import GuestFacts, Partition, nearest_mount
from drivers.layout import Layout, partition_place
from drivers.linux.fstab import FSTAB, parse_fstab

FILES_AT_MOST = 64


class Contents(enum.Enum):
    """What is in a file, as people are told."""

    SWAP_FILE = "contents of swap files"
    PAGE_FILE = "contents of page files"
    """pagefile.sys and swapfile.sys of Windows, which it makes anew."""
    HIBERNATION = "contents of hiberfil.sys"


WINDOWS_FILES = {
    "pagefile.sys": Contents.PAGE_FILE,
    "swapfile.sys": Contents.PAGE_FILE,
    "hiberfil.sys": Contents.HIBERNATION,
}


@dataclass(frozen=True, slots=True)
class UnneededFile:
    """A file, by its ``path`` in the file system of a partition (``disk`` and ``partition``) or a volume (its device)."""

    contents: Contents
    path: str
    disk: int
    partition: int
    volume: str = ""

    @property
    def place(self) -> str:
        """How people name its file system: as ``drivers.layout.place`` does."""
        return self.volume or partition_place(self.disk, self.partition)


def unneeded_files(facts: GuestFacts, *, hibernation: bool) -> tuple[UnneededFile, ...]:
    """Swap files that fstab names, and Windows' files in the root of every NTFS; hiberfil.sys with ``hibernation`` only."""
    windows = [file for file in _of_windows(facts) if hibernation or file.contents is not Contents.HIBERNATION]
    return tuple(dict.fromkeys([*_swap_files(facts), *windows]))[:FILES_AT_MOST]


def _swap_files(facts: GuestFacts) -> Iterator[UnneededFile]:
    text = facts.texts[FSTAB].text if FSTAB in facts.texts else ""
    for entry in parse_fstab(text):
        parts = PurePosixPath(entry.spec).parts
        if entry.fstype != "swap" or parts[:1] != ("/",) or parts[1:2] == ("dev",) or ".." in parts:
            continue
        path = "/" + "/".join(parts[1:])
        mount = nearest_mount(facts.mounts, path)
        if mount is not None:
            below = path[len(mount.mountpoint.rstrip("/")) :]
            where = f"{mount.folder.rstrip('/')}{below}"
            yield UnneededFile(Contents.SWAP_FILE, where, mount.disk, mount.partition, mount.volume)


def _of_windows(facts: GuestFacts) -> Iterator[UnneededFile]:
    for device in Layout.of(facts).devices:
        if device.filesystem is None or device.filesystem.kind != "ntfs":
            continue
        for name, contents in WINDOWS_FILES.items():
            if isinstance(device, Partition):
                yield UnneededFile(contents, f"/{name}", device.disk, device.number)
            else:
                yield UnneededFile(contents, f"/{name}", *(device.carriers[0] if device.carriers else (0, 0)), device.device)
