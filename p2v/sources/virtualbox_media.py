"""The media that VirtualBox knows by number: a machine's own registry (4.0 and newer), or that of all machines.

Source: Oracle's schema of the settings files (VirtualBox-settings.xsd) and the manual's chapter "Where Oracle VirtualBox stores
its files". Before 4.0 media were listed in VirtualBox.xml in the user's folder, as ``MediaRegistry`` since settings
version 1.4 and as ``DiskRegistry`` before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from p2v.core.errors import BadDescription
from p2v.sources.draft import Draft
from p2v.sources.xml_text import attribute, child, children, local, parse

GLOBAL_REGISTRY = "VirtualBox.xml"
_REGISTRIES_AT_MOST = 4
_DISK_ELEMENTS = ("HardDisk", "DiffHardDisk")


@dataclass(frozen=True, slots=True)
class Medium:
    """One image; ``parent`` is the key of the one it holds changes to. ``kind``: Normal, Immutable, ..., as written."""

    location: str
    format: str = ""
    kind: str = ""
    parent: str = ""
    encrypted: bool = False


Media = dict[str, Medium]


def key_of(uuid: str | None) -> str:
    """A medium's number as it is compared: with braces or without, in any case."""
    return (uuid or "").strip().strip("{}").lower()


def media_of(machine: Element) -> Media:
    """The media a machine lists itself; empty before VirtualBox 4.0."""
    registry = child(machine, "MediaRegistry")
    return {} if registry is None else _listed(registry)


def media_of_all_machines(draft: Draft) -> Media:
    """The media of the VirtualBox.xml among the machine's files; none where there is no such file."""
    around = draft.description.around
    found: Media = {}
    named = [name for name in around.names() if PurePosixPath(name).name.lower() == GLOBAL_REGISTRY.lower()]
    for name in named[:_REGISTRIES_AT_MOST]:
        data = around.read(name)
        if data is None:
            continue
        try:
            root = parse(draft.description, data)
        except BadDescription:
            draft.warn("registry", f"{name} is no sound XML and is not used")
            continue
        for kind in ("MediaRegistry", "DiskRegistry"):
            registry = child(root, "Global", kind)
            found |= {} if registry is None else _listed(registry)
    return found


def chain_of(media: Media, key: str) -> Iterator[Medium]:
    """A medium, its parent, and so on; a registry that goes round in circles ends."""
    seen: set[str] = set()
    while key and key in media and key not in seen:
        seen.add(key)
        yield media[key]
        key = media[key].parent


def _listed(registry: Element) -> Media:
    found: Media = {}
    waiting: list[tuple[Element, str]] = [(each, "") for each in _disks(child(registry, "HardDisks"))]
    for element, parent in waiting:  # it grows on the way
        key = key_of(attribute(element, "uuid"))
        if not key or key in found:
            continue
        found[key] = _medium(element, parent)
        waiting += ((each, key) for each in _disks(element))
    for list_name in ("DVDImages", "FloppyImages"):
        for element in children(child(registry, list_name), "Image"):
            found.setdefault(key_of(attribute(element, "uuid")), Medium(_location(element)))
    return found


def _disks(element: Element | None) -> Iterator[Element]:
    return (each for each in (() if element is None else element) if local(each) in _DISK_ELEMENTS)


def _medium(element: Element, parent: str) -> Medium:
    properties = {attribute(each, "name"): attribute(each, "value") for each in children(element, "Property")}
    return Medium(
        _location(element),
        attribute(element, "format") or "",
        attribute(element, "type") or "",
        parent,
        bool(properties.get("CRYPT/KeyId") or properties.get("CRYPT/KeyStore")),
    )


def _location(element: Element) -> str:
    """Where an image is: before settings version 1.4 a child named after its format says so."""
    stated = attribute(element, "location") or attribute(element, "src")
    within = (attribute(each, "filePath") for each in element if local(each) not in _DISK_ELEMENTS)
    return stated or next((path for path in within if path), "")
