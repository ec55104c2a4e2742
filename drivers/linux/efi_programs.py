"""Programs on the EFI system partition: which boot loaders there are, and what an empty NVRAM would start.

The firmware starts ``\\EFI\\BOOT\\BOOT<arch>.EFI`` when no boot entry leads anywhere (UEFI specification, "Boot
Manager", removable media). FAT does not tell upper from lower case, so neither do comparisons here.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace

from drivers.facts import EfiProgram
from drivers.linux import paths, pe
from drivers.tree import FileType, GuestTree
from p2v.core.units import MIB

MOUNTPOINTS = ("/efi", "/boot/efi", "/boot")
FALLBACK_NAMES = {"x86_64": "BOOTX64.EFI", "i386": "BOOTIA32.EFI", "i686": "BOOTIA32.EFI", "aarch64": "BOOTAA64.EFI"}
PROGRAM_BYTES_AT_MOST = 16 * MIB
PROGRAMS_AT_MOST = 64
ALL_BYTES_AT_MOST = 256 * MIB

_FALLBACK_FOLDER = "boot"
# unified kernel images are entries, not programs to copy
_NOT_LOADERS = frozenset({"linux"})
_READ_BYTES = 1 * MIB
_KINDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"shim.*\.efi"), "shim"),
    (re.compile(r"grub.*\.efi"), "grub"),
    (re.compile(r"mm(?:x64|ia32|aa64)\.efi|mokmanager\.efi"), "mok-manager"),
    (re.compile(r"fb(?:x64|ia32|aa64)\.efi|fallback\.efi"), "fallback"),
    (re.compile(r"systemd-boot.*\.efi"), "systemd-boot"),
    (re.compile(r"bootmgfw\.efi"), "windows"),
)
# ".sbat" names the component in its second line's first field (shim's SBAT.md)
_SBAT_KINDS = (("shim,", "shim"), ("grub,", "grub"), ("systemd-boot,", "systemd-boot"))


def read_efi_programs(tree: GuestTree) -> tuple[EfiProgram, ...]:
    """The loaders in the folders below ``EFI``, within bounds; larger programs are left out."""
    found: list[EfiProgram] = []
    for path, size in _candidates(tree):
        if len(found) == PROGRAMS_AT_MOST or size + sum(program.size for program in found) > ALL_BYTES_AT_MOST:
            break
        found.append(EfiProgram(path, size, _digest(tree, path, size), _kind(tree, path)))
    by_digest = {program.sha256: program.kind for program in found if program.kind != "unknown"}
    # a copy at the removable path is named after its place
    return tuple(replace(p, kind=by_digest.get(p.sha256, p.kind)) if p.kind == "unknown" else p for p in found)


def fallback_programs(tree: GuestTree) -> Iterator[str]:
    """Paths of what the removable path holds, for any architecture."""
    names = {name.lower() for name in FALLBACK_NAMES.values()}
    for folder in _folders(tree):
        if posixpath.basename(folder).lower() == _FALLBACK_FOLDER:
            yield from (posixpath.join(folder, name) for name in tree.list(folder) if name.lower() in names)


def is_systemd_boot(tree: GuestTree, path: str) -> bool:
    """Whether a program says that it is systemd-boot (its ``.sdmagic`` section)."""
    sections = pe.read_sections(tree, path)
    return "systemd-boot" in pe.section_text(tree, path, sections.get(".sdmagic"), 256)


def _candidates(tree: GuestTree) -> Iterator[tuple[str, int]]:
    for folder in _folders(tree):
        if posixpath.basename(folder).lower() in _NOT_LOADERS:
            continue
        for name in tree.list(folder)[: paths.NAMES_AT_MOST]:
            path = posixpath.join(folder, name)
            if name.lower().endswith(".efi"):
                stat = tree.lstat(path)
                if stat.type is FileType.FILE and 0 < stat.size <= PROGRAM_BYTES_AT_MOST:
                    yield path, stat.size


def _folders(tree: GuestTree) -> Iterator[str]:
    seen: set[str] = set()
    for mountpoint in MOUNTPOINTS:
        for name in tree.list(mountpoint)[: paths.NAMES_AT_MOST]:
            above = paths.resolve(tree, posixpath.join(mountpoint, name)) if name.lower() == "efi" else None
            for folder in (posixpath.join(above, below) for below in tree.list(above)[:64]) if above else ():
                if folder not in seen and tree.lstat(folder).type is FileType.DIRECTORY:
                    seen.add(folder)
                    yield folder


def _digest(tree: GuestTree, path: str, size: int) -> str:
    total = hashlib.sha256()
    for start in range(0, size, _READ_BYTES):
        total.update(tree.read_range(path, min(_READ_BYTES, size - start), start))
    return total.hexdigest()


def _kind(tree: GuestTree, path: str) -> str:
    name = posixpath.basename(path).lower()
    named = next((kind for pattern, kind in _KINDS if pattern.fullmatch(name)), "")
    if named:
        return named
    if is_systemd_boot(tree, path):
        return "systemd-boot"
    lines = pe.section_text(tree, path, pe.read_sections(tree, path).get(".sbat"), 4096).splitlines()
    return next((kind for line in lines for prefix, kind in _SBAT_KINDS if line.startswith(prefix)), "unknown")
