"""The files that a Linux guest starts with: kernel, initramfs with what its root needs, first program.

Sources: init/main.c (a kernel told of a first program that is not there panics), initramfs-tools' ``init`` (which tries
/sbin/init then), GRUB's manual (an ``initrd`` that is not found is left out, and so are all beside it).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace

from drivers.changes import ExtendInitramfs
from drivers.facts import BootEntry, GuestFacts, Kernel, ReadBy, nearest_mount
from drivers.linux import bls
from drivers.linux.boot_check import kernel_of
from drivers.linux.bootloader import grub_environment
from drivers.linux.start_files import first_program
from drivers.start_files import StartFile, StartRole
from p2v.audit.chain import Judged, at_file, at_text, finding, shown, told_by_plan
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding, Severity

_DAMAGE = ("ends at byte", "holds no archive", "is damaged", "begins no newc entry")
# what mounts a file system; the younger drivers take the older kinds too
_DRIVERS = {
    "ext2": ("ext2", "ext4"), "ext3": ("ext3", "ext4"), "ext4": ("ext4",), "xfs": ("xfs",), "btrfs": ("btrfs",),
    "reiserfs": ("reiserfs",), "jfs": ("jfs",), "f2fs": ("f2fs",),
}  # fmt: skip
_OF_ARRAYS = ("raid1", "raid0", "raid10", "raid456", "linear")
_VOLUME_DRIVERS = {"lvm": ("dm_mod",), "luks": ("dm_crypt",), "md": _OF_ARRAYS}
_INITS = frozenset({
    "init", "systemd", "openrc-init", "runit", "runit-init", "s6-linux-init", "s6-svscan", "dinit", "shepherd", "upstart",
    "finit", "sinit", "linuxrc", "preinit", "bootchartd", "systemd-bootchart", "sysvinit", "ostree-prepare-root",
})  # fmt: skip
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "zsh", "csh", "tcsh", "sulogin"})
_NO_INITS = frozenset({"false", "true", "echo", "sleep", "cat", "test", "yes", "poweroff", "halt", "reboot"})
_SET = re.compile(r"^[ \t]*set[ \t]+(?P<name>\w+)=(?:\"(?P<quoted>[^\"\n]*)\"|(?P<plain>[^\s\"]*))", re.MULTILINE)
# what links of /sbin and /bin lead into
_PROGRAM_PLACES = ("/", "/usr")


def starting_entry(facts: GuestFacts) -> BootEntry | None:
    """The entry that starts when nobody chooses; the first where that starts no kernel; None without any."""
    loader = facts.boot_loader
    entry = loader.default_entry or next(iter(loader.entries), None)
    return replace(entry, arguments=_expanded(facts, entry.arguments)) if entry is not None else None


def _expanded(facts: GuestFacts, arguments: str) -> str:
    """Arguments with GRUB's variables put in, as far as its environment block and its configuration set them."""
    if "$" not in arguments or facts.boot_loader.kind != "grub2":
        return arguments
    config, folder = facts.boot_loader.config, posixpath.dirname(facts.boot_loader.config)
    texts = (facts.texts[path].text if path in facts.texts else "" for path in (config, f"{folder}/grubenv"))
    menu, block = texts
    variables = {match["name"]: match["quoted"] or match["plain"] or "" for match in _SET.finditer(menu)}
    return bls.expanded(arguments, {**variables, **grub_environment(block)})


def starting_kernel(facts: GuestFacts) -> Kernel | None:
    """The kernel of that entry."""
    entry = starting_entry(facts)
    return kernel_of(entry, facts.kernels) if entry is not None else None


def unread(facts: GuestFacts, *paths: str) -> str:
    """Why what stands at paths of the guest may not have been seen; empty where their file systems were read."""
    for path in paths:
        mount = nearest_mount(facts.mounts, path)
        system = facts.filesystem_of(mount) if mount is not None else None
        if mount is not None and system is not None and system.why_not_host and facts.read_by is ReadBy.HOST:
            return f"the file system at {shown(mount.mountpoint)} was not read: {shown(system.why_not_host)}"
    return ""


def start_file(facts: GuestFacts, role: StartRole, path: str) -> StartFile | None:
    """What was found at a path that a start needs; None where it was not looked for."""
    return next((file for file in facts.start_files if file.role is role and file.path == path), None)


# --- kernel ------------------------------------------------------------------------------------------------


def kernel_link(examined: Examined) -> Judged:
    """The kernel of the entry that starts when nobody chooses is there, and whole."""
    facts = examined.document.facts
    entry, told = starting_entry(facts), told_by_plan(examined, "linux.boot.kernel-missing")
    if entry is None:
        return Judged("kernel", "", unseen="without a boot entry it is not known which kernel starts")
    evidence = (at_file(entry.kernel),)
    problem = unread(facts, entry.kernel)
    if told and problem:
        return Judged("kernel", "", evidence, unseen=problem)
    findings = () if told else tuple(_kernel_findings(examined, entry))
    return Judged("kernel", f"{shown(entry.kernel)} is there", evidence, findings, told)


