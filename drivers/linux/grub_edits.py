"""GRUB 2's texts made independent of the machine: its menu, the settings the menu is made from, its device map.

``set root='hd0,msdos1'`` and the ``search`` lines stay: GRUB finds its own disk by the firmware's order or by UUID.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from drivers.changes import Change, DeleteFile, EditFile
from drivers.facts import GuestFacts, TextFile
from drivers.linux import grub_script
from drivers.linux.architectures import PC, Architecture, architecture_of
from drivers.linux.bootloader import INITRD_COMMANDS, LINUX_COMMANDS
from drivers.linux.contribution import Contribution
from drivers.linux.desired import deletion
from drivers.linux.devices import DeviceNames
from drivers.linux.grub_script import Command, Script, Word
from drivers.linux.kernel_arguments import (
    ARGUMENT,
    WHY_RESUME,
    CommandLine,
    absent_root,
    argument_findings,
    console_splices,
    device_splices,
    finder_of,
    lasting,
)
from drivers.linux.resume import baked_in_resume
from drivers.linux.splice import Splice, spliced
from drivers.plan import Finding

DEFAULT_GRUB = "/etc/default/grub"
DEFAULT_GRUB_FOLDER = "/etc/default/grub.d"
SYSCONFIG_GRUB = "/etc/sysconfig/grub"
DEVICE_MAPS = ("/boot/grub/device.map", "/boot/grub2/device.map")

WHY_MENU = "the kernel is told its root by UUID: disks have other names on KVM"
WHY_DEFAULTS = "the menu is made from these settings: the guest's next update-grub must not bring device names back"
WHY_MAP = "it maps GRUB's disks to device names of the old machine; without it GRUB's tools look for themselves"

# Under Xen the kernel and its arguments are a module.
_KERNEL_COMMANDS = LINUX_COMMANDS | {"module", "module2"}
# what Fedora's menu gives kernels when grubenv does not say
_ARGUMENT_VARIABLES = ("kernelopts=", "default_kernelopts=")
_SETTING = re.compile(r"^[ \t]*(?:export[ \t]+)?(?P<name>GRUB_[A-Z0-9_]+)=(?P<value>.*)$", re.MULTILINE)
_NO_UUIDS = re.compile(
    r"^[ \t]*(?:export[ \t]+)?GRUB_DISABLE_LINUX_UUID=([\"']?)(?P<value>true)\1(?=[\s;#]|\Z)", re.MULTILINE
)


def contribute(facts: GuestFacts, names: DeviceNames) -> Contribution:
    """Everything about GRUB 2's files; nothing for other boot loaders."""
    if facts.boot_loader.kind != "grub2":
        return Contribution()
    here = architecture_of(facts)
    changes: list[Change] = []
    warnings: list[Finding] = []
    blockers: list[Finding] = []
    menu = menu_text(facts)
    if menu is not None:
        script = grub_script.parse(menu.text)
        if edit := plan_menu(menu, script, names, baked_in_resume(facts, names), here=here):
            changes.append(edit)
        for finding in _menu_findings(facts, menu, script, names):
            (blockers if finding.id.endswith("root-unresolved") else warnings).append(finding)
    for file in settings_files(facts):
        changes += [edit] if (edit := plan_defaults(file, names, here=here)) else []
        warnings += _default_findings(file, names)
    changes += [change for path in DEVICE_MAPS if (change := plan_device_map(facts.texts.get(path), names))]
    warnings += _install_findings(facts, names)
    return Contribution(tuple(changes), tuple(warnings), tuple(blockers))


def settings_files(facts: GuestFacts) -> list[TextFile]:
    """The texts that the menu is made from, each once: one of the names may be a link to another."""
    paths = [
        DEFAULT_GRUB,
        SYSCONFIG_GRUB,
        *sorted(p for p in facts.texts if posixpath.dirname(p) == DEFAULT_GRUB_FOLDER),
    ]
    files = (facts.texts[path] for path in paths if path in facts.texts)
    return list({file.resolved: file for file in files}.values())


def menu_text(facts: GuestFacts) -> TextFile | None:
    """The boot loader's configuration; None when it was not read as a text."""
    path = facts.boot_loader.config
    return facts.texts.get(path) or next((file for file in facts.texts.values() if file.resolved == path), None)


def plan_menu(
    file: TextFile, script: Script, names: DeviceNames, resume: str | None = None, *, here: Architecture = PC
) -> EditFile | None:
    """The edit of grub.cfg, read as ``script``: every kernel's root= and resume= by UUID, all else left as it is.

    ``resume``: the lasting name of a swap area that the initramfs knows by an old device name; it is added
    to kernels that are told nothing about resuming.
    """
    splices: list[Splice] = []
    extra: list[Splice] = []
    for command, has_initramfs in _kernel_lines(script):
        for word in command.words[2:]:
            if (splice := _argument_splice(file.text, word, names, has_initramfs, command.words[1].text)) is not None:
                splices.append(splice)
            else:
                splices += console_splices(file.text, word.start, word.end, here)
        if resume and has_initramfs and command.name in LINUX_COMMANDS and not _says_resume(command):
            end = command.words[-1].end
            extra.append(Splice(end, end, f" resume={resume}"))
    for start, end in _variable_values(script):
        splices += device_splices(file.text, CommandLine(start, end), names)
        splices += console_splices(file.text, start, end, here)
    if not splices and not extra:
        return None
    why = WHY_MENU + (WHY_RESUME if extra else "")
    return EditFile(file.resolved, file.text, spliced(file.text, [*splices, *extra]), why)


