"""Where in a guest's files a finding of the plan can be seen. Pure: what the finding's message names is looked for again."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from drivers.changes import ExtendInitramfs
from drivers.facts import BootEntry, GuestFacts, Kernel, TextFile
from drivers.linux import lvm_config
from drivers.linux.bootloader import DEBCONF
from drivers.linux.cloud_init import LAST_SOURCE
from drivers.linux.fstab import FSTAB
from drivers.linux.zipl import FIRST_KERNEL_FOLDER
from drivers.plan import Finding
from p2v.audit.examined import Examined
from p2v.audit.findings import Evidence
from p2v.audit.pointing import in_file, lines_matching, lines_naming, numbered_line, text_at

Seeker = Callable[[Examined, Finding], Iterable[Evidence]]

_FILES_AT_MOST = 6
_LINE = re.compile(r" line ([0-9]{1,7})\b")
_WORD_ENDS = ("", " ", ":", ",", ";", ")")
_ENTRY = re.compile(r"the (?:boot )?entry (?P<title>.*) (?:passes|names|starts) ")


def _facts(examined: Examined) -> GuestFacts:
    return examined.document.facts


def numbered(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """``/etc/fstab line 3 ...``: that line of a text that was read."""
    for match in _LINE.finditer(finding.message):
        file = _facts(examined).texts.get(finding.message[: match.start()])
        if file is not None:
            yield from numbered_line(file, int(match[1]))
            return


def _leading(message: str, paths: Iterable[str]) -> str:
    """The longest of these paths that a message begins with; empty for none."""
    found = (path for path in paths if path and message.startswith(path) and message[len(path) :][:1] in _WORD_ENDS)
    return max(found, key=len, default="")


def _leading_text(examined: Examined, finding: Finding) -> TextFile | None:
    texts = _facts(examined).texts
    path = _leading(finding.message, (*texts, *(file.resolved for file in texts.values())))
    return text_at(_facts(examined), path) if path else None


def leading_file(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """A file that the message begins with: one that was read, or one that names a network card or starts a kernel."""
    facts = _facts(examined)
    known = (
        *facts.texts,
        *(file.resolved for file in facts.texts.values()),
        *(interface.source for interface in facts.network.interfaces),
        *(entry.source for entry in facts.boot_loader.entries),
        *(kernel.initramfs.path for kernel in facts.kernels if kernel.initramfs is not None),
    )
    path = _leading(finding.message, known)
    if path:
        yield in_file(path)


def naming(pattern: str) -> Seeker:
    """Lines of the leading file with all that the groups of a pattern match in the message; the file alone where none has."""
    compiled = re.compile(pattern)

    def seek(examined: Examined, finding: Finding) -> Iterator[Evidence]:
        file, match = _leading_text(examined, finding), compiled.search(finding.message)
        lines = list(lines_naming(file, *match.groups())) if file is not None and match is not None else []
        yield from lines or leading_file(examined, finding)

    return seek


def matching(pattern: str) -> Seeker:
    """Lines of the leading file that a pattern matches; the file alone where none does."""
    compiled = re.compile(pattern)

    def seek(examined: Examined, finding: Finding) -> Iterator[Evidence]:
        file = _leading_text(examined, finding)
        lines = list(lines_matching(file, compiled)) if file is not None else []
        yield from lines or leading_file(examined, finding)

    return seek


def in_text(path: str, pattern: str) -> Seeker:
    """Lines of one file that a pattern matches."""
    compiled = re.compile(pattern)

    def seek(examined: Examined, finding: Finding) -> Iterator[Evidence]:
        file = _facts(examined).texts.get(path)
        return lines_matching(file, compiled) if file is not None else iter(())

    return seek


def _by_hardware(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The entries of LVM's devices file that know a disk by its hardware."""
    file = _facts(examined).texts.get(lvm_config.DEVICES_FILE)
    for number, line in enumerate(file.text.split("\n") if file is not None else (), start=1):
        if lvm_config.names_hardware(line) and file is not None:
            yield in_file(file.path, number, line)


# --- boot entries and kernels --------------------------------------------------------------------------------------------


