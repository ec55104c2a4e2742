"""LILO (lilo.conf(5)): what its map starts. The map holds block numbers and the device number of the root.

It is written when ``lilo`` is run, so an edit of the configuration does not change what boots, and bytes that are
appended to an initramfs are not in it: such a guest keeps what it has.
"""

from __future__ import annotations

import re

from drivers.facts import BootEntry, BootLoader
from drivers.linux import paths
from drivers.tree import GuestTree

CONFIG = "/etc/lilo.conf"

_LINE = re.compile(r"^[ \t]*(?P<key>[A-Za-z][A-Za-z0-9-]*)(?P<rest>[^\r\n]*)", re.MULTILINE)
_STARTS = frozenset({"image", "other"})


def read(tree: GuestTree) -> BootLoader | None:
    """The boot loader by its configuration; None without one. Titles are labels."""
    file = paths.read_text(tree, CONFIG)
    if file is None:
        return None
    common, images = _sections(file.text)
    entries = [
        BootEntry(
            title=own.get("label") or own["image"].rpartition("/")[2],
            kernel=paths.resolve(tree, own["image"]) or own["image"],
            initramfs=(paths.resolve(tree, path) or path,)
            if (path := own.get("initrd", common.get("initrd", "")))
            else (),
            arguments=_arguments(common, own),
        )
        for own in images
    ]
    chosen = common.get("default", "")
    default = next((e.title for e in entries if e.title == chosen), entries[0].title if entries else "")
    return BootLoader("lilo", CONFIG, tuple(entries), default)


def _sections(text: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """What stands before the first image, and each image's own settings."""
    common: dict[str, str] = {}
    sections: list[dict[str, str]] = []
    for line in _LINE.finditer(text):
        key, value = line["key"].lower(), line["rest"].partition("#")[0].strip(' \t="')
        if key in _STARTS:
            sections.append({})
        (sections[-1] if sections else common)[key] = value
    return common, [section for section in sections if section.get("image")]


def _arguments(common: dict[str, str], own: dict[str, str]) -> str:
    root = own.get("root", common.get("root", ""))
    append = own.get("literal", own.get("append", common.get("append", "")))
    words = [f"root={root}" if root and root != "current" else "", own.get("addappend", ""), append]
    return " ".join(word for word in words if word)
