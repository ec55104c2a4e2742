"""Names of the root that no edit reaches: the machine has to be one on which the root is still called so."""

from __future__ import annotations

import re
from collections.abc import Collection

from drivers.facts import BootEntry, GuestFacts
from drivers.linux.devices import DeviceNames
from drivers.linux.kernel_arguments import ARGUMENT, RootFinder, finder_of, lasting

FIXED_MAPS = frozenset({"lilo", "zipl"})
"""Boot loaders that start what their map held when they were run, whatever their configuration says since."""

_KIND = re.compile(r"/dev/(sd|hd|vd)")
_KEPT = {"sd": ("virtio-scsi", "sata"), "vd": ("virtio-blk",), "hd": ()}
# libata calls an IDE disk sd, the drivers before it hd
_IDE = {"sd": frozenset({"ata_piix"}), "hd": frozenset({"piix", "ide_generic"})}


def fixed_root(facts: GuestFacts, entry: BootEntry, names: DeviceNames) -> str:
    """The device that an entry's root is fixed to; empty when it is none, or an edit gives it a name that lasts.

    Fixed are: LILO's and zipl's maps, the arguments in a unified kernel image, and what a kernel without initramfs looks for
    itself when it does not know ``PARTUUID=``, or the disk has none.
    """
    argument = next((found for found in ARGUMENT.finditer(entry.arguments) if found["key"] == "root"), None)
    if argument is None or names.resolve(argument["device"]) is None:
        return ""
    is_unified = entry.source != "" and entry.source == entry.kernel
    if facts.boot_loader.kind in FIXED_MAPS or is_unified:
        return argument["device"]
    finder = finder_of(entry.kernel, bool(entry.initramfs))
    found = names.resolve(argument["device"])
    if finder is RootFinder.INITRAMFS or found is None or found.stable is None:
        return ""
    return "" if lasting(argument, names, finder) else argument["device"]


def buses_that_keep(root: str, modules: Collection[str]) -> frozenset[str]:
    """The disk buses on which a root keeps its name, with a kernel that has these modules."""
    kind = _KIND.match(root)
    if kind is None:
        return frozenset()
    ide = ("ide",) if not _IDE.get(kind[1], frozenset()).isdisjoint(modules) else ()
    return frozenset((*_KEPT[kind[1]], *ide))
