"""The boot loader and its menu: which one, which configuration is read, which entries boot what.

GRUB 2 is read here, Boot Loader Specification entries included; every other boot loader has its module.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator

from drivers.facts import BootEntry, BootLoader
from drivers.linux import bls, extlinux, grub_legacy, grub_script, lilo, paths, systemd_boot, zipl
from drivers.linux.grub_script import Command, MenuItem, Script
from drivers.tree import GuestTree, text_of

GRUB2_CONFIGS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
EFI_CONFIGS = "/boot/efi/EFI/*/grub.cfg"
DEBCONF = "/var/cache/debconf/config.dat"

LINUX_COMMANDS = frozenset({"linux", "linux16", "linuxefi"})
INITRD_COMMANDS = frozenset({"initrd", "initrd16", "initrdefi"})

# In the order they are looked for after GRUB 2, whose packages leave none of their files.
OTHERS: tuple[Callable[[GuestTree], BootLoader | None], ...] = (
    grub_legacy.read,
    systemd_boot.read,
    extlinux.read,
    lilo.read,
    zipl.read,
)

_CHAINS_AT_MOST = 4
_DEBCONF_BYTES_AT_MOST = 8 * 1024 * 1024
_ESCAPED_ARROW = "\0"


def read_boot_loader(tree: GuestTree) -> BootLoader:
    """The boot loader whose configuration is in the tree; kind ``none`` when there is no known one.

    On UEFI the removable path decides between several: an empty NVRAM starts what lies there.

    Titles of entries in submenus are joined by ``>``, as GRUB does it; ``default`` is the title of the entry
    that starts when nobody chooses, grubenv considered.
    """
    if systemd_boot.is_started(tree) and (loader := systemd_boot.read(tree)) is not None:
        return loader  # a grub.cfg may be left from before
    candidates = [*paths.matching(tree, EFI_CONFIGS), *GRUB2_CONFIGS]
    found = [config for path in candidates if (config := _config(tree, path)) is not None]
    if found:
        return _grub2(tree, *next((config for config in found if _has_menu(config[1])), found[0]))
    loaders = (loader for read in OTHERS if (loader := read(tree)) is not None)
    return next(loaders, BootLoader("none"))


def grub_environment(block: str) -> dict[str, str]:
    """The variables of a grubenv block."""
    pairs = (line.partition("=") for line in block.split("\n") if not line.startswith("#"))
    return {name: value for name, equals, value in pairs if equals}


def _config(tree: GuestTree, path: str) -> tuple[str, Script] | None:
    """The configuration that a file leads to: a stub in the EFI system partition may only name another one."""
    for _ in range(_CHAINS_AT_MOST):
        file = paths.read_text(tree, path)
        if file is None:
            return None
        script = grub_script.parse(file.text)
        target = _chained(script)
        resolved = _boot_path(tree, target) if target else None
        if resolved is None:
            return path, script
        path = resolved
    file = paths.read_text(tree, path)
    return path, grub_script.parse(file.text if file else "")


def _chained(script: Script) -> str:
    """The path that a stub's ``configfile`` names, its ``$prefix`` put in; empty when there is none."""
    prefix = ""
    for command in script.commands:
        words = [word.text for word in command.words]
        if words[0] == "set" and len(words) > 1 and words[1].startswith("prefix="):
            prefix = _without_device(words[1].removeprefix("prefix="))
        if words[0] == "configfile" and len(words) > 1 and not script.items:
            named = _without_device(words[1])
            return named.replace("${prefix}", prefix).replace("$prefix", prefix)
    return ""


def _has_menu(script: Script) -> bool:
    return bool(script.items) or script.bls_at is not None


def _grub2(tree: GuestTree, config: str, script: Script) -> BootLoader:
    block = paths.read_text(tree, posixpath.join(posixpath.dirname(config), "grubenv"))
    environment = grub_environment(block.text) if block else {}
    at = len(script.items) if script.bls_at is None else script.bls_at
    snippets = [] if script.bls_at is None else _snippets(tree)
    titles = bls.titles(snippets)
    added = [MenuItem(title, snippet.identifier, False) for title, snippet in zip(titles, snippets, strict=True)]
    variables = {**_variables(script), **environment}
    return BootLoader(
        kind="grub2",
        config=config,
        entries=(
            *_entries(tree, script.items[:at], ""),
            *(_bls_entry(tree, item.title, snippet, variables) for item, snippet in zip(added, snippets, strict=True)),
            *_entries(tree, script.items[at:], ""),
        ),
        default=default_title([*script.items[:at], *added, *script.items[at:]], _default(script, environment)),
        install_devices=_install_devices(tree),
    )


