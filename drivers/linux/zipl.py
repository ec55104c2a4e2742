"""zipl, the boot loader of s390x (zipl.conf(5), s390-tools): what its boot map starts.

The map (``/boot/bootmap``) holds the block numbers of the kernel and of the initramfs as they were when ``zipl`` was run,
and the kernel's arguments themselves. An edit of the configuration or an archive that is appended to an initramfs is not in
it until the guest runs zipl again, so such a guest starts with what it has, and nothing that the map was made from is touched.
Without sections of its own zipl takes the entries of the Boot Loader Specification (``/boot/loader/entries``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from drivers.facts import BootEntry, BootLoader
from drivers.linux import bls, paths
from drivers.plan import Finding
from drivers.tree import GuestTree

CONFIG = "/etc/zipl.conf"
BLS_FOLDER = "/boot/loader/entries"
FIRST_KERNEL_FOLDER = "/boot/zipl/"
SECTIONS_AT_MOST = 200

_SECTION = re.compile(r"[ \t]*(?:\[(?P<name>[^\]\r\n]*)\]|:(?P<menu>[^\r\n]*))")
_SETTING = re.compile(r"[ \t]*(?P<key>[A-Za-z0-9_]+)[ \t]*=[ \t]*(?P<value>[^\r\n]*)")
_AUTOMATIC = "defaultboot"


def read(tree: GuestTree) -> BootLoader | None:
    """The boot loader by its configuration; None without one. Titles are the names of sections, or of entries."""
    file = paths.read_text(tree, CONFIG)
    if file is None:
        return None
    sections, menus = _parsed(file.text)
    first = sections.get(_AUTOMATIC, {})
    entries = list(_entries(tree, sections))
    if not entries or "defaultauto" in first:
        snippets = bls.grub_order(bls.read_snippets(tree, BLS_FOLDER))
        entries = [_snippet_entry(tree, title, each) for title, each in zip(bls.titles(snippets), snippets, strict=True)]
    menu = menus.get(first.get("defaultmenu", ""), {}) or next(iter(menus.values()), {})
    wanted = first.get("default", menu.get(menu.get("default", ""), ""))
    default = next((entry.title for entry in entries if entry.title == wanted), entries[0].title if entries else "")
    return BootLoader("zipl", CONFIG, tuple(entries), default)


def without_driver(entries: Iterable[BootEntry]) -> Finding:
    """The blocker for a guest whose map starts an initramfs that finds no disk on KVM."""
    images = ", ".join(dict.fromkeys(path for entry in entries for path in entry.initramfs)) or "no initramfs"
    message = (
        f"zipl's boot map starts {images} as it was when zipl was run, without a driver for virtio disks; "
        "what is changed from outside is not in the map"
    )
    hint = (
        "In the guest, before its disks are copied: add virtio_blk to its initramfs (dracut: `dracut -f --add-drivers "
        '"virtio_blk virtio_net"`; Debian, Ubuntu: the names in /etc/initramfs-tools/modules, then `update-initramfs -u`; '
        "SUSE: the names in /etc/dracut.conf.d), then run `zipl`."
    )
    return Finding("linux.zipl.no-virtio", message, hint)


def _parsed(text: str) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Sections and menus by name. ``defaultauto`` is a word by itself."""
    sections: dict[str, dict[str, str]] = {}
    menus: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in text.split("\n"):
        if head := _SECTION.match(line):
            kind = sections if head["name"] is not None else menus
            if len(sections) + len(menus) == SECTIONS_AT_MOST:
                break
            current = kind.setdefault((head["name"] or head["menu"] or "").strip(), {})
        elif setting := _SETTING.match(line):
            current[setting["key"].lower()] = _value(setting["value"])
        elif line.strip() == "defaultauto":
            current["defaultauto"] = ""
    return sections, menus


def _value(text: str) -> str:
    stripped = text.strip()
    if stripped[:1] in ("'", '"'):
        return stripped[1:].partition(stripped[0])[0]
    return stripped.partition("#")[0].rstrip()


def _entries(tree: GuestTree, sections: Mapping[str, Mapping[str, str]]) -> Iterator[BootEntry]:
    for name, section in sections.items():
        if not section.get("image"):
            continue
        ramdisk = section.get("ramdisk", "")
        parameters = section.get("parameters", "")
        if not parameters and (parmfile := section.get("parmfile")):
            file = paths.read_text(tree, _file(parmfile))
            parameters = " ".join(file.text.split()) if file is not None else ""
        yield BootEntry(
            title=name,
            kernel=_existing(tree, section["image"]),
            initramfs=(_existing(tree, ramdisk),) if ramdisk else (),
            arguments=parameters,
        )


def _snippet_entry(tree: GuestTree, title: str, snippet: bls.Snippet) -> BootEntry:
    return BootEntry(
        title=title,
        kernel=_existing(tree, snippet.word("linux")),
        initramfs=tuple(_existing(tree, path) for path in snippet.key("initrd").split()),
        arguments=snippet.key("options"),
        source=snippet.path,
    )


def _file(value: str) -> str:
    # "image=/boot/image,0x10000": where it is loaded
    return value.partition(",")[0].strip()


def _existing(tree: GuestTree, value: str) -> str:
    path = _file(value)
    return paths.boot_file(tree, path) or path
