"""Which Windows can be made ready at all: those whose version is known here, and that a machine of KVM can start. Pure.

What else keeps one from being converted is told by what it is about: its state (``condition``), what starts it (``boot_entries``,
``old_boot``, ``boot_start``), a disk that it has a driver for (``fallback``). A medium of virtio's drivers is not needed: without
one it gets disks and cards that it brings drivers for.

Sources: OVMF comes for the PC of 64 bits, and UEFI starts programs of its own processor's mode only (UEFI specification, "Image
services"). Of NT 3.x nothing was modelled or tried here: neither its registry nor what drives QEMU's devices.
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.facts import GuestFacts
from drivers.plan import Finding, PlanOptions
from drivers.windows.facts import SOFTWARE, SYSTEM, WindowsFacts

_NT_4 = (4, 0)


def blockers(facts: GuestFacts, windows: WindowsFacts) -> Iterator[Finding]:
    """What no other guest of the kind has: a version that nothing is planned for, a firmware that KVM lacks."""
    number = windows.version.number
    if number == (0, 0) and _is_readable(windows):
        message = "its registry does not say which version of Windows it is, and each has its own way to find its drivers"
        hint = "`p2v inspect` shows what was read. Repair it where it is (CurrentVersion in Microsoft\\Windows NT\\CurrentVersion)."
        yield Finding("windows.version-unknown", message, hint)
    elif (0, 0) < number < _NT_4:
        message = f"it is Windows NT {number[0]}.{number[1]}, of which it is not known here what it needs to start on KVM"
        yield Finding("windows.too-old", message, "Windows NT 4.0 is the oldest that can be converted.")
    if facts.firmware == "uefi" and windows.arch == "i386":
        message = "it is started by an UEFI of 32 bits, and KVM's is one of 64, which does not start its loader"
        hint = "Make its disk one that a BIOS starts where it runs (a partition that is active, `bcdboot C:\\Windows /f BIOS`)."
        yield Finding("windows.uefi-32", message, hint)


def _is_readable(windows: WindowsFacts) -> bool:
    """Whether both hives that tell of it were read; else that is told, and is reason enough."""
    hives = (windows.registry.get(name) for name in (SYSTEM, SOFTWARE))
    return all(hive is not None and hive.state != "unreadable" for hive in hives)


def warnings(options: PlanOptions) -> Iterator[Finding]:
    """What was asked for and has no meaning for a Windows, or is not done for one."""
    agent = options.install_agent or bool(options.agent_packages)
    asked = {
        "--install-agent": (agent, "Install it in the running guest, from the folder guest-agent of virtio-win."),
        "--rebuild-initramfs": (options.rebuild_initramfs, ""),
        "--compatible": (options.compatible, "Without drivers of virtio it gets hardware that it has drivers for anyway."),
    }
    for option, (is_asked, hint) in asked.items():
        if is_asked:
            yield Finding("windows.option", f"{option} does nothing for a Windows guest", hint)
    if options.new_identity:
        message = "the copy's machine gets another identity; its computer name, its SID and its place in a domain stay as they are"
        hint = "Run `sysprep /generalize` in it before both are on one network (on XP and older: sysprep from deploy.cab)."
        yield Finding("windows.same-identity", message, hint)
