"""What an INF file says: whose driver it is, for which devices and Windows, and what installing it does.

Sources: Microsoft, Windows driver documentation, the pages "INF Version Section", "INF Manufacturer Section", "INF Models
Section", "INF DDInstall Section" (and its ``.Services`` and ``.HW``), "INF AddService Directive", "INF AddReg Directive", "INF
CopyFiles Directive", "INF DestinationDirs Section", "INF SourceDisksFiles Section", "Using Dirids".

Hostile input: see ``inf_text``. Everything raises ``BadInf`` for what Windows would not read either, or what is beyond the bounds.
Sections of other INF files (``Include``, ``Needs``) are Windows' own; they are named and not followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from drivers.windows.inf_registry import RegistryEntry, number, registry_entries
from drivers.windows.inf_targets import (
    UNDECORATED,
    Architecture,
    Decoration,
    WindowsTarget,
    closest,
    parse_decoration,
    undecorated_applies,
)
from drivers.windows.inf_text import BadInf, InfText, parse_text

_T = TypeVar("_T")
MODELS_AT_MOST = 4096
FILES_AT_MOST = 1024
SERVICES_AT_MOST = 16
_ASSOCIATED_SERVICE = 0x2
_BOOT_START = 0
_TAG_TO_FRONT = 0x1
_SIGNATURES = ("$windows nt$", "$chicago$", "$windows 95$")
_DATE = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})")
_GUID = re.compile(r"\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}")
_VERSION = re.compile(r"\d{1,5}(\.\d{1,5}){0,3}")
# no separator of paths or keys in either, and what no file of Windows is called
_SERVICE = re.compile(r"[^\\/\x00-\x1f]{1,200}")
_FILE = re.compile(r'[^\\/:*?"<>|\x00-\x1f]{1,200}')
_SHOWN = 100
_DIRID = re.compile(r"%(-?\d{1,5})%")


@dataclass(frozen=True, slots=True)
class InfVersion:
    """The ``Version`` section. ``date`` as ``2023-07-03``; what is not there is empty.

    ``catalogs``: (platform, file name), the platform ``""``, ``nt`` or ``ntamd64`` and the like.
    """

    class_name: str
    class_guid: str
    provider: str
    date: str
    version: str
    catalogs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A device that the driver is for: its DDInstall section (undecorated), its hardware id, then compatible ids."""

    description: str
    install: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Models:
    """A models section and the Windows it is for."""

    section: str
    decoration: Decoration
    models: tuple[Model, ...]


@dataclass(frozen=True, slots=True)
class PackageMember:
    """A file that is copied: its name afterwards, and where it stands, relative to the INF file with ``/``.

    ``dirid``: the number of the folder it goes to (12: System32\\drivers, 13: the package's own in the driver store).
    """

    name: str
    source: str
    dirid: int
    subdir: str


@dataclass(frozen=True, slots=True)
class Service:
    """An ``AddService`` with its service install section; numbers as in the registry, None where it does not say.

    ``binary``: the file alone, without its folder, which is ``binary_dirid``. ``associated``: the device's own driver.
    """

    name: str
    associated: bool
    display_name: str
    type: int | None
    start: int | None
    error_control: int | None
    group: str
    tag_to_front: bool
    binary: str
    binary_dirid: int | None
    registry: tuple[RegistryEntry, ...]
    """Below the service's key."""

    @property
    def is_boot_start(self) -> bool:
        """Whether the loader starts it, before the kernel runs."""
        return self.start == _BOOT_START


@dataclass(frozen=True, slots=True)
class Install:
    """What a DDInstall section does, with its ``.Services``, ``.HW`` and ``.CoInstallers``. ``section``: the one taken."""

    section: str
    files: tuple[PackageMember, ...]
    services: tuple[Service, ...]
    registry: tuple[RegistryEntry, ...]
    """Below the driver's (software) key."""
    hardware: tuple[RegistryEntry, ...]
    """Below the device's (hardware) key."""
    needs: tuple[str, ...]

    @property
    def service(self) -> Service | None:
        """The device's own driver; None where the device gets none (a "null driver")."""
        return next((service for service in self.services if service.associated and service.name), None)


