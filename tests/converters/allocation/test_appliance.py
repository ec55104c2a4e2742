"""What the kernel of this machine need not know: exFAT and XFS of version 4, filled, emptied and read in an appliance."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.converters.allocation import made
from tests.converters.allocation.made import MIB, needs, run, unused
from tests.fixtures.appliance import launched, shell

MAKERS = {
    "exfat": (96, ("mkfs.exfat", "-c", "4096")),
    "xfs-4": (320, ("mkfs.xfs", "-q", "-K", "-m", "crc=0")),
    "xfs-4-512": (320, ("mkfs.xfs", "-q", "-K", "-m", "crc=0", "-b", "size=512", "-n", "size=4096", "-d", "agcount=2")),
}


@pytest.fixture
def images(tmp_path: Path) -> Iterator[dict[str, Path]]:
    found = {}
    for name, (size, maker) in MAKERS.items():
        found[name] = made.poisoned(tmp_path / name, size * MIB)
        run(*maker, found[name])
    yield found
    made.removed(*found.values())


def digests(disks: Sequence[Path]) -> list[str]:
    """Of names, sizes, modes and contents of each disk's tree."""
    listing = "find . -printf '%p %m %s %U\\n' | sort; find . -type f | sort | xargs -d '\\n' sha256sum"
    command = f"cd /sysroot && ({listing}) | sha256sum"
    with launched(disks) as appliance:
        found = []
        for device in appliance.list_devices():
            appliance.mount_ro(device, "/")
            found.append(shell(appliance, command))
            appliance.umount_all()
    return found


@pytest.mark.matrix
@pytest.mark.appliance
@needs("mkfs.exfat", "fsck.exfat", "mkfs.xfs")
def test_what_an_appliance_filled_and_emptied_arrives(images: dict[str, Path], tmp_path: Path) -> None:
    made.scatter(tmp_path / "files", seed=9, budget=24 * MIB)
    with tarfile.open(tmp_path / "files.tar", "w") as archive:
        archive.add(tmp_path / "files", "files")
    with launched(list(images.values())) as appliance:
        for device in appliance.list_devices():
            appliance.mount(device, "/")
            for copy in ("one", "two"):
                appliance.mkdir(f"/{copy}")
                appliance.tar_in(str(tmp_path / "files.tar"), f"/{copy}")
            # as root of the appliance's own tree, where the disk is mounted below
            shell(appliance, "cd /sysroot/one/files && find . -name 'file*[02468]' -delete && sync")
            appliance.umount_all()
    left_outs = {name: made.only(unused(image)) for name, image in images.items()}
    for name in ("xfs-4", "xfs-4-512"):
        made.check_exact(images[name], left_outs[name], made.free_by_xfs_db(images[name]))
    copies = [made.copied(image, left_outs[name]) for name, image in images.items()]
    run("fsck.exfat", "-n", copies[0])
    for other in copies[1:]:
        run("xfs_repair", "-n", "-f", other)
    for image, arrived in zip(images.values(), copies, strict=True):
        whole = [(0, image.stat().st_size)]
        assert made.poison_in(arrived, whole) < 0.25 * made.poison_in(image, whole)
    before = digests(list(images.values()))
    assert len(set(before)) > 1
    assert digests(copies) == before
