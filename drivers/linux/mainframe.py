"""What a guest for s390x has of its mainframe: devices on channels, and a kernel that is told to ignore all others.

On KVM disks and cards hang on channels of their own (virtio-ccw, device numbers 0.0.0000 and up), DASDs and OSA cards do not
exist. Arguments: dracut.cmdline(7), the kernel's "S/390 common I/O-Layer" (``cio_ignore``). Files: s390-tools' chzdev(8)
writes udev rules, dasd.conf and zfcp.conf are Red Hat's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from drivers.facts import BootEntry, GuestFacts
from drivers.linux import zipl
from drivers.linux.contribution import Contribution
from drivers.plan import Finding

TEXTS = ("/etc/dasd.conf", "/etc/zfcp.conf", "/etc/udev/rules.d/41-*.rules", "/etc/udev/rules.d/51-*.rules")

_FILES = re.compile(r"/etc/(?:dasd|zfcp)\.conf|/etc/udev/rules\.d/(?:41|51)-[^/]*\.rules")
_DEVICE = re.compile(r"\b[0-9a-f]\.[0-3]\.[0-9a-f]{4}\b")
_ARGUMENTS = ("rd.dasd=", "rd.zfcp=", "rd.znet=", "rd_DASD=", "rd_ZFCP=", "rd_ZNET=", "dasd=", "zfcp.device=")
_IGNORE = "cio_ignore="


def contribute(facts: GuestFacts) -> Contribution:
    """Findings about a guest for s390x; nothing for others."""
    if facts.os is None or facts.os.arch != "s390x":
        return Contribution()
    default = facts.boot_loader.default_entry
    blockers = (*(_ignored(default) if default is not None else ()), *_first_kernel(facts))
    warnings = (*(_arguments(default) if default is not None else ()), *_channel_files(facts))
    return Contribution(warnings=warnings, blockers=blockers)


def _ignored(entry: BootEntry) -> Iterator[Finding]:
    """``cio_ignore=all,!condev``, as installers write it: virtio's own channels would be ignored too."""
    for argument in entry.arguments.split():
        if argument.startswith(_IGNORE) and "all" in argument.removeprefix(_IGNORE).split(","):
            message = f"the entry {entry.title} passes {argument}, so that its kernel ignores the channels of KVM's disks and cards"
            hint = "In the guest, before its disks are copied: take it out of the kernel's arguments and run `zipl`."
            yield Finding("linux.s390x.cio-ignore", message, hint)


def _arguments(entry: BootEntry) -> Iterator[Finding]:
    named = [argument for argument in entry.arguments.split() if argument.startswith(_ARGUMENTS)]
    if named:
        message = f"the entry {entry.title} names devices of the old machine ({', '.join(named[:5])}), which do not exist on KVM"
        yield Finding("linux.s390x.arguments", message, "Take them out in the converted guest, then run `zipl` there.")


def _channel_files(facts: GuestFacts) -> Iterator[Finding]:
    for path, file in sorted(facts.texts.items()):
        if not _FILES.fullmatch(path):
            continue
        for number, line in enumerate(file.text.split("\n"), start=1):
            if not line.lstrip().startswith("#") and (device := _DEVICE.search(line.lower())):
                message = f"{path} line {number} sets up the device {device[0]} on a channel, which does not exist on KVM"
                yield Finding("linux.s390x.channel-device", message, "Run `chzdev --remove` for it in the converted guest.")
                break


def _first_kernel(facts: GuestFacts) -> Iterator[Finding]:
    """SUSE's zipl starts a kernel whose only task is to run GRUB and load the next; its initramfs is in zipl's map."""
    if facts.boot_loader.kind != "grub2":
        return
    first = [k for k in facts.kernels if k.initramfs is not None and k.initramfs.path.startswith(zipl.FIRST_KERNEL_FOLDER)]
    if not any(kernel.finds_virtio_root() for kernel in first):
        message = "GRUB is started by a first kernel in /boot/zipl, whose initramfs finds no virtio disk and is in zipl's map"
        hint = "In the guest, before its disks are copied: put virtio_blk into dracut's drivers and run `grub2-install`."
        yield Finding("linux.s390x.first-kernel", message, hint)