def config(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The boot loader's configuration."""
    if _facts(examined).boot_loader.config:
        yield in_file(_facts(examined).boot_loader.config)


def _entry(facts: GuestFacts, message: str) -> BootEntry | None:
    """The entry that a message speaks of by its title: the longest that fits, as titles may hold anything."""
    match = _ENTRY.search(message)
    said = match["title"] if match is not None else ""
    fits = [e for e in facts.boot_loader.entries if e.title and (said == e.title or said.startswith(e.title + " "))]
    return max(fits, key=lambda entry: len(entry.title), default=None)


def of_entry(pattern: str) -> Seeker:
    """Lines, of where an entry is defined, with what the pattern's group matches in the message; the file alone else."""
    compiled = re.compile(pattern)

    def seek(examined: Examined, finding: Finding) -> Iterator[Evidence]:
        facts, match = _facts(examined), compiled.search(finding.message)
        entry = _entry(facts, finding.message)
        path = (entry.source or facts.boot_loader.config) if entry is not None else ""
        if path:
            file = text_at(facts, path)
            lines = list(lines_naming(file, match[1])) if file is not None and match is not None else []
            yield from lines or [in_file(path)]

    return seek


def _missing_kernel(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The lines that name the kernel's file: a loader's own path to it need not begin with /boot."""
    facts, entry = _facts(examined), _entry(_facts(examined), finding.message)
    path = (entry.source or facts.boot_loader.config) if entry is not None else ""
    name = posixpath.basename(entry.kernel) if entry is not None else ""
    if path:
        file = text_at(facts, path)
        pattern = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])")
        lines = list(lines_matching(file, pattern)) if file is not None and name else []
        yield from lines or [in_file(path)]


def _starting(facts: GuestFacts) -> Iterator[Kernel]:
    images = {entry.kernel for entry in facts.boot_loader.starting}
    return (kernel for kernel in facts.kernels if kernel.image in images)


def _of_kernel(kernel: Kernel) -> Iterator[Evidence]:
    image = kernel.initramfs
    if image is None:
        yield in_file(kernel.image, text="it has no initramfs")
    elif image.problem:
        yield in_file(image.path, text=f"it could not be read: {image.problem}")
    elif image.squashed or {kernel.transport, "virtio_blk"} <= set(image.modules):
        yield in_file(image.path)
    else:
        yield in_file(image.path, text=f"{len(image.modules)} modules were seen in it, not all that virtio_blk needs")


def named_kernel(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The initramfs of a kernel that the message names by its version; the kernel where it has none."""
    for kernel in _facts(examined).kernels:
        if finding.message.startswith(f"kernel {kernel.version} "):
            yield from _of_kernel(kernel)


def starting_kernels(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The same of every kernel that starts when nobody chooses."""
    for kernel in _starting(_facts(examined)):
        yield from _of_kernel(kernel)


def _unified(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    for kernel in _starting(_facts(examined)):
        if kernel.image in finding.message:
            yield in_file(kernel.image)


def _first_kernel(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    for kernel in _facts(examined).kernels:
        if kernel.initramfs is not None and kernel.initramfs.path.startswith(FIRST_KERNEL_FOLDER):
            yield from _of_kernel(kernel)


def _extended(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    for change in examined.document.plan.changes:
        if isinstance(change, ExtendInitramfs):
            yield in_file(change.path)


# --- network, tools, identity, other systems -----------------------------------------------------------------------------


def cards(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The files that name the cards of the message."""
    facts = _facts(examined)
    words = set(re.findall(r"[A-Za-z0-9_.-]+", finding.message))
    for interface in facts.network.interfaces:
        if interface.name in words:
            file = text_at(facts, interface.source)
            lines = list(lines_naming(file, interface.name)) if file is not None else []
            yield from lines[:1] or [in_file(interface.source)]


def by_mac(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The lines with a MAC address, however it is written; the file alone where it was not read as a text."""
    file, match = _leading_text(examined, finding), re.search(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", finding.message)
    lines: list[Evidence] = []
    if file is not None and match is not None:
        lines = list(lines_matching(file, re.compile(match[0].replace(":", "[:-]?"), re.IGNORECASE)))
    yield from lines or leading_file(examined, finding)


def tool(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The unit that stays, else a file that the tool was recognised by."""
    facts = _facts(examined)
    for found in facts.tools:
        if finding.message.startswith(f"{found.name} "):
            said = re.findall(r"/[^\s,;:]+", finding.message)
            yield from (in_file(path) for path in said if path in facts.texts)
            if found.evidence.startswith("file /"):
                yield in_file(found.evidence.removeprefix("file "))


def _host_keys(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    yield from (in_file(path) for path in sorted(_facts(examined).digests) if path.startswith("/etc/ssh/"))


def _efi_programs(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    yield from (in_file(each.path, text=each.kind) for each in _facts(examined).efi_programs[:_FILES_AT_MOST])


def _debconf(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    yield in_file(DEBCONF, text=f"grub-pc/install_devices: {', '.join(_facts(examined).boot_loader.install_devices)}")


def bsd_names(*paths: str, pattern: str) -> Seeker:
    """Lines of a system's tables whose driver's name (the pattern's group) the message names, and files called after one."""
    compiled = re.compile(pattern)

    def seek(examined: Examined, finding: Finding) -> Iterator[Evidence]:
        texts = _facts(examined).texts
        named = set(re.findall(r"\b([a-z][a-z0-9]*?[a-z])0?\b", finding.message))
        for path in texts:
            file = re.fullmatch(r"/etc/(?:hostname|ifconfig)\.([a-z0-9]*[a-z])[0-9]+", path)
            if file is not None and path not in paths and file[1] in named and "card" in finding.message:
                yield in_file(path)
        for path in paths:
            for number, line in enumerate(texts[path].text.split("\n") if path in texts else (), start=1):
                match = compiled.match(line.strip())
                if match is not None and match[1] in named:
                    yield in_file(path, number, line)

    return seek


def _old_mac(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    match = re.search(r"(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}", finding.message, re.IGNORECASE)
    if match is not None:
        pattern = re.compile(re.sub("[:-]", "[:-]?", match[0]), re.IGNORECASE)
        for file in _facts(examined).texts.values():
            yield from lines_matching(file, pattern)


_TABLES = bsd_names("/etc/fstab", "/etc/vfstab", pattern=r"/dev/(?:r?dsk/)?([a-z]+)[0-9]")
_CARDS = bsd_names("/etc/rc.conf", pattern=r"ifconfig_([a-z0-9]*[a-z])[0-9]+(?:_\w+)?=")
_LINES = (
    "linux.fstab.root-unresolved", "linux.fstab.unresolved", "linux.fstab.option-names-device", "linux.mdadm.array-by-names",
    "linux.network.rule-by-hardware", "linux.network.address-in-hosts", "linux.unit.unresolved", "linux.autofs.unresolved",
    "linux.uswsusp.unresolved", "linux.hdparm.names-device", "linux.smartd.names-device", "linux.raidtab.names-device",
    "linux.rawdevices.names-device", "linux.s390x.channel-device", "linux.clock.refclock", "linux.lvm.filter-not-understood",
    "linux.crypttab.unresolved", "linux.crypttab.key-on-device", "guest.reading",
)  # fmt: skip
_WHOLE_FILES = (
    "linux.mdadm.in-initramfs", "linux.lvm.devices-in-initramfs", "linux.initramfs.copies", "linux.rebuild.left",
    "linux.network.unread", "linux.network.link-shadowed", "linux.network.address-kept", "linux.network.mac-left",
    "linux.identity.machine-id-fixed", "linux.image.sealed",
)  # fmt: skip

SEEKERS: Mapping[str, Seeker] = {
    **dict.fromkeys(_LINES, numbered),
    **dict.fromkeys(_WHOLE_FILES, leading_file),
    "linux.boot-loader.root-unresolved": naming(r"passes (\S+) to a kernel"),
    "linux.boot-loader.argument-names-device": naming(r"passes (\S+) to a kernel"),
    "linux.boot-loader.root-absent": naming(r"starts with [\"']?(root=UUID=[^\s\"',]+)"),
    "linux.default-grub.names-device": naming(r": (GRUB_[A-Z0-9_]+) names (\S+), which"),
    "linux.default-grub.no-uuids": matching(r"^[ \t]*(?:export[ \t]+)?GRUB_DISABLE_LINUX_UUID="),
    "linux.grubenv.names-device": naming(r" keeps ([^\s,]+)"),
    "linux.resume.unresolved": naming(r" resumes from (\S+): "),
    "linux.unit.swap-named-after-device": naming(r" is for (\S+) and named"),
    "linux.unit.waits-for-device": naming(r" waits for (\S+), which"),
    "linux.dracut.overridden": matching(r"^[ \t]*add_drivers="),
    "linux.lvm.in-initramfs": matching(r"^[ \t]*(?:global_)?filter[ \t]*="),
    "linux.lvm.devices-file-removed": _by_hardware,
    "linux.multipath.named": in_text(FSTAB, r"^[ \t]*/dev/mapper/mpath"),
    "linux.cloud-init.source-left": in_text(LAST_SOURCE, r"\S"),
    "linux.boot-loader.no-entries": config,
    "linux.boot-loader.unreadable": config,
    "linux.boot-loader.not-here": config,
    "linux.boot.kernel-missing": _missing_kernel,
    "linux.boot.root-name-fixed": of_entry(r" names its root (\S+) where"),
    "linux.disks.name-kept": of_entry(r" names its root (\S+) where"),
    "linux.s390x.cio-ignore": of_entry(r" passes (\S+), so that"),
    "linux.s390x.arguments": of_entry(r" of the old machine \(([^\s,)]+)"),
    "linux.initramfs.fixed": named_kernel,
    "linux.kernel.no-virtio": named_kernel,
    "linux.boot.no-disk-driver": starting_kernels,
    "linux.disks.unknown": starting_kernels,
    "linux.disks.not-virtio": starting_kernels,
    "linux.zipl.no-virtio": starting_kernels,
    "linux.unified.names-device": _unified,
    "linux.s390x.first-kernel": _first_kernel,
    "linux.image.next-initramfs": _extended,
    "linux.network.order-guessed": cards,
    "linux.network.names-ambiguous": cards,
    "linux.network.by-mac": by_mac,
    "linux.network.by-hardware": naming(r"of the old machine \(([^\s)]+)"),
    "linux.tools.left": tool,
    "linux.first-boot.tool-left": tool,
    "linux.identity.host-keys": _host_keys,
    "linux.firmware.uefi": _efi_programs,
    "linux.grub.install-devices": _debconf,
    "other.disk-name": _TABLES,
    "other.disk-names": _TABLES,
    "other.card-name": _CARDS,
    "other.card-names": _CARDS,
    "other.mac-change": _old_mac,
}
