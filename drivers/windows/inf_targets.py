"""Which Windows a models section of an INF file is for, and which section a given Windows takes.

Sources: Microsoft, Windows driver documentation, "INF Manufacturer Section" (the fields and the rules of selection) and
"Combining Platform Extensions with Operating System Versions". Where the two differ, the first is followed: Windows 2000
knows undecorated sections only, and Windows for other processors than x86 only those that name its own.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass


class Architecture(enum.Enum):
    """Processors of Windows, by the names that INF files have for them."""

    X86 = "x86"
    X64 = "amd64"
    IA64 = "ia64"
    ARM = "arm"
    ARM64 = "arm64"


class Product(enum.IntEnum):
    """``ProductType`` of an installation (winnt.h, ``VER_NT_...``)."""

    WORKSTATION = 1
    DOMAIN_CONTROLLER = 2
    SERVER = 3


Version = tuple[int, int]
"""Major and minor number: (6, 1) for Windows 7 and Server 2008 R2."""

FIRST_WITH_DECORATIONS: Version = (5, 1)
FIRST_BUILD_WITH_BUILDS = 14310
_TEN: Version = (10, 0)
_NUMBER_AT_MOST = 0xFFFF_FFFF
_DECORATION = re.compile(r"nt(?P<arch>[a-z0-9]*)(?:\.(?P<rest>.*))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class WindowsTarget:
    """A Windows that needs drivers; ``product`` None and ``suites`` 0 (``VER_SUITE_...`` bits) where they are not known."""

    major: int
    minor: int
    build: int
    arch: Architecture
    product: Product | None = None
    suites: int = 0

    @property
    def version(self) -> Version:
        """Major and minor number."""
        return self.major, self.minor

    @property
    def is_server(self) -> bool:
        """Whether it is a server's edition, as far as is known."""
        return self.product in (Product.SERVER, Product.DOMAIN_CONTROLLER)

    @property
    def text(self) -> str:
        """The version as people write it: ``10.0.20348``."""
        return f"{self.major}.{self.minor}.{self.build}"


@dataclass(frozen=True, slots=True)
class Decoration:
    """A ``TargetOSVersion``; None where it says nothing of something. ``build``: at least that one."""

    text: str
    arch: Architecture | None = None
    version: Version | None = None
    product: int | None = None
    suites: int | None = None
    build: int | None = None

    def applies(self, target: WindowsTarget) -> bool:
        """Whether a section with it can be used on a Windows at all."""
        return (
            target.version >= FIRST_WITH_DECORATIONS
            and self._fits_processor(target)
            and self._fits_version(target)
            and (self.product is None or self.product == target.product)
            and (self.suites is None or target.suites & self.suites == self.suites)
        )

    def _fits_processor(self, target: WindowsTarget) -> bool:
        return self.arch is target.arch or (self.arch is None and target.arch is Architecture.X86)

    def _fits_version(self, target: WindowsTarget) -> bool:
        if self.build is not None:
            # systems from before do not understand the decoration, and nothing older may be meant by it
            understood = (*target.version, target.build) >= (*_TEN, FIRST_BUILD_WITH_BUILDS)
            if not understood or (*(self.version or (0, 0)), self.build) < (*_TEN, FIRST_BUILD_WITH_BUILDS):
                return False
        if self.version is None:
            return True
        if self.version == target.version:
            return (self.build or 0) <= target.build
        return self.version < target.version

    @property
    def closeness(self) -> tuple[Version, int, bool, bool, bool]:
        """Of two that apply, the one with the higher value is the closer; the version goes first."""
        version = self.version or (0, 0)
        return version, self.build or 0, self.arch is not None, self.product is not None, self.suites is not None


UNDECORATED = Decoration("")


def parse_decoration(text: str) -> Decoration | None:
    """``NTamd64.10.0...22000`` as a value; None for what is no decoration that any Windows would understand."""
    match = _DECORATION.fullmatch(text.strip())
    if match is None:
        return None
    arch = None
    if match["arch"]:
        try:
            arch = Architecture(match["arch"].lower())
        except ValueError:
            return None
    fields = match["rest"].split(".") if match["rest"] is not None else []
    if len(fields) > 5:
        return None
    try:
        numbers = [_number(field) for field in fields] + [None] * (5 - len(fields))
    except ValueError:
        return None
    major, minor, product, suites, build = numbers
    # a minor number alone says nothing, a major one alone means its first
    version = None if major is None else (major, minor or 0)
    return Decoration(text.strip(), arch, version, product, suites, build)


def closest(decorations: Iterable[Decoration], target: WindowsTarget) -> Decoration | None:
    """The decoration whose section a Windows takes; None when none applies (an undecorated section is left then)."""
    fitting = [decoration for decoration in decorations if decoration.applies(target)]
    return max(fitting, key=lambda decoration: decoration.closeness) if fitting else None


def undecorated_applies(target: WindowsTarget) -> bool:
    """Whether a section without decorations is looked at: on x86 only, since what else there is came after the rule."""
    return target.arch is Architecture.X86


def _number(field: str) -> int | None:
    """Decimal or ``0x...``; None for an empty field. Raises ValueError."""
    text = field.strip().lower()
    if not text:
        return None
    if len(text) > 12 or not text.isascii():
        raise ValueError(text)
    number = int(text[2:], 16) if text.startswith("0x") else int(text, 10)
    if not 0 <= number <= _NUMBER_AT_MOST:
        raise ValueError(text)
    return number
