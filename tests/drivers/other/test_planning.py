"""Guests that are not rewritten: no change, hardware they know, the bus and card that keep their names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from drivers.facts import GuestFacts, OperatingSystem, ReadBy, TextFile
from drivers.other.profiles import PROFILES
from drivers.packages import PackageFile, PackageFormat
from drivers.plan import Addressing, GuestPlan, PlanOptions
from drivers.planning import plan_guest
from p2v.machine import DiskBus, NicModel

OPTIONS = PlanOptions()


def guest(id_: str, texts: Mapping[str, str] | None = None) -> GuestFacts:
    profile = PROFILES[id_]
    system = OperatingSystem("other", id_, "", profile.name, profile.arch, "other")
    files = {path: TextFile(path, path, text) for path, text in (texts or {}).items()}
    return GuestFacts(ReadBy.HOST, (), (), os=system, texts=files)


def planned(id_: str, texts: Mapping[str, str] | None = None, options: PlanOptions = OPTIONS) -> GuestPlan:
    return plan_guest(guest(id_, texts), options)


def ids(plan: GuestPlan) -> set[str]:
    return {finding.id for finding in plan.warnings}


@pytest.mark.parametrize("id_", PROFILES)
def test_nothing_in_it_changes_and_the_plan_says_so(id_: str) -> None:
    plan = planned(id_)
    assert (plan.changes, plan.blockers) == ((), ())
    assert "other.not-rewritten" in ids(plan)
    assert plan.caps.machine == ("pc" if plan.caps.disk_buses[0] == "ide" else PROFILES[id_].machine)


@pytest.mark.parametrize("id_", PROFILES)
def test_profiles_name_hardware_that_there_is(id_: str) -> None:
    profile = PROFILES[id_]
    made = {name for name in profile.disk_names.values() if name} | set(profile.disk_buses)
    assert made <= {bus.value for bus in DiskBus}
    cards = {name for name in profile.nic_names.values() if name} | set(profile.nic_models)
    assert cards <= {model.value for model in NicModel}


@pytest.mark.parametrize(
    ("id_", "fstab", "bus"),
    [
        ("freebsd", "/dev/ada0p2 / ufs rw 1 1\n/dev/ada0p3 none swap sw 0 0\n", "sata"),
        ("freebsd", "# comment\n/dev/da0s1a / ufs rw 1 1\n", "virtio-scsi"),
        ("freebsd", "/dev/ad0s1a / ufs rw 1 1\n", "ide"),
        ("freebsd", "/dev/vtbd0p2 / ufs rw 1 1\n", "virtio-blk"),
        ("freebsd", "/dev/gpt/root / ufs rw 1 1\n", "sata"),
        ("openbsd", "0123456789abcdef.a / ffs rw 1 1\n", "sata"),
        ("openbsd", "/dev/wd0a / ffs rw 1 1\n", "ide"),
        ("netbsd", "/dev/ld0a / ffs rw 1 1\n", "virtio-blk"),
        ("netbsd", "/dev/sd0a / ffs rw 1 1\n", "virtio-scsi"),
    ],
)
def test_disks_keep_the_names_that_fstab_uses(id_: str, fstab: str, bus: str) -> None:
    assert planned(id_, {"/etc/fstab": fstab}).caps.disk_buses[0] == bus


@pytest.mark.parametrize("name", ["nvd0p2", "mfid0s1a"])
def test_a_disk_name_that_kvm_cannot_give_is_a_warning(name: str) -> None:
    plan = planned("freebsd", {"/etc/fstab": f"/dev/{name} / ufs rw 1 1\n"})
    assert "other.disk-name" in ids(plan)
    assert plan.caps.disk_buses[0] == "sata"


def test_names_of_two_kinds_of_disks_are_a_warning() -> None:
    plan = planned("freebsd", {"/etc/fstab": "/dev/ada0p2 / ufs rw 1 1\n/dev/da0p1 /data ufs rw 2 2\n"})
    assert plan.caps.disk_buses[0] == "sata"
    assert "other.disk-names" in ids(plan)


@pytest.mark.parametrize(
    ("id_", "path", "text", "model"),
    [
        ("freebsd", "/etc/rc.conf", 'hostname="a"\nifconfig_em0="inet 10.0.2.40/24"\n', "e1000"),
        ("freebsd", "/etc/rc.conf", 'ifconfig_vmx0="DHCP"\n', "vmxnet3"),
        ("freebsd", "/etc/rc.conf", 'ifconfig_vtnet0_ipv6="accept_rtadv"\n', "virtio"),
        ("openbsd", "/etc/hostname.vio0", "dhcp\n", "virtio"),
        ("openbsd", "/etc/hostname.pcn0", "dhcp\n", "pcnet"),
        ("netbsd", "/etc/ifconfig.wm0", "dhcp\n", "e1000"),
        ("solaris", "/etc/hostname.e1000g0", "host\n", "e1000"),
    ],
)
def test_cards_keep_the_names_that_the_network_is_set_up_by(id_: str, path: str, text: str, model: str) -> None:
    plan = planned(id_, {path: text})
    assert plan.caps.nic_models[0] == model
    assert not plan.caps.keeps_cards


def test_without_names_a_card_stays_the_one_it_was() -> None:
    assert planned("os2").caps.keeps_cards


def test_a_card_that_kvm_has_not_is_a_warning() -> None:
    assert "other.card-name" in ids(planned("freebsd", {"/etc/rc.conf": 'ifconfig_hn0="DHCP"\n'}))


def test_options_without_a_meaning_are_told() -> None:
    assert "other.option" in ids(planned("os2", options=PlanOptions(new_identity=True)))


def test_every_option_about_the_guest_is_told_to_have_no_meaning() -> None:
    """Also one that a later version brings: what is set of the options is either said or about the machine."""
    package = PackageFile("/x.deb", 1, "0" * 64, PackageFormat.DEB, "qemu-guest-agent", "1", "amd64")
    told = {
        "new_identity": True, "install_agent": True, "agent_packages": (package,), "purge_tools": True,
        "rebuild_initramfs": True, "compatible": True, "addressing": (Addressing(None),),
        "mac_changes": (("00:0c:29:00:00:01", "52:54:00:00:00:01"),),
    }  # fmt: skip
    # what is for a Windows alone is said by p2v.planning, to every other guest
    of_windows = {"virtio_win", "drivers", "discard_hibernation"}
    assert {each.name for each in dataclasses.fields(PlanOptions)} == {*told, *of_windows, "nic_macs"}
    for name, value in told.items():
        found = ids(planned("freebsd", options=PlanOptions(**{name: value})))  # type: ignore[arg-type]
        assert {"other.option", "other.mac-change"} & set(found), name
    assert not {"other.option", "other.mac-change"} & set(ids(planned("freebsd")))


def test_old_systems_get_no_more_than_they_stand() -> None:
    caps = planned("win9x").caps
    assert (caps.cpus_at_most, caps.memory_at_most_bytes, caps.local_time) == (1, 512 << 20, True)
