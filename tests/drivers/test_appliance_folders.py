"""Folders mounted for themselves in the real appliance: read, written, left in order; links lead nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers import deployments
from drivers.appliance import Appliance
from drivers.appliance_launch import open_appliance
from drivers.appliance_reading import facts_by_appliance
from drivers.appliance_tree import ApplianceGuest
from drivers.appliance_values import ApplianceDisk, ApplianceFailed
from drivers.facts import Mount
from drivers.inspection import inspect_disks
from drivers.layout import lay_out
from p2v.core.acceleration import Acceleration, Accelerator
from tests.drivers.making import MIB, lay_files, make_disk, make_ext
from tests.drivers.memory_tree import Link
from tests.drivers.raw_reader import RawReader
from tests.drivers.small_disk import run
from tests.drivers.test_deployments import NEW, OLD, boot, physical

pytestmark = pytest.mark.appliance

TCG = Acceleration(Accelerator.TCG, "in a test")
STATE = "/ostree/deploy/fedora"
ONE = "label: dos\nlabel-id: 0x0badcafe\nstart=2048, size=98304, type=83\n"
ROOT = Mount("/", 0, 1)
DEPLOYED = deployments.mounts(deployments.Deployment(f"{STATE}/deploy/{NEW}.0", f"{STATE}/var"), ROOT, None)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file system with everything in it, and a deployment that a hostile guest would like to have."""
    folder = tmp_path_factory.mktemp("folders")
    files = {**physical(), **{f"/boot{path}": node for path, node in boot().items()}}
    files.pop("/boot/.keep")
    files[f"{STATE}/deploy/{'e' * 64}.0"] = Link("/etc")
    files["/hostile/boot"] = Link("/tmp")
    root = make_ext(folder / "root", 48 * MIB, lay_files(folder / "root.d", files))
    disk = make_disk(folder / "disk.raw", 50 * MIB, ONE, [(MIB, root)])
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", disk, folder / "overlay.qcow2")
    return folder / "overlay.qcow2"


@pytest.fixture(scope="module")
def appliance(base: Path) -> Iterator[Appliance]:
    with open_appliance([ApplianceDisk(base, "qcow2", read_only=False)], TCG) as opened:
        yield opened


def test_a_deployment_is_the_root_and_everything_else_stands_where_ostree_puts_it(appliance: Appliance) -> None:
    appliance.mount(DEPLOYED, read_only=False)
    guest = ApplianceGuest(appliance)
    assert guest.read("/etc/hostname") == b"host-b\n"
    assert guest.read("/var/lib/marker") == b"of the OS\n"
    assert guest.exists("/boot/loader/entries/ostree-1.conf")
    assert guest.exists("/ostree/repo/config")
    assert guest.space("/boot/loader/x").mountpoint == "/boot"
    assert guest.space("/etc/x").mountpoint == "/"
    guest.create("/etc/made", b"here\n", 0o644)
    appliance.umount()
    # on the file system itself it is in the deployment's folder, and nowhere else
    appliance.mount([ROOT], read_only=True)
    assert guest.read(f"{STATE}/deploy/{NEW}.0/etc/made") == b"here\n"
    assert not guest.exists("/etc/made")
    appliance.umount()
    # nothing is mounted any more, so that it can be checked
    assert appliance.check_filesystem("/dev/sda1", "ext4").clean


@pytest.mark.parametrize(
    "mount",
    [
        Mount("/", 0, 1, folder=f"{STATE}/deploy/{'e' * 64}.0"),
        Mount("/", 0, 1, folder="/ostree/../.."),
        Mount("/", 0, 1, folder=f"{STATE}/deploy/{OLD}.0/etc/hostname"),
        Mount("/", 0, 1, folder="/not there"),
    ],
)
def test_what_is_no_folder_of_the_guest_is_not_mounted(appliance: Appliance, mount: Mount) -> None:
    with pytest.raises(ApplianceFailed, match="no folder"):
        appliance.mount([mount], read_only=True)
    appliance.umount()


def test_a_folder_is_not_mounted_where_a_link_leads(appliance: Appliance) -> None:
    with pytest.raises(ApplianceFailed, match="no folder"):
        appliance.mount([Mount("/", 0, 1, folder="/hostile"), Mount("/boot", 0, 1, folder="/boot")], read_only=True)
    appliance.umount()


def test_the_appliance_reads_the_facts_that_the_host_reads(appliance: Appliance, base: Path) -> None:
    reader = RawReader(base.with_name("disk.raw"))
    by_host = inspect_disks([reader])
    by_appliance = facts_by_appliance(appliance, lay_out([reader]), "in a test")
    appliance.umount()
    reader.close()
    assert by_appliance.root == by_host.root
    assert by_appliance.mounts == by_host.mounts
    assert by_appliance.image == by_host.image
    assert by_appliance.os == by_host.os
    assert by_appliance.kernels == by_host.kernels
    assert by_appliance.boot_loader == by_host.boot_loader
