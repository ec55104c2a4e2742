"""The machine of a Windows of every generation in every target: golden texts, schemas, a real QEMU; and what it must not get."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml

from p2v.core.firmware import installed_firmware
from p2v.core.qemu import find_qemu
from p2v.core.run import find_program
from p2v.core.units import GIB
from p2v.machine import Clock, DiskBus, Firmware, NicModel, Topology
from p2v.targets.front_ends import FrontEnd
from p2v.targets.hardware import TargetDisk, TargetHardware, losses, target_hardware
from p2v.targets.hyperv import NEEDS, Enlightenment, usable
from p2v.targets.kubevirt import manifest
from p2v.targets.libvirt import domain_xml
from p2v.targets.openstack import image_properties
from p2v.targets.platforms import UsbController, Video
from p2v.targets.proxmox import qm_conf
from p2v.targets.qemu import Wiring, qemu_arguments
from p2v.targets.system_names import libosinfo_id, proxmox_ostype
from p2v.targets.unsaid import hardware_lost
from tests.fixtures.windows import versions
from tests.targets.test_kubevirt_schema import SCHEMA, strict
from tests.targets.test_libvirt import VALIDATOR, valid
from tests.targets.test_qemu import QEMU, options_seen, runs, written
from tests.targets.windows_machines import (
    ALL_DEVICES,
    GENERATIONS,
    GOLDEN,
    KVM,
    SOURCE,
    TCG,
    Generation,
    caps_of,
    described,
    hardware_of,
    plan_of,
    system_of,
    windows_of,
)

EVERY = pytest.mark.parametrize("name", GENERATIONS)
_UEFI = Firmware.UEFI


def made(name: str) -> TargetHardware:
    return hardware_of(GENERATIONS[name])


@EVERY
def test_every_target_is_told_what_it_was_told_before(name: str) -> None:
    assert described(name) == (GOLDEN / f"{name}.txt").read_text("utf-8")


def test_every_text_is_of_a_generation() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(GENERATIONS)


@VALIDATOR
@EVERY
def test_the_domain_is_valid_with_kvm_and_without(name: str, tmp_path: Path) -> None:
    system = system_of(windows_of(GENERATIONS[name]))
    for accelerated in (KVM, TCG):
        assert valid(tmp_path, domain_xml(made(name), tmp_path, accelerated, system))


@VALIDATOR
def test_the_validator_looks_at_what_windows_gets(tmp_path: Path) -> None:
    xml = domain_xml(made("11"), tmp_path, None)
    for good, bad in (('retries="8191"', 'retries="many"'), ("<stimer ", "<stimers "), ('"hypervclock"', '"hyperclock"')):
        assert good in xml
        assert not valid(tmp_path, xml.replace(good, bad))


@pytest.mark.parametrize("name", [n for n, g in GENERATIONS.items() if g.version.nt >= (6, 0) and g.arch != "aarch64"])
def test_kubevirts_objects_are_valid(name: str) -> None:
    documents = list(yaml.safe_load_all(manifest(made(name), [GIB])))
    assert [document["kind"] for document in documents] == ["DataVolume", "VirtualMachine"]
    for document in documents:
        jsonschema.validate(document, strict(SCHEMA[document["kind"]]))


def _lacks(hardware: TargetHardware) -> str:
    if find_qemu(hardware.arch) is None:
        return f"QEMU for {hardware.arch}"
    if hardware.firmware is _UEFI and installed_firmware(secure_boot=hardware.secure_boot, arch=hardware.arch) is None:
        return f"UEFI firmware for {hardware.arch}"
    return "swtpm" if hardware.tpm and find_program("swtpm") is None else ""


@QEMU
@EVERY
def test_a_real_qemu_takes_the_machine(name: str, tmp_path: Path) -> None:
    hardware = made(name)
    if lacking := _lacks(hardware):
        pytest.skip(f"{lacking} is not installed")
    assert runs([str(written(tmp_path, hardware))], tmp_path)


@EVERY
def test_without_kvm_none_of_hyper_vs_interfaces_is_asked_for(name: str, tmp_path: Path) -> None:
    hardware = made(name)
    if hardware.arch == "x86_64":
        assert "hv-" not in " ".join(qemu_arguments(hardware, TCG, Wiring()))
    domain = ET.fromstring(domain_xml(hardware, tmp_path, TCG))
    assert domain.find("features/hyperv") is None
    assert "hypervclock" not in {timer.get("name") for timer in domain.findall("clock/timer")}


def test_the_script_asks_for_them_on_kvm_alone(tmp_path: Path) -> None:
    script = written(tmp_path, replace(made("10"), firmware=Firmware.BIOS, secure_boot=False, tpm=False), TCG)
    seen = options_seen(tmp_path, script)
    assert seen[seen.index("-cpu") + 1] == "max,la57=off"
    assert "\tcpu=host,hv-relaxed,hv-vapic,hv-spinlocks=0x1fff,hv-time," in script.read_text("utf-8")


@EVERY
def test_what_an_interface_needs_is_there(name: str) -> None:
    found = set(made(name).hyperv)
    assert all(NEEDS.get(each, frozenset()) <= found for each in found)


def test_an_interface_whose_needs_are_not_met_is_left_out() -> None:
    wanted = [each.value for each in Enlightenment]
    assert usable(wanted) == tuple(Enlightenment)
    # it is enough to look at each alone
    assert all(NEEDS.get(inner, frozenset()) <= needs for needs in NEEDS.values() for inner in needs)
    without = usable(each for each in wanted if each != "vpindex")
    assert not {"synic", "stimer", "tlbflush", "ipi"} & {each.value for each in without}
    assert Enlightenment.STIMER not in usable(each for each in wanted if each != "hypervclock")
    with pytest.raises(ValueError, match="evil"):
        usable(["evil"])


@pytest.mark.parametrize("name", ["nt4", "2000", "xp", "xp-x64", "2003", "vista-x64-uefi", "7-uefi", "10-arm64", "11-arm64"])
def test_guests_that_know_none_of_them_or_stop_with_them_get_none(name: str) -> None:
    assert made(name).hyperv == ()


def test_later_ones_get_more() -> None:
    vista, seven, eight, ten = (set(made(name).hyperv) for name in ("vista", "7", "8", "2016"))
    assert Enlightenment.STIMER not in vista
    assert seven - vista == {Enlightenment.SYNIC, Enlightenment.STIMER, Enlightenment.RESET}
    assert eight - seven == {Enlightenment.FREQUENCIES}
    assert ten - eight == {Enlightenment.TLBFLUSH, Enlightenment.IPI}


@pytest.mark.parametrize(
    ("name", "machine", "video", "tablet", "cpu"),
    [
        ("nt4", "pc", Video.CIRRUS, None, "pentium"),
        ("2000", "pc", Video.CIRRUS, UsbController.UHCI, ""),
        ("xp", "pc", Video.CIRRUS, UsbController.UHCI, ""),
        ("xp-x64", "pc", Video.VGA, UsbController.UHCI, ""),
        ("2003", "pc", Video.CIRRUS, UsbController.UHCI, ""),
        ("vista", "q35", Video.VGA, UsbController.EHCI, ""),
        ("7-uefi", "q35", Video.VGA, UsbController.EHCI, ""),
        ("8", "q35", Video.VGA, UsbController.XHCI, ""),
        ("2025", "q35", Video.VGA, UsbController.XHCI, ""),
        ("11-arm64", "virt", Video.RAMFB, None, ""),
    ],
)
def test_each_gets_devices_that_it_has_drivers_for(
    name: str, machine: str, video: Video, tablet: UsbController | None, cpu: str
) -> None:
    hardware = made(name)
    assert (hardware.machine, hardware.video, hardware.tablet, hardware.cpu_model) == (machine, video, tablet, cpu)


@pytest.mark.parametrize(
    ("files", "model"),
    [
        ((), NicModel.PCNET), (("amdpcn.sys",), NicModel.PCNET), (("rtl8029.sys",), NicModel.NE2000),
        (("dc21x4.sys",), NicModel.TULIP), (("rtl8139.sys",), NicModel.RTL8139),
    ],
)  # fmt: skip
def test_nt_4_gets_the_card_whose_driver_it_has(files: tuple[str, ...], model: NicModel) -> None:
    generation = replace(GENERATIONS["nt4"], files=files)
    assert hardware_of(generation).nics[0].model is model


def test_the_channel_of_the_agent_is_there_for_who_has_a_driver(tmp_path: Path) -> None:
    for name, expected in (("7", False), ("7-uefi", True), ("nt4", False), ("xp-virtio", True)):
        hardware = made(name)
        assert ("virtserialport" in " ".join(qemu_arguments(replace(hardware, arch="x86_64"), TCG, Wiring()))) is expected
        assert ("org.qemu.guest_agent.0" in domain_xml(hardware, tmp_path)) is expected
        assert f"agent: {expected:d}" in qm_conf(hardware, None).splitlines()
        assert ("hw_qemu_guest_agent" in image_properties(hardware, None)) is expected


@pytest.mark.parametrize(("utc", "stated", "clock"), [
    (False, None, Clock.LOCAL_TIME), (False, Clock.UTC, Clock.LOCAL_TIME), (True, None, Clock.UTC),
    (True, Clock.LOCAL_TIME, Clock.UTC),
])  # fmt: skip
def test_the_guests_registry_says_what_its_clock_shows(utc: bool, stated: Clock | None, clock: Clock) -> None:
    generation = replace(GENERATIONS["2016"], utc=utc)
    assert hardware_of(generation, replace(SOURCE, clock=stated)).clock is clock


def plain(generation: Generation, **of_machine: object) -> tuple[TargetHardware, set[str]]:
    """On a machine without secure boot and TPM; and what is to be said of it."""
    machine = replace(SOURCE, firmware=generation.firmware, **of_machine)  # type: ignore[arg-type]
    caps = caps_of(generation)
    hardware = target_hardware(machine, caps, (TargetDisk(Path("win.qcow2")),), "state")
    return hardware, {finding.id for finding in losses(machine, caps, hardware)}


@pytest.mark.parametrize(
    ("generation", "tpm"),
    [
        (Generation(versions.W11, "x86_64", _UEFI), True),
        (Generation(versions.W11, "aarch64", _UEFI, ALL_DEVICES), True),
        (Generation(versions.W11), False),
        (Generation(versions.W10, "x86_64", _UEFI), False),
        (Generation(versions.S2025, "x86_64", _UEFI), False),
        (Generation(versions.W7), False),
    ],
    ids=["11", "11 on ARM64", "11 by BIOS", "10", "Server 2025", "7"],
)
def test_windows_11_gets_a_tpm_that_its_machine_had_not_and_others_do_not(generation: Generation, tpm: bool) -> None:
    hardware, told = plain(generation)
    assert (hardware.tpm, hardware.secure_boot) == (tpm, False)
    assert ("hardware.tpm-added" in told) is tpm


def test_a_tpm_and_secure_boot_that_were_there_stay() -> None:
    for name in ("10", "2022", "2025"):
        assert (made(name).tpm, made(name).secure_boot) == (True, True)


def test_no_secure_boot_on_the_old_pc() -> None:
    # its disks on IDE, and with no driver for AHCI
    caps = replace(caps_of(GENERATIONS["10"]), disk_buses=("ide",))
    machine = replace(SOURCE, firmware=_UEFI, secure_boot=True)
    hardware = target_hardware(machine, caps, (TargetDisk(Path("a")),))
    assert (hardware.machine, hardware.secure_boot) == ("pc", False)
    assert "hardware.secure-boot" in {finding.id for finding in losses(machine, caps, hardware)}


def test_a_domain_controller_has_a_generation_id_that_follows_its_disks() -> None:
    generation = GENERATIONS["2012-r2-dc"]
    own = hardware_of(generation).generation_id
    assert own is not None
    assert hardware_of(generation).generation_id == own
    caps = caps_of(generation)
    other = target_hardware(replace(SOURCE, firmware=_UEFI), caps, (TargetDisk(Path("a")),), "a later state").generation_id
    assert other not in (None, own)
    had = "11111111-2222-4333-8444-555555555555"
    assert hardware_of(generation, replace(SOURCE, generation_id=had)).generation_id == had


@pytest.mark.parametrize("generation", [
    replace(GENERATIONS["2012-r2-dc"], product_type="ServerNT"),
    Generation(versions.S2008_R2, product_type="LanmanNT"),
    GENERATIONS["10"],
], ids=["a member server", "2008 R2, which looks at none", "a client"])  # fmt: skip
def test_nobody_else_gets_one(generation: Generation) -> None:
    assert hardware_of(generation).generation_id is None


@pytest.mark.parametrize(("generation", "told"), [
    (Generation(versions.S2008_R2, product_type="LanmanNT"), True),
    (Generation(versions.S2003, "i386", product_type="LanmanNT"), True),
    (Generation(versions.S2008_R2), False),
    (GENERATIONS["2012-r2-dc"], False),
], ids=["2008 R2", "2003", "a member", "2012 R2"])  # fmt: skip
def test_an_old_domain_controller_is_told_that_it_notices_no_rollback(generation: Generation, told: bool) -> None:
    found = {finding.id for finding in plan_of(generation).warnings}
    assert ("windows.no-generation-id" in found) is told
    assert ("windows.domain-controller" in found) is bool(generation.product_type)


def test_clouds_without_generation_ids_and_cpu_models_are_told_of() -> None:
    controller, system = made("2012-r2-dc"), system_of(windows_of(GENERATIONS["2012-r2-dc"]))
    without = replace(controller, generation_id=None)
    for front_end in FrontEnd:
        expected = 1 if front_end in (FrontEnd.OPENSTACK, FrontEnd.KUBEVIRT) else 0
        unsaid = hardware_lost(controller, front_end, system)
        assert len(set(unsaid) - set(hardware_lost(without, front_end, system))) == expected
        # a Linux only reads random numbers anew
        linux = replace(system, kind="linux")
        assert hardware_lost(controller, front_end, linux) == hardware_lost(without, front_end, linux)
    (lost,) = hardware_lost(made("nt4"), FrontEnd.OPENSTACK, system)
    assert "pentium" in lost
    assert hardware_lost(made("nt4"), FrontEnd.PROXMOX, system) == ()


@pytest.mark.parametrize(
    ("clock", "front_end", "told"),
    [
        (Clock.LOCAL_TIME, FrontEnd.KUBEVIRT, True), (Clock.UTC, FrontEnd.KUBEVIRT, False),
        (Clock.LOCAL_TIME, FrontEnd.OPENSTACK, False), (Clock.UTC, FrontEnd.OPENSTACK, True),
        (Clock.UTC, FrontEnd.LIBVIRT, False), (Clock.LOCAL_TIME, FrontEnd.PROXMOX, False),
    ],
)  # fmt: skip
def test_clocks_that_a_cluster_or_cloud_sets_otherwise_are_told_of(clock: Clock, front_end: FrontEnd, told: bool) -> None:
    system = system_of(windows_of(GENERATIONS["10"]))
    lost = hardware_lost(replace(made("2016"), clock=clock), front_end, system)
    assert any("clock" in each for each in lost) is told
    if front_end is FrontEnd.OPENSTACK:
        assert hardware_lost(replace(made("2016"), clock=clock), front_end, replace(system, kind="linux")) == ()


@EVERY
def test_all_cpus_are_in_sockets_that_it_uses(name: str) -> None:
    caps, hardware = caps_of(GENERATIONS[name]), made(name)
    topology = hardware.topology
    assert topology is not None
    assert topology.sockets * topology.cores * topology.threads == hardware.cpus
    assert caps.sockets_at_most is not None
    assert topology.sockets <= caps.sockets_at_most


@pytest.mark.parametrize(
    ("name", "cpus", "had", "topology", "told"),
    [
        ("10", 4, Topology(4), Topology(1, 4), {"hardware.sockets"}),
        ("10", 4, Topology(2, 2), Topology(2, 2), set()),
        ("10", 4, Topology(1, 2, 2), Topology(1, 2, 2), set()),
        ("10", 4, None, Topology(1, 4), set()),
        ("xp-home", 2, None, Topology(1, 2), set()),
        ("xp-home", 2, Topology(2), Topology(1, 2), {"hardware.sockets"}),
        ("2016", 8, Topology(8), Topology(8), set()),
        ("2008-r2", 8, Topology(8), Topology(1, 8), {"hardware.sockets"}),
        ("2000", 2, None, Topology(2), set()),
        ("2000", 4, Topology(1, 4), Topology(2), {"hardware.cpus"}),
        ("nt4-server", 8, None, Topology(4), {"hardware.cpus"}),
        ("10-x86", 64, None, Topology(1, 32), {"hardware.cpus"}),
    ],
)
def test_cpus_are_divided_so_that_all_are_used(
    name: str, cpus: int, had: Topology | None, topology: Topology, told: set[str]
) -> None:
    generation = GENERATIONS[name]
    hardware, findings = plain(generation, cpus=cpus, topology=had)
    assert hardware.topology == topology
    assert findings & {"hardware.cpus", "hardware.sockets"} == told


def test_a_hal_for_one_processor_gets_one_and_its_edition_is_not_blamed() -> None:
    hardware, told = plain(GENERATIONS["xp-up"])
    assert (hardware.cpus, hardware.topology) == (1, Topology(1))
    assert told >= {"hardware.cpus"}
    assert caps_of(GENERATIONS["xp-up"]).limits == "Windows XP Professional uses at most 2 sockets, 32 CPUs and 4.0 GiB"
    assert "windows.hal-one-processor" in {finding.id for finding in plan_of(GENERATIONS["xp-up"]).warnings}
    assert hardware_of(GENERATIONS["xp"]).cpus == 4


def test_more_than_an_edition_uses_is_told_with_its_limit() -> None:
    generation = GENERATIONS["2000"]
    machine = replace(SOURCE, cpus=8, memory_bytes=16 * GIB)
    hardware, caps = target_hardware(machine, caps_of(generation), (TargetDisk(Path("a")),)), caps_of(generation)
    assert (hardware.cpus, hardware.memory_bytes) == (2, 4 * GIB)
    found = {finding.id: finding for finding in losses(machine, caps, hardware)}
    for id_ in ("hardware.cpus", "hardware.memory"):
        assert found[id_].hint == "Windows 2000 Professional uses at most 2 CPUs and 4.0 GiB."


@EVERY
def test_front_ends_know_its_name(name: str) -> None:
    system = system_of(windows_of(GENERATIONS[name]))
    id_ = libosinfo_id(system)
    assert id_ is not None
    if not name.startswith("2025"):
        # the installed database may be older than that
        vendor, _, rest = id_.removeprefix("http://").partition("/")
        file = Path("/usr/share/osinfo/os", vendor, f"{rest.replace('/', '-')}.xml")
        assert f'id="{id_}"' in file.read_text(), "osinfo-db is not installed, or does not know it"
    expected = {"nt4": "other", "2000": "w2k", "xp": "wxp", "vista": "wvista", "7": "win7", "2012-r2-dc": "win8", "2016": "win10"}
    if name in expected:
        assert proxmox_ostype(system) == expected[name]




def test_a_windows_for_arm64_needs_drivers_for_disks_and_cards() -> None:
    bare, given = replace(GENERATIONS["11-arm64"], devices=()), GENERATIONS["11-arm64"]
    assert {finding.id for finding in plan_of(bare).blockers} >= {"windows.no-disk-driver"}
    assert "windows.no-card-driver" in {finding.id for finding in plan_of(bare).warnings}
    assert (hardware_of(given).disk_bus, hardware_of(given).nics[0].model) == (DiskBus.VIRTIO_BLK, NicModel.VIRTIO)
    assert "windows.no-disk-driver" not in {finding.id for finding in plan_of(GENERATIONS["10"]).blockers}


@pytest.mark.parametrize(("name", "told"), [("nt4", False), ("nt4-server", True), ("2000", False), ("11", False)])
def test_nt_4_without_a_driver_of_a_card_is_told_of(name: str, told: bool) -> None:
    assert ("windows.card-by-hand" in {finding.id for finding in plan_of(GENERATIONS[name]).warnings}) is told
