"""Findings of plans and sources that no other test makes fire: for each a guest in that state, and one that is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.facts import (
    Disk,
    FileSystem,
    GuestFacts,
    Mount,
    OperatingSystem,
    Partition,
    ReadBy,
    TextFile,
    Volume,
)
from drivers.linux import cloud_init
from drivers.linux.lvm_config import CONFIGS
from drivers.plan import PlanOptions
from drivers.planning import plan_guest
from drivers.windows import bcd, boot_entries, drive_letters, virtio_drivers
from drivers.windows.boot_facts import BootObject, WindowsBoot
from drivers.windows.c_bcd import OS_LOADER
from drivers.windows.facts import BCD, WindowsFacts
from drivers.windows.firstboot.planning import contribute
from p2v import live_sources, planning
from p2v.consistency import LiveSource, LiveWish, Way
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.device_use import Use, UseKind
from p2v.core.events import silent
from p2v.core.run import SystemRunner
from p2v.documents import Inspection
from p2v.inspection import Reading
from p2v.live_sources import Sighting, look_over
from p2v.machine import Machine, MachineDisk
from p2v.sources import checks, ovf, virtualbox
from tests.audit.planned_guests import bare, examined
from tests.drivers.linux.guest import DISK, ROOT, SWAP, facts_of, files, kernel
from tests.drivers.memory_tree import Folder, Node
from tests.drivers.windows.guest_disk import PLACE, boot_store
from tests.drivers.windows.guest_facts import facts as windows_facts
from tests.drivers.windows.test_boot_configuration import hive_of
from tests.fixtures.hives import Data, dword, multi_sz, sz
from tests.fixtures.windows import bcd as written
from tests.sources.readers import DATA, from_data
from tests.sources.test_ovf import described

PLAIN = PlanOptions()
_TCG = Acceleration(Accelerator.TCG, "these tests start nothing")


def ids(facts: GuestFacts, options: PlanOptions = PLAIN) -> set[str]:
    """All that a plan says."""
    plan = plan_guest(facts, options)
    return {finding.id for finding in (*plan.blockers, *plan.warnings)}


def linux(more: Mapping[str, Node] | None = None, *partitions: Partition) -> GuestFacts:
    return facts_of({**files(), **(more or {})}, None, (ROOT, SWAP, *partitions))


def test_cloud_init_whose_cloud_is_left_behind() -> None:
    used: dict[str, Node] = {cloud_init.FOLDER: Folder(), cloud_init.LAST_SOURCE: "DataSourceEc2Local: DataSourceEc2\n"}
    assert "linux.cloud-init.source-left" in ids(linux(used))
    assert "linux.cloud-init.source-left" not in ids(
        linux({**used, cloud_init.LAST_SOURCE: "DataSourceNoCloud [seed=/dev/sr0]\n"})
    )
    assert "linux.cloud-init.source-left" not in ids(linux())


def test_an_initramfs_that_is_built_anew_for_an_encrypted_volume() -> None:
    facts = linux({"/usr/sbin/update-initramfs": b"#!"})
    encrypted = replace(facts, volumes=(Volume("/dev/mapper/luks-x", "luks", "x", 1 << 30),))
    rebuilt = PlanOptions(rebuild_initramfs=True)
    assert "linux.rebuild.encrypted" in ids(encrypted, rebuilt)
    assert "linux.rebuild.encrypted" not in ids(facts, rebuilt)
    assert "linux.rebuild.encrypted" not in ids(encrypted)


@pytest.mark.parametrize(
    "id_, path, line",
    [
        ("linux.autofs.unresolved", "/etc/auto.misc", "data -fstype=ext4 :{}\n"),
        ("linux.uswsusp.unresolved", "/etc/uswsusp.conf", "resume device = {}\n"),
    ],
)
def test_tables_that_name_a_disk_that_is_not_here(id_: str, path: str, line: str) -> None:
    assert id_ in ids(linux({path: line.format("/dev/sdq1")}))
    assert id_ not in ids(linux({path: line.format("/dev/sda2")}))


def test_an_lvm_filter_of_which_an_initramfs_may_hold_a_copy() -> None:
    config = {CONFIGS[0]: 'devices {\n\tfilter = [ "a|^/dev/sda|", "r|.*|" ]\n}\n'}
    volume = Partition(0, 3, 3 << 30, 1 << 20, "8e", False, "c0ffee12-03", filesystem=FileSystem("lvm2", "AbCd"))
    facts = linux(config, volume)
    image = kernel().initramfs
    assert image is not None
    opaque = replace(facts, kernels=(replace(kernel(), initramfs=replace(image, squashed=True)),))
    assert "linux.lvm.in-initramfs" in ids(opaque)
    assert "linux.lvm.in-initramfs" not in ids(facts)


def test_a_family_that_nothing_is_planned_for() -> None:
    system = OperatingSystem("linux", "strange", "1", "Strange Linux", "x86_64", "strange")
    strange = replace(linux(), os=system)
    assert "guest.family-unsupported" in ids(strange)
    assert "guest.family-unsupported" not in ids(replace(strange, os=replace(system, family="debian")))


def test_a_system_whose_cards_are_of_several_kinds() -> None:
    def guest(text: str) -> GuestFacts:
        system = OperatingSystem("other", "freebsd", "", "FreeBSD", "x86_64", "other")
        return GuestFacts(
            ReadBy.HOST, (), (), os=system, texts={"/etc/rc.conf": TextFile("/etc/rc.conf", "/etc/rc.conf", text)}
        )

    assert "other.card-names" in ids(guest('ifconfig_em0="DHCP"\nifconfig_re0="DHCP"\n'))
    assert "other.card-names" not in ids(guest('ifconfig_em0="DHCP"\nifconfig_em1="DHCP"\n'))


# --- Windows ---------------------------------------------------------------------------------------------------------------

_ROOT = Partition(0, 1, 1 << 20, 1 << 30, "07", bootable=True, partuuid="44332211-01", filesystem=FileSystem("ntfs"))


def _on_disk(windows: WindowsFacts) -> GuestFacts:
    disk = Disk(0, 4 << 30, "mbr", "44332211", "windows")
    return GuestFacts(ReadBy.HOST, (disk,), (_ROOT,), root=Mount("/", 0, 1), windows=windows)


def _mounted(signature: str, offset: int) -> Data:
    return Data(3, bytes.fromhex(signature)[::-1] + offset.to_bytes(8, "little"))


def test_letters_of_partitions_that_are_not_here() -> None:
    here = {"\\DosDevices\\C:": _mounted("44332211", 1 << 20)}
    software = {"Microsoft\\Windows NT\\CurrentVersion": {"SystemRoot": sz("C:\\Windows")}}
    for more, expected in (({"\\DosDevices\\E:": _mounted("0badcafe", 1 << 20)}, ["windows.lost-letters"]), ({}, [])):
        windows = windows_facts({"MountedDevices": {**here, **more}}, software)
        found = drive_letters.contribute(_on_disk(windows), windows)
        assert [each.id for each in found.warnings] == expected


def test_a_store_whose_next_start_takes_another_entry() -> None:
    other = "{11111111-2222-3333-4444-555555555555}"
    sequence = f"Objects\\{written.BOOT_MANAGER}\\Elements\\24000002"
    described = {f"Objects\\{other}\\Description": {"Type": dword(OS_LOADER)}}
    for once, expected in ((other, ["windows.boot-once"]), (written.LOADER, [])):
        hive = hive_of(boot_store(more={**described, sequence: {"Element": multi_sz(once)}}))
        store = bcd.read_store(hive)
        windows = windows_facts({}, version=(10, 0))
        windows = replace(windows, boot=WindowsBoot(0, 1, "/", store=store), registry={**windows.registry, BCD: hive})
        facts = _on_disk(windows)
        root = replace(_ROOT, offset=PLACE.offset_bytes)
        found = boot_entries.contribute(replace(facts, partitions=(root,)), windows)
        assert found.blockers == ()
        assert [each.id for each in found.warnings] == expected
        assert isinstance(store.objects[0], BootObject)


def test_a_driver_whose_name_no_batch_file_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = windows_facts({}, version=(10, 0))
    offer = object()
    for path, expected in (
        ("%SystemRoot%\\p2v\\a & b\\x.inf", ["windows.driver-name"]),
        ("%SystemRoot%\\p2v\\a\\x.inf", []),
    ):
        monkeypatch.setattr(virtio_drivers, "installable", lambda *_, path=path: {path: ("PCI\\VEN_1AF4",)})
        found = contribute(windows, PlanOptions(drivers=offer), ())  # type: ignore[arg-type]
        assert [each.id for each in found.warnings] == expected


# --- sources ---------------------------------------------------------------------------------------------------------------


def test_a_device_of_a_package_that_kvm_has_not(tmp_path: Path) -> None:
    edits = (("vmware.vtpm", "vmware.nvdimm.device"), ("Virtual TPM", "NVDIMM"))
    needed = ('<Item ovf:required="false">', "<Item>")
    for name, edit, is_told in (("needed", (*edits, needed), True), ("optional", edits, False)):
        folder = tmp_path / name
        folder.mkdir()
        machine = ovf.read(described(folder, "esxi.ovf", edit=edit))
        assert ("source.device" in {each.id for each in machine.warnings}) is is_told


def test_of_two_registries_the_one_that_is_no_xml_is_named(tmp_path: Path) -> None:
    child = "Machines/old one/Snapshots/{aaaaaaaa-2000-0000-0000-000000000004}.vdi"
    disks = ("VDI/system.vdi", "VDI/base.vdi", child, "data.vmdk")
    (tmp_path / "VirtualBox.xml").write_bytes((DATA / "virtualbox-registry/VirtualBox.xml").read_bytes())
    assert "source.registry" not in {
        each.id for each in virtualbox.read(from_data(tmp_path, "virtualbox/old.xml", *disks)).warnings
    }
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/VirtualBox.xml").write_bytes(b"<VirtualBox")
    assert "source.registry" in {
        each.id for each in virtualbox.read(from_data(tmp_path, "virtualbox/old.xml", *disks)).warnings
    }


def test_disks_in_the_machines_folder_that_are_not_its_own() -> None:
    machine = Machine("web", (MachineDisk(Path("/vms/web/web.vmdk")),))
    for beside, expected in ((("web.vmdk", "old.vmdk"), ["source.disks-beside"]), (("web.vmdk",), [])):
        described = replace(machine, beside=tuple(Path("/vms/web") / name for name in beside))
        image = examined(linux(), bare(1)).document.sources[0].image
        found = checks.warnings(described, [replace(image, files=("/vms/web/web.vmdk",))])
        assert [each.id for each in found] == expected


def test_a_device_that_is_only_read_by_somebody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    disk = tmp_path / "sdb"
    disk.touch()
    monkeypatch.setattr(live_sources, "is_block_device", lambda _: True)
    for uses, expected in (
        ((Use(UseKind.READ_ONLY, "mounted read-only at /mnt"),), ["source.read-only-use"]),
        ((), []),
    ):
        monkeypatch.setattr(live_sources, "device_uses", lambda *_, uses=uses: (None, uses))
        assert [each.id for each in look_over([disk], LiveWish(), SystemRunner()).warnings] == expected


def test_a_snapshot_that_an_earlier_run_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    disk = tmp_path / "sdb"
    disk.write_bytes(bytes(4096))
    live = LiveSource(0, "8:16", 4096, Way.AS_IT_RUNS, ("mounted at /srv",))
    source = replace(examined(linux(), bare(1)).document.sources[0], path=disk)
    source = replace(source, image=replace(source.image, format="raw"))
    monkeypatch.setattr(planning, "look_over", lambda *_: Sighting((live,)))
    monkeypatch.setattr(planning, "inspect", lambda *_: Inspection((source,), facts_of(files(), disks=(DISK,))))
    for left, expected in (
        (("the snapshot vg/p2v-1 of an earlier run was removed",), {"source.snapshot-left"}),
        ((), set()),
    ):
        monkeypatch.setattr(live_sources, "remove_leftovers", lambda _, left=left: left)
        machine = Machine("web", (MachineDisk(disk),))
        document = planning.plan_machine(machine, Reading.HOST, lambda: _TCG, silent, live=LiveWish(allowed=True))
        assert {each.id for each in document.plan.warnings} & {"source.snapshot-left"} == expected
