"""What is on a medium of Windows drivers (virtio-win): every package by its INF file, as a value.

A package is an INF file with the files that it names, in its own folder or below. What it is for is read from the INF file
itself; the names of folders are kept beside that, as what the vendor says of packages whose INF files say nothing.
Files are hostile: they are counted and bounded, and reading happens in the confined child (``drivers.windows.media``).
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from drivers.tree import FileType, GuestTree
from drivers.windows.inf import Inf, InfVersion, Install, Models, member_path, of_platform, parse_inf
from drivers.windows.inf_targets import Architecture
from drivers.windows.inf_text import INF_BYTES_AT_MOST, BadInf
from drivers.windows.releases import Release, architecture_in, release_in
from drivers.windows.signature import CATALOG_BYTES_AT_MOST, Signature, read_head, read_signature, read_table
from p2v.core.units import KIB

INF_FILES_AT_MOST = 5000
NAMES_AT_MOST = 200_000
INSTALLS_AT_MOST = 64
_DEPTH_AT_MOST = 16
_HEAD_BYTES = 4 * KIB
# sriov: a protocol and a second card's driver that fight NetKVM (RHEL-56383); the others hold no drivers
_LEFT_OUT = frozenset({"sriov", "guest-agent", "installer", "cert"})


@dataclass(frozen=True, slots=True)
class MediumFile:
    """A file of a package. ``path`` on the medium, None where it is missing; ``size`` in bytes."""

    source: str
    """As the INF file names it, relative to itself."""
    path: str | None
    size: int


@dataclass(frozen=True, slots=True)
class Program:
    """What a service's program says of itself: its processor (``Architecture`` value; empty: unknown), who signed it."""

    source: str
    machine: str
    signature: Signature | None


@dataclass(frozen=True, slots=True)
class Catalog:
    """A catalogue file. ``platform`` as in the INF file (``""``, ``ntamd64``)."""

    platform: str
    file: MediumFile
    signature: Signature | None


@dataclass(frozen=True, slots=True)
class PackageInstall:
    """What installing does, for the models of a DDInstall section's (undecorated) name on a processor."""

    name: str
    arch: Architecture
    install: Install


@dataclass(frozen=True, slots=True)
class DriverPackage:
    """A package. ``inf``: its path on the medium; ``release`` and ``arch``: what the folders' names say (ids), if anything."""

    inf: str
    size: int
    sha256: str
    version: InfVersion
    sections: tuple[Models, ...]
    installs: tuple[PackageInstall, ...]
    files: tuple[MediumFile, ...]
    catalogs: tuple[Catalog, ...]
    programs: tuple[Program, ...]
    release: str | None
    arch: Architecture | None

    @property
    def name(self) -> str:
        """The INF file's name without its ending, in lower case: ``viostor``."""
        return posixpath.basename(self.inf)[:-4].lower()

    def installed(self, name: str, arch: Architecture) -> Install | None:
        """What installing a model on a processor does."""
        return next((each.install for each in self.installs if each.name == name and each.arch is arch), None)

    def file(self, source: str) -> MediumFile | None:
        """A file as the INF file names it."""
        return next((each for each in self.files if each.source == source), None)

    def catalog(self, arch: Architecture) -> Catalog | None:
        """The catalogue for a processor; None when the INF file names none."""
        return of_platform({each.platform: each for each in self.catalogs}, arch)

    def program(self, file: str) -> Program | None:
        """A service's program by its name."""
        return next((each for each in self.programs if posixpath.basename(each.source).lower() == file.lower()), None)


@dataclass(frozen=True, slots=True)
class Problem:
    """An INF file that is no part of the catalogue, and why."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class DriverCatalogue:
    """All packages of a medium, sorted by path. ``label``: a CD's name. JSON-able."""

    source: str
    kind: str
    """``iso`` or ``folder``."""
    label: str
    packages: tuple[DriverPackage, ...]
    problems: tuple[Problem, ...]


@dataclass
class _Scan:
    """The files of a tree by folder; names without case, as Windows finds them."""

    tree: GuestTree
    names: int = 0
    folders: dict[str, dict[str, str]] = field(default_factory=dict)

    def inf_files(self, folder: str = "", depth: int = 0) -> Iterator[str]:
        """Paths of the INF files below a folder, in order. Raises BadInf beyond the bounds."""
        inside = []
        for name in self.listed(folder).values():
            path = f"{folder}/{name}"
            if name.lower().endswith(".inf") and self.tree.lstat(path).type is FileType.FILE:
                yield path
            elif "." not in name or not name.lower().endswith((".sys", ".cat", ".pdb", ".dll", ".exe", ".inf", ".msi")):
                inside.append(path)
        for path in inside:
            if depth < _DEPTH_AT_MOST and posixpath.basename(path).lower() not in _LEFT_OUT and self._is_folder(path):
                yield from self.inf_files(path, depth + 1)

    def _is_folder(self, path: str) -> bool:
        try:
            return self.tree.lstat(path).type is FileType.DIRECTORY
        except FileNotFoundError:
            return False  # a link to nowhere

    def listed(self, folder: str) -> Mapping[str, str]:
        """The names in a folder, by their lower case."""
        if folder not in self.folders:
            names = self.tree.list(folder or "/")
            self.names += len(names)
            if self.names > NAMES_AT_MOST:
                raise BadInf(f"the medium has more than {NAMES_AT_MOST} files")
            found: dict[str, str] = {}
            for name in names:
                found.setdefault(name.lower(), name)
            self.folders[folder] = found
        return self.folders[folder]

    def find(self, folder: str, source: str) -> MediumFile:
        """A file of a package, its names taken without case."""
        at = folder
        for part in source.split("/"):
            name = self.listed(at).get(part.lower())
            if name is None:
                return MediumFile(source, None, 0)
            at = f"{at}/{name}"
        try:
            stat = self.tree.lstat(at)
        except FileNotFoundError:
            return MediumFile(source, None, 0)
        return MediumFile(source, at, stat.size) if stat.type is FileType.FILE else MediumFile(source, None, 0)


