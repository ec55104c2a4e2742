"""Names of installed packages, by whatever keeps them: read from the package managers' own files, none of which is run.

deb(5) status files; rpm's databases (``rpm_database``); pacman(8)'s and portage's folders, one for each package; apk(5)'s
``installed``; xbps' property list; Slackware's package records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice

from drivers.linux import paths, rpm_database
from drivers.tree import GuestTree, text_of
from p2v.core.units import MIB

DPKG_STATUS = "/var/lib/dpkg/status"

_LIST_BYTES_AT_MOST = 32 * MIB
_NAMES_AT_MOST = 50_000
_PACKAGE = re.compile(r"^Package: (\S+)$", re.MULTILINE)
_INSTALLED = re.compile(r"^Status: \S+ \S+ installed$", re.MULTILINE)
_APK_LISTS = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
_APK_NAME = re.compile(r"^P:(\S+)$", re.MULTILINE)
_PACMAN = "/var/lib/pacman/local"
_PORTAGE = "/var/db/pkg"
_PORTAGE_VERSION = re.compile(r"-[0-9][^-]*(?:-r[0-9]+)?$")
_XBPS = "/var/db/xbps/pkgdb-0.38.plist"
# the outermost dictionary's keys
_XBPS_NAME = re.compile(r"^\t<key>([^<]+)</key>", re.MULTILINE)
_SLACKWARE = ("/var/lib/pkgtools/packages", "/var/log/packages")


def installed_packages(tree: GuestTree) -> frozenset[str]:
    """The names of all installed packages, as each manager spells them (``portage``: without category)."""
    return frozenset(name for read in _READERS for name in islice(read(tree), _NAMES_AT_MOST))


def _dpkg(tree: GuestTree) -> Iterator[str]:
    for stanza in (text_of(tree, DPKG_STATUS, _LIST_BYTES_AT_MOST) or "").split("\n\n"):
        if _INSTALLED.search(stanza) and (name := _PACKAGE.search(stanza)):
            yield name[1]


def _rpm(tree: GuestTree) -> Iterator[str]:
    yield from rpm_database.installed_names(tree)


def _apk(tree: GuestTree) -> Iterator[str]:
    for path in _APK_LISTS:
        yield from _APK_NAME.findall(text_of(tree, path, _LIST_BYTES_AT_MOST) or "")


def _pacman(tree: GuestTree) -> Iterator[str]:
    """Folders are called NAME-VERSION-RELEASE."""
    for folder in tree.list(_PACMAN)[:_NAMES_AT_MOST]:
        if folder.count("-") >= 2 and tree.exists(f"{_PACMAN}/{folder}/desc"):
            yield folder.rsplit("-", 2)[0]


def _portage(tree: GuestTree) -> Iterator[str]:
    left = _NAMES_AT_MOST
    for category in tree.list(_PORTAGE)[: paths.NAMES_AT_MOST]:
        packages = tree.list(f"{_PORTAGE}/{category}")[:left]
        for package in packages:
            if (name := _PORTAGE_VERSION.sub("", package)) != package:
                yield name
        # what is listed costs time, whatever its names are
        left -= len(packages)
        if left <= 0:
            return


def _xbps(tree: GuestTree) -> Iterator[str]:
    yield from _XBPS_NAME.findall(text_of(tree, _XBPS, _LIST_BYTES_AT_MOST) or "")


def _slackware(tree: GuestTree) -> Iterator[str]:
    """Records are called NAME-VERSION-ARCH-BUILD."""
    for folder in _SLACKWARE:
        for record in tree.list(folder):
            if record.count("-") >= 3:
                yield record.rsplit("-", 3)[0]


_READERS: tuple[Callable[[GuestTree], Iterator[str]], ...] = (_dpkg, _rpm, _apk, _pacman, _portage, _xbps, _slackware)
