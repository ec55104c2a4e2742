"""Sample guests with as much room as virt-v2v asks for, and the medium of drivers and the helpers that it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from drivers.windows.c_bcd import GRAPHICS_MODE_DISABLED
from tests.fixtures import virtio_win
from tests.fixtures.disk import copied
from tests.fixtures.hives import binary
from tests.fixtures.programs import run
from tests.fixtures.windows import WindowsGuest, bcd, named, pe, windows_disks
from tests.fixtures.windows.records import MIB, Layout
from tests.windows_startup.editing import Set, edited

# virt-v2v(1), "Free space for conversion": 100 MB on the drive C of a Windows
_MORE_BYTES = 128 * MIB
# what it does not bring itself, by its manual's "Files": the service that starts scripts, and a program that waits
_HELPERS = ("rhsrvany.exe", "pnp_wait.exe")


@dataclass(frozen=True)
class RoomyGuest(WindowsGuest):
    """A guest on a larger partition, which is the last of its disk."""

    @property
    def layout(self) -> Layout:
        """The same layout, the system's partition longer."""
        small = super().layout
        system = replace(small.system, size_bytes=small.system.size_bytes + _MORE_BYTES)
        boot = system if small.boot == small.system else small.boot
        return replace(small, size_bytes=small.size_bytes + _MORE_BYTES, boot=boot, system=system)


def roomy(name: str) -> RoomyGuest:
    """A sample guest by its name."""
    small = named(name)
    return RoomyGuest(**{each.name: getattr(small, each.name) for each in fields(small)})


def source(name: str, folder: Path) -> tuple[RoomyGuest, tuple[Path, ...]]:
    """A guest by its name, or one of ``VARIANTS``, and raw images of its disks; copies of a variant are put into the folder."""
    if name not in VARIANTS:
        return roomy(name), windows_disks(roomy(name))
    guest = roomy("win10")
    folder.mkdir()
    (image,) = windows_disks(guest)
    disk = folder / image.name
    copied(image, disk)
    disk.chmod(0o644)
    VARIANTS[name](guest, disk, folder)
    return guest, (disk,)


def _with_a_shared_esp(guest: RoomyGuest, disk: Path, folder: Path) -> None:
    """Its ESP has another system's file beside no loader for a firmware without entries, and its menu was told to be of text."""
    esp = f"{disk}@@{guest.layout.boot.offset_bytes}"
    store, other = folder / "BCD", folder / "grubx64.efi"
    run("mcopy", "-i", esp, "::/EFI/Microsoft/Boot/BCD", store)
    text_mode = f"Objects\\{bcd.LOADER}\\Elements\\{GRAPHICS_MODE_DISABLED:08x}"
    store.write_bytes(edited(store.read_bytes(), [Set(text_mode, "Element", binary(b"\1"))]))
    other.write_bytes(pe.program(guest.arch, pe.Subsystem.EFI_APPLICATION, "another system's loader"))
    run("mcopy", "-o", "-i", esp, store, "::/EFI/Microsoft/Boot/BCD")
    run("mcopy", "-i", esp, other, "::/EFI/Boot/grubx64.efi")
    run("mdel", "-i", esp, "::/EFI/Boot/bootx64.efi")


#: Guests with something that the samples do not have.
VARIANTS: Mapping[str, Callable[[RoomyGuest, Path, Path], None]] = {"win10-shared-esp": _with_a_shared_esp}


def helpers(folder: Path) -> Path:
    """A folder with stand-ins for the programs that virt-v2v puts into guests: they do nothing and say what they are."""
    folder.mkdir()
    for name in _HELPERS:
        (folder / name).write_bytes(pe.program(pe.Arch.X86, pe.Subsystem.CONSOLE, f"stand-in for {name}"))
    return folder


def medium(folder: Path) -> Path:
    """A folder with drivers for every Windows, as a CD of them has them, and with programs that the model of a start takes."""
    return virtio_win.write_folder(virtio_win.startable(virtio_win.medium().files), folder)
