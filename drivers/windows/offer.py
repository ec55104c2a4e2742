"""What a medium of drivers offers a Windows guest: the choice, and where the chosen files stand. Reads the medium."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drivers.windows.driver_changes import members_of
from drivers.windows.driver_choice import DriverChoice, choose_drivers
from drivers.windows.facts import WindowsFacts
from drivers.windows.inf_targets import Architecture, Product, WindowsTarget
from drivers.windows.media import MediumMember, locate, read_media
from drivers.windows.signing import Trust
from drivers.windows.updates import reads_sha2
from drivers.windows.virtio_win import DriverCatalogue

_ARCHITECTURES = {"i386": Architecture.X86, "x86_64": Architecture.X64, "aarch64": Architecture.ARM64}


@dataclass(frozen=True, slots=True)
class DriverOffer:
    """A medium's catalogue, what is chosen from it for one guest, and the chosen files with their digests."""

    catalogue: DriverCatalogue
    choice: DriverChoice
    located: tuple[MediumMember, ...]


def target_of(windows: WindowsFacts) -> WindowsTarget | None:
    """The guest as drivers see it; None for a processor that no drivers are looked for."""
    arch, version = _ARCHITECTURES.get(windows.arch), windows.version
    if arch is None:
        return None
    product = Product.SERVER if version.is_server else Product.WORKSTATION
    if version.is_domain_controller:
        product = Product.DOMAIN_CONTROLLER
    return WindowsTarget(version.major, version.minor, version.build, arch, product)


def offer_for(windows: WindowsFacts, medium: Path, secure_boot: bool) -> DriverOffer | None:
    """What a medium offers; None for a guest that no drivers are looked for. Raises as ``media.read_media``."""
    target = target_of(windows)
    if target is None:
        return None
    catalogue = read_media(medium)
    choice = choose_drivers(catalogue, target, Trust(secure_boot, reads_sha2(windows)))
    return DriverOffer(catalogue, choice, locate(catalogue, members_of(choice, catalogue)))
