"""Lines that go by the old machine: what is found, what is not, and that hostile texts are bounded."""

from __future__ import annotations

import time

import pytest

from drivers import hard_names
from drivers.hard_names import LineKind, find_lines, lines_of
from tests.drivers.memory_tree import Folder, InMemoryTree, Link, Node


def names(kind: LineKind, line: str) -> list[str]:
    return [found.name for found in lines_of("/etc/x", line, (kind,))]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("mount /dev/sda1 /mnt", "/dev/sda1"),
        ("SBD_DEVICE=/dev/sdc;/dev/sdd", "/dev/sdc"),
        ('disk "/dev/cciss/c0d0p2";', "/dev/cciss/c0d0p2"),
        ("x=/dev/nvme0n1p3", "/dev/nvme0n1p3"),
        ("/dev/mapper/mpatha1 /data", "/dev/mapper/mpatha1"),
        (
            "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1",
            "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1",
        ),
        ("/dev/disk/by-id/wwn-0x5000c500a1b2c3d4", "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4"),
        ("raw /dev/raw/raw1", "/dev/raw/raw1"),
    ],
)
def test_disks(line: str, name: str) -> None:
    assert names(LineKind.DISK, line) == [name]


@pytest.mark.parametrize(
    "line",
    [
        "# mount /dev/sda1 /mnt", "; /dev/sda", "x=1 # /dev/sda1", "/dev/vda1", "/dev/sdabcd9", "/dev/null",
        "/dev/disk/by-uuid/1-2",
        "/dev/disk/by-id/dm-name-vg-root", "/dev/disk/by-id/lvm-pv-uuid-x", "/dev/mapper/vg-root", "/dev/sda1/x",
    ],
)  # fmt: skip
def test_what_is_no_disk_of_a_machine(line: str) -> None:
    assert names(LineKind.DISK, line) == []


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("-A INPUT -i eth0 -j ACCEPT", "eth0"),
        ("interface ens192", "ens192"),
        ('<interface name="enp3s0f1"/>', "enp3s0f1"),
        ("net.ipv4.conf.eno1.rp_filter = 0", "eno1"),
        ("IPaddr::10.0.0.1/24/eth1", "eth1"),
        ("bcast em1", "em1"),
        ("IF=p2p1", "p2p1"),
        ("tcpdump -i enx001122334455", "enx001122334455"),
        ("iifname { eth0, eth1 } accept", "eth0"),
        ("eth0.100 vlan", "eth0"),
        ("auto eth0:1", "eth0"),
    ],
)
def test_cards(line: str, name: str) -> None:
    assert names(LineKind.INTERFACE, line) == ([name] if name else [])


@pytest.mark.parametrize(
    "line", ["enabled=yes", "ensure present", "method eth", "p2p", "veth0x", "$eth0", "my-eth0", "eth0-label", "item1"]
)
def test_words_that_are_no_cards(line: str) -> None:
    assert names(LineKind.INTERFACE, line) == []


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Archive Device = /dev/nst0", "/dev/nst0"),
        ("Changer = /dev/sg3", "/dev/sg3"),
        ("DEVICE /dev/ttyS0", "/dev/ttyS0"),
        ("x=/dev/ttyUSB1,9600", "/dev/ttyUSB1"),
        ("print > /dev/lp0", "/dev/lp0"),
        ("ttyS0", ""),
        ("/dev/stdout", ""),
        ("/dev/tty1", ""),
    ],
)
def test_other_devices(line: str, name: str) -> None:
    assert names(LineKind.DEVICE, line) == ([name] if name else [])


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('KERNEL=="sd*", SUBSYSTEM=="block", RESULT=="36000c29f1", NAME="asm1"', "36000c29f1"),
        ('ENV{ID_SERIAL}=="VBOX_HARDDISK_1", SUBSYSTEM=="block", SYMLINK+="data"', "VBOX_HARDDISK_1"),
        ('KERNEL=="sdb1", OWNER="oracle"', "sdb1"),
        ('KERNEL=="dm-*", ENV{DM_UUID}=="mpath-3600508b4", SYMLINK+="x"', "mpath-3600508b4"),
        ("    wwid 3600508b4000156d700012000000b0000", "3600508b4000156d700012000000b0000"),
        ('KERNEL=="sd*", SUBSYSTEM=="block", ATTR{queue/scheduler}="noop"', ""),
        ('SUBSYSTEM=="usb", ATTRS{serial}=="0001", MODE="0666"', ""),
        ('KERNEL=="sd*", ATTRS{model}=="*", SUBSYSTEM=="block"', ""),
    ],
)
def test_what_disks_say_of_themselves(line: str, name: str) -> None:
    assert names(LineKind.IDENTITY, line) == ([name] if name else [])


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("options lpfc lpfc_lun_queue_depth=16", "lpfc"),
        ("alias scsi_hostadapter1 qla2300", "qla2300"),
        ("options mlx4_core port_type_array=2,2", "mlx4_core"),
        ("blacklist lpfc", ""),
        ("install ib_qib modprobe -i ib_qib", ""),
        ("options bonding mode=1", ""),
        ("options qla2xxx-x y=1", ""),
    ],
)
def test_drivers_of_hardware(line: str, name: str) -> None:
    assert names(LineKind.MODULE, line) == ([name] if name else [])


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("SERVER lic01 001122334455 27000", "001122334455"),
        ("SERVER this_host ANY", "ANY"),
        ("FEATURE f acme 1.0 1-jan-2030 1 HOSTID=FLEXID=9-abcdef SIGN=1", "FLEXID=9-abcdef"),
        ("VENDOR acme", ""),
        ("SERVER SOFTWARE LICENSE AGREEMENT", ""),
        ("Server software and data", ""),
    ],
)
def test_host_ids_of_licences(line: str, name: str) -> None:
    assert names(LineKind.LICENCE, line) == ([name] if name else [])