@dataclass(frozen=True, slots=True)
class Inf:
    """An INF file. Methods raise BadInf."""

    text: InfText
    version: InfVersion
    sections: tuple[Models, ...]
    """Every models section that [Manufacturer] leads to, in its order."""

    def install(self, name: str, arch: Architecture) -> Install | None:
        """What installing a model does on a processor; None when the section is not there."""
        candidates = (f"{name}.nt{arch.value}", f"{name}.nt", name)
        section = next((each for each in candidates if self.text.has(each)), None)
        return None if section is None else _install(self.text, section, arch)


def parse_inf(data: bytes) -> Inf:
    """Read an INF file's bytes. Raises BadInf."""
    text = parse_text(data)
    return Inf(text, _version(text), tuple(_models_sections(text)))


def of_platform(found: Mapping[str, _T], arch: Architecture) -> _T | None:
    """Of what is named for platforms (``InfVersion.catalogs``) what a processor takes; None when there is nothing for it."""
    return next((found[key] for key in (f"nt{arch.value}", "nt", "") if key in found), None)


def models_for(sections: Iterable[Models], target: WindowsTarget) -> tuple[Models, ...]:
    """The sections that a Windows takes, one a manufacturer; an empty one that excludes it counts as none."""
    by_base: dict[str, list[Models]] = {}
    for models in sections:
        by_base.setdefault(_base(models), []).append(models)
    found = (_selected(group, target) for group in by_base.values())
    return tuple(models for models in found if models is not None and models.models)


def _version(text: InfText) -> InfVersion:
    if text.first("version", "signature").lower() not in _SIGNATURES:
        raise BadInf("has no [Version] with a signature of Windows")
    dated = next(text.directives("version", "driverver"), ())
    match = _DATE.fullmatch(dated[0].strip()) if dated else None
    guid = text.first("version", "classguid").upper()
    version = dated[1].strip() if len(dated) > 1 else ""
    catalogs = []
    for entry in text.entries("version"):
        key, values = (entry.key or "").lower(), entry.values
        if key.partition(".")[0] == "catalogfile" and values and values[0]:
            catalogs.append((key.partition(".")[2], member_path(values[0].rpartition("\\")[2])))
    return InfVersion(
        class_name=text.first("version", "class"),
        class_guid=guid if _GUID.fullmatch(guid) else "",
        provider=text.first("version", "provider"),
        date=f"{match[3]}-{int(match[1]):02d}-{int(match[2]):02d}" if match else "",
        version=version if _VERSION.fullmatch(version) else "",
        catalogs=tuple(catalogs),
    )


def _models_sections(text: InfText) -> Iterator[Models]:
    total = 0
    seen = set()
    for entry in text.entries("manufacturer"):
        # a line without "=" is the manufacturer's and the section's name at once
        base, *decorations = entry.values or ("",)
        known = [parse_decoration(each) for each in decorations if each]
        for decoration in [UNDECORATED, *(each for each in known if each is not None)]:
            section = f"{base}.{decoration.text}" if decoration.text else base
            if section.lower() in seen or (decoration is UNDECORATED and not text.has(section)):
                continue
            seen.add(section.lower())
            models = tuple(_models(text, section))
            total += len(models)
            if total > MODELS_AT_MOST:
                raise BadInf(f"names more than {MODELS_AT_MOST} devices")
            yield Models(section, decoration, models)


def _models(text: InfText, section: str) -> Iterator[Model]:
    for entry in text.entries(section):
        if entry.key is not None and entry.values and entry.values[0]:
            yield Model(entry.key, entry.values[0], tuple(each for each in entry.values[1:] if each))


def _base(models: Models) -> str:
    ending = f".{models.decoration.text}" if models.decoration.text else ""
    return models.section.removesuffix(ending).lower()


def _selected(group: list[Models], target: WindowsTarget) -> Models | None:
    decorated = {models.decoration: models for models in group if models.decoration.text}
    best = closest(decorated, target)
    if best is not None:
        return decorated[best]
    plain = [models for models in group if not models.decoration.text]
    return plain[0] if plain and undecorated_applies(target) else None


def _install(text: InfText, section: str, arch: Architecture) -> Install:
    # what Windows takes is the name it chose and the ending, never another name's section
    hardware, services, extra = (f"{section}.{ending}" for ending in ("hw", "services", "coinstallers"))
    files = tuple(_members(text, section, arch)) + tuple(_members(text, extra, arch))
    if len(files) > FILES_AT_MOST:
        raise BadInf(f"copies {len(files)} files; at most {FILES_AT_MOST} are read")
    included = [name for each in (section, services) for values in text.directives(each, "include") for name in values]
    return Install(
        section=section,
        files=tuple(dict.fromkeys(files)),
        services=tuple(_services(text, services)),
        registry=tuple(registry_entries(text, section)),
        hardware=tuple(registry_entries(text, hardware)),
        needs=tuple(dict.fromkeys(name for name in included if name)),
    )


