"""systemd-boot (systemd-boot(7), loader.conf(5)): entries of the Boot Loader Specification, and unified kernel images.

Both may lie on the EFI system partition and on the extended boot partition; an entry's paths begin at its own one.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterator

from drivers.facts import BootEntry, BootLoader
from drivers.linux import bls, efi_programs, paths
from drivers.linux.unified import UnifiedKernel, read_unified
from drivers.tree import GuestTree

MOUNTPOINTS = ("/efi", "/boot/efi", "/boot")

_DEFAULT = re.compile(r"^[ \t]*default[ \t]+(\S+)", re.MULTILINE)
_UNIFIED_AT_MOST = 64


def is_started(tree: GuestTree) -> bool:
    """Whether the EFI system partition's removable path holds systemd-boot."""
    return any(efi_programs.is_systemd_boot(tree, path) for path in efi_programs.fallback_programs(tree))


def read(tree: GuestTree) -> BootLoader | None:
    """The boot loader by its configuration, its own program, or a unified kernel image; None without any of them."""
    configs = (f"{mountpoint}/loader/loader.conf" for mountpoint in MOUNTPOINTS)
    file = next((file for path in configs if (file := paths.read_text(tree, path)) is not None), None)
    unified = list(_unified(tree))
    if file is None and not unified and not is_started(tree):
        return None
    snippets = list(_snippets(tree))
    ordered = bls.systemd_order([*snippets, *(_as_snippet(image) for image in unified)])
    by_path = {image.path: image for image in unified}
    entries: list[BootEntry] = []
    identifiers: list[str] = []
    for title, snippet in zip(bls.titles(ordered), ordered, strict=True):
        entry = _entry(tree, title, snippet, by_path)
        if entry is not None:
            entries.append(entry)
            identifiers.append(bls.entry_id(snippet.path))
    wanted = match[1] if file is not None and (match := _DEFAULT.search(file.text)) else ""
    config = file.path if file is not None else entries[0].source if entries else ""
    return BootLoader("systemd-boot", config, tuple(entries), _default(wanted, identifiers, entries))


def _snippets(tree: GuestTree) -> Iterator[bls.Snippet]:
    seen = set()
    for mountpoint in MOUNTPOINTS:
        for snippet in bls.read_snippets(tree, f"{mountpoint}/loader/entries"):
            resolved = paths.resolve(tree, snippet.path)
            if resolved not in seen and snippet.word("linux", "efi", "uki"):
                seen.add(resolved)
                yield snippet


def _unified(tree: GuestTree) -> Iterator[UnifiedKernel]:
    seen: set[str] = set()
    for mountpoint in MOUNTPOINTS:
        for path in paths.matching(tree, f"{mountpoint}/EFI/Linux/*.efi"):
            image = read_unified(tree, path)
            if image is not None and image.path not in seen and len(seen) < _UNIFIED_AT_MOST:
                seen.add(image.path)
                yield image


def _as_snippet(image: UnifiedKernel) -> bls.Snippet:
    release = image.os_release
    keys = {
        "title": release.get("PRETTY_NAME", ""),
        "version": release.get("VERSION_ID", "") or image.version,
        "sort-key": release.get("IMAGE_ID", "") or release.get("ID", ""),
    }
    name = posixpath.basename(image.path)
    return bls.Snippet(image.path, bls.entry_id(name).removesuffix(".efi"), {k: v for k, v in keys.items() if v})


def _entry(tree: GuestTree, title: str, snippet: bls.Snippet, unified: dict[str, UnifiedKernel]) -> BootEntry | None:
    if (image := unified.get(snippet.path)) is not None:
        return BootEntry(title, image.path, (), image.arguments, image.path)
    mountpoint = snippet.path.partition("/loader/")[0]
    kernel = _existing(tree, mountpoint, snippet.word("linux", "uki", "efi"))
    image = None if snippet.word("linux") else read_unified(tree, kernel)
    if not snippet.word("linux") and image is None:
        return None  # a shell, a firmware update, another boot loader
    return BootEntry(
        title=title,
        kernel=kernel,
        initramfs=tuple(_existing(tree, mountpoint, path) for path in snippet.key("initrd").split()),
        arguments=snippet.key("options") or (image.arguments if image else ""),
        source=snippet.path,
    )


def _existing(tree: GuestTree, mountpoint: str, path: str) -> str:
    plain = path.replace("\\", "/")
    return paths.boot_file(tree, plain, mountpoint) or paths.resolve_any_case(tree, mountpoint, plain) or plain


def _default(wanted: str, identifiers: list[str], entries: list[BootEntry]) -> str:
    """What loader.conf's pattern fits first, by the file's name with or without its suffix; else the first entry."""
    pattern = wanted.lower()
    for identifier, entry in zip(identifiers, entries, strict=True):
        name = identifier.lower()
        if pattern and (
            fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(posixpath.splitext(name)[0], pattern)
        ):
            return entry.title
    return entries[0].title if entries else ""