def _kernel_findings(examined: Examined, entry: BootEntry) -> Iterator[AuditFinding]:
    facts = examined.document.facts
    file, problem = start_file(facts, StartRole.KERNEL, entry.kernel), unread(facts, entry.kernel)
    evidence = at_text(facts, entry.source or facts.boot_loader.config, posixpath.basename(entry.kernel))
    if file is None or (not file.found and problem):
        message = f"whether the kernel {shown(entry.kernel)} is there could not be seen" + (
            f": {problem}" if problem else ""
        )
        yield finding(examined, "start.linux.kernel-unseen", message, evidence)
    elif not file.found:
        message = f"the boot entry {shown(entry.title)} starts {shown(entry.kernel)}, and that file is not there"
        yield finding(examined, "start.linux.no-kernel-file", message, evidence)
    elif file.problem:
        message = f"the kernel {shown(file.found)} {file.problem}"
        yield finding(examined, "start.linux.kernel-damaged", message, at_file(file.found))


# --- initramfs ---------------------------------------------------------------------------------------------


def initramfs_link(examined: Examined) -> Judged:
    """What the entry loads beside its kernel is there, whole, and has what the root needs."""
    facts = examined.document.facts
    entry, kernel = starting_entry(facts), starting_kernel(facts)
    if entry is None or kernel is None:
        return Judged("initramfs", "", unseen="without a kernel it is not known which initramfs it starts with")
    told = told_by_plan(examined, "linux.initramfs.fixed", "linux.boot.no-disk-driver")
    path = kernel.initramfs.path if kernel.initramfs is not None else ""
    evidence = (at_file(path),) if path else ()
    proven = f"{shown(path) or 'the kernel by itself'} has what finds and mounts the root"
    absent = tuple(_absent_files(examined, entry))
    findings = absent or tuple(_content_findings(examined, entry, kernel, told=bool(told)))
    return Judged("initramfs", proven, evidence, findings, told)


def _absent_files(examined: Examined, entry: BootEntry) -> Iterator[AuditFinding]:
    facts = examined.document.facts
    evidence = at_text(facts, entry.source or facts.boot_loader.config, "initrd")
    for path in entry.initramfs:
        file, problem = start_file(facts, StartRole.INITRAMFS, path), unread(facts, path)
        if file is None or (not file.found and problem):
            message = f"whether the initramfs {shown(path)} is there could not be seen" + (
                f": {problem}" if problem else ""
            )
            yield finding(examined, "start.linux.initramfs-unseen", message, evidence)
        elif not file.found:
            message = f"the boot entry {shown(entry.title)} loads {shown(path)}, and that file is not there"
            yield finding(examined, "start.linux.no-initramfs-file", message, evidence)
        elif file.problem:
            message = f"the initramfs {shown(file.found)} {file.problem}"
            yield finding(examined, "start.linux.initramfs-damaged", message, at_file(file.found))


def _content_findings(examined: Examined, entry: BootEntry, kernel: Kernel, *, told: bool) -> Iterator[AuditFinding]:
    image = kernel.initramfs
    if image is not None and not image.unified and not entry.initramfs:
        message = (
            f"the boot entry {shown(entry.title)} names no initramfs, and its kernel has {shown(image.path)} beside it"
        )
        yield finding(examined, "start.linux.initramfs-not-named", message, at_file(image.path))
    elif image is not None and image.is_opaque:
        # the plan's own blocker has the same reason
        if not told:
            yield _opaque(examined, kernel)
    else:
        yield from _virtio_findings(examined, kernel)
        yield from _root_driver_findings(examined, kernel)


def _opaque(examined: Examined, kernel: Kernel) -> AuditFinding:
    image = kernel.initramfs
    assert image is not None
    if any(words in image.problem for words in _DAMAGE):
        message = f"the initramfs {shown(image.path)} is damaged: {shown(image.problem)}"
        return finding(examined, "start.linux.initramfs-damaged", message, at_file(image.path))
    why = shown(image.problem) or "its modules are in a squashed image"
    message = f"what the initramfs {shown(image.path)} holds could not be seen: {why}"
    return finding(examined, "start.linux.initramfs-unseen", message, at_file(image.path))


def _virtio_findings(examined: Examined, kernel: Kernel) -> Iterator[AuditFinding]:
    """What the conversion adds: as it is, the guest would not find its disk on virtio."""
    image = kernel.initramfs
    if image is None or kernel.finds_virtio_root():
        return
    for change in examined.document.plan.changes:
        if isinstance(change, ExtendInitramfs) and change.path == image.path and change.modules:
            added = f"the conversion adds {len(change.modules)} modules"
            message = f"the initramfs {shown(image.path)} has no driver for virtio disks; {added}"
            yield finding(examined, "start.linux.initramfs-no-virtio", message, at_file(image.path))
            return


