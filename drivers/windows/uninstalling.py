"""What the guest itself has to uninstall once it runs on KVM: programs of its list, with commands that ask nothing. Pure.

Both views of the list are looked at: the native one, and that of 32-bit programs on a 64-bit Windows.

Sources: Microsoft, "Uninstall Registry Key" and "Command-Line Options" of msiexec; virt-v2v's manual (VMware's uninstaller
refuses to run elsewhere; what Parallels' wants to be told); the NSIS manual (``/S``).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass

from drivers.plan import Finding
from drivers.windows.facts import SOFTWARE, HiveFile, WindowsFacts
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
_NAME_LETTERS_AT_MOST = 100


@dataclass(frozen=True, slots=True)
class Uninstall:
    """A program that the guest uninstalls at its first boot. ``view``: ``native`` or ``32-bit``; ``key``: in SOFTWARE.

    ``command`` asks nothing. It is made of the guest's own registry: at most 1,000 letters, none of which a batch file or a command
    interpreter would take for its own.
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


def uninstalls(found: tuple[Installed, ...]) -> Iterator[Uninstall]:
    """What the first boot is given to do, each command once: a product may stand in both views."""
    done = set()
    for each in found:
        if each.command is not None and each.command not in done and each.product.uninstaller is Uninstaller.WORKS:
            done.add(each.command)
            why = f"{each.title} is of no use on KVM, and its uninstaller {each.product.uninstaller.value} there"
            yield Uninstall(each.product.name, each.title, each.command, each.view, each.key, why)


def findings(found: tuple[Installed, ...]) -> Iterator[Finding]:
    """What stays installed, and what can be done about it."""
    for each in found:
        if each.product.uninstaller is Uninstaller.REFUSES:
            message = f"{each.title} stays installed, its services disabled: its uninstaller {each.product.uninstaller.value}"
            hint = "Uninstall it before, where it runs, if it has to be gone."
        elif each.product.uninstaller is Uninstaller.KEPT:
            message = f"{each.title} stays installed: its uninstaller {each.product.uninstaller.value}"
            hint = "Uninstall it once newer drivers are in use."
        elif each.command is None:
            message = f"{each.title} stays installed, its services disabled: nothing tells how its uninstaller would ask nothing"
            hint = "Uninstall it by hand once the guest runs."
        else:
            message = f"{each.title} stays installed, its services disabled, until the guest uninstalls it"
            hint = f"The command that asks nothing: {each.command}"
        yield Finding("windows.leftover", message, hint)


def _is_of(title: str, product: Product) -> bool:
    return any(fnmatch.fnmatchcase(title.lower(), pattern.lower()) for pattern in product.listed)


def _command(software: HiveFile, key: str, product: Product) -> str | None:
    code = key.rpartition("\\")[2]
    told = software.text(key, "UninstallString")
    if _PRODUCT_CODE.fullmatch(code) and (software.number(key, "WindowsInstaller") == 1 or "msiexec" in told.lower()):
        return " ".join(("msiexec.exe", "/x", code, "/qn", "/norestart", "REBOOT=ReallySuppress", *product.properties))
    quiet = software.text(key, "QuietUninstallString")
    if _QUIET.fullmatch(quiet):
        return quiet
    program = told.strip().strip('"')
    return f'"{program}" {product.silent}' if product.silent and _PROGRAM.fullmatch(program) else None
