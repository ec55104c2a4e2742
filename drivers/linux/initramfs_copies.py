"""Configuration that an initramfs keeps copies of, and that names devices: crypttab, mdadm.conf, LVM's filters, arguments, swap.

The copies were made when the initramfs was built and are what its scripts go by, so editing the guest's own files does
not reach them. What is appended to an image takes the place of what stands in it under the same path, so each copy gets
the edit that the guest's own file gets. Their places: initramfs-tools' hooks (``cryptroot/crypttab``, ``etc/mdadm/mdadm.conf``,
``etc/lvm``, ``conf/conf.d/resume``), dracut's modules (``etc/crypttab``, ``etc/mdadm.conf``, ``etc/cmdline.d``), dracut.cmdline(7).

A dracut archive made for one machine also waits for that machine's devices: its queue ends when a test in a hook of each is
true, and systemd waits for each device's unit without a limit (modules.d/99base/dracut-dev-lib.sh). The tests get names that
last; the units, whose names are in links that nothing appended removes, get a limit of a second.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from drivers.changes import ExtendInitramfs, InitramfsFile
from drivers.facts import GuestFacts, Initramfs, TextFile
from drivers.linux import crypttab, initramfs_texts, kernel_arguments, lvm_config, mdadm, resume
from drivers.linux.contribution import Contribution
from drivers.linux.devices import DeviceNames, device_path
from drivers.linux.kernel_arguments import CommandLine, RootFinder
from drivers.linux.splice import Splice, spliced
from drivers.plan import Finding

_TESTED = re.compile(r"(?<=\")/dev/[^\"\s]+(?=\")")
_TIMEOUT = re.compile(r"^(?P<key>Job(?:Running)?TimeoutSec)=(?P<value>[^\r\n]*)$", re.MULTILINE)
_SHORT = "1"
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_DEVICES_FILE = "etc/lvm/devices/system.devices"
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
    """A warning for each image whose copies cannot be reached, or cannot be made to fit."""
    left = {
        kernel.initramfs.path: ", ".join(file.path for file in files)
        for kernel in facts.kernels
        if kernel.initramfs is not None and kernel.initramfs.path not in supplements
        if (files := overrides(facts, names, kernel.initramfs))
    }
    images = {kernel.initramfs.path: kernel.initramfs for kernel in facts.kernels if kernel.initramfs is not None}
    limited = [path for path, image in images.items() if _knows_hardware(image)]
    return Contribution(warnings=(*(_unreached(path, files) for path, files in left.items()), *map(_limited, limited)))


def _knows_hardware(image: Initramfs) -> bool:
    text = image.texts.get(_DEVICES_FILE)
    return text is not None and lvm_config.names_hardware(text)


def _limited(path: str) -> Finding:
    message = (
        f"{path} holds a copy of LVM's devices file, which knows disks by hardware that is not there on KVM: volumes that it is to "
        "activate are not found"
    )
    hint = "Remove /etc/lvm/devices/system.devices in the guest and rebuild its initramfs there before the migration."
    return Finding("linux.lvm.devices-in-initramfs", message, hint)


def _unreached(path: str, files: str) -> Finding:
    message = f"{path} keeps copies that name devices of the old machine ({files}), and nothing can be appended to it"
    hint = "Name devices by UUID in the guest and rebuild its initramfs there before the migration."
    return Finding("linux.initramfs.copies", message, hint)


def _edited(facts: GuestFacts, names: DeviceNames, path: str, text: str) -> str:
    if initramfs_texts.DEVICE_WAIT.fullmatch(path):
        return spliced(text, [splice for match in _TESTED.finditer(text) if (splice := _tested(match, names))])
    if (unit := initramfs_texts.DEVICE_TIMEOUT.fullmatch(path)) is not None:
        return _with_limit(text, unit["unit"], names)
    if path == _DEVICES_FILE:
        return text
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


def _tested(match: re.Match[str], names: DeviceNames) -> Splice | None:
    found = names.resolve(match[0])
    return Splice(match.start(), match.end(), device_path(found.stable)) if found and found.stable else None


def _with_limit(text: str, unit: str, names: DeviceNames) -> str:
    """A unit's waiting cut short, where its device will be called otherwise: nothing but its name asks for it."""
    found = names.resolve(_device_of(unit))
    if found is None or found.stable is None:
        return text
    limits = (match for match in _TIMEOUT.finditer(text) if match["value"] != _SHORT)
    return spliced(text, [Splice(match.start("value"), match.end("value"), _SHORT) for match in limits])


def _device_of(unit: str) -> str:
    """The device that a unit stands for (systemd-escape(1), ``--unescape --path``)."""
    return "/" + _ESCAPED.sub(lambda match: chr(int(match[1], 16)), unit.replace("-", "/"))


def _source(match: re.Match[str], names: DeviceNames) -> Splice | None:
    found = names.resolve(match["device"], "luks")
    return Splice(match.start("device"), match.end("device"), found.stable) if found and found.stable else None
