"""The real appliance writes to an EFI system partition: copies of loaders, edits in place, and neither twice."""

from __future__ import annotations

import hashlib
from pathlib import Path

from drivers.appliance_tree import ApplianceTree
from drivers.appliance_values import ApplianceDisk
from drivers.caps import GuestCaps
from drivers.changes import CopyFile, EditFile, ExtendInitramfs
from drivers.facts import Disk, FileSystem, GuestFacts, Mount, Partition, ReadBy
from drivers.plan import GuestPlan
from drivers.rewrite import RewriteResult, rewrite
from p2v.core.acceleration import Acceleration, Accelerator
from tests.drivers.small_disk import MIB, run

ESP_START, ROOT_START, DISK_BYTES = 1 * MIB, 41 * MIB, 80 * MIB
LOADER = bytes(range(256)) * (10 * 1024) + b"more than one message"
ENVIRONMENT = "# GRUB Environment Block\nkernelopts=root=/dev/sda2 ro\n"
FACTS = GuestFacts(
    ReadBy.HOST,
    (Disk(0, DISK_BYTES, "gpt"),),
    (
        Partition(0, 1, ESP_START, 40 * MIB, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", filesystem=FileSystem("vfat")),
        Partition(0, 2, ROOT_START, 32 * MIB, "0fc63daf-8483-4772-8e79-3d69d8477de4", filesystem=FileSystem("ext4")),
    ),
    root=Mount("/", 0, 2),
    mounts=(Mount("/", 0, 2), Mount("/boot/efi", 0, 1, "umask=0077")),
)
WHY = "the test says so"
CHANGES = (
    CopyFile(
        "/boot/efi/EFI/debian/shimx64.efi", len(LOADER), hashlib.sha256(LOADER).hexdigest(),
        "/boot/efi/EFI/BOOT/BOOTX64.EFI", 0o755, WHY,
    ),
    EditFile("/boot/efi/EFI/debian/grubenv", ENVIRONMENT, ENVIRONMENT.replace("/dev/sda2", "UUID=123"), WHY),
)  # fmt: skip


def make_disk(folder: Path) -> Path:
    """A GPT disk with an EFI system partition and a root that has a place for it."""
    image, root = folder / "disk.img", folder / "root"
    (root / "boot/efi").mkdir(parents=True)
    (root / "etc").mkdir()
    with image.open("wb") as disk:
        disk.truncate(DISK_BYTES)
    layout = f"label: gpt\nstart={ESP_START // 512}, size={40 * MIB // 512}, type=U\n"
    run("sfdisk", "--quiet", image, stdin=layout + f"start={ROOT_START // 512}, size={32 * MIB // 512}, type=L\n")
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", root, "-E", f"offset={ROOT_START}", image, "32m")
    esp = f"{image}@@{ESP_START}"
    run("mkfs.vfat", "-F", "32", f"--offset={ESP_START // 512}", image, str(40 * 1024))
    (folder / "shim").write_bytes(LOADER)
    (folder / "grubenv").write_text(ENVIRONMENT)
    run("mmd", "-i", esp, "::/EFI", "::/EFI/debian")
    run("mcopy", "-i", esp, folder / "shim", "::/EFI/debian/shimx64.efi")
    run("mcopy", "-i", esp, folder / "grubenv", "::/EFI/debian/grubenv")
    return image


def applied(image: Path) -> RewriteResult:
    """What became of the changes."""

    def none(change: ExtendInitramfs, tree: ApplianceTree) -> bytes:
        raise AssertionError

    plan = GuestPlan(CHANGES, (), (), GuestCaps(("virtio-blk",), ("virtio",), "uefi", "x86_64"))
    disk = ApplianceDisk(image, "raw", read_only=False)
    return rewrite([disk], FACTS, plan, none, Acceleration(Accelerator.TCG, "in a test"))


def test_loaders_are_copied_once_and_files_edited_on_the_efi_system_partition(tmp_path: Path) -> None:
    image = make_disk(tmp_path)
    assert [change.skipped for change in applied(image).applied] == [False, False]
    esp = f"{image}@@{ESP_START}"
    for path, content in (
        ("EFI/BOOT/BOOTX64.EFI", LOADER),
        ("EFI/debian/shimx64.efi", LOADER),
        ("EFI/debian/grubenv", CHANGES[1].after.encode()),
    ):
        run("mcopy", "-n", "-o", "-i", esp, f"::/{path}", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == content
    assert [change.skipped for change in applied(image).applied] == [True, True]
