"""What an image tool of the guest's own makes of a converted guest: its next deployment must start on KVM as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2v.record import load_record
from tests.fixtures import images
from tests.fixtures.guests import guest_disks
from tests.fixtures.programs import in_own_mounts
from tests.pipeline.running import p2v

# The guest's ostree deploys the same commit once more, as its next update would: in a chroot, offline.
_DEPLOY = """
disk=$1 folder=$2 boot=$3 root=$4
mount -o "loop,$root" "$disk" "$folder"
mount -o "loop,$boot" "$disk" "$folder/boot"
deployment=$(ls -d "$folder"/ostree/deploy/debian/deploy/*.0)
mount --bind "$folder" "$deployment/sysroot"
mount --bind "$folder/boot" "$deployment/sysroot/boot"
mount --bind /dev "$deployment/dev"
mount -t proc proc "$deployment/proc"
mount -t tmpfs tmpfs "$deployment/run"
chroot "$deployment" ostree admin deploy --sysroot=/sysroot --os=debian debian/12 >/dev/null
chroot "$deployment" ostree fsck --repo=/sysroot/ostree/repo >/dev/null
grep -h ^options "$folder"/boot/loader/entries/ostree-2-*.conf
cat "$folder"/ostree/deploy/debian/deploy/*.1/etc/fstab
ls -l "$folder"/boot/ostree/*/initramfs-*
chattr -i "$folder"/ostree/deploy/debian/deploy/*.1
"""


@pytest.mark.matrix
@pytest.mark.appliance
def test_the_next_deployment_has_the_root_the_fstab_and_the_initramfs_of_the_conversion(tmp_path: Path) -> None:
    ran = p2v("convert", *guest_disks("ostree"), "-o", tmp_path, "--name", "vm", "--format", "raw")
    assert ran.status == 0, ran.err
    folder = tmp_path / "mounted"
    folder.mkdir()
    (disk,) = (tmp_path / str(disk.path) for disk in load_record(tmp_path / "vm.json").hardware.disks)
    # without the size, both devices would have the end of the disk in common
    boot, root = (f"offset={p.offset_bytes},sizelimit={p.size_bytes}" for p in images.PARTITIONS[:2])
    said = in_own_mounts(_DEPLOY, disk, folder, boot, root).stdout
    assert f"root=UUID={images.ROOT_UUID} rw resume=UUID={images.SWAP_UUID}" in said
    assert f"UUID={images.ROOT_UUID} /" in said
    assert "/dev/sda" not in said
    # its kernel is the same, so its folder in /boot is: the one whose initramfs was extended
    assert said.count("/initramfs-") == 1
