"""What an appliance is built from on this host, and a name for exactly that."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from p2v.core.units import MIB

# Raised with every change of what is built from the same parts.
RECIPE = 1
_SUPERMIN_FOLDER = "supermin.d"
FIXED_MARK = "README.fixed"
"""The file by which libguestfs knows an appliance that is built."""
_KERNEL_VARIABLES = ("SUPERMIN_KERNEL", "SUPERMIN_KERNEL_VERSION", "SUPERMIN_MODULES")
# Larger ones (RPM's) are known by size and time; dpkg's is 1 MiB, and is written anew by runs that change nothing.
_LARGEST_READ_BYTES = 16 * MIB


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the parts are. ``version`` of libguestfs; ``supermin`` is its folder of descriptions."""

    version: str
    supermin: Path
    databases: tuple[Path, ...] = (Path("/var/lib/dpkg/status"), Path("/var/lib/rpm"), Path("/usr/lib/sysimage/rpm"))
    boot: Path = Path("/boot")
    modules: Path = Path("/lib/modules")


def supermin_folder(search_path: str) -> Path | None:
    """libguestfs' descriptions, as it would find them; None where it would find an appliance that somebody built, or nothing."""
    for element in search_path.split(":"):
        folder = Path(element or ".")
        if (folder / _SUPERMIN_FOLDER).is_dir():
            return folder / _SUPERMIN_FOLDER
        if (folder / FIXED_MARK).exists():
            return None
    return None


def fingerprint(parts: Parts) -> str:
    """32 hexadecimal digits that change with anything an appliance of these parts depends on. Raises OSError."""
    seen = hashlib.sha256()
    for fact in _facts(parts):
        seen.update(f"{len(fact)}:{fact}".encode("utf-8", "surrogateescape"))
    return seen.hexdigest()[:32]


def _facts(parts: Parts) -> Iterator[str]:
    yield f"recipe {RECIPE}, libguestfs {parts.version}"
    yield from (f"{name}={os.environ.get(name, '')}" for name in _KERNEL_VARIABLES)
    yield from _identities(sorted(path for path in parts.supermin.iterdir() if path.is_file()))
    kernels = (*parts.boot.glob("vmlinuz*"), *parts.modules.glob("*/vmlinuz"), *parts.modules.glob("*/modules.dep"))
    yield from (_by_size_and_time(path) for path in sorted(kernels))
    for database in parts.databases:
        yield from _identities(sorted(database.iterdir()) if database.is_dir() else [database])


def _identities(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        if file.is_file():
            small = file.stat().st_size <= _LARGEST_READ_BYTES
            yield f"{file} {hashlib.sha256(file.read_bytes()).hexdigest()}" if small else _by_size_and_time(file)


def _by_size_and_time(file: Path) -> str:
    facts = file.stat()
    return f"{file} {facts.st_size} {facts.st_mtime_ns}"
