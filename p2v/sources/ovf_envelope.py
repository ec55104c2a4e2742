"""The structure of an OVF's XML: its files, disks, networks, systems and their hardware, in one shape for all versions.

Sources: DSP0243 1.0 to 1.1.1 and 2.0 to 2.1.1 (sections, ``StorageItem`` and ``EthernetPortItem`` of 2.x); OVF 0.9 as VMware
and VirtualBox wrote it and oVirt still does (``Section`` and ``Content`` with an ``xsi:type``, ``InstanceId``, ``Caption``).
Namespaces differ between versions and products, local names hardly do: only these are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from converters.source_file import shown
from p2v.sources import xml_text
from p2v.sources.description import Description
from p2v.sources.xml_text import attribute, children, local, text

# Real packages have a few dozen; what is compared with what grows with their product.
_SYSTEMS_AT_MOST = 512
_ITEMS_AT_MOST = 1024
_FILES_AT_MOST = 2048
_SYSTEM, _COLLECTION = "VirtualSystem", "VirtualSystemCollection"
_ITEMS = ("Item", "StorageItem", "EthernetPortItem")


@dataclass(frozen=True, slots=True)
class OvfFile:
    """A file of the package; ``chunk_bytes`` is set where it was cut in parts, ``size`` (bytes) is that of the whole."""

    id: str
    href: str
    size: int | None
    compression: str
    chunk_bytes: int | None


@dataclass(frozen=True, slots=True)
class OvfDisk:
    """A virtual disk; ``file_ref`` is empty for one that is made blank where the package is deployed."""

    id: str
    file_ref: str
    parent_ref: str
    element: Element

    def say(self, name: str) -> str:
        """One of its attributes, empty where it has none."""
        return attribute(self.element, name) or ""


@dataclass(frozen=True, slots=True)
class Item:
    """One device or amount of a system's hardware."""

    element: Element

    def say(self, *names: str) -> str:
        """The text of the first of these children that has one."""
        return next((found for name in names if (found := text(self.element, name))), "")

    def all(self, name: str) -> tuple[str, ...]:
        """The texts of all children of that name."""
        return tuple(stripped for each in children(self.element, name) if (stripped := (each.text or "").strip()))

    @property
    def type(self) -> str:
        """The resource type of CIM, as a number in decimal."""
        return self.say("ResourceType").lstrip("0")

    @property
    def subtype(self) -> str:
        """The first of the kinds it names, in small letters."""
        return self.say("ResourceSubType").partition(",")[0].strip().lower()

    @property
    def instance(self) -> str:
        """Its number, by which others name it as their parent."""
        return self.say("InstanceID", "InstanceId")

    @property
    def title(self) -> str:
        """What it is called for people."""
        return self.say("ElementName", "Caption", "Description") or f"item {self.instance}"

    @property
    def is_required(self) -> bool:
        """Whether the package says that the machine cannot do without it; it does unless it says otherwise."""
        return (attribute(self.element, "required") or "true").lower() != "false"


