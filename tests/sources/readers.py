"""What tests of readers share: a description from tests/sources/data with small files as its disks, and broken copies of it."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from converters.references import NOTHING_SAID, Lookup
from drivers.plan import Finding
from p2v.core.errors import P2vError
from p2v.machine import Machine
from p2v.sources.description import Description, Folder
from tests.fuzz.mutate import mutated_text

DATA = Path(__file__).parent / "data"
# The disks that the samples of a kind name, as files beside them.
DISKS = {
    "virtualbox": (
        "XP.vhd", "scsi.vdi", "quorum.vdi", "mail.vmdk", "fast.raw", "system.vdi", "data.vmdk",
        "{aaaaaaaa-0000-0000-0000-000000000003}.vdi", "{aaaaaaaa-1000-0000-0000-000000000004}.vdi",
        "{aaaaaaaa-2000-0000-0000-000000000004}.vdi",
    ),
    "libvirt": (
        "web.img", "web-data.qcow2", "old.vhd", "office", "swap.img", "home.img", "Windows Server.vmdk", "second.vmdk", "lun.raw",
    ),
    "xen": (
        "win2012.img", "data,2.qcow2", "logs", "old.vhd", "legacy-disk", "legacy-swap.img", "legacy-home.img", "a.vhd", "c.qcow2",
    ),
    "proxmox": (
        "vm-100-disk-1.raw", "vm-100-disk-2.qcow2", "vm-100-disk-5.raw", "vm-101-disk-1.vmdk", "vm-101-disk-2.raw", "ata-OLD",
        "vm-102-disk-0", "vm-102-disk-1",
    ),
}  # fmt: skip


def put_samples(folder: Path, kind: str) -> list[Path]:
    """A kind's samples in a folder, with all that they name beside them; the samples' paths."""
    for name in DISKS[kind]:
        (folder / name).write_bytes(b"a disk")
    if kind == "virtualbox":
        shutil.copyfile(DATA / "virtualbox-registry/VirtualBox.xml", folder / "VirtualBox.xml")
    return [Path(shutil.copyfile(sample, folder / sample.name)) for sample in sorted((DATA / kind).iterdir())]


def described(path: Path, *disks: str, lookup: Lookup = NOTHING_SAID) -> Description:
    """A description that stands in a folder, with files of these names (paths from the folder) as its disks."""
    for name in disks:
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).write_bytes(b"a disk")
    return Description(path, path.read_bytes(), Folder(path.parent, path, lookup), lookup)


def from_data(folder: Path, name: str, *disks: str, lookup: Lookup = NOTHING_SAID) -> Description:
    """The same for a copy of one of tests/sources/data (``virtualbox/linux.vbox``)."""
    path = folder / Path(name).name
    path.write_bytes((DATA / name).read_bytes())
    return described(path, *disks, lookup=lookup)


def ids(findings: object) -> list[str]:
    """The ids of findings, in their order."""
    assert isinstance(findings, tuple)
    return [finding.id for finding in findings]


def stands_mutations(read: Callable[[Description], Machine], folder: Path, kind: str, *, count: int = 150) -> tuple[int, int]:
    """Read broken copies of a kind's samples: only P2vError may come of it, and soon. How many were read, and how many not."""
    was_read = refused = 0
    for number, path in enumerate(put_samples(folder, kind)):
        sample, around, noise = path.read_bytes(), Folder(folder, path), random.Random(number)
        for _ in range(count):
            broken = mutated_text(sample, noise)
            began = time.process_time()
            try:
                read(Description(path, broken, around))
                was_read += 1
            except P2vError:
                refused += 1
            assert time.process_time() - began < 2, broken
    return was_read, refused


def variables_gone(name: str) -> Finding:
    """What is said of a file of UEFI variables that a description names and that is not there."""
    message = f"the UEFI variables ({name!r}) are not there; boot entries and keys in them do not travel"
    return Finding("source.variables", message, "Copy the file beside the description.")
