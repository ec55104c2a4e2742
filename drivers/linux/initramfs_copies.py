"""Configuration that an initramfs keeps copies of, and that names devices: crypttab, mdadm.conf, LVM's filters, arguments, swap.

The copies were made when the initramfs was built and are what its scripts go by, so editing the guest's own files does
not reach them. What is appended to an image takes the place of what stands in it under the same path, so each copy gets
the edit that the guest's own file gets. Their places: initramfs-tools' hooks (``cryptroot/crypttab``, ``etc/mdadm/mdadm.conf``,
``etc/lvm``, ``conf/conf.d/resume``), dracut's modules (``etc/crypttab``, ``etc/mdadm.conf``, ``etc/cmdline.d``), dracut.cmdline(7).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from drivers.changes import ExtendInitramfs, InitramfsFile
from drivers.facts import GuestFacts, Initramfs, TextFile
from drivers.linux import crypttab, kernel_arguments, lvm_config, mdadm, resume
from drivers.linux.contribution import Contribution
from drivers.linux.devices import DeviceNames
from drivers.linux.kernel_arguments import CommandLine, RootFinder
from drivers.linux.splice import Splice, spliced
from drivers.plan import Finding

# Debian's before crypttab was copied: target=sda5_crypt,source=/dev/sda5,key=none
_SOURCE = re.compile(r"(?<![^,\s])source=(?P<device>/dev/[^,\s]+)")


def overrides(facts: GuestFacts, names: DeviceNames, image: Initramfs) -> tuple[InitramfsFile, ...]:
    """The copies that have to say something else, as they are to be."""
    return tuple(
        InitramfsFile(path, text, after)
        for path, text in sorted(image.texts.items())
        if (after := _edited(facts, names, path, text)) != text
    )


def contribute(facts: GuestFacts, names: DeviceNames, supplements: Mapping[str, ExtendInitramfs]) -> Contribution:
    """A warning for each image whose copies cannot be reached."""
    left = {
        kernel.initramfs.path: ", ".join(file.path for file in files)
        for kernel in facts.kernels
        if kernel.initramfs is not None and kernel.initramfs.path not in supplements
        if (files := overrides(facts, names, kernel.initramfs))
    }
    return Contribution(warnings=tuple(_unreached(path, files) for path, files in left.items()))


def _unreached(path: str, files: str) -> Finding:
    message = f"{path} keeps copies that name devices of the old machine ({files}), and nothing can be appended to it"
    hint = "Name devices by UUID in the guest and rebuild its initramfs there before the migration."
    return Finding("linux.initramfs.copies", message, hint)


def _edited(facts: GuestFacts, names: DeviceNames, path: str, text: str) -> str:
    file = TextFile(path, path, text)
    match posixpath.basename(path):
        case "crypttab":
            edit = crypttab.plan_crypttab(file, names)
        case "mdadm.conf":
            edit = mdadm.plan_mdadm(file)
        case "lvm.conf" | "lvmlocal.conf":
            edit = lvm_config.plan_filters(file, facts)
        case "cryptroot":
            return spliced(text, [splice for match in _SOURCE.finditer(text) if (splice := _source(match, names))])
        case _ if path.startswith("conf/"):
            edit = resume.plan_resume(file, names)
        case _:
            line = CommandLine(0, len(text), RootFinder.INITRAMFS)
            return spliced(text, list(kernel_arguments.device_splices(text, line, names)))
    return edit.after if edit else text


def _source(match: re.Match[str], names: DeviceNames) -> Splice | None:
    found = names.resolve(match["device"], "luks")
    return Splice(match.start("device"), match.end("device"), found.stable) if found and found.stable else None
