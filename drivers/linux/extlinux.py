"""SYSLINUX and EXTLINUX configurations (wiki.syslinux.org, "Config"): labels, what they start, and what they include.

Keywords are taken in any case. Paths are relative to the folder of the configuration, or begin at its file system's
root. Alpine and Debian make the file from settings that are kept consistent with it; Debian's u-boot-menu makes one for U-Boot,
which reads the same format.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from drivers.facts import BootEntry, BootLoader, TextFile
from drivers.linux import paths
from drivers.linux.kernel_arguments import CommandLine, finder_of
from drivers.tree import GuestTree

CONFIGS = (
    "/boot/extlinux/extlinux.conf", "/boot/extlinux.conf", "/extlinux.conf", "/boot/syslinux/extlinux.conf",
    "/boot/syslinux/syslinux.cfg", "/boot/syslinux.cfg", "/syslinux.cfg",
    "/boot/efi/EFI/syslinux/syslinux.cfg", "/efi/EFI/syslinux/syslinux.cfg",
)  # fmt: skip
# what a configuration may include
INCLUDED = ("/boot/extlinux/*.c*f*", "/boot/syslinux/*.c*f*")
# extlinux-update(8), Alpine's update-extlinux, u-boot-update(8) in the order it reads them
SETTINGS = (
    "/etc/default/extlinux", "/etc/update-extlinux.conf", "/etc/default/u-boot",
    "/usr/share/u-boot-menu/conf.d/*.conf", "/etc/u-boot-menu/conf.d/*.conf",
)  # fmt: skip
FILES_AT_MOST = 32

_LINE = re.compile(r"^[ \t]*(?P<key>[A-Za-z]+)[ \t]+(?P<value>[^ \t\r\n][^\r\n]*)", re.MULTILINE)
_MENU_DEFAULT = re.compile(r"default", re.IGNORECASE)
_INCLUDE = re.compile(r"include[ \t]+(\S+)", re.IGNORECASE)
_INITRD = re.compile(r"(?:^|\s)initrd=(\S+)")
_SETTING = re.compile(
    r"^[ \t]*(?:(?:EXTLINUX|U_BOOT)_(?:ROOT|PARAMETERS)|root|default_kernel_opts)=[^\r\n]*", re.MULTILINE
)


@dataclass
class _Label:
    name: str
    file: TextFile
    kernel: str = ""
    initrd: str = ""
    arguments: str | None = None
    span: tuple[int, int] | None = None
    default: bool = False


@dataclass
class _Menu:
    """What a configuration and its includes say."""

    labels: list[_Label]
    default: str = ""
    arguments: str = ""


def read(tree: GuestTree) -> BootLoader | None:
    """The boot loader by the first configuration there is; None without one. Titles are the labels' names."""
    main = next((file for path in CONFIGS if (file := paths.read_text(tree, path)) is not None), None)
    if main is None:
        return None
    folder = posixpath.dirname(main.resolved)
    menu = _Menu([])
    for file in _files(tree, main, folder):
        _read_into(menu, file)
    entries = [entry for label in menu.labels if (entry := _entry(tree, folder, main, menu, label)) is not None]
    marked = next((label.name for label in menu.labels if label.default), "")
    chosen = marked or menu.default
    default = next((e.title for e in entries if e.title.lower() == chosen.lower()), entries[0].title if entries else "")
    return BootLoader("extlinux", main.path, tuple(entries), default)


def is_setting(path: str) -> bool:
    """Whether a file holds what configurations are made from."""
    return any(fnmatchcase(path, pattern) for pattern in SETTINGS)


def command_lines(file: TextFile) -> Iterator[CommandLine]:
    """Where arguments stand in one file: ``APPEND`` of labels, or the settings that it is made from."""
    if is_setting(file.path):
        for match in _SETTING.finditer(file.text):
            yield CommandLine(match.start(), match.end())
        return
    menu = _Menu([])
    for start, end in _read_into(menu, file):
        yield CommandLine(start, end)
    for label in menu.labels:
        if label.span is not None and label.kernel:
            has_initramfs = bool(label.initrd or _INITRD.search(label.arguments or ""))
            yield CommandLine(*label.span, finder_of(label.kernel, has_initramfs))


def _read_into(menu: _Menu, file: TextFile) -> list[tuple[int, int]]:
    """Adds a file's labels; gives the places of arguments that no label has."""
    label: _Label | None = None
    everywhere = []
    for line in _LINE.finditer(file.text):
        key, value = line["key"].lower(), line["value"].rstrip()
        span = (line.start("value"), line.start("value") + len(value))
        if key == "label":
            label = _Label(value, file)
            menu.labels.append(label)
        elif key == "append":
            if label is None:
                menu.arguments = value
                everywhere.append(span)
            else:
                label.arguments, label.span = value, span
        elif key == "default" and not value.lower().endswith((".c32", ".cfg")):
            menu.default = _word(value)
        elif label is not None and key in ("kernel", "linux"):
            label.kernel = _word(value)
        elif label is not None and key == "initrd":
            label.initrd = value
        elif label is not None and key == "menu" and _MENU_DEFAULT.fullmatch(value):
            label.default = True
    return everywhere


def _word(value: str) -> str:
    return next(iter(value.split()), "")


def _files(tree: GuestTree, main: TextFile, folder: str) -> Iterator[TextFile]:
    todo, seen = [main], {main.resolved}
    while todo and len(seen) <= FILES_AT_MOST:
        file = todo.pop(0)
        yield file
        for line in _LINE.finditer(file.text):
            words = f"{line['key']} {line['value']}"
            match = _INCLUDE.match(words if line["key"].lower() == "include" else line["value"])
            if match is None or line["key"].lower() not in ("include", "menu"):
                continue
            path = paths.boot_file(tree, match[1], folder)
            included = paths.read_text(tree, path) if path and path not in seen else None
            if included is not None:
                seen.add(included.resolved)
                todo.append(included)


def _entry(tree: GuestTree, folder: str, main: TextFile, menu: _Menu, label: _Label) -> BootEntry | None:
    if not label.kernel or label.kernel.lower().endswith((".c32", ".com", ".bin", ".0")):
        return None
    own = menu.arguments if label.arguments is None else "" if label.arguments == "-" else label.arguments
    images = label.initrd or next(iter(_INITRD.findall(own)), "")
    return BootEntry(
        title=label.name,
        kernel=_existing(tree, label.kernel, folder),
        initramfs=tuple(_existing(tree, path, folder) for path in images.split(",") if path),
        arguments=own,
        source="" if label.file.path == main.path else label.file.path,
    )


def _existing(tree: GuestTree, path: str, folder: str) -> str:
    return paths.boot_file(tree, path, *(() if path.startswith("/") else (folder,))) or path