def read_catalogue(tree: GuestTree, source: str, kind: str, label: str = "") -> DriverCatalogue:
    """Every package below a tree's root; those that stand twice (by driver, by system) once. Raises BadInf beyond the bounds."""
    scan = _Scan(tree)
    packages: dict[object, DriverPackage] = {}
    problems = []
    for count, path in enumerate(scan.inf_files()):
        if count >= INF_FILES_AT_MOST:
            raise BadInf(f"the medium has more than {INF_FILES_AT_MOST} INF files")
        try:
            package = _package(scan, path)
        except BadInf as error:
            problems.append(Problem(path, str(error)))
            continue
        sizes = tuple((file.source, file.size) for file in package.files)
        packages.setdefault((package.sha256, sizes, package.release, package.arch), package)
    found = sorted(packages.values(), key=lambda each: each.inf)
    return DriverCatalogue(source, kind, label, tuple(found), tuple(problems))


def _package(scan: _Scan, path: str) -> DriverPackage:
    try:
        data = scan.tree.read(path, INF_BYTES_AT_MOST)
    except (FileNotFoundError, ValueError) as error:
        raise BadInf(f"cannot be read: {error}") from error
    name = posixpath.basename(path)
    # the guest's folder and keys are called by it
    if member_path(name) != name:
        raise BadInf("has a name that is a path to Windows")
    inf, folder = parse_inf(data), posixpath.dirname(path)
    folder = "" if folder == "/" else folder
    installs = tuple(_installs(inf))
    sources = dict.fromkeys(member.source for each in installs for member in each.install.files)
    files = tuple(scan.find(folder, source) for source in sources)
    release: Release | None = release_in(path)
    return DriverPackage(
        inf=path,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        version=inf.version,
        sections=inf.sections,
        installs=installs,
        files=files,
        catalogs=tuple(_catalog(scan, folder, platform, name) for platform, name in inf.version.catalogs),
        programs=tuple(_programs(scan.tree, installs, files)),
        release=release.id if release else None,
        arch=architecture_in(path),
    )


def _installs(inf: Inf) -> Iterator[PackageInstall]:
    seen = set()
    for models in inf.sections:
        # an undecorated section is for x86
        arch = models.decoration.arch or Architecture.X86
        for model in models.models:
            key = (model.install.lower(), arch)
            if key in seen:
                continue
            seen.add(key)
            if len(seen) > INSTALLS_AT_MOST:
                raise BadInf(f"has more than {INSTALLS_AT_MOST} ways to be installed")
            install = inf.install(model.install, arch)
            if install is not None:
                # the driver's own key is Plug and Play's to fill
                yield PackageInstall(model.install, arch, replace(install, registry=()))


def _catalog(scan: _Scan, folder: str, platform: str, name: str) -> Catalog:
    file = scan.find(folder, name.replace("\\", "/").rpartition("/")[2])
    signature = None
    if file.path is not None and file.size <= CATALOG_BYTES_AT_MOST:
        signature = read_signature(scan.tree.read(file.path, CATALOG_BYTES_AT_MOST))
    return Catalog(platform, file, signature)


def _programs(tree: GuestTree, installs: Iterable[PackageInstall], files: Iterable[MediumFile]) -> Iterator[Program]:
    """The heads of the programs of services; who signed those that the loader starts."""
    paths = {posixpath.basename(file.source).lower(): file for file in files if file.path is not None}
    wanted: dict[str, bool] = {}
    for each in installs:
        for service in each.install.services:
            name = service.binary.lower()
            wanted[name] = wanted.get(name, False) or service.is_boot_start
    for name, boots in wanted.items():
        file = paths.get(name)
        if file is None or file.path is None:
            continue
        head = read_head(tree.read_range(file.path, _HEAD_BYTES, 0), file.size)
        table = b""
        if head is not None and boots and head.certificates_bytes:
            table = tree.read_range(file.path, head.certificates_bytes, head.certificates_offset)
        yield Program(file.source, head.machine if head else "", read_table(table))
