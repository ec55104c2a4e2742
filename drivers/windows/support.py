"""For which Windows a medium has drivers: one row for each release and processor, each judged as a guest of it would be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drivers.windows.devices import BLOCK, NETWORK, SCSI
from drivers.windows.driver_choice import Fit, choose_drivers
from drivers.windows.inf_targets import Architecture, Product, WindowsTarget
from drivers.windows.releases import RELEASES, Release
from drivers.windows.virtio_win import DriverCatalogue

ARCHITECTURES = (Architecture.X86, Architecture.X64, Architecture.ARM64)
_FIRST_ON_ARM64 = (10, 0)
_FIRST_ON_X64 = (5, 2)
_LAST_SERVER_ON_X86 = (6, 0)
_FIRST_BUILD_WITHOUT_X86 = 22000


@dataclass(frozen=True, slots=True)
class Supported:
    """A release on a processor and the devices (ids) that the medium has drivers for; ``older``: of an older release."""

    release: str
    name: str
    arch: Architecture
    devices: tuple[str, ...]
    older: tuple[str, ...]

    @property
    def starts(self) -> bool:
        """Whether it has a driver for its disks and one for its network, made for it."""
        return NETWORK in self.devices and (BLOCK in self.devices or SCSI in self.devices)


def supported(catalogue: DriverCatalogue) -> tuple[Supported, ...]:
    """A row for every release and processor that the medium has anything for, oldest first."""
    rows = (_row(catalogue, release, arch) for arch in ARCHITECTURES for release in RELEASES if _exists(release, arch))
    return tuple(row for row in rows if row.devices or row.older)


def summary(rows: tuple[Supported, ...]) -> str:
    """The releases with drivers for disks and network, by processor: ``amd64: w7, w10, 2k22``."""
    return "; ".join(_listed(rows))


def target_for(release: Release, arch: Architecture) -> WindowsTarget:
    """A Windows as it was when its release came out."""
    product = Product.SERVER if release.server else Product.WORKSTATION
    return WindowsTarget(*release.version, release.build, arch, product)


def _listed(rows: tuple[Supported, ...]) -> Iterator[str]:
    for arch in ARCHITECTURES:
        found = [row.release for row in rows if row.arch is arch and row.starts]
        if found:
            yield f"{arch.value}: {', '.join(found)}"


def _row(catalogue: DriverCatalogue, release: Release, arch: Architecture) -> Supported:
    choice = choose_drivers(catalogue, target_for(release, arch))
    older = tuple(each.device for each in choice.drivers if each.fit is Fit.OLDER)
    own = tuple(each.device for each in choice.drivers if each.fit is not Fit.OLDER)
    return Supported(release.id, release.name, arch, own, older)


def _exists(release: Release, arch: Architecture) -> bool:
    """Whether Microsoft made it for the processor."""
    match arch:
        case Architecture.X86:
            late_server = release.server and release.version > _LAST_SERVER_ON_X86
            return not late_server and release.build < _FIRST_BUILD_WITHOUT_X86
        case Architecture.X64:
            return release.version >= _FIRST_ON_X64
        case _:
            return release.version >= _FIRST_ON_ARM64 and (not release.server or release.id == "2k25")
