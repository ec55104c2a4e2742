"""What the guest itself uninstalls at its first start on KVM: programs of its list, with commands that ask nothing. Pure.

Both views of the list are looked at: the native one, and that of 32-bit programs on a 64-bit Windows.

Sources: Microsoft, "Uninstall Registry Key" and "Command-Line Options" of msiexec; virt-v2v's manual (VMware's uninstaller
refuses to run elsewhere; what Parallels' wants to be told); the NSIS manual (``/S``).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

from drivers.plan import Finding
from drivers.windows.facts import SOFTWARE, HiveFile, WindowsFacts
from drivers.windows.firstboot.tools import program
from drivers.windows.leftover_catalogue import Product, Uninstaller
from p2v.core.text import printable

VIEWS = {
    "native": "Microsoft\\Windows\\CurrentVersion\\Uninstall",
    "32-bit": "Wow6432Node\\Microsoft\\Windows\\CurrentVersion\\Uninstall",
}
_PRODUCT_CODE = re.compile(r"\{[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}\}")
# in both there is no letter that a command interpreter would take for its own
_PROGRAM = re.compile(r"[A-Za-z]:\\[\w .()\\+,~'{}-]{1,240}\.exe", re.IGNORECASE | re.ASCII)
_QUIET = re.compile(r"""[\w .,:;=/\\()+{}~'"@#$-]{1,1000}""", re.ASCII)
_NAME_LETTERS_AT_MOST, _NAMED_AT_MOST = 60, 3
UNINSTALLS_AT_MOST = 24
_BY_HAND = "Uninstall it by hand once the guest runs."


@dataclass(frozen=True, slots=True)
class Uninstall:
    """A program that the guest uninstalls at its first start. ``view``: ``native`` or ``32-bit``; ``key``: in SOFTWARE.

    ``command`` asks nothing, and is a line of a batch file. It is made of the guest's own registry: at most 1,000 letters, none of
    which a command interpreter would take for its own, but for the %SystemRoot% that is put before Windows' own programs.
    """

    product: str
    title: str
    command: str
    view: str
    key: str
    why: str


@dataclass(frozen=True, slots=True)
class Installed:
    """An entry of the list of installed programs that is a product's; ``command``: None where none is known that asks nothing."""

    product: Product
    title: str
    view: str
    key: str
    command: str | None


def installed(windows: WindowsFacts, products: tuple[Product, ...]) -> Iterator[Installed]:
    """What the list of installed programs has of the products, in both views."""
    software = windows.registry.get(SOFTWARE)
    if software is None:
        return
    for view, top in VIEWS.items():
        for key in software.below(top):
            title = software.text(key, "DisplayName")
            product = next((each for each in products if _is_of(title, each)), None)
            if product is not None:
                yield Installed(product, printable(title[:_NAME_LETTERS_AT_MOST]), view, key, _command(software, key, product))


def uninstalls(found: Iterable[Installed]) -> tuple[Uninstall, ...]:
    """What the first start is given to do, each command once: a product may stand in both views. At most ``UNINSTALLS_AT_MOST``."""
    chosen = dict[str, Uninstall]()
    for each in found:
        if each.command is not None and each.product.uninstaller is Uninstaller.WORKS and len(chosen) < UNINSTALLS_AT_MOST:
            why = f"{each.title} is of no use on KVM, and its uninstaller {each.product.uninstaller.value} there"
            chosen.setdefault(
                each.command, Uninstall(each.product.name, each.title, each.command, each.view, each.key, why)
            )
    return tuple(chosen.values())


def findings(found: Iterable[Installed], given: Sequence[Uninstall], *, is_offered: bool) -> Iterator[Finding]:
    """What becomes of each product's programs, in one finding for all of them that fare alike.

    ``given``: what the first start uninstalls. ``is_offered``: whether it would, were it asked to.
    """
    commands = {each.command for each in given}
    alike = dict[tuple[str, str, str], dict[str, None]]()
    for each in found:
        alike.setdefault((each.product.name, *_fate(each, commands, is_offered=is_offered)), {})[each.title] = None
    for (_, fate, hint), titles in alike.items():
        yield Finding("windows.leftover", f"{_named(tuple(titles))}: {fate}", hint)


def _fate(each: Installed, commands: Set[str], *, is_offered: bool) -> tuple[str, str]:
    """What becomes of it, and what can be done about it."""
    stays, why = "left installed, with services disabled", each.product.uninstaller.value
    if each.product.uninstaller is Uninstaller.REFUSES:
        return f"{stays}; its uninstaller {why}", "Uninstall it before, where it runs, if it has to be gone."
    if each.product.uninstaller is Uninstaller.KEPT:
        return f"left installed; its uninstaller {why}", "Uninstall it once newer drivers are in use."
    if each.command is None:
        return f"{stays}; nothing tells how its uninstaller would ask nothing", _BY_HAND
    if each.command in commands:
        return "uninstalled by the guest itself at its first start", "How that ended is in result.txt below %SystemRoot%\\p2v."
    return stays, "With --purge-tools the guest uninstalls it itself at its first start." if is_offered else _BY_HAND


def _named(titles: Sequence[str]) -> str:
    more = len(titles) - _NAMED_AT_MOST
    told = [*titles[:_NAMED_AT_MOST], *([f"{more} more"] if more > 0 else [])]
    return " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)


def _is_of(title: str, product: Product) -> bool:
    return any(fnmatch.fnmatchcase(title.lower(), pattern.lower()) for pattern in product.listed)


def _command(software: HiveFile, key: str, product: Product) -> str | None:
    code = key.rpartition("\\")[2]
    told = software.text(key, "UninstallString")
    if _PRODUCT_CODE.fullmatch(code) and (software.number(key, "WindowsInstaller") == 1 or "msiexec" in told.lower()):
        return " ".join((program("msiexec.exe"), "/x", code, "/qn", "/norestart", "REBOOT=ReallySuppress", *product.properties))
    quiet = software.text(key, "QuietUninstallString")
    if _QUIET.fullmatch(quiet):
        return quiet
    path = told.strip().strip('"')
    return f'"{path}" {product.silent}' if product.silent and _PROGRAM.fullmatch(path) else None