def _snippets(tree: GuestTree) -> list[bls.Snippet]:
    found = next((snippets for folder in bls.GRUB_FOLDERS if (snippets := bls.read_snippets(tree, folder))), [])
    return bls.grub_order(snippet for snippet in found if snippet.word("linux"))


def _bls_entry(tree: GuestTree, title: str, snippet: bls.Snippet, variables: dict[str, str]) -> BootEntry:
    return BootEntry(
        title=_title("", MenuItem(title, "", False)),
        kernel=_existing(tree, snippet.word("linux")),
        initramfs=tuple(_existing(tree, path) for path in bls.expanded(snippet.key("initrd"), variables).split()),
        arguments=bls.expanded(snippet.key("options"), variables),
        source=snippet.path,
    )


def _variables(script: Script) -> dict[str, str]:
    """What the configuration itself sets: kernelopts has a value there for when grubenv has none."""
    assignments = (c.words[1].text.partition("=") for c in script.commands if c.name == "set" and len(c.words) > 1)
    return {name: value for name, _, value in assignments}


def _entries(tree: GuestTree, items: list[MenuItem], above: str) -> Iterator[BootEntry]:
    for item in items:
        title = _title(above, item)
        if item.submenu:
            yield from _entries(tree, item.items, title)
        elif (entry := _entry(tree, title, item.commands)) is not None:
            yield entry


def _entry(tree: GuestTree, title: str, commands: list[Command]) -> BootEntry | None:
    kernel, arguments = "", ""
    initramfs: tuple[str, ...] = ()
    for command in commands:
        words = [word.text for word in command.words]
        if words[0] in LINUX_COMMANDS and len(words) > 1:
            kernel, arguments = _existing(tree, words[1]), " ".join(words[2:])
        elif words[0] in INITRD_COMMANDS:
            initramfs = tuple(_existing(tree, word) for word in words[1:])
    return BootEntry(title, kernel, initramfs, arguments) if kernel else None


def _title(above: str, item: MenuItem) -> str:
    own = item.title.replace(">", ">>")
    return f"{above}>{own}" if above else own


def _default(script: Script, environment: dict[str, str]) -> str:
    """What ``default`` is set to when GRUB has run the file (info grub, "Simple configuration")."""
    chosen = "0"
    for command in script.commands:
        words = [word.text for word in command.words]
        if words[0] != "set" or len(words) < 2 or not words[1].startswith("default="):
            continue
        value = words[1].removeprefix("default=")
        if "next_entry" in value:
            if environment.get("next_entry"):
                return environment["next_entry"]
        elif "saved_entry" in value:
            chosen = environment.get("saved_entry") or "0"
        else:
            chosen = value
    return chosen


def default_title(items: list[MenuItem], default: str) -> str:
    """The title of the entry that ``default`` (a number, title or id; ``>`` enters submenus) starts.

    What matches nothing starts the first entry, as in GRUB itself; empty when there is none.
    """
    above = ""
    steps = default.replace(">>", _ESCAPED_ARROW).split(">")
    while items:
        step = steps.pop(0).replace(_ESCAPED_ARROW, ">") if steps else "0"
        item = _chosen(items, step)
        above = _title(above, item)
        if not item.submenu:
            return above
        items = item.items
    return ""


def _chosen(items: list[MenuItem], step: str) -> MenuItem:
    if re.fullmatch(r"[0-9]{1,4}", step):
        return items[int(step)] if int(step) < len(items) else items[0]
    return next((item for item in items if step in (item.identifier, item.title)), items[0])


def _without_device(path: str) -> str:
    return re.sub(r"^\([^)]*\)", "", path)


def _existing(tree: GuestTree, path: str) -> str:
    """A path of GRUB's as a resolved path of the guest; as the configuration has it when it leads nowhere."""
    return _boot_path(tree, _without_device(path)) or _without_device(path)


def _boot_path(tree: GuestTree, path: str) -> str | None:
    # GRUB's paths begin at the file system that holds /boot, which may be a partition of its own
    return paths.boot_file(tree, path)


def _install_devices(tree: GuestTree) -> tuple[str, ...]:
    """Where Debian's grub-pc package installs the boot loader at its upgrades (debconf's answer)."""
    answers = text_of(tree, DEBCONF, _DEBCONF_BYTES_AT_MOST) or ""
    for stanza in answers.split("\n\n"):
        if stanza.lstrip("\n").startswith("Name: grub-pc/install_devices\n"):
            value = re.search(r"^Value: (.*)$", stanza, re.MULTILINE)
            return tuple(name.strip() for name in value[1].split(",") if name.strip()) if value else ()
    return ()
