"""What LVM may look at: its filters, and the devices file that knows disks by their hardware (lvmdevices(8)).

The devices file lists disks by serial number, WWID and the like. None of these are on the new machine, and LVM ignores
every disk that is not listed. Without the file it looks at all disks, through the filters of lvm.conf: so it is removed.
Editing it is no way: it carries a hash of its contents, and is "meant to be edited by lvm commands" only. Entries by
device name (LVM then searches the disks for the volume's id) and those by what is written on the disks last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from drivers.changes import Change, DeleteFile, EditFile
from drivers.facts import GuestFacts, TextFile
from drivers.linux.contribution import Contribution
from drivers.linux.desired import deletion
from drivers.linux.lvm_filters import additions, parse_filters
from drivers.linux.splice import spliced
from drivers.plan import Finding

CONFIGS = ("/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf")
DEVICES_FILE = "/etc/lvm/devices/system.devices"
WHY_FILTER = "the filter accepts disks by names that they do not have on KVM, so LVM would not see its volumes"
WHY_DEVICES_FILE = "it lists disks by serial numbers that they do not have on KVM, and LVM ignores all others"
HINT_COPY = "If the guest waits for its root file system, rebuild the initramfs in the source and migrate again."

_ID_TYPE = re.compile(r"^[ \t]*IDTYPE=([a-z0-9_]+)", re.MULTILINE)
_LASTING_TYPES = frozenset({"devname", "md_uuid", "crypt_uuid", "lvmlv_uuid", "loop_file"})


def plan_filters(file: TextFile, facts: GuestFacts) -> EditFile | None:
    """The edit that has the filters accept the new names of physical volumes; None when they do, or reject them all."""
    volumes = [p for p in facts.partitions if p.filesystem is not None and p.filesystem.kind == "lvm2"]
    splices = [splice for found in parse_filters(file.text) for splice in additions(found, volumes)]
    after = spliced(file.text, splices)
    return None if after == file.text else EditFile(file.resolved, file.text, after, WHY_FILTER)


def plan_devices_file(facts: GuestFacts) -> DeleteFile | None:
    """The removal of the devices file; None when it has no entry by hardware, or is not there."""
    file = facts.texts.get(DEVICES_FILE)
    return deletion(file, WHY_DEVICES_FILE) if file is not None and names_hardware(file.text) else None


def names_hardware(text: str) -> bool:
    """Whether a devices file has an entry that goes by hardware."""
    return not _LASTING_TYPES.issuperset(_ID_TYPE.findall(text))


def contribute(facts: GuestFacts) -> Contribution:
    """The filters' edits, the devices file's removal, and what follows from them."""
    changes: list[Change] = []
    warnings: list[Finding] = []
    for path in CONFIGS:
        file = facts.texts.get(path)
        if file is None:
            continue
        if (edit := plan_filters(file, facts)) is not None:
            changes.append(edit)
            # where the copies can be read, they are replaced as well
            if any(kernel.initramfs is not None and kernel.initramfs.is_opaque for kernel in facts.kernels):
                warnings.append(_copied(path))
        warnings += _unreadable(file, facts)
    removal = plan_devices_file(facts)
    if removal is not None:
        changes.append(removal)
        warnings.append(_removed())
    return Contribution(tuple(changes), tuple(warnings))


def _removed() -> Finding:
    return Finding(
        "linux.lvm.devices-file-removed",
        f"{DEVICES_FILE} is removed, because it knows disks by hardware that is not there on KVM; LVM will use every disk",
        "Run `vgimportdevices -a` in the converted guest to limit it again.",
    )


def _copied(path: str) -> Finding:
    message = f"{path} is edited so that LVM sees its disks, but an initramfs may hold a copy of it as it was"
    return Finding("linux.lvm.in-initramfs", message, HINT_COPY)


def _unreadable(file: TextFile, facts: GuestFacts) -> Iterator[Finding]:
    if not any(p.filesystem is not None and p.filesystem.kind == "lvm2" for p in facts.partitions):
        return
    for found in parse_filters(file.text):
        if not found.is_understood():
            yield Finding(
                "linux.lvm.filter-not-understood",
                f"{file.path} line {found.line}: {found.name} has patterns that were not understood",
                "See that it accepts /dev/vda and its partitions.",
            )