def test_a_line_is_numbered_cut_and_made_printable() -> None:
    text = "a\n\nmount /dev/sda1 \x1b[31m\udcff" + "x" * 5000
    (found,) = lines_of("/etc/\x07x", text, (LineKind.DISK,))
    assert found.number == 3
    assert found.text.startswith("mount /dev/sda1 \\x1b[31m\\xff")
    assert found.text.isprintable()
    assert found.path == "/etc/\\x07x"
    assert len(found.text) < 2 * hard_names.TEXT_LETTERS


@pytest.mark.parametrize(
    "line",
    [
        "mysqldump -u root --password=geheim x > /dev/sdb", "PASSWORD=geheim; dd if=/dev/sda", "curl -d secret: geheim /dev/sda",
        "mount -o username=a,password=geheim /dev/sda1", "mysql -p geheim /dev/sda", 'auth_pass "geheim" /dev/sda',
    ],
)  # fmt: skip
def test_no_password_comes_along(line: str) -> None:
    (found,) = lines_of("/etc/x", line, (LineKind.DISK,))
    assert "geheim" not in found.text
    assert "..." in found.text


def test_programs_folders_and_what_is_far_too_large_are_not_looked_into() -> None:
    tree = InMemoryTree({
        "/usr/local/bin/program": b"\x7fELF\0\0 /dev/sda1\n",
        "/usr/local/bin/folder": Folder(),
        "/usr/local/bin/loop": Link("loop"),
        "/usr/local/bin/large": "x" * (300 * 1024) + "\n/dev/sda1\n",
        "/usr/local/bin/copy.sh~": "/dev/sda1\n",
        "/usr/local/bin/copy.sh": "dd if=/dev/sda1\n",
        "/etc/rc.local": Link("/usr/local/bin/copy.sh"),
    })  # fmt: skip
    assert [(found.path, found.name) for found in find_lines(tree).lines] == [
        ("/etc/rc.local", "/dev/sda1"), ("/usr/local/bin/copy.sh", "/dev/sda1"),
    ]  # fmt: skip


def test_lines_and_files_are_bounded_and_it_is_said() -> None:
    files: dict[str, Node] = {f"/usr/local/bin/{n}": "dd if=/dev/sda\n" * 1000 for n in range(400)}
    found = find_lines(InMemoryTree(files))
    assert len(found.lines) == hard_names.LINES_AT_MOST
    assert max(line.number for line in found.lines) == hard_names.LINES_OF_A_FILE
    assert found.left_out > 300


@pytest.mark.parametrize(
    "line",
    [
        "/dev/disk/by-id/" + "a" * 200_000,
        "SERVER " * 50_000,
        "pass" * 60_000,
        "\t" * 200_000 + "x",
        'ENV{ID_SERIAL}=="' + "a" * 99_999,
        "en" * 99_999,
    ],
)
def test_no_line_takes_long(line: str) -> None:
    begin = time.process_time()
    list(lines_of("/etc/x", f"{line}\n" * 3, tuple(LineKind)))
    assert time.process_time() - begin < 1


def test_every_kind_has_its_places() -> None:
    assert {kind for kinds, _ in hard_names.PLACES for kind in kinds} == set(LineKind)
    patterns = [pattern for _, patterns in hard_names.PLACES for pattern in patterns]
    assert all(pattern.startswith("/") for pattern in patterns)
