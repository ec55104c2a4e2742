"""Unified kernel images: kernel, initramfs and arguments as sections of one EFI program (UAPI Group's specification).

Signed or measured as a whole, so nothing in them is changed: what is read here says whether they boot as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from drivers.facts import Initramfs
from drivers.linux import paths, pe
from drivers.linux.initramfs import read_initramfs
from drivers.tree import GuestTree, Stat

_TEXT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class UnifiedKernel:
    """What an image says of itself; ``os_release`` by name, quotes taken off."""

    path: str
    version: str
    arguments: str
    os_release: dict[str, str]


def read_unified(tree: GuestTree, path: str) -> UnifiedKernel | None:
    """The image at a path; None when it is none."""
    resolved = paths.resolve(tree, path)
    sections = pe.read_sections(tree, resolved) if resolved is not None else {}
    if resolved is None or ".linux" not in sections:
        return None
    release = pe.section_text(tree, resolved, sections.get(".osrel"), _TEXT_BYTES)
    pairs = (line.partition("=") for line in release.splitlines())
    return UnifiedKernel(
        path=resolved,
        version=pe.section_text(tree, resolved, sections.get(".uname"), _TEXT_BYTES).strip(),
        arguments=" ".join(pe.section_text(tree, resolved, sections.get(".cmdline"), _TEXT_BYTES).split()),
        os_release={name: value.strip("\"'") for name, _, value in pairs},
    )


def unified_initramfs(tree: GuestTree, path: str, kernel_version: str) -> Initramfs | None:
    """The facts about the image's initramfs; None when it has none. ``size`` and digest are the section's."""
    inside = section_tree(tree, path, ".initrd")
    return replace(read_initramfs(inside, path, kernel_version), unified=True) if inside is not None else None


def section_tree(tree: GuestTree, path: str, name: str) -> GuestTree | None:
    """The tree in which the image holds nothing but one of its sections; None when it has none of that name."""
    section = pe.read_sections(tree, path).get(name)
    return _SectionTree(tree, path, section) if section is not None else None


@dataclass(frozen=True, slots=True)
class _SectionTree:
    """A tree in which one file is only a section of itself."""

    tree: GuestTree
    path: str
    section: pe.Section

    def read_range(self, path: str, length: int, offset: int) -> bytes:
        if path != self.path:
            return self.tree.read_range(path, length, offset)
        left = max(0, self.section.size - offset)
        return self.tree.read_range(path, min(length, left), self.section.offset + offset)

    def lstat(self, path: str) -> Stat:
        stat = self.tree.lstat(path)
        return replace(stat, size=self.section.size) if path == self.path else stat

    def read(self, path: str, limit: int = 4 * 1024 * 1024) -> bytes:
        return self.tree.read(path, limit)

    def exists(self, path: str) -> bool:
        return self.tree.exists(path)

    def list(self, path: str) -> tuple[str, ...]:
        return self.tree.list(path)

    def readlink(self, path: str) -> str:
        return self.tree.readlink(path)
