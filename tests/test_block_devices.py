"""Who uses a block device: real loop devices, and what a faked /proc and /sys tell of what is not at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2v.core.block_devices import ground_of, ground_of_device, look_at, users_of
from p2v.core.errors import UnfitDevice
from p2v.core.units import MIB
from tests.fake_host import FakeHost
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device, mounted


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """A disk sdb (8:16) with two partitions, one with a volume group on it, beside the disk of the host itself."""
    made = FakeHost(tmp_path)
    made.device("8:0", "sda")
    made.device("8:1", "sda1", of="sda")
    made.device("8:16", "sdb")
    made.device("8:17", "sdb1", of="sdb")
    made.device("252:3", "dm-3")
    made.write("sys/devices/dm-3/dm/name", "vg0-root")
    return made


def test_a_device_nobody_uses_has_no_users(host: FakeHost) -> None:
    assert users_of("8:16", host.files) == ()
    assert users_of("8:17", host.files) == ()


def test_a_mount_of_the_host_is_a_user_of_its_disk(host: FakeHost) -> None:
    assert users_of("8:0", host.files) == ("mounted on / (/dev/sda1)",)
    assert users_of("8:1", host.files) == ("mounted on /",)


def test_a_mount_point_is_told_as_it_is_called(host: FakeHost) -> None:
    host.write("proc/self/mountinfo", "40 22 8:16 / /mnt/old\\040disk rw - xfs /dev/sdb rw\n")
    assert users_of("8:16", host.files) == ("mounted on /mnt/old disk",)
    # nobody may write to a partition of it either
    assert users_of("8:17", host.files) == ("mounted on /mnt/old disk (/dev/sdb)",)


def test_btrfs_is_found_by_the_name_it_was_mounted_by(host: FakeHost) -> None:
    host.write("proc/self/mountinfo", "41 22 0:45 /@ /data rw - btrfs /dev/sdb1 rw\n")
    assert users_of("8:16", host.files) == ("mounted on /data (/dev/sdb1)",)


def test_swap_is_a_use(host: FakeHost) -> None:
    host.write("proc/swaps", "/dev/sdb1                               partition\t73724\t0\t-2\n")
    assert users_of("8:17", host.files) == ("swap space in use",)


def test_what_the_kernel_built_on_a_partition_holds_the_disk(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.device("252:3", "dm-3")
    host.write("sys/devices/dm-3/dm/name", "vg0-root\n")
    host.device("8:16", "sdb")
    host.device("8:18", "sdb2", of="sdb", holders=("dm-3",))
    assert users_of("8:16", host.files) == ("held by dm-3 (vg0-root) (/dev/sdb2)",)
    assert users_of("252:3", host.files) == ()


def test_a_loop_device_over_a_partition_is_a_user_of_the_disk(host: FakeHost) -> None:
    host.write("sys/block/loop4/loop/backing_file", "/dev/sdb1\n")
    assert users_of("8:16", host.files) == ("loop device /dev/loop4 (/dev/sdb1)",)


def test_a_volume_stands_on_its_disks_and_their_partitions(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.device("8:16", "sdb")
    host.device("8:17", "sdb1", of="sdb")
    (tmp_path / "sys/devices/sdb1").symlink_to(tmp_path / "sys/devices/sdb/sdb1")
    host.device("252:3", "dm-3", slaves=("sdb1",))
    host.device("252:4", "dm-4", slaves=("dm-3",))
    volume, disk = (ground_of_device(number, host.files) for number in ("252:4", "8:16"))
    assert volume.numbers == {"252:4", "252:3", "8:17", "8:16"}
    assert volume.touches(disk)
    assert disk.touches(volume)
    host.device("252:5", "dm-5", slaves=("sdb1",))
    neighbour = ground_of_device("252:5", host.files)
    assert not volume.touches(neighbour)


def test_what_is_no_block_device_is_no_target(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, words in (("file", "a file"), (".", "a folder"), ("nothing", "not exist")):
        with pytest.raises(UnfitDevice, match=words):
            look_at(tmp_path / name)
    with pytest.raises(UnfitDevice):
        look_at(Path("/dev/null"))


@contextmanager
def partitions_of(path: Path) -> Iterator[None]:
    """Tell the kernel of a device's partitions, which it need not read itself (and not all kernels can)."""
    subprocess.run(["partx", "--add", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["partx", "--delete", path], check=True)


@NEEDS_LOOP_DEVICES
class TestRealDevices:
    def test_a_device_is_described(self, tmp_path: Path) -> None:
        with loop_device(tmp_path / "file", 8 * MIB) as path:
            (tmp_path / "link").symlink_to(path)
            found = look_at(tmp_path / "link")
            assert (found.path, found.name, found.size) == (tmp_path / "link", path.name, 8 * MIB)
            assert found.logical_sector_size == 512
            assert not found.read_only
            assert str(tmp_path / "file") in found.identity
            assert users_of(found.number) == ()
        with loop_device(tmp_path / "file", options=("--read-only",)) as path:
            assert look_at(path).read_only
        with loop_device(tmp_path / "file", options=("--sector-size", "4096")) as path:
            assert look_at(path).logical_sector_size == 4096

    def test_a_mounted_file_system_is_a_use(self, tmp_path: Path) -> None:
        with loop_device(tmp_path / "file", 16 * MIB) as path:
            subprocess.run(["mkfs.ext4", "-q", path], check=True)
            with mounted(path, tmp_path / "a b"):
                assert users_of(look_at(path).number) == (f"mounted on {tmp_path}/a b",)
            assert users_of(look_at(path).number) == ()

    def test_swap_that_is_on_is_a_use(self, tmp_path: Path) -> None:
        with loop_device(tmp_path / "file", 16 * MIB) as path:
            subprocess.run(["mkswap", path], check=True, capture_output=True)
            subprocess.run(["swapon", path], check=True, capture_output=True)
            try:
                assert users_of(look_at(path).number) == ("swap space in use",)
            finally:
                subprocess.run(["swapoff", path], check=True)

    def test_another_loop_device_over_it_is_a_use(self, tmp_path: Path) -> None:
        with loop_device(tmp_path / "file", 16 * MIB) as path, loop_device(path) as over:
            assert users_of(look_at(path).number) == (f"loop device {over}",)
            assert users_of(look_at(over).number) == ()

    def test_a_process_that_writes_is_a_use_and_one_that_reads_is_none(self, tmp_path: Path) -> None:
        with loop_device(tmp_path / "file", 16 * MIB) as path:
            for mode, expected in (("r+b", 1), ("rb", 0)):
                code = f"f = open({str(path)!r}, {mode!r}); print(flush=True); input()"
                with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
                    assert other.stdout is not None
                    other.stdout.readline()
                    found = users_of(look_at(path).number)
                    other.communicate(b"\n")
                assert [f"(process {other.pid})" in user for user in found] == [True] * expected
            with path.open("r+b"):  # ourselves
                assert users_of(look_at(path).number) == ()

    def test_a_partition_in_use_keeps_its_disk_busy(self, tmp_path: Path) -> None:
        with (tmp_path / "file").open("wb") as file:
            file.truncate(32 * MIB)
        subprocess.run(["sfdisk", "-q", tmp_path / "file"], input=b"label: dos\n,10M\n", check=True, capture_output=True)
        with loop_device(tmp_path / "file") as path, partitions_of(path):
            part = Path(f"{path}p1")
            subprocess.run(["mkswap", part], check=True, capture_output=True)
            subprocess.run(["swapon", part], check=True, capture_output=True)
            try:
                assert users_of(look_at(path).number) == (f"swap space in use ({part})",)
                assert users_of(look_at(part).number) == ("swap space in use",)
            finally:
                subprocess.run(["swapoff", part], check=True)
            assert ground_of(part).touches(ground_of(path))
            assert ground_of(path).touches(ground_of(part))

    def test_a_device_stands_on_its_file_and_on_what_the_file_is_on(self, tmp_path: Path) -> None:
        (tmp_path / "other").touch()
        with loop_device(tmp_path / "file", 16 * MIB) as path, loop_device(tmp_path / "file") as twin, loop_device(path) as over:
            grounds = [ground_of(each) for each in (path, twin, over, tmp_path / "file")]
            for one in grounds:
                for other in grounds:
                    assert one.touches(other)
                assert not one.touches(ground_of(tmp_path / "other"))
                assert not ground_of(tmp_path / "other").touches(one)
            status = os.stat(tmp_path)
            below = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
            assert below in grounds[2].numbers


@NEEDS_LOOP_DEVICES
@pytest.mark.parametrize(("seconds", "patience", "is_told"), [(0.5, 120.0, False), (600, 2.0, True)])
def test_who_looks_for_a_moment_is_nobody_in_the_way(tmp_path: Path, seconds: float, patience: float, is_told: bool) -> None:
    """udev and losetup open devices for writing, and close them at once."""
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    with loop_device(image) as device:
        with subprocess.Popen(["sh", "-c", f"exec 3<>{device}; echo open; exec sleep {seconds}"], stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            try:
                assert bool(users_of(look_at(device).number, patience=patience)) is is_told
            finally:
                other.kill()
