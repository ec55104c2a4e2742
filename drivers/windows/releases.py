"""The releases of Windows by version and build, the names that folders of driver media have for them, and what is said of them.

Sources: Microsoft, "Windows 10 release information", "Windows Server release information", "Operating System Version"; the
folder names as they stand on virtio-win media of 2010 to 2025 (``w10``, ``2k22``; ``WLH``, ``WNET`` and ``XP`` on the oldest;
``Win2022`` on those for floppies).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.windows.inf_targets import Architecture, Version, WindowsTarget


@dataclass(frozen=True, slots=True)
class Release:
    """A release: from which build on a Windows of that version is (at least) this one. ``folders`` in lower case."""

    id: str
    name: str
    version: Version
    build: int
    server: bool
    folders: tuple[str, ...]

    @property
    def since(self) -> tuple[int, int, int]:
        """Version and first build, comparable."""
        return *self.version, self.build


RELEASES: tuple[Release, ...] = (
    Release("2k", "Windows 2000", (5, 0), 2195, False, ("2k", "w2k", "win2k", "win2000")),
    Release("xp", "Windows XP", (5, 1), 2600, False, ("xp", "wxp", "winxp")),
    Release("2k3", "Windows Server 2003", (5, 2), 3790, True, ("2k3", "wnet", "win2003", "2k3r2")),
    Release("vista", "Windows Vista", (6, 0), 6000, False, ("vista", "winvista")),
    Release("2k8", "Windows Server 2008", (6, 0), 6001, True, ("2k8", "wlh", "win2008", "win2k8")),
    Release("w7", "Windows 7", (6, 1), 7600, False, ("w7", "win7")),
    Release("2k8R2", "Windows Server 2008 R2", (6, 1), 7600, True, ("2k8r2", "win2008r2", "win2k8r2")),
    Release("w8", "Windows 8", (6, 2), 9200, False, ("w8", "win8")),
    Release("2k12", "Windows Server 2012", (6, 2), 9200, True, ("2k12", "win2012", "win2k12")),
    Release("w8.1", "Windows 8.1", (6, 3), 9600, False, ("w8.1", "w81", "win8.1", "win81")),
    Release("2k12R2", "Windows Server 2012 R2", (6, 3), 9600, True, ("2k12r2", "win2012r2", "win2k12r2")),
    Release("w10", "Windows 10", (10, 0), 10240, False, ("w10", "win10")),
    Release("2k16", "Windows Server 2016", (10, 0), 14393, True, ("2k16", "win2016", "win2k16")),
    Release("2k19", "Windows Server 2019", (10, 0), 17763, True, ("2k19", "win2019", "win2k19")),
    Release("2k22", "Windows Server 2022", (10, 0), 20348, True, ("2k22", "win2022", "win2k22")),
    Release("w11", "Windows 11", (10, 0), 22000, False, ("w11", "win11")),
    Release("2k25", "Windows Server 2025", (10, 0), 26100, True, ("2k25", "win2025", "win2k25")),
)
_BY_FOLDER = {folder: release for release in RELEASES for folder in release.folders}
_ARCHITECTURES = {
    "x86": Architecture.X86, "i386": Architecture.X86, "i686": Architecture.X86, "amd64": Architecture.X64,
    "x64": Architecture.X64, "x86_64": Architecture.X64, "arm64": Architecture.ARM64, "aarch64": Architecture.ARM64,
}  # fmt: skip


def release_by_id(name: str) -> Release | None:
    """The release of an id, or of a folder that is called so; None for others."""
    return _BY_FOLDER.get(name.lower())


def release_of(target: WindowsTarget) -> Release | None:
    """Which release a Windows is; None for what is older than all (NT 4.0).

    Windows XP for x64 and Server 2003 are one kernel, and the only XP with version 5.2; so are Vista and Server 2008.
    """
    same = [each for each in RELEASES if each.since <= (*target.version, target.build) and each.version == target.version]
    fitting = [each for each in same if each.server == target.is_server] or same
    return max(fitting, key=lambda each: each.since) if fitting else None


def release_in(path: str) -> Release | None:
    """The release that a folder of the path is named for, the innermost if several are."""
    return next((_BY_FOLDER[name] for name in _folders(path) if name in _BY_FOLDER), None)


def architecture_in(path: str) -> Architecture | None:
    """The processor that a folder of the path is named for, the innermost if several are."""
    return next((_ARCHITECTURES[name] for name in _folders(path) if name in _ARCHITECTURES), None)


def _folders(path: str) -> Sequence[str]:
    return [name.lower() for name in reversed(path.split("/")[:-1])]


def same_system(one: Release, other: Release) -> bool:
    """Whether two releases are the same kernel as far as drivers go: the client's and the server's of one version and build.

    Vista is 6000 at first and Server 2008's 6001 with its first service pack; virtio-win has one folder for both.
    """
    return one.version == other.version and (one.version < (10, 0) or one.build == other.build)
