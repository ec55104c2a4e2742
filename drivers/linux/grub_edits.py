"""GRUB 2's texts made independent of the machine: its menu, the settings the menu is made from, its device map.

``set root='hd0,msdos1'`` and the ``search`` lines stay: GRUB finds its own disk by the firmware's order or by UUID.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator

from drivers.changes import Change, DeleteFile, EditFile
from drivers.facts import GuestFacts, Partition, TextFile
from drivers.linux import grub_script
from drivers.linux.bootloader import INITRD_COMMANDS, LINUX_COMMANDS
from drivers.linux.contribution import Contribution
from drivers.linux.devices import DeviceNames
from drivers.linux.grub_script import Command, Word
from drivers.linux.resume import baked_in_resume
from drivers.linux.splice import Splice, spliced
from drivers.plan import Finding

DEFAULT_GRUB = "/etc/default/grub"
DEFAULT_GRUB_FOLDER = "/etc/default/grub.d"
DEVICE_MAPS = ("/boot/grub/device.map", "/boot/grub2/device.map")

WHY_MENU = "the kernel is told its root by UUID: disks have other names on KVM"
WHY_RESUME = (
    "; resume= overrides the old device name kept in the initramfs, which would be waited for at every start "
    "until the initramfs is built anew"
)
WHY_DEFAULTS = "the menu is made from these settings: the guest's next update-grub must not bring device names back"
WHY_MAP = "it maps GRUB's disks to device names of the old machine; without it GRUB's tools look for themselves"

# Under Xen the kernel and its arguments are a module.
_KERNEL_COMMANDS = LINUX_COMMANDS | {"module", "module2"}
# "boot=" is where a FIPS guest checks its kernel's signature
_DEVICE_ARGUMENTS = frozenset({"root", "resume", "boot"})
# what is not opened to look for more file systems
_PLAIN_KINDS = frozenset({"ext2", "ext3", "ext4", "xfs", "swap", "vfat", "ntfs"})
_ARGUMENT = re.compile(r"(?P<key>[A-Za-z0-9_.-]+)=(?P<device>/dev/[^\s\"',;]+)")
_SETTING = re.compile(r"^[ \t]*(?:export[ \t]+)?(?P<name>GRUB_[A-Z0-9_]+)=(?P<value>.*)$", re.MULTILINE)
_NO_UUIDS = re.compile(
    r"^[ \t]*(?:export[ \t]+)?GRUB_DISABLE_LINUX_UUID=([\"']?)(?P<value>true)\1(?=[\s;#]|\Z)", re.MULTILINE
)


def contribute(facts: GuestFacts, names: DeviceNames) -> Contribution:
    """Everything about GRUB 2's files; nothing for other boot loaders."""
    if facts.boot_loader.kind != "grub2":
        return Contribution()
    changes: list[Change] = []
    warnings: list[Finding] = []
    blockers: list[Finding] = []
    menu = menu_text(facts)
    if menu is not None:
        if edit := plan_menu(menu, names, baked_in_resume(facts, names)):
            changes.append(edit)
        for finding in _menu_findings(facts, menu, names):
            (blockers if finding.id.endswith("root-unresolved") else warnings).append(finding)
    for path in sorted(facts.texts):
        if path == DEFAULT_GRUB or posixpath.dirname(path) == DEFAULT_GRUB_FOLDER:
            file = facts.texts[path]
            changes += [edit] if (edit := plan_defaults(file, names)) else []
            warnings += _default_findings(file, names)
    changes += [change for path in DEVICE_MAPS if (change := plan_device_map(facts.texts.get(path), names))]
    warnings += [*_environment_findings(facts, names), *_install_findings(facts, names)]
    return Contribution(tuple(changes), tuple(warnings), tuple(blockers))


def menu_text(facts: GuestFacts) -> TextFile | None:
    """The boot loader's configuration; None when it was not read as a text."""
    path = facts.boot_loader.config
    return facts.texts.get(path) or next((file for file in facts.texts.values() if file.resolved == path), None)


def plan_menu(file: TextFile, names: DeviceNames, resume: str | None = None) -> EditFile | None:
    """The edit of grub.cfg: every kernel's root= and resume= by UUID, all else left as it is.

    ``resume``: the lasting name of a swap area that the initramfs knows by an old device name; it is added
    to kernels that are told nothing about resuming.
    """
    splices: list[Splice] = []
    extra: list[Splice] = []
    for command, has_initramfs in _kernel_lines(file.text):
        for word in command.words[2:]:
            if (splice := _argument_splice(file.text, word, names, has_initramfs)) is not None:
                splices.append(splice)
        if resume and has_initramfs and command.name in LINUX_COMMANDS and not _says_resume(command):
            end = command.words[-1].end
            extra.append(Splice(end, end, f" resume={resume}"))
    if not splices and not extra:
        return None
    why = WHY_MENU + (WHY_RESUME if extra else "")
    return EditFile(file.resolved, file.text, spliced(file.text, [*splices, *extra]), why)