def _services(text: InfText, section: str) -> Iterator[Service]:
    for count, values in enumerate(text.directives(section, "addservice")):
        if count >= SERVICES_AT_MOST:
            raise BadInf(f"adds more than {SERVICES_AT_MOST} services")
        name, flags, installed = (*values, "", "", "")[:3]
        if name and not _SERVICE.fullmatch(name):
            raise BadInf(f"adds a service named {name[:_SHOWN]!r}")
        bits = number(flags) or 0
        binary = text.first(installed, "servicebinary")
        dirid, file = _place(binary)
        yield Service(
            name=name,
            associated=bool(bits & _ASSOCIATED_SERVICE),
            display_name=text.first(installed, "displayname"),
            type=number(text.first(installed, "servicetype")),
            start=number(text.first(installed, "starttype")),
            error_control=number(text.first(installed, "errorcontrol")),
            group=text.first(installed, "loadordergroup"),
            tag_to_front=bool(bits & _TAG_TO_FRONT),
            binary=file,
            binary_dirid=dirid,
            registry=tuple(registry_entries(text, installed)) if installed else (),
        )


def _place(binary: str) -> tuple[int | None, str]:
    """The folder's number and the file's name of ``%12%\\viostor.sys``."""
    match = _DIRID.match(binary)
    name = binary.rpartition("\\")[2]
    return (int(match[1]) if match else None), member_path(name) if name else ""


def _members(text: InfText, section: str, arch: Architecture) -> Iterator[PackageMember]:
    for values in text.directives(section, "copyfiles"):
        for each in values:
            if each.startswith("@"):
                yield _member(text, "", each[1:], "", arch)
            elif each:
                yield from (_member(text, each, name, source, arch) for name, source in _listed(text, each))


def _listed(text: InfText, section: str) -> Iterator[tuple[str, str]]:
    """The names afterwards and on the medium that a file-list section has."""
    for count, entry in enumerate(text.entries(section)):
        if count >= FILES_AT_MOST:
            raise BadInf(f"lists more than {FILES_AT_MOST} files in [{section}]")
        if entry.key is None and entry.values and entry.values[0]:
            yield entry.values[0], entry.values[1] if len(entry.values) > 1 else ""


def _member(text: InfText, section: str, name: str, source: str, arch: Architecture) -> PackageMember:
    dirid, subdir = _destination(text, section)
    return PackageMember(name, _source_path(text, source or name, arch), dirid, subdir)


def _destination(text: InfText, section: str) -> tuple[int, str]:
    for key in (section, "defaultdestdir"):
        values = next(text.directives("destinationdirs", key), ()) if key else ()
        dirid = number(values[0]) if values else None
        if dirid is not None:
            return dirid, values[1] if len(values) > 1 else ""
    return 0, ""


def _source_path(text: InfText, name: str, arch: Architecture) -> str:
    """Where a file stands beside the INF file: the disk's folder, the file's folder below it, its name."""
    for ending in (f".{arch.value}", ""):
        found = next(text.directives(f"sourcedisksfiles{ending}", name), None)
        if found is not None:
            disk = found[0] if found else ""
            folder = _disk_folder(text, disk, arch)
            return member_path(folder, found[1] if len(found) > 1 else "", name)
    return member_path("", "", name)


def _disk_folder(text: InfText, disk: str, arch: Architecture) -> str:
    for ending in (f".{arch.value}", ""):
        found = next(text.directives(f"sourcedisksnames{ending}", disk), None)
        if found is not None:
            return found[3] if len(found) > 3 else ""
    return ""


def member_path(*parts: str) -> str:
    """A relative path with ``/``. Raises BadInf for one that would lead out of the package."""
    names = [name for part in parts for name in part.replace("\\", "/").split("/") if name not in ("", ".")]
    if not names or not all(_FILE.fullmatch(name) and name != ".." for name in names):
        raise BadInf(f"names the file {'/'.join(parts)[:_SHOWN]!r}, which is none of its package")
    return "/".join(names)
