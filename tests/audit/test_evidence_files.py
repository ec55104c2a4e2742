"""Findings of Linux and other guests point at the line, the file or the initramfs that shows them, and at nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from drivers.facts import BootEntry, FileSystem, GuestFacts, OperatingSystem, Partition, ReadBy, TextFile
from drivers.linux import cloud_init
from drivers.linux.lvm_config import DEVICES_FILE
from drivers.plan import Finding
from p2v.audit.evidence import evidence_of
from p2v.audit.findings import Evidence, EvidenceKind
from p2v.machine import Nic
from tests.audit.planned_guests import bare, examined, findings, pieces
from tests.drivers.linux.guest import ROOT, SWAP, VERSION, facts_of, files, kernel
from tests.drivers.memory_tree import Folder, Link, Node
from tests.fixtures.layout import ROOT_UUID

INITRAMFS = f"/boot/initrd.img-{VERSION}"
LVM = Partition(0, 3, 3 << 30, 1 << 20, "8e", False, "c0ffee12-03", filesystem=FileSystem("lvm2", "AbCd"))
FSTAB = f"UUID={ROOT_UUID} / ext4 defaults 0 1\n"


def linux(more: Mapping[str, Node] | None = None) -> GuestFacts:
    return facts_of({**files(), **(more or {})}, None, (ROOT, SWAP, LVM))


def line(path: str, number: int, text: str) -> Evidence:
    return Evidence(EvidenceKind.FILE, path, line=number, text=text)


def file(path: str) -> Evidence:
    return Evidence(EvidenceKind.FILE, path)


@pytest.mark.parametrize(
    "id_, path, text, number",
    [
        ("linux.fstab.unresolved", "/etc/fstab", f"{FSTAB}# data\n/dev/sdq1 /data ext4 defaults 0 2\n", 3),
        ("linux.fstab.root-unresolved", "/etc/fstab", "# root\n/dev/sda1 / xfs defaults 0 1\n", 2),
        ("linux.fstab.option-names-device", "/etc/fstab", f"{FSTAB}UUID=x /d xfs logdev=/dev/sdb1 0 0\n", 2),
        ("linux.multipath.named", "/etc/fstab", f"{FSTAB}/dev/mapper/mpatha1 /d xfs defaults 0 0\n", 2),
        ("linux.crypttab.unresolved", "/etc/crypttab", "# name device\nsecret /dev/sdq2 none luks\n", 2),
        ("linux.crypttab.key-on-device", "/etc/crypttab", "secret UUID=y /dev/sdb1:/key luks\n", 1),
        ("linux.mdadm.array-by-names", "/etc/mdadm/mdadm.conf", "\nARRAY /dev/md0 devices=/dev/sdb1,/dev/sdc1\n", 2),
        ("linux.lvm.filter-not-understood", "/etc/lvm/lvm.conf", 'devices {\n  filter = [ "a|(?<=x)sda|" ]\n}\n', 2),
        ("linux.unit.unresolved", "/etc/systemd/system/data.mount", "[Mount]\nWhat=/dev/sdq1\nWhere=/data\n", 2),
        ("linux.autofs.unresolved", "/etc/auto.misc", "# map\ndata -fstype=ext4 :/dev/sdq1\n", 2),
        ("linux.hdparm.names-device", "/etc/hdparm.conf", "quiet\n/dev/sda {\n}\n", 2),
        ("linux.smartd.names-device", "/etc/smartd.conf", "/dev/sda -a\n", 1),
        ("linux.raidtab.names-device", "/etc/raidtab", "raiddev /dev/md0\n  device /dev/sda1\n", 2),
        ("linux.rawdevices.names-device", "/etc/rawdevices", "/dev/raw/raw1 /dev/sda1\n", 1),
        ("linux.uswsusp.unresolved", "/etc/uswsusp.conf", "resume device = /dev/sdq2\n", 1),
        ("linux.clock.refclock", "/etc/chrony/chrony.conf", "# time\nrefclock PHC /dev/ptp_hyperv poll 3\n", 2),
        ("linux.unit.waits-for-device", "/etc/systemd/system/a.mount", "[Unit]\nAfter=dev-sda3.device\n[Mount]\nWhat=x\n", 2),
        ("linux.unit.swap-named-after-device", "/etc/systemd/system/dev-sda2.swap", "[Swap]\nWhat=/dev/sda2\n", 2),
        ("linux.resume.unresolved", "/etc/initramfs-tools/conf.d/resume", "# from\nRESUME=/dev/sdq2\n", 2),
        ("linux.dracut.overridden", "/etc/dracut.conf.d/zz.conf", "# ours\nadd_drivers=\"xfs\"\n", 2),
        ("linux.cloud-init.source-left", cloud_init.LAST_SOURCE, "DataSourceEc2Local: DataSourceEc2\n", 1),
        ("linux.network.rule-by-hardware", "/etc/udev/rules.d/70-persistent-net.rules",
         '# PCI\nSUBSYSTEM=="net", KERNELS=="0000:0b:00.0", NAME="eth0"\nKERNELS=="0000:0c:00.0", NAME="eth1"\n', 2),
    ],
)  # fmt: skip
def test_a_finding_of_a_table_points_at_its_line(id_: str, path: str, text: str, number: int) -> None:
    extra: dict[str, Node] = {
        "/usr/lib/dracut": Folder(),
        cloud_init.FOLDER: Folder(),
        "/etc/multipath.conf": "defaults {}\n",
    }
    guest = examined(linux({**extra, path: text}))
    assert pieces(guest, id_)[0] == line(path, number, text.split("\n")[number - 1].strip())


def test_arguments_of_kernels_point_at_the_lines_of_the_menu_that_have_them() -> None:
    menu = str(files()["/boot/grub/grub.cfg"]).replace(" quiet", " quiet resume=/dev/sdq2")
    assert "resume=/dev/sdq2" in menu
    found = pieces(examined(linux({"/boot/grub/grub.cfg": menu})), "linux.boot-loader.argument-names-device")
    assert found
    lines = menu.split("\n")
    for each in found:
        assert each.line is not None
        assert "resume=/dev/sdq2" in lines[each.line - 1]
        assert each.text == lines[each.line - 1].strip()[:200].replace("\t", " ")


def test_the_root_of_the_default_entry_points_at_its_line() -> None:
    menu = str(files()["/boot/grub/grub.cfg"]).replace("/dev/sda1", "/dev/sdq1")
    (first, *_) = pieces(examined(linux({"/boot/grub/grub.cfg": menu})), "linux.boot-loader.root-unresolved")
    assert (first.kind, first.where) == (EvidenceKind.FILE, "/boot/grub/grub.cfg")
    assert "root=/dev/sdq1" in first.text


def test_settings_of_grub_point_at_the_setting_and_not_at_a_comment() -> None:
    text = '# GRUB_CMDLINE_LINUX=resume=/dev/sdq9\nGRUB_CMDLINE_LINUX="resume=/dev/sdq9"\n'
    found = pieces(examined(linux({"/etc/default/grub": text})), "linux.default-grub.names-device")
    assert found == (line("/etc/default/grub", 2, 'GRUB_CMDLINE_LINUX="resume=/dev/sdq9"'),)


def test_entries_of_a_devices_file_that_go_by_hardware_are_pointed_at_one_by_one() -> None:
    text = "VERSION=1.1.1\nIDTYPE=devname IDNAME=/dev/sda3\nIDTYPE=sys_serial IDNAME=123 DEVNAME=/dev/sdb\n"
    found = pieces(examined(linux({DEVICES_FILE: text})), "linux.lvm.devices-file-removed")
    assert found == (line(DEVICES_FILE, 3, "IDTYPE=sys_serial IDNAME=123 DEVNAME=/dev/sdb"),)


def test_an_initramfs_is_pointed_at_with_what_was_seen_in_it() -> None:
    lost = replace(kernel(), modules={})
    guest = examined(replace(linux(), kernels=(lost,)))
    (found,) = pieces(guest, "linux.kernel.no-virtio")
    assert (found.where, found.line) == (INITRAMFS, None)
    assert found.text.startswith("4 modules were seen in it")
    none = replace(lost, initramfs=None)
    assert pieces(examined(replace(linux(), kernels=(none,))), "linux.kernel.no-virtio")[0].where == none.image


def test_a_kernel_that_is_not_there_points_at_the_line_that_names_it() -> None:
    guest = examined(replace(linux(), kernels=(kernel("5.10.0-1-amd64"),)))
    (first, *_) = pieces(guest, "linux.boot.kernel-missing")
    assert first.where == "/boot/grub/grub.cfg"
    assert f"vmlinuz-{VERSION}" in first.text


def test_the_boot_loaders_file_stands_for_what_it_lacks() -> None:
    facts = linux()
    empty = replace(facts, boot_loader=replace(facts.boot_loader, entries=(), default=""))
    assert pieces(examined(empty), "linux.boot-loader.no-entries") == (file("/boot/grub/grub.cfg"),)


def test_cards_point_at_the_lines_that_name_them() -> None:
    text = "auto ens33\niface ens33 inet dhcp\nauto ens34\niface ens34 inet dhcp\n"
    found = pieces(examined(linux({"/etc/network/interfaces": text})), "linux.network.names-ambiguous")
    assert found == (line("/etc/network/interfaces", 1, "auto ens33"), line("/etc/network/interfaces", 3, "auto ens34"))


def test_a_mac_address_is_found_however_it_is_written() -> None:
    text = "[Match]\nMACAddress=00-50-56-AA-BB-01\n[Network]\nDHCP=yes\n"
    path = "/etc/systemd/network/10-lan.network"
    found = pieces(examined(linux({path: text})), "linux.network.by-mac")
    assert found == (line(path, 2, "MACAddress=00-50-56-AA-BB-01"),)


def test_a_tool_that_stays_points_at_the_unit_that_keeps_it() -> None:
    unit = "/etc/systemd/system/vgauth.service"
    guest = examined(linux({unit: "[Service]\nExecStart=/opt/own\n"}))
    assert file(unit) in pieces(guest, "linux.tools.left")


def test_tables_of_other_systems_point_at_the_lines_with_the_drivers_name() -> None:
    def guest(texts: Mapping[str, str]) -> GuestFacts:
        system = OperatingSystem("other", "freebsd", "", "FreeBSD", "x86_64", "other")
        return GuestFacts(
            ReadBy.HOST, (), (), os=system, texts={path: TextFile(path, path, text) for path, text in texts.items()}
        )

    table = "# fstab\n/dev/gpt/root / ufs rw 1 1\n/dev/mfid0p2 /data ufs rw 2 2\n"
    found = pieces(examined(guest({"/etc/fstab": table})), "other.disk-name")
    assert found == (line("/etc/fstab", 3, "/dev/mfid0p2 /data ufs rw 2 2"),)
    settings = 'hostname="a"\nifconfig_em0="DHCP"\nifconfig_re0="DHCP"\ncloned="lo1"\n'
    found = pieces(examined(guest({"/etc/rc.conf": settings})), "other.card-names")
    assert [each.line for each in found] == [2, 3]


def test_an_entry_whose_title_says_much_is_still_the_entry() -> None:
    facts = linux()
    entry = BootEntry("a passes b names c", "/boot/vmlinuz", (), "cio_ignore=all", "/boot/loader/entries/a.conf")
    text = TextFile(entry.source, entry.source, "title a\noptions root=x cio_ignore=all\n")
    odd = replace(
        facts, boot_loader=replace(facts.boot_loader, entries=(entry,), default=entry.title), texts={entry.source: text}
    )
    finding = Finding(
        "linux.s390x.cio-ignore", f"the entry {entry.title} passes cio_ignore=all, so that its kernel ignores"
    )
    assert evidence_of(examined(odd), finding) == (line(entry.source, 2, "options root=x cio_ignore=all"),)


@pytest.mark.parametrize(
    "id_, message, expected",
    [
        ("linux.network.address-in-hosts", "/etc/hosts line 1 has the old address 127.0.0.1", [1]),
        (
            "linux.network.by-hardware",
            "/etc/network/interfaces is for a card of the old machine (ens33), which is not",
            [11, 12],
        ),
        ("linux.network.unread", "/etc/network/interfaces could not be read", [None]),
        ("linux.network.link-shadowed", "/etc/network/interfaces matches every card", [None]),
        ("linux.network.address-kept", "/etc/network/interfaces keeps what it says of addresses: it is odd", [None]),
        ("linux.network.mac-left", "/etc/network/interfaces names the old MAC address", [None]),
        ("linux.network.order-guessed", "by their order they are taken as ens33 for 00:50:56:aa:bb:01", [11]),
        ("linux.identity.machine-id-fixed", "/etc/other tells the guest its old machine id", []),
        ("linux.first-boot.tool-left", "open-vm-tools is turned off but not removed", []),
        ("linux.s390x.channel-device", "/etc/hosts line 2 sets up the device 0.0.0100", [2]),
    ],
)
def test_a_message_points_at_the_file_that_it_begins_with(id_: str, message: str, expected: list[int | None]) -> None:
    assert [each.line for each in evidence_of(examined(linux()), Finding(id_, message))] == expected


def test_of_two_paths_that_begin_alike_the_longer_one_is_meant() -> None:
    texts = {path: TextFile(path, path, "After=dev-sda3.device\n") for path in ("/etc/systemd/a", "/etc/systemd/a b")}
    guest = examined(replace(linux(), texts=texts))
    found = evidence_of(
        guest, Finding("linux.unit.waits-for-device", "/etc/systemd/a b waits for dev-sda3.device, which may")
    )
    assert [each.where for each in found] == ["/etc/systemd/a b"]


def test_keys_of_a_copy_and_the_old_address_in_another_system_are_pointed_at() -> None:
    keys = {"/etc/ssh/ssh_host_rsa_key": "aa", "/var/lib/systemd/random-seed": "bb"}
    guest = examined(replace(linux(), digests=keys))
    assert evidence_of(guest, Finding("linux.identity.host-keys", "the keys stay")) == (
        file("/etc/ssh/ssh_host_rsa_key"),
    )
    system = OperatingSystem("other", "freebsd", "", "FreeBSD", "x86_64", "other")
    settings = TextFile(
        "/etc/rc.conf", "/etc/rc.conf", 'a="b"\nifconfig_em0_ether="00:50:56:AA:BB:CC"\nifconfig_igb0="DHCP"\n'
    )
    other = GuestFacts(ReadBy.HOST, (), (), os=system, texts={settings.path: settings})
    card = Nic("52:54:00:00:00:01", source_mac="00:50:56:aa:bb:cc")
    assert [each.line for each in pieces(examined(other, replace(bare(1), nics=(card,))), "other.mac-change")] == [2]
    assert [each.line for each in pieces(examined(other), "other.card-name")] == [3]
    table = TextFile("/etc/fstab", "/etc/fstab", "/dev/ada0p2 / ufs rw 1 1\n/dev/da0p1 /data ufs rw 2 2\n")
    assert [each.line for each in pieces(examined(replace(other, texts={table.path: table})), "other.disk-names")] == [
        1,
        2,
    ]


@pytest.mark.parametrize(
    "message",
    [
        "/etc/fstab line 999 mounts /dev/sdq1 at /data: there is no disk",
        "/etc/fstab line 0 mounts /dev/sdq1 at /data: there is no disk",
        "/etc/shadow line 1 mounts /dev/sdq1 at /data: there is no disk",
        "line 1 of /etc/fstab",
        "",
    ],
)
def test_what_the_facts_do_not_hold_is_not_pointed_at(message: str) -> None:
    assert evidence_of(examined(linux()), Finding("linux.fstab.unresolved", message)) == ()


def test_a_file_that_is_no_text_is_pointed_at_as_a_whole_and_an_unknown_one_not_at_all() -> None:
    guest = examined(linux())
    assert evidence_of(guest, Finding("linux.initramfs.copies", f"{INITRAMFS} keeps copies")) == (file(INITRAMFS),)
    assert evidence_of(guest, Finding("linux.initramfs.copies", f"{INITRAMFS}.old keeps copies")) == ()
    assert evidence_of(guest, Finding("linux.of-tomorrow", INITRAMFS)) == ()


def test_lines_of_hostile_files_are_cut_and_shown_without_what_steers_a_terminal() -> None:
    text = f"{FSTAB}/dev/sdq1 /data\x1b[31m ext4 {'x' * 5000} 0 2\n"
    (found, *_) = pieces(examined(linux({"/etc/fstab": text})), "linux.fstab.unresolved")
    assert found.line == 2
    assert "\x1b" not in found.text
    assert len(found.text) < 300


def test_plans_of_a_guest_with_links_point_at_the_path_that_the_finding_names() -> None:
    nodes: dict[str, Node] = {"/etc/crypttab": Link("crypttab.real"), "/etc/crypttab.real": "x /dev/sdq1 none luks\n"}
    guest = examined(linux(nodes))
    assert "linux.crypttab.unresolved" in {each.id for each in findings(guest)}
    assert pieces(guest, "linux.crypttab.unresolved") == (line("/etc/crypttab", 1, "x /dev/sdq1 none luks"),)
