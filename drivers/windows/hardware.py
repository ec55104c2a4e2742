"""Hardware that a Windows brings drivers for itself, and what of KVM it makes use of. Pure.

Sources: Microsoft's lists of drivers in the box (AHCI and EHCI since Vista, xHCI and 82574L since Windows 8; Cirrus Logic 5446 from
NT 4.0 to Server 2003 for x86; AMD PCnet since NT 4.0, RTL8139 since 2000); QEMU's device documentation. Hyper-V's interfaces by
version: QEMU, docs/system/i386/hyperv.rst; Microsoft, "Hypervisor Top Level Functional Specification"; Proxmox VE gives
Windows 7 and older none under UEFI, where they do not start with them. NT 4.0 and its CPU: QEMU's documentation of guests, and
reports that it stops on any with CPUID levels it does not know (stop 0x3E, or before). Windows on ARM64 wants a linear frame buffer
of its firmware, which virtio-gpu has not (launchpad 1717708). TPM: "Windows 11 requirements". Generation id: Microsoft,
"Virtual machine generation identifier", "Safely virtualizing Active Directory Domain Services".
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.caps import GuestCaps
from drivers.facts import GuestFacts
from drivers.plan import Finding
from drivers.windows.contribution import WindowsContribution
from drivers.windows.facts import WindowsFacts, WindowsVersion
from drivers.windows.versions import FIRST_WINDOWS_11

_2000, _2003, _VISTA, _SEVEN, _EIGHT = (5, 0), (5, 2), (6, 0), (6, 1), (6, 2)
# Before cards were found by themselves: the driver that is there tells which one it can have.
_CARD_DRIVERS = {
    "amdpcn.sys": "pcnet", "pcntn4m.sys": "pcnet", "pcntpci5.sys": "pcnet", "pcnet.sys": "pcnet",
    "rtl8029.sys": "ne2k_pci", "rtlnt4.sys": "ne2k_pci", "rtl8139.sys": "rtl8139", "rtl8139n.sys": "rtl8139",
    "dc21x4.sys": "tulip",
}  # fmt: skip


def plan_caps(facts: GuestFacts, windows: WindowsFacts) -> GuestCaps:
    """What the guest can use without any driver added to it."""
    version = windows.version
    is_old = version.number < _VISTA
    # the machine for ARM64 has virtio's disks only
    buses = () if windows.arch == "aarch64" else ("ide",) if is_old else ("sata", "ide")
    return GuestCaps(
        buses,
        _cards(windows),
        facts.firmware,
        windows.arch,
        local_time=not windows.utc_clock,
        utc_time=windows.utc_clock,
        machine="virt" if windows.arch == "aarch64" else "pc" if is_old else "q35",
        hyperv=tuple(_hyperv(windows, facts.firmware)),
        counts_ticks=windows.arch != "aarch64",
        video=_video(windows),
        tablet=_tablet(version.number) if windows.arch != "aarch64" else "",
        cpu_model="pentium" if version.number < _2000 and windows.arch == "i386" else "",
        tpm=_wants_tpm(version) and facts.firmware == "uefi",
        generation_id=version.is_domain_controller and version.number >= _EIGHT,
        agent=False,
    )


def contribute(windows: WindowsFacts, caps: GuestCaps) -> WindowsContribution:
    """What is to be known of its machine. ``caps``: with the drivers that it is given."""
    return WindowsContribution(warnings=tuple(_findings(windows, caps)))


def _findings(windows: WindowsFacts, caps: GuestCaps) -> Iterator[Finding]:
    version = windows.version
    if version.number < _2000 and not _known_cards(windows):
        message = f"it finds no new card by itself, and has no driver of one that KVM has; it gets a {caps.nic_models[0]}"
        hint = "Add that adapter in Control Panel, Network, where it runs, or here from the CD that it was installed from."
        yield Finding("windows.card-by-hand", message, hint)
    if windows.arch == "aarch64" and "virtio" not in caps.nic_models:
        message = "Windows for ARM64 brings no driver of a network card that KVM has"
        yield Finding("windows.no-card-driver", message, "Name one with --virtio-win.")
    if version.is_domain_controller and version.number < _EIGHT:
        message = "a domain controller of its version does not notice when it is brought back to an older state (USN rollback)"
        hint = "Never go back to a snapshot of it: restore a backup of its system state, or promote another one."
        yield Finding("windows.no-generation-id", message, hint)


def _known_cards(windows: WindowsFacts) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_CARD_DRIVERS[name] for name in windows.driver_files if name in _CARD_DRIVERS))


def _cards(windows: WindowsFacts) -> tuple[str, ...]:
    version = windows.version.number
    if version < _2000:
        return tuple(dict.fromkeys([*_known_cards(windows), "pcnet", "ne2k_pci"]))
    if version < _VISTA:
        return ("rtl8139", "pcnet")
    return ("e1000e", "e1000") if version >= _EIGHT else ("e1000",)


def _hyperv(windows: WindowsFacts, firmware: str) -> Iterator[str]:
    version = windows.version.number
    if version < _VISTA or windows.arch == "aarch64" or (version < _EIGHT and firmware == "uefi"):
        return
    yield from ("relaxed", "vapic", "spinlocks", "hypervclock", "vpindex", "runtime")
    if version >= _SEVEN:
        # KubeVirt takes a reset with synic only
        yield from ("synic", "stimer", "reset")
    if version >= _EIGHT:
        yield "frequencies"
        if windows.arch == "x86_64":
            yield from ("tlbflush", "ipi")


def _video(windows: WindowsFacts) -> str:
    if windows.arch == "aarch64":
        return "ramfb"
    # the editions for x64 came without the old card's driver
    return "cirrus" if windows.version.number <= _2003 and windows.arch == "i386" else "vga"


def _tablet(version: tuple[int, int]) -> str:
    """By the controllers that have drivers in the box: USB came to NT with Windows 2000."""
    if version < _2000:
        return ""
    return "piix3-uhci" if version < _VISTA else "ich9-ehci1" if version < _EIGHT else "qemu-xhci"


def _wants_tpm(version: WindowsVersion) -> bool:
    return not version.is_server and version.number == (10, 0) and version.build >= FIRST_WINDOWS_11