def plan_defaults(file: TextFile, names: DeviceNames, *, here: Architecture = PC) -> EditFile | None:
    """The edit of /etc/default/grub: device names in kernel arguments, and the switch that asks for them."""
    splices: list[Splice] = []
    for setting in _SETTING.finditer(file.text):
        if not setting["name"].startswith("GRUB_CMDLINE_LINUX"):
            continue
        line = CommandLine(setting.start("value"), setting.end("value"))
        splices += device_splices(file.text, line, names)
        splices += console_splices(file.text, line.start, line.end, here)
    if names.root is not None and (names.stable(names.root) or "").startswith("UUID="):
        # a value, not a comment: the line may be all that stands inside an "if"
        splices += [Splice(m.start("value"), m.end("value"), "false") for m in _NO_UUIDS.finditer(file.text)]
    after = spliced(file.text, splices)
    return None if after == file.text else EditFile(file.resolved, file.text, after, WHY_DEFAULTS)


def plan_device_map(file: TextFile | None, names: DeviceNames) -> DeleteFile | None:
    """Delete a device map that names the old machine's disks. GRUB 2 needs none, and trusts it where it is."""
    if file is None:
        return None
    fields = (line.split() for line in file.text.split("\n"))
    if not any(len(words) > 1 and names.resolve(words[1]) for words in fields):
        return None
    return deletion(file, WHY_MAP)


def _kernel_lines(script: Script) -> Iterator[tuple[Command, bool]]:
    """Commands that name a kernel and its arguments, and whether their entry loads an initramfs."""
    for group in grub_script.groups(script):
        loads = any(command.name in INITRD_COMMANDS or command.name.startswith("module") for command in group)
        for command in group:
            if command.name in _KERNEL_COMMANDS:
                yield command, loads


def _variable_values(script: Script) -> Iterator[tuple[int, int]]:
    for command in script.commands:
        if command.name == "set" and len(command.words) > 1 and command.words[1].text.startswith(_ARGUMENT_VARIABLES):
            yield command.words[1].start, command.words[1].end


def _argument_splice(text: str, word: Word, names: DeviceNames, has_initramfs: bool, kernel: str) -> Splice | None:
    argument = ARGUMENT.match(word.text)
    stable = lasting(argument, names, finder_of(kernel, has_initramfs)) if argument else None
    raw = text[word.start : word.end]
    if argument is None or not stable or raw.count(argument["device"]) != 1:
        return None
    start = word.start + raw.index(argument["device"])
    return Splice(start, start + len(argument["device"]), stable)


def _says_resume(command: Command) -> bool:
    return any(word.text == "noresume" or word.text.startswith("resume=") for word in command.words)


def _menu_findings(facts: GuestFacts, file: TextFile, script: Script, names: DeviceNames) -> Iterator[Finding]:
    entries = (e for e in facts.boot_loader.entries if e.title == facts.boot_loader.default and not e.source)
    default = next((entry.arguments.split() for entry in entries), [])
    arguments = (
        (argument, _argument_splice(file.text, word, names, has_initramfs, command.words[1].text) is not None)
        for command, has_initramfs in _kernel_lines(script)
        for word in command.words[2:]
        for argument in ARGUMENT.finditer(word.text)
    )
    yield from argument_findings(file.path, arguments, names, default)
    yield from absent_root(facts, file.path, default)


def _default_findings(file: TextFile, names: DeviceNames) -> Iterator[Finding]:
    edit = plan_defaults(file, names)
    after = edit.after if edit else file.text
    for setting in _SETTING.finditer(after):
        for argument in ARGUMENT.finditer(setting["value"]):
            if names.resolve(argument["device"]):
                yield Finding(
                    "linux.default-grub.names-device",
                    f"{file.path}: {setting['name']} names {argument['device']}, which may be called otherwise on KVM",
                    "Edit it in the guest, then run update-grub there.",
                )
    if _NO_UUIDS.search(after):
        yield Finding(
            "linux.default-grub.no-uuids",
            f"{file.path} asks for device names instead of UUIDs, and the root file system has no UUID of its own",
            "Give the file system a new UUID (tune2fs -U random) and run update-grub in the guest.",
        )


def _install_findings(facts: GuestFacts, names: DeviceNames) -> Iterator[Finding]:
    unstable = [device for device in facts.boot_loader.install_devices if names.resolve(device)]
    if unstable:
        yield Finding(
            "linux.grub.install-devices",
            f"the guest's grub-pc package installs GRUB to {', '.join(unstable)} when it is upgraded; "
            "on KVM that disk has another name, and the upgrade will ask or fail",
            "Run `dpkg-reconfigure grub-pc` once in the converted guest and choose its disk.",
        )
