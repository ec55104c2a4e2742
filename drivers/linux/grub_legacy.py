"""GRUB legacy's menu (info grub 0.97, "Configuration"), and Debian's settings in its comments (update-grub(8)).

Commands take ``=`` or blanks after their name. ``root (hd0,0)`` is a disk by the firmware's order, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from drivers.facts import BootEntry, BootLoader, TextFile
from drivers.linux import paths
from drivers.linux.kernel_arguments import CommandLine, RootFinder, finder_of
from drivers.tree import GuestTree

MENUS = ("/boot/grub/grub.conf", "/boot/grub/menu.lst", "/boot/efi/EFI/redhat/grub.conf", "/etc/grub.conf")
SAVED = "/boot/grub/default"

_COMMAND = re.compile(r"^[ \t]*(?P<name>[a-z]+)[= \t]+(?P<value>[^ \t\r\n=][^\r\n]*)", re.MULTILINE)
# "## " is prose in Debian's file, "# name=value" what update-grub reads
_MAGIC = re.compile(r"^# (?:xen)?kopt(?:_[0-9_]+)?=(?P<value>[^\r\n]*)", re.MULTILINE)
_WORD = re.compile(r"[^ \t]+")


@dataclass
class _Item:
    title: str
    kernel: str = ""
    initramfs: list[str] = field(default_factory=list)
    lines: list[tuple[int, int]] = field(default_factory=list)
    arguments: str = ""
    chosen: bool = False


def read(tree: GuestTree) -> BootLoader | None:
    """The boot loader by the first menu there is; None without one."""
    file = next((file for path in MENUS if (file := paths.read_text(tree, path)) is not None), None)
    if file is None:
        return None
    items = list(_items(file.text))
    entries = [
        BootEntry(
            item.title,
            _existing(tree, item.kernel),
            tuple(_existing(tree, path) for path in item.initramfs),
            item.arguments,
        )
        for item in items
        if item.kernel
    ]
    at = _default(tree, file.text)
    default = items[at] if at < len(items) else items[0] if items else None
    return BootLoader("grub1", file.path, tuple(entries), default.title if default else "")


def command_lines(file: TextFile) -> Iterator[CommandLine]:
    """Where arguments stand: after every kernel's path, and in Debian's ``# kopt=``."""
    for match in _MAGIC.finditer(file.text):
        yield CommandLine(match.start("value"), match.end("value"))
    for item in _items(file.text):
        finder = finder_of(item.kernel, bool(item.initramfs)) if item.kernel else RootFinder.INITRAMFS
        for start, end in item.lines:
            yield CommandLine(start, end, finder)


def _items(text: str) -> Iterator[_Item]:
    """The entries, with titles made different by their number where they are not."""
    seen: dict[str, int] = {}
    item: _Item | None = None
    for command in _COMMAND.finditer(text):
        name, value = command["name"], command["value"].rstrip()
        if name == "title":
            if item is not None:
                yield item
            seen[value] = seen.get(value, 0) + 1
            item = _Item(value if seen[value] == 1 else f"{value} ({seen[value]})")
        elif item is not None and name in ("kernel", "module", "initrd"):
            _add(item, name, command)
    if item is not None:
        yield item


def _add(item: _Item, name: str, command: re.Match[str]) -> None:
    words = [w for w in _WORD.finditer(command["value"]) if not w[0].startswith("--")]
    if not words:
        return
    start = command.start("value") + words[0].end()
    # under Xen the kernel is the first module, and the initramfs the second
    is_kernel = name == "kernel" or (name == "module" and not item.chosen)
    if is_kernel:
        item.chosen = name == "module"
        item.kernel, item.arguments = words[0][0], " ".join(word[0] for word in words[1:])
        item.lines.append((start, command.start("value") + len(command["value"].rstrip())))
    else:
        item.initramfs.append(words[0][0])


def _default(tree: GuestTree, text: str) -> int:
    for command in _COMMAND.finditer(text):
        if command["name"] == "title":
            break
        if command["name"] == "default":
            value = command["value"].rstrip()
            if value == "saved":
                saved = paths.read_text(tree, SAVED)
                value = (saved.text.split() or ["0"])[0] if saved else "0"
            return int(value) if re.fullmatch(r"[0-9]{1,4}", value) else 0
    return 0


def _existing(tree: GuestTree, path: str) -> str:
    plain = re.sub(r"^\([^)]*\)", "", path)
    return paths.boot_file(tree, plain) or plain
