"""Who uses a device that is only to be read, up to the file systems on what stands on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2v.core.block_devices import look_at
from p2v.core.device_use import UseKind, is_held, mount_below, uses_of
from p2v.core.units import MIB
from p2v.source_use import device_uses
from tests.fake_host import FakeHost
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device, mounted


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """A disk sdb (8:16) with a partition, a physical volume, on which two logical volumes stand."""
    made = FakeHost(tmp_path)
    made.device("8:0", "sda")
    made.device("8:1", "sda1", of="sda")
    made.device("8:16", "sdb")
    made.device("252:3", "dm-3")
    made.device("252:4", "dm-4")
    made.device("8:17", "sdb1", of="sdb", holders=("dm-3", "dm-4"))
    for number, name in ((3, "vg0-root"), (4, "vg0-data")):
        made.write(f"sys/devices/dm-{number}/dm/name", name)
    return made


def kinds(number: str, host: FakeHost) -> list[tuple[UseKind, str]]:
    return [(use.kind, use.words) for use in uses_of(number, host.files, patience=0)]


def test_a_file_system_on_a_volume_on_a_partition_is_found_with_the_volumes(host: FakeHost) -> None:
    host.write("proc/self/mountinfo", "40 22 252:3 / /srv rw - xfs /dev/mapper/vg0-root rw,attr2\n")
    assert kinds("8:16", host) == [
        (UseKind.STACKED, "held by dm-3 (vg0-root) (/dev/sdb1)"),
        (UseKind.MOUNTED, "mounted on /srv (/dev/dm-3)"),
        # nobody is on it yet, and anybody may come
        (UseKind.STACKED, "held by dm-4 (vg0-data) (/dev/sdb1)"),
    ]
    (use,) = [use for use in uses_of("8:17", host.files, patience=0) if use.mounted]
    assert use.mounted is not None
    assert (use.mounted.kind, use.mounted.number, use.mounted.mountpoint) == ("xfs", "252:3", "/srv")


def test_what_only_reads_may_not_write(host: FakeHost) -> None:
    # the mount is read-only, and so is the file system: not a read-only mount of one that is written elsewhere
    host.write("proc/self/mountinfo", "40 22 252:3 / /srv ro - xfs /dev/mapper/vg0-root ro\n")
    assert kinds("252:3", host) == [(UseKind.READ_ONLY, "mounted on /srv, read-only")]
    held = [use for use in uses_of("8:17", host.files, patience=0) if "dm-3" in use.words]
    assert not any(use.may_write for use in held)
    assert len(held) == 2
    host.write("proc/self/mountinfo", "41 22 252:4 / /mnt ro - ext4 /dev/mapper/vg0-data rw\n")
    assert [use.kind for use in uses_of("252:4", host.files, patience=0)] == [UseKind.MOUNTED]


def test_swap_and_a_stack_that_cannot_be_written_are_told_apart(host: FakeHost) -> None:
    host.write("proc/swaps", "/dev/sdb1                               partition\t1048572\t0\t-2\n")
    assert (UseKind.SWAP, "swap space in use (/dev/sdb1)") in kinds("8:16", host)
    (host.files.sys / "devices/dm-3/ro").write_text("1")
    assert (UseKind.READ_ONLY, "held by dm-3 (vg0-root), read-only") in kinds("8:17", host)


def test_the_mount_a_path_is_on_is_the_deepest_and_the_last(host: FakeHost) -> None:
    host.write("proc/self/mountinfo", "40 22 252:3 / /srv rw - xfs /dev/mapper/vg0-root rw\n")
    host.write("proc/self/mountinfo", "41 22 252:4 / /srv rw - ext4 /dev/mapper/vg0-data rw\n")
    below = [mount_below(Path(path), host.files) for path in ("/srv/www", "/srv", "/srvother")]
    assert [mount.number for mount in below if mount is not None] == ["252:4", "252:4", "8:1"]


@pytest.fixture
def file_system(tmp_path: Path) -> Iterator[Path]:
    with loop_device(tmp_path / "disk", 32 * MIB) as device:
        subprocess.run(["mke2fs", "-q", "-t", "ext4", device], check=True)
        yield device


@NEEDS_LOOP_DEVICES
def test_real_mounts_on_loop_devices_over_a_device_are_found(file_system: Path, tmp_path: Path) -> None:
    number = look_at(file_system).number
    assert not uses_of(number)
    with loop_device(file_system) as above:
        with mounted(above, tmp_path / "mnt"):
            words = [use.words for use in uses_of(number)]
            assert words == [f"loop device {above}", f"mounted on {tmp_path}/mnt ({above})"]
            # mounted is the one above; the kernel holds that one alone
            assert is_held(above)
            subprocess.run(["mount", "-o", "remount,ro", tmp_path / "mnt"], check=True)
            assert not any(use.may_write for use in uses_of(number))
    assert not is_held(file_system)


@NEEDS_LOOP_DEVICES
def test_whoever_holds_a_device_without_a_name_is_a_user_too(file_system: Path) -> None:
    # as a mount in another mount namespace does
    handle = os.open(file_system, os.O_RDONLY | os.O_EXCL)
    try:
        _, uses = device_uses(file_system)
    finally:
        os.close(handle)
    assert [use.may_write for use in uses] == [True]
