"""What the reporter inside the guest says, and what is put there to say it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.facts import BootEntry, BootLoader, GuestFacts, LabelPolicy, LabelRule, TextFile
from drivers.tree import Stat
from drivers.writable import Space
from p2v.core.run import SystemRunner, find_program
from p2v.verify.evidence import InterfaceAddresses
from p2v.verify.guest_report import SCRIPT_PATH, UNIT_NAME, UNIT_PATH, WANTED_FOLDER, parse_report, reporter_script
from p2v.verify.instrument import CONSOLES, grub_lines, instrument, why_not, with_console
from tests.drivers.memory_guest import MemoryGuest as LabelledGuest
from tests.drivers.memory_guest import folder
from tests.verify.guests import DEBIAN

NONCE = "0123456789abcdef"
REPORT = """
P2V-{n} begin
P2V-{n} state
degraded
P2V-{n} active
multi-user.target
graphical.target
P2V-{n} root
/dev/vda1 /dev/vda1 rw,errors=remount-ro
P2V-{n} addresses
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT\\    link/loopback 00:00:00:00:00:00
2: ens3: <BROADCAST,MULTICAST,UP> mtu 1500 qdisc fq state UP mode DEFAULT \\    link/ether 52:54:00:aa:bb:cc brd ff:ff
3: eth0@if2: <NO-CARRIER> mtu 1500 qdisc fq state DOWN mode DEFAULT \\    link/ether 52:54:00:aa:bb:cd brd ff:ff
1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever
2: ens3    inet 10.0.2.15/24 brd 10.0.2.255 scope global dynamic ens3\\       valid_lft 86391sec
2: ens3    inet6 fe80::5054:ff:feaa:bbcc/64 scope link \\       valid_lft forever
P2V-{n} failed
● always-fails.service loaded failed failed A unit that always fails
other.mount loaded failed failed Other
P2V-{n} jobs
123 slow.service start running
P2V-{n} kernel
6.1.0-56-amd64
P2V-{n} messages
[    1.0] something \x1b[31mbad\x1b[0m
P2V-{n} tpm
/dev/tpm0 2
P2V-{n} secureboot
   1
P2V-{n} serial
VMware-56 4d
P2V-{n} uptime
42.17 30.00
""".replace("{n}", NONCE).replace("\n", "\r\n")
END = f"P2V-{NONCE} end\r\n"


def test_a_whole_report_is_read() -> None:
    report = parse_report(REPORT + END, NONCE)
    assert report is not None
    assert (report.state, report.root_device, report.uptime_seconds) == ("degraded", "/dev/vda1", 42.17)
    assert report.active == ("multi-user.target", "graphical.target")
    assert report.failed_units == ("always-fails.service", "other.mount")
    assert report.pending_jobs == ("slow.service",)
    assert report.kernel_messages == ("[    1.0] something bad",)
    assert (report.tpms, report.secure_boot) == (("/dev/tpm0 2",), True)
    assert report.serial_number == "VMware-56 4d"
    assert report.interfaces == (
        InterfaceAddresses("ens3", "52:54:00:aa:bb:cc", ("10.0.2.15/24", "fe80::5054:ff:feaa:bbcc/64")),
        InterfaceAddresses("eth0", "52:54:00:aa:bb:cd", ()),
    )


def test_a_guest_without_uefi_and_tpm_has_neither() -> None:
    report = parse_report(f"P2V-{NONCE} tpm\nP2V-{NONCE} secureboot\n{END}", NONCE)
    assert report is not None
    assert (report.tpms, report.secure_boot) == ((), None)


def test_an_unfinished_report_is_none() -> None:
    assert parse_report(REPORT, NONCE) is None


def test_another_boots_report_is_none() -> None:
    assert parse_report(REPORT + END, "fedcba9876543210") is None


@pytest.mark.parametrize("cut", range(0, len(REPORT), 97))
def test_a_damaged_report_is_read_as_far_as_it_goes(cut: int) -> None:
    assert parse_report(REPORT[cut:] + END, NONCE) is not None


def test_a_flood_is_cut_to_size() -> None:
    flood = f"P2V-{NONCE} failed\n" + "x" * 10_000 + "\n" + "unit.service loaded\n" * 100_000 + END
    report = parse_report(flood, NONCE)
    assert report is not None
    assert len(report.failed_units) <= 200
    assert max(map(len, report.failed_units)) <= 500


def test_the_root_of_a_file_system_without_a_device_of_its_own_is_its_source() -> None:
    report = parse_report(f"P2V-{NONCE} root\n- /dev/sda2[/@] rw\n{END}", NONCE)
    assert report is not None
    assert report.root_device == "/dev/sda2[/@]"


def test_the_reporter_runs_in_a_plain_shell(tmp_path: Path) -> None:
    """With fake programs and a pseudo terminal for its port, down to what is read from it."""
    for name, said in {
        "systemctl": 'case "$*" in *is-system-running*) echo running;; *multi-user*) ;; *is-active*) exit 3;; esac',
        "ip": "[ $2 = link ] || echo '2: ens3    inet 10.0.2.15/24 scope global'",
        "dmesg": "echo trouble",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{said}\n")
        (tmp_path / name).chmod(0o755)
    ours, theirs = os.openpty()
    script = reporter_script(NONCE, 5).replace("/dev/ttyS1", os.ttyname(theirs))
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    SystemRunner().run(["sh", "-n"], stdin=script.encode(), timeout=120)
    if find_program("shellcheck"):
        SystemRunner().run(["shellcheck", "-s", "sh", "-"], stdin=script.encode(), timeout=60)
    SystemRunner().run(["sh", "-s"], stdin=script.encode(), timeout=120, env=env)
    os.close(theirs)
    report = parse_report("".join(_lines(ours)), NONCE)
    assert report is not None
    assert (report.state, report.active, report.kernel_messages) == ("running", ("multi-user.target",), ("trouble",))
    assert report.interfaces[0].addresses == ("10.0.2.15/24",)
    assert report.uptime_seconds is not None
    assert report.root_device


def _lines(descriptor: int) -> Iterator[str]:
    while True:
        try:
            data = os.read(descriptor, 4096)
        except OSError:
            break
        yield data.decode()
    os.close(descriptor)


GRUB = """\
menuentry 'Debian' {
\tlinux\t/boot/vmlinuz-6.1 root=UUID=1234 ro  quiet splash
\tinitrd\t/boot/initrd.img-6.1
}
# linux is named here: linux /boot/x quiet
\tlinuxefi /vmlinuz root=/dev/sda1 rhgb quiet console=ttyS1
"""


def test_every_kernel_gets_both_consoles_and_speaks_up() -> None:
    lines = with_console(GRUB, grub_lines(TextFile("x", "x", GRUB))).splitlines()
    assert lines[1].split() == ["linux", "/boot/vmlinuz-6.1", "root=UUID=1234", "ro", *CONSOLES.split()]
    assert lines[5].endswith(f"console=ttyS1 {CONSOLES}")
    assert "quiet" not in lines[5]
    assert [lines[i] for i in (0, 2, 3, 4)] == [GRUB.splitlines()[i] for i in (0, 2, 3, 4)]


class MemoryGuest:
    """A guest's tree as a dict; only what the instruments use."""

    def __init__(self, **files: str) -> None:
        self.files = {name: text.encode() for name, text in files.items()}
        self.folders: set[str] = set()
        self.links: dict[str, str] = {}
        self.modes: dict[str, int] = {}

    def read(self, path: str, limit: int = 0) -> bytes:
        return self.files[path]

    def read_range(self, path: str, length: int, offset: int) -> bytes:
        return self.files[path][offset : offset + length]

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.folders or path in self.links

    def list(self, path: str) -> tuple[str, ...]:
        every = [*self.files, *self.links]
        return tuple(sorted(p.removeprefix(f"{path}/") for p in every if p.startswith(f"{path}/")))

    def lstat(self, path: str) -> Stat:
        raise NotImplementedError

    def readlink(self, path: str) -> str:
        return self.links[path]

    def write(self, path: str, data: bytes) -> None:
        assert path in self.files
        self.files[path] = data

    def append(self, path: str, data: bytes) -> None:
        raise NotImplementedError

    def patch(self, path: str, data: bytes, offset: int) -> None:
        raise NotImplementedError

    def patch_volume(self, path: str, data: bytes, offset: int) -> None:
        raise NotImplementedError

    def create(self, path: str, data: bytes, mode: int) -> None:
        assert path not in self.files
        self.files[path], self.modes[path] = data, mode

    def make_folder(self, path: str, mode: int) -> None:
        self.folders.add(path)

    def make_symlink(self, path: str, target: str) -> None:
        assert path not in self.links
        self.links[path] = target

    def remove(self, path: str) -> None:
        raise NotImplementedError

    def label(self, path: str) -> bytes | None:
        return None

    def set_label(self, path: str, label: bytes) -> None:
        raise NotImplementedError

    def space(self, path: str) -> Space:
        raise NotImplementedError

    def sync(self) -> None:
        pass


def test_everything_is_put_into_the_guest_and_doing_so_twice_is_harmless() -> None:
    config, entry = DEBIAN.boot_loader.config, "/boot/loader/entries/a.conf"
    guest = MemoryGuest(**{config: GRUB, entry: "options root=/dev/vda1\n"})
    for _ in range(2):
        instrument(guest, DEBIAN, NONCE, 60)
    assert NONCE.encode() in guest.files[SCRIPT_PATH]
    assert SCRIPT_PATH.encode() in guest.files[UNIT_PATH]
    assert guest.links == {f"{WANTED_FOLDER}/{UNIT_NAME}": UNIT_PATH}
    assert CONSOLES.encode() in guest.files[config]
    assert CONSOLES.encode() in guest.files[entry]


ARGUMENTS = f"root=UUID=1 ro {CONSOLES}"


@pytest.mark.parametrize(
    ("loader", "before", "after"),
    [
        (
            BootLoader("systemd-boot", "/boot/efi/loader/loader.conf", (
                BootEntry("a", "/boot/efi/m/6.1/linux", (), "", "/boot/efi/loader/entries/a.conf"),
                BootEntry("b", "/boot/efi/EFI/Linux/b.efi", (), "", "/boot/efi/EFI/Linux/b.efi"),
            )),
            {
                "/boot/efi/loader/loader.conf": "timeout 1\n",
                "/boot/efi/loader/entries/a.conf": "title a\nlinux /m/6.1/linux\noptions    root=UUID=1 ro quiet\r\n",
                "/boot/efi/EFI/Linux/b.efi": "options quiet\n",
            },
            {"/boot/efi/loader/entries/a.conf": f"title a\nlinux /m/6.1/linux\noptions    {ARGUMENTS}\r\n"},
        ),
        (
            BootLoader("extlinux", "/boot/extlinux/extlinux.conf", (
                BootEntry("l0", "/boot/vmlinuz", (), ""), BootEntry("l1", "/boot/old", (), "", "/boot/extlinux/more.conf"),
            )),
            {
                "/boot/extlinux/extlinux.conf": "label l0\n\tLINUX /boot/vmlinuz\n\tAPPEND root=UUID=1 ro quiet\n",
                "/boot/extlinux/more.conf": "label l1\nlinux /boot/old\nappend root=UUID=1 quiet ro\n",
            },
            {
                "/boot/extlinux/extlinux.conf": f"label l0\n\tLINUX /boot/vmlinuz\n\tAPPEND {ARGUMENTS}\n",
                "/boot/extlinux/more.conf": f"label l1\nlinux /boot/old\nappend {ARGUMENTS.replace('1 ro', '1  ro')}\n",
            },
        ),
        (
            BootLoader("grub1", "/boot/grub/menu.lst", (BootEntry("a", "/boot/vmlinuz", (), ""),)),
            {"/boot/grub/menu.lst": "title a\nroot (hd0,0)\nkernel=/boot/vmlinuz root=UUID=1 ro splash\ninitrd /boot/i\n"},
            {"/boot/grub/menu.lst": f"title a\nroot (hd0,0)\nkernel=/boot/vmlinuz {ARGUMENTS}\ninitrd /boot/i\n"},
        ),
        (
            BootLoader("lilo", "/etc/lilo.conf", (BootEntry("a", "/boot/vmlinuz", (), ""),)),
            {"/etc/lilo.conf": "image=/boot/vmlinuz\nappend=quiet\n"},
            {},
        ),
    ],
    ids=("systemd-boot", "extlinux", "grub1", "lilo"),
)  # fmt: skip
def test_every_loaders_own_files_get_both_consoles(
    loader: BootLoader, before: dict[str, str], after: dict[str, str]
) -> None:
    guest = MemoryGuest(**before)
    instrument(guest, dataclasses.replace(DEBIAN, boot_loader=loader), NONCE, 60)
    assert {path: guest.files[path].decode() for path in before} == before | after


def test_what_is_put_into_a_guest_with_selinux_is_labelled_by_its_policy() -> None:
    rules = (LabelRule("/etc(/.*)?", "", "u:r:etc_t:s0"), LabelRule("/etc/systemd/system(/.*)?", "", "u:r:unit_t:s0"))
    facts = dataclasses.replace(DEBIAN, label_policy=LabelPolicy("demo", rules))
    guest = LabelledGuest({"/etc/systemd/system": folder(b"u:r:unit_t:s0\0"), "/etc": folder(b"u:r:etc_t:s0\0")})
    instrument(guest, facts, NONCE, 60)
    made = (SCRIPT_PATH, UNIT_PATH, WANTED_FOLDER, f"{WANTED_FOLDER}/{UNIT_NAME}")
    assert [guest.nodes[path].label for path in made] == [b"u:r:etc_t:s0\0", *[b"u:r:unit_t:s0\0"] * 3]


def test_a_guest_without_a_known_boot_loader_still_gets_the_reporter() -> None:
    guest = MemoryGuest()
    instrument(guest, dataclasses.replace(DEBIAN, boot_loader=BootLoader("none")), NONCE, 60)
    assert SCRIPT_PATH in guest.files


def test_only_a_systemd_linux_is_written_to() -> None:
    assert DEBIAN.os is not None
    others: list[GuestFacts | None] = [
        None,
        dataclasses.replace(DEBIAN, os=None),
        dataclasses.replace(DEBIAN, root=None),
        dataclasses.replace(DEBIAN, os=dataclasses.replace(DEBIAN.os, init="sysv")),
        dataclasses.replace(DEBIAN, os=dataclasses.replace(DEBIAN.os, kind="windows")),
    ]
    assert why_not(DEBIAN) == ""
    assert all(why_not(facts) for facts in others)