def plan_defaults(file: TextFile, names: DeviceNames) -> EditFile | None:
    """The edit of /etc/default/grub: device names in kernel arguments, and the switch that asks for them."""
    splices = []
    for setting in _SETTING.finditer(file.text):
        if not setting["name"].startswith("GRUB_CMDLINE_LINUX"):
            continue
        for argument in _ARGUMENT.finditer(file.text, setting.start("value"), setting.end("value")):
            found = names.resolve(argument["device"]) if argument["key"] in _DEVICE_ARGUMENTS else None
            if found and found.stable:
                splices.append(Splice(argument.start("device"), argument.end("device"), found.stable))
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
    digest = hashlib.sha256(file.text.encode("utf-8", "surrogateescape")).hexdigest()
    return DeleteFile(file.resolved, digest, WHY_MAP)


def _kernel_lines(text: str) -> Iterator[tuple[Command, bool]]:
    """Commands that name a kernel and its arguments, and whether their entry loads an initramfs."""
    for group in grub_script.groups(grub_script.parse(text)):
        loads = any(command.name in INITRD_COMMANDS or command.name.startswith("module") for command in group)
        for command in group:
            if command.name in _KERNEL_COMMANDS:
                yield command, loads


def _argument_splice(text: str, word: Word, names: DeviceNames, has_initramfs: bool) -> Splice | None:
    argument = _ARGUMENT.fullmatch(word.text)
    found = names.resolve(argument["device"]) if argument else None
    if argument is None or found is None or argument["key"] not in _DEVICE_ARGUMENTS or found.partition is None:
        return None
    # without an initramfs the kernel itself looks for the root, and knows partitions only
    stable = found.stable and (found.stable if has_initramfs else names.partuuid(found.partition))
    raw = text[word.start : word.end]
    if not stable or raw.count(argument["device"]) != 1:
        return None
    start = word.start + raw.index(argument["device"])
    return Splice(start, start + len(argument["device"]), stable)


def _says_resume(command: Command) -> bool:
    return any(word.text == "noresume" or word.text.startswith("resume=") for word in command.words)


def _menu_findings(facts: GuestFacts, file: TextFile, names: DeviceNames) -> Iterator[Finding]:
    default = next((e.arguments.split() for e in facts.boot_loader.entries if e.title == facts.boot_loader.default), [])
    told: set[str] = set()
    for command, has_initramfs in _kernel_lines(file.text):
        for word in command.words[2:]:
            for argument in _ARGUMENT.finditer(word.text):
                found = names.resolve(argument["device"])
                if found is None or argument[0] in told:
                    continue
                told.add(argument[0])
                root = argument["key"] == "root" and argument[0] in default
                if _argument_splice(file.text, word, names, has_initramfs) is None:
                    yield _unresolved(file, argument, found.problem, root)
                elif root and names.root and found.partition and _place(found.partition) != _place(names.root):
                    yield _unresolved(file, argument, "that is not where the root file system was found", root)
    yield from _absent_root(facts, file, default)


def _place(partition: Partition) -> tuple[int, int]:
    return partition.disk, partition.number


def _unresolved(file: TextFile, argument: re.Match[str], problem: str, root: bool) -> Finding:
    hint = "Name all disks of the machine, in the order the source had them."
    return Finding(
        "linux.boot-loader.root-unresolved" if root else "linux.boot-loader.argument-names-device",
        f"{file.path} passes {argument[0]} to a kernel: {problem or 'that name may mean nothing on KVM'}",
        hint if root else "Check that boot entry after the migration.",
    )


def _absent_root(facts: GuestFacts, file: TextFile, arguments: list[str]) -> Iterator[Finding]:
    systems = [partition.filesystem for partition in facts.partitions if partition.filesystem]
    if any(system.kind not in _PLAIN_KINDS for system in systems):
        return  # it may be inside what was not opened
    known = {system.uuid.lower() for system in systems if system.uuid}
    for argument in arguments:
        uuid = argument.removeprefix("root=UUID=").strip("\"'").lower()
        if argument.startswith("root=UUID=") and uuid not in known:
            yield Finding(
                "linux.boot-loader.root-absent",
                f"{file.path} starts with {argument}, and no file system in the disks has that UUID",
                "The guest will not find its root; look whether a disk is missing.",
            )


def _default_findings(file: TextFile, names: DeviceNames) -> Iterator[Finding]:
    edit = plan_defaults(file, names)
    after = edit.after if edit else file.text
    for setting in _SETTING.finditer(after):
        for argument in _ARGUMENT.finditer(setting["value"]):
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


def _environment_findings(facts: GuestFacts, names: DeviceNames) -> Iterator[Finding]:
    block = facts.texts.get(posixpath.join(posixpath.dirname(facts.boot_loader.config), "grubenv"))
    for argument in _ARGUMENT.finditer(block.text if block else ""):
        if block and names.resolve(argument["device"]):
            yield Finding(
                "linux.grubenv.names-device",
                f"{block.path} keeps {argument[0]} for kernels, and is not rewritten",
                "Run grub2-editenv in the guest before the migration.",
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