@dataclass(frozen=True, slots=True)
class System:
    """One machine of the package."""

    id: str
    name: str
    element: Element

    def section(self, kind: str) -> Element | None:
        """Its first section of a kind (``OperatingSystem``)."""
        return next((each for found, each in sections(self.element) if found == kind), None)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The whole package; ``configurations`` has the default one first (empty: there are none to choose from)."""

    root: Element
    files: dict[str, OvfFile]
    disks: dict[str, OvfDisk]
    networks: frozenset[str]
    configurations: tuple[str, ...]
    systems: tuple[System, ...]

    def file(self, reference: str) -> OvfFile | None:
        """The file of that id; oVirt refers to files by their names."""
        return self.files.get(reference) or next((file for file in self.files.values() if file.href == reference), None)


def envelope(description: Description) -> Envelope:
    """The package. Raises BadDescription: no OVF, or no machine in it."""
    root = xml_text.parse(description)
    if local(root) != "Envelope":
        raise description.error(f"is XML, but no OVF: it begins with {shown(local(root))}")
    systems = tuple(_systems(description, root))
    if not systems:
        raise description.error("describes no virtual machine")
    return Envelope(
        root,
        _files(description, root),
        _disks(description, root),
        frozenset(attribute(each, "name") or "" for section in _all(root, "Network") for each in children(section, "Network")),
        _configurations(root),
        systems,
    )


def sections(element: Element) -> Iterator[tuple[str, Element]]:
    """The sections directly below an element, each with its kind: ``Disk`` for a ``DiskSection`` of any version."""
    for each in element:
        name = local(each)
        if name == "Section":
            name = (attribute(each, "type") or "").rpartition(":")[2].removesuffix("_Type")
        if name.endswith("Section"):
            yield name.removesuffix("Section"), each


def items(description: Description, hardware: Element, configuration: str) -> list[Item]:
    """A hardware section's items as they are in one configuration. Raises BadDescription for too many.

    Items that name configurations count in those alone, and before one of the same number that names none; lower and upper
    bounds (``ovf:bound``) are no devices.
    """
    found = [Item(each) for each in hardware if local(each) in _ITEMS]
    if len(found) > _ITEMS_AT_MOST:
        raise description.error(f"has more than {_ITEMS_AT_MOST} items of hardware in one machine")
    chosen: list[Item] = []
    exact: set[str] = set()
    for item in found:
        named = (attribute(item.element, "configuration") or "").split()
        if (attribute(item.element, "bound") or "normal").lower() != "normal" or (named and configuration not in named):
            continue
        if named:
            exact.add(item.instance)
        chosen.append(item)
    return [item for item in chosen if item.instance not in exact or attribute(item.element, "configuration")]


def _systems(description: Description, element: Element) -> Iterator[System]:
    """All machines below an element, those of collections in collections included (the XML's own depth is limited)."""
    stack, count = [element], 0
    while stack:
        each = stack.pop()
        kind = _content(each)
        if kind == _SYSTEM:
            count += 1
            if count > _SYSTEMS_AT_MOST:
                raise description.error(f"describes more than {_SYSTEMS_AT_MOST} machines")
            yield System(attribute(each, "id") or "", text(each, "Name") or _identifier(each), each)
        elif each is element or kind == _COLLECTION:
            stack += reversed(list(each))


def _content(element: Element) -> str:
    name = local(element)
    return (attribute(element, "type") or "").rpartition(":")[2].removesuffix("_Type") if name == "Content" else name


def _identifier(system: Element) -> str:
    hardware = next((each for kind, each in sections(system) if kind == "VirtualHardware"), None)
    return text(hardware, "System", "VirtualSystemIdentifier")


def _all(root: Element, kind: str) -> Iterator[Element]:
    return (each for found, each in sections(root) if found == kind)


def _files(description: Description, root: Element) -> dict[str, OvfFile]:
    files: dict[str, OvfFile] = {}
    for references in children(root, "References"):
        for each in children(references, "File"):
            size, chunk = (attribute(each, key) or "" for key in ("size", "chunkSize"))
            made = OvfFile(
                attribute(each, "id") or "",
                attribute(each, "href") or "",
                int(size) if size.isascii() and size.isdigit() and len(size) < 20 else None,
                (attribute(each, "compression") or "").lower(),
                int(chunk) if chunk.isascii() and chunk.isdigit() and 0 < len(chunk.lstrip("0")) < 20 else None,
            )
            if files.setdefault(made.id, made) != made:
                raise description.error(f"calls two files {shown(made.id)}")
            if len(files) > _FILES_AT_MOST:
                raise description.error(f"has more than {_FILES_AT_MOST} files")
    return files


def _disks(description: Description, root: Element) -> dict[str, OvfDisk]:
    disks: dict[str, OvfDisk] = {}
    for section in _all(root, "Disk"):
        for each in children(section, "Disk"):
            names = [attribute(each, key) or "" for key in ("diskId", "fileRef", "parentRef")]
            made = OvfDisk(names[0], names[1], names[2], each)
            if disks.setdefault(made.id, made) is not made:
                raise description.error(f"calls two disks {shown(made.id)}")
            if len(disks) > _FILES_AT_MOST:
                raise description.error(f"has more than {_FILES_AT_MOST} disks")
    return disks


def _configurations(root: Element) -> tuple[str, ...]:
    found: list[str] = []
    for section in _all(root, "DeploymentOption"):
        for each in children(section, "Configuration"):
            name = attribute(each, "id") or ""
            # where none is marked, the first is the default
            if (attribute(each, "default") or "").lower() in ("true", "1"):
                found.insert(0, name)
            else:
                found.append(name)
    return tuple(found)
