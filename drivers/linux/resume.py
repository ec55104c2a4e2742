"""Where a Debian guest's initramfs is told to look for a hibernation image (initramfs.conf(5), RESUME)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from drivers.changes import EditFile
from drivers.facts import GuestFacts, Kernel, TextFile
from drivers.linux.contribution import Contribution
from drivers.linux.devices import DeviceNames
from drivers.linux.initramfs_tools import settings_files
from drivers.linux.splice import Splice, spliced
from drivers.linux.supplement import why_not_image
from drivers.plan import Finding

WHY = "the swap area is found by UUID, whatever its disk is called"

_RESUME = re.compile(
    r"^[ \t]*(?:export[ \t]+)?RESUME=([\"']?)(?P<device>/dev/[^\s\"'#;]+)\1(?=[\s;#]|\Z)", re.MULTILINE
)


def plan_resume(file: TextFile, names: DeviceNames) -> EditFile | None:
    """The edit of one configuration file; None when it names no device, or one that cannot be resolved."""
    splices = [
        Splice(match.start("device"), match.end("device"), found.stable)
        for match in _RESUME.finditer(file.text)
        if (found := names.resolve(match["device"], "swap")) is not None and found.stable is not None
    ]
    after = spliced(file.text, splices)
    return None if after == file.text else EditFile(file.resolved, file.text, after, WHY)


def baked_in_resume(facts: GuestFacts, names: DeviceNames) -> str | None:
    """The lasting name of the swap area that an initramfs knows by a device name and cannot be told otherwise.

    The configuration is copied into the initramfs when that is built, and a missing resume device is waited for (30 seconds
    in initramfs-tools' scripts/local). The copy is replaced where something can be appended (``initramfs_copies``); where
    not, the setting as it is now says what is in there, and a kernel argument overrides it.
    """
    if not any(_is_out_of_reach(facts, kernel) for kernel in facts.kernels):
        return None
    last = None
    for file in settings_files(facts):
        for match in _RESUME.finditer(file.text):
            last = match["device"]
    found = names.resolve(last, "swap") if last else None
    return found.stable if found else None


def _is_out_of_reach(facts: GuestFacts, kernel: Kernel) -> bool:
    # LILO loads an image as it was
    return kernel.initramfs is not None and (facts.boot_loader.kind == "lilo" or bool(why_not_image(kernel)))


def contribute(facts: GuestFacts, names: DeviceNames) -> Contribution:
    """The edits of RESUME, and a warning for each device that is not in the disks."""
    files = settings_files(facts)
    edits = tuple(edit for file in files if (edit := plan_resume(file, names)) is not None)
    return Contribution(edits, tuple(finding for file in files for finding in _findings(file, names)))


def _findings(file: TextFile, names: DeviceNames) -> Iterator[Finding]:
    for match in _RESUME.finditer(file.text):
        found = names.resolve(match["device"], "swap")
        if found is not None and found.stable is None:
            yield Finding(
                "linux.resume.unresolved",
                f"{file.path} resumes from {match['device']}: {found.problem}; every start will wait for it",
                "Set RESUME=none in the guest and run update-initramfs -u there.",
            )
