"""Drivers that the guest's own configuration asks for: modprobe's aliases and blacklists, Xorg's screen, chrony's clock.

modprobe.conf(5) of old kernels says which driver a card or disk controller needs, and the initrds of that time are built by
it. xorg.conf(5) names a driver for the screen and its place, and a server that does not find them ends.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping

from drivers.caps import GuestCaps
from drivers.changes import Change, EditFile
from drivers.facts import GuestFacts, TextFile
from drivers.linux.contribution import Contribution
from drivers.linux.splice import Splice, lines_of, spliced
from drivers.plan import Finding

MODPROBE = (
    "/etc/modules.conf", "/etc/conf.modules", "/etc/modprobe.conf", "/etc/modprobe.conf.local", "/etc/modprobe.d/*",
)  # fmt: skip
XORG = ("/etc/X11/xorg.conf", "/etc/X11/XF86Config", "/etc/X11/XF86Config-4", "/etc/X11/xorg.conf.d/*.conf")
CHRONY = ("/etc/chrony.conf", "/etc/chrony/chrony.conf", "/etc/chrony.d/*.conf", "/etc/chrony/conf.d/*.conf")
TEXTS = (*MODPROBE, *XORG, *CHRONY)
MODESETTING = tuple(
    f"/usr/{lib}/xorg/modules/drivers/modesetting_drv.so"
    for lib in ("lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "lib/powerpc64le-linux-gnu")
)
"""Where X servers keep the driver that works with whatever the kernel drives; old ones have none."""

WHY_MODPROBE = "the drivers that it asks for or forbids are those of the old machine"
WHY_XORG = "the screen has another card, elsewhere, on KVM; with the old driver the X server would end"

_NETWORK: Mapping[str, str] = {"virtio": "virtio_net", "e1000e": "e1000e", "e1000": "e1000", "rtl8139": "8139cp"}
_DISK: Mapping[str, str] = {"virtio-blk": "virtio_blk", "virtio-scsi": "virtio_scsi", "sata": "ahci", "ide": "ata_piix"}
# what the rewritten guest starts from; virtio's screen, sound and the like may have been forbidden for a reason
_NEEDED = frozenset({
    "virtio", "virtio_ring", "virtio_pci", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_blk", "virtio_scsi",
    "virtio_net", "virtio_rng", "virtio_balloon", "virtio_console", "net_failover", "failover",
})  # fmt: skip
_ALIAS = re.compile(r"[ \t]*alias[ \t]+(?:(?P<card>eth[0-9]+)|scsi_hostadapter[0-9]*)[ \t]+(?P<driver>[^\s#]+)")
_FORBIDDEN = re.compile(
    r"[ \t]*(?:blacklist[ \t]+(?P<listed>\S+)|install[ \t]+(?P<never>\S+)[ \t]+/(?:usr/)?bin/(?:true|false)\b)"
)
_SECTION = re.compile(r"[ \t]*(End)?Section\b(?:[ \t]+\"(\w+)\")?", re.IGNORECASE)
_DRIVER = re.compile(r"[ \t]*Driver[ \t]+\"(?P<driver>[^\"]*)\"", re.IGNORECASE)
_PLACE = re.compile(r"[ \t]*BusID[ \t]+\"", re.IGNORECASE)
_ANY_SCREEN = frozenset({"modesetting", "vesa", "qxl", "cirrus", "dummy"})
_CLOCK = re.compile(r"[ \t]*refclock[ \t]+PHC[ \t]+(?P<device>/dev/ptp[^\s:]*)")


def contribute(facts: GuestFacts, caps: GuestCaps) -> Contribution:
    """The edits, and a warning for each clock that is not there. ``caps``: what the guest will start from."""
    changes: list[Change] = []
    warnings: list[Finding] = []
    for path, file in facts.texts.items():
        if _is_one_of(path, MODPROBE):
            changes += _edits(file, _modprobe(file.text, caps), WHY_MODPROBE)
        elif _is_one_of(path, XORG):
            driver = "modesetting" if any(module in facts.folders for module in MODESETTING) else "vesa"
            changes += _edits(file, _xorg(file.text, driver), WHY_XORG)
        elif _is_one_of(path, CHRONY):
            warnings += _clocks(file)
    return Contribution(tuple(changes), tuple(warnings))


def _is_one_of(path: str, patterns: tuple[str, ...]) -> bool:
    return any(path.count("/") == p.count("/") and fnmatch.fnmatchcase(path, p) for p in patterns)


def _edits(file: TextFile, splices: Iterator[Splice], why: str) -> Iterator[EditFile]:
    after = spliced(file.text, splices)
    if after != file.text:
        yield EditFile(file.resolved, file.text, after, why)


def _modprobe(text: str, caps: GuestCaps) -> Iterator[Splice]:
    card = _NETWORK.get(caps.nic_models[0] if caps.nic_models else "")
    disk = _DISK.get(caps.disk_buses[0] if caps.disk_buses else "")
    aliases = [(begin, match) for _, begin, line in lines_of(text) if (match := _ALIAS.match(line))]
    for begin, match in aliases:
        if match["card"] and card and match["driver"] != card:
            yield Splice(begin + match.start("driver"), begin + match.end("driver"), card)
    controllers = [(begin, match) for begin, match in aliases if not match["card"]]
    # the first controller's driver is loaded first; those that find nothing do no harm
    if controllers and disk and disk not in (match["driver"] for _, match in controllers):
        begin, match = controllers[0]
        yield Splice(begin + match.start("driver"), begin + match.end("driver"), disk)
    for _, begin, line in lines_of(text):
        forbidden = _FORBIDDEN.match(line)
        if forbidden and (forbidden["listed"] or forbidden["never"]).replace("-", "_") in _NEEDED:
            yield Splice(begin, begin, "#")


def _xorg(text: str, driver: str) -> Iterator[Splice]:
    inside = False
    for _, begin, line in lines_of(text):
        if section := _SECTION.match(line):
            inside = not section[1] and (section[2] or "").lower() == "device"
        elif inside and (match := _DRIVER.match(line)) and match["driver"].lower() not in _ANY_SCREEN:
            yield Splice(begin + match.start("driver"), begin + match.end("driver"), driver)
        elif inside and _PLACE.match(line):
            yield Splice(begin, begin, "#")


def _clocks(file: TextFile) -> Iterator[Finding]:
    for number, line in enumerate(file.text.split("\n"), start=1):
        if match := _CLOCK.match(line):
            yield Finding(
                "linux.clock.refclock",
                f"{file.path} line {number} takes the time from {match['device']}, which the old hypervisor offered",
                "Load ptp_kvm in the guest for the same on KVM, or name servers of NTP.",
            )
