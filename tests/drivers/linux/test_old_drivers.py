"""Drivers that modprobe's and Xorg's configuration asks for, and clocks of the old hypervisor."""

from __future__ import annotations

import pytest

from drivers.caps import GuestCaps
from drivers.linux.old_drivers import contribute
from tests.drivers.linux.guest import applied, facts_of, files
from tests.drivers.memory_tree import Node

VIRTIO = GuestCaps(("virtio-blk", "sata"), ("virtio", "e1000e"), "bios", "x86_64")
OLD = GuestCaps(("ide",), ("rtl8139",), "bios", "i386")


def after(path: str, text: str, caps: GuestCaps = VIRTIO, more: dict[str, Node] | None = None) -> str:
    """The file once the plan was carried out; asserts that planning again changes nothing."""
    nodes: dict[str, Node] = {**files(), **(more or {}), path: text}
    done = applied(nodes, contribute(facts_of(nodes), caps).changes)
    assert contribute(facts_of(done), caps).changes == ()
    found = done[path]
    assert isinstance(found, str)
    return found


MODPROBE = "/etc/modprobe.conf"
RHEL5 = """\
alias eth0 pcnet32\r
alias\teth1  vmxnet # second
alias scsi_hostadapter mptbase
alias scsi_hostadapter1 mptspi
alias scsi_hostadapter2 ata_piix
options bonding mode=1
alias bond0 bonding
#alias eth2 e1000
"""


@pytest.mark.parametrize(
    "path", [MODPROBE, "/etc/modules.conf", "/etc/modprobe.d/dist.conf", "/etc/modprobe.d/aliases"]
)
def test_aliases_name_the_drivers_of_the_new_machine(path: str) -> None:
    expected = RHEL5.replace("pcnet32", "virtio_net").replace("vmxnet ", "virtio_net ").replace("mptbase", "virtio_blk")
    assert after(path, RHEL5) == expected


def test_aliases_follow_what_the_guest_starts_from() -> None:
    text = "alias eth0 pcnet32\nalias scsi_hostadapter mptspi\n"
    assert after(MODPROBE, text, OLD) == "alias eth0 8139cp\nalias scsi_hostadapter ata_piix\n"
    # one of the controllers is right already
    assert after(MODPROBE, RHEL5, OLD) == RHEL5.replace("pcnet32", "8139cp").replace("vmxnet ", "8139cp ")


@pytest.mark.parametrize("line", ["blacklist virtio_net", "  blacklist virtio-blk # x", "install virtio_pci /bin/true"])
def test_drivers_that_are_needed_are_allowed(line: str) -> None:
    assert after("/etc/modprobe.d/x.conf", f"{line}\nblacklist floppy\n") == f"#{line}\nblacklist floppy\n"


@pytest.mark.parametrize(
    "line",
    [
        "blacklist virtio_gpu",
        "#blacklist virtio_net",
        "install virtio_net /sbin/modprobe -i virtio_net",
        "blacklist vmw_balloon",
    ],
)
def test_other_lines_of_modprobe_stay(line: str) -> None:
    assert after("/etc/modprobe.d/x.conf", line) == line


XORG = "/etc/X11/xorg.conf"
DEVICE = """\
Section "InputDevice"
    Driver "vmmouse"
    BusID "PCI:1:0:0"
EndSection
section "device"
    Identifier "Card0"
    Driver      "{}"  # x
    BusID       "PCI:0:15:0"
EndSection
"""
NEW: dict[str, Node] = {"/usr/lib/xorg/modules/drivers/modesetting_drv.so": b""}


@pytest.mark.parametrize("driver", ["vmware", "vboxvideo", "fbdev", "nvidia", "mga"])
def test_the_screen_gets_a_driver_for_any_card_and_no_place(driver: str) -> None:
    expected = DEVICE.format("modesetting").replace("    BusID  ", "#    BusID  ")
    assert after(XORG, DEVICE.format(driver), more=NEW) == expected
    assert after("/etc/X11/xorg.conf.d/10.conf", DEVICE.format(driver), more=NEW) == expected


def test_a_server_without_modesetting_gets_vesa() -> None:
    assert 'Driver      "vesa"' in after(XORG, DEVICE.format("vmware"))


@pytest.mark.parametrize("driver", ["modesetting", "vesa", "qxl"])
def test_drivers_that_work_on_kvm_stay(driver: str) -> None:
    text = DEVICE.format(driver).replace('    BusID       "PCI:0:15:0"\n', "")
    assert after(XORG, text, more=NEW) == text


@pytest.mark.parametrize(
    "text", ['Section "Device"\n' * 2000, 'Driver "vmware"\n', "\udcff", 'EndSection\nDriver "x"\n']
)
def test_odd_files_of_xorg_stay(text: str) -> None:
    assert after(XORG, text) == text


@pytest.mark.parametrize(
    ("line", "warned"),
    [
        ("refclock PHC /dev/ptp_hyperv poll 3 dpoll -2 offset 0", True), ("refclock PHC /dev/ptp0:nocrossts", True),
        ("#refclock PHC /dev/ptp0", False), ("pool 2.debian.pool.ntp.org iburst", False), ("refclock SHM 0", False),
    ],
)  # fmt: skip
def test_a_clock_that_the_old_hypervisor_offered_is_warned_of(line: str, warned: bool) -> None:
    found = contribute(facts_of({**files(), "/etc/chrony/chrony.conf": f"{line}\n"}), VIRTIO)
    assert [finding.id for finding in found.warnings] == (["linux.clock.refclock"] if warned else [])
    assert found.changes == ()