def _root_driver_findings(examined: Examined, kernel: Kernel) -> Iterator[AuditFinding]:
    facts, image = examined.document.facts, kernel.initramfs
    have = set(image.modules if image is not None else ()) | set(kernel.root_builtin or ())
    evidence = at_file(image.path if image is not None else kernel.image)
    where = f"the initramfs {shown(image.path)}" if image is not None else "no initramfs is loaded, and the kernel"
    for what, drivers in _needed_for_root(facts):
        if not have.isdisjoint(drivers):
            continue
        if kernel.root_builtin is None or (image is not None and not image.modules):
            message = f"whether kernel {shown(kernel.version)} has {drivers[0]}, which its root ({what}) needs, could not be seen"
            yield finding(examined, "start.linux.root-driver-unseen", message, evidence)
        else:
            message = f"{where} has no {drivers[0]}, which the root ({what}) needs, and the kernel has none built in"
            yield finding(examined, "start.linux.no-root-driver", message, evidence)


def _needed_for_root(facts: GuestFacts) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What the root is and stands on, and for each the drivers of which one does."""
    if facts.root is None:
        return
    system = facts.filesystem_of(facts.root)
    if system is not None and system.kind in _DRIVERS:
        yield system.kind, _DRIVERS[system.kind]
    volume = next((each for each in facts.volumes if facts.root.volume in (each.device, *each.aliases)), None)
    if volume is None or not facts.root.volume:
        return
    carriers = (part for part in facts.partitions if (part.disk, part.number) in volume.carriers)
    kinds = {volume.kind, *(part.filesystem.kind for part in carriers if part.filesystem is not None)}
    for kind in sorted({"lvm2": "lvm"}.get(each, each) for each in kinds):
        if kind in _VOLUME_DRIVERS:
            yield kind, _VOLUME_DRIVERS[kind]


# --- first program -----------------------------------------------------------------------------------------


def program_link(examined: Examined) -> Judged:
    """The first program that the kernel runs is there, and is one that starts the system."""
    facts = examined.document.facts
    entry = starting_entry(facts)
    if entry is None:
        return Judged("first program", "", unseen="without a boot entry it is not known what the kernel runs first")
    named = first_program(entry)
    file = start_file(facts, StartRole.INIT, named) if named else _usual_program(facts)
    config = entry.source or facts.boot_loader.config
    evidence = (
        at_text(facts, config, f"init={named}") if named else at_file(file.path if file is not None else "/sbin/init")
    )
    proven = f"{shown(file.found)} is the first program" if file is not None else ""
    problem = unread(facts, *_PROGRAM_PLACES)
    if file is None or (not file.found and problem):
        why = f": {problem}" if problem else ""
        message = f"whether the first program {shown(named or '/sbin/init')} is there could not be seen{why}"
        return Judged(
            "first program", "", (evidence,), (finding(examined, "start.linux.program-unseen", message, evidence),)
        )
    judged = Judged("first program", proven, (evidence,))
    if not file.found or file.problem:
        return judged.with_findings([_absent_program(examined, file, named)])
    return judged.with_findings(_doubts(examined, file, named))


def _usual_program(facts: GuestFacts) -> StartFile | None:
    entry = starting_entry(facts)
    named = first_program(entry) if entry is not None else ""
    return next((file for file in facts.start_files if file.role is StartRole.INIT and file.path != named), None)


def _absent_program(examined: Examined, file: StartFile, named: str) -> AuditFinding:
    facts = examined.document.facts
    kernel, usual = starting_kernel(facts), _usual_program(facts)
    what = f"{shown(file.path)} {file.problem}" if file.found else f"{shown(file.path)} is not there"
    evidence = at_file(file.path)
    builder = kernel.initramfs.builder if kernel is not None and kernel.initramfs is not None else ""
    if (
        named
        and not file.found
        and builder == "initramfs-tools"
        and usual is not None
        and usual.found
        and not usual.problem
    ):
        message = f"the kernel is told to run {what} first; its initramfs goes on with {shown(usual.found)}"
        return finding(examined, "start.linux.no-first-program", message, evidence, severity=Severity.WARNING)
    return finding(examined, "start.linux.no-first-program", f"what the kernel runs first: {what}", evidence)


def _doubts(examined: Examined, file: StartFile, named: str) -> Iterator[AuditFinding]:
    """Whether it is a program that starts a system, as far as its name and its first lines tell."""
    facts = examined.document.facts
    names = {posixpath.basename(file.path), posixpath.basename(file.found)}
    entry = starting_entry(facts)
    config = (entry.source if entry is not None else "") or facts.boot_loader.config
    evidence = at_text(facts, config, f"init={named}") if named else at_file(file.found)
    is_usual = not names.isdisjoint(_INITS)
    if file.kind == "script" and not file.hands_over:
        message = f"the first program {shown(file.found)} is a script that never runs an init in its place, so no system starts"
        yield finding(examined, "start.linux.no-init", message, evidence, at_file(file.found))
    elif is_usual:
        return
    elif not names.isdisjoint(_NO_INITS | _SHELLS):
        what = (
            "a shell, where the machine stays"
            if not names.isdisjoint(_SHELLS)
            else "no init: the kernel stops when it ends"
        )
        message = f"the kernel is told to run {shown(file.path)} first, which is {what}"
        yield finding(examined, "start.linux.no-init", message, evidence)
    elif file.kind != "script":
        message = f"the kernel is told to run {shown(file.path)} first; whether that starts the system is not known"
        yield finding(examined, "start.linux.program-unseen", message, evidence)
