"""Proxmox, OpenStack, KubeVirt: what is written for them, and that the scripts say to their programs what they should.

The programs themselves cannot be had here: stand-ins write down what they are called with.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from drivers.facts import OperatingSystem
from p2v.core.errors import Usage
from p2v.core.units import GIB, MIB
from p2v.machine import Clock, DiskBus, DriveKind, Firmware, NicModel, Smbios
from p2v.targets import kubevirt, openstack, proxmox
from p2v.targets.front_ends import FrontEnd, Placing, definitions
from p2v.targets.hardware import TargetDisk, TargetHardware, TargetMedium, TargetNic
from p2v.targets.platforms import Video
from p2v.targets.smbios import smbios_lost
from p2v.targets.storage import Storage
from p2v.targets.system_names import glance_names, libosinfo_id, proxmox_ostype
from tests.targets.samples import HOSTILE, hardware

DEBIAN = OperatingSystem("linux", "debian", "12", "Debian GNU/Linux 12 (bookworm)", "x86_64", "debian")
OSINFO = Path("/usr/share/osinfo/os")


def run_with_stand_ins(folder: Path, script: str, programs: Sequence[str], *arguments: str) -> list[list[str]]:
    """Run a script where ``programs`` only record how they are called; what they were called with."""
    tools, log = folder / "tools", folder / "calls"
    tools.mkdir()
    for program in programs:
        path = tools / program
        # a qm that says of every machine that there is none
        path.write_text(
            "#!/usr/bin/python3\nimport json, sys\n"
            f"open({str(log)!r}, 'a').write(json.dumps([{program!r}, *sys.argv[1:]]) + '\\n')\n"
            "sys.exit(2 if sys.argv[1:2] == ['status'] else 0)\n"
        )
        path.chmod(0o755)
    file = folder / "script.sh"
    file.write_text(script)
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(folder)}
    subprocess.run(["sh", str(file), *arguments], check=True, env=environment, cwd="/", timeout=60)
    return [json.loads(line) for line in log.read_text().splitlines()]


def option(call: list[str], name: str) -> str:
    return call[call.index(name) + 1]


TOLD = Smbios("Dell, Inc.", serial="7J0P6Z1", board_serial="B 1,2", chassis_serial="C'1", asset_tag="IT-4711")


def test_proxmox_is_told_what_smbios_told(tmp_path: Path) -> None:
    made = dataclasses.replace(hardware(), smbios=TOLD)
    create = run_with_stand_ins(tmp_path, proxmox.import_script(made, DEBIAN, "web1.qm.sh"), ["qm"], "120", "local-lvm")[1]
    first, flag, *coded = option(create, "--smbios1").split(",")
    assert (first, flag) == (f"uuid={made.uuid}", "base64=1")
    values = {key: base64.b64decode(value).decode() for key, _, value in (each.partition("=") for each in coded)}
    assert values == {"manufacturer": "Dell, Inc.", "serial": "7J0P6Z1"}
    # qm takes its words apart as a shell does
    assert shlex.split(option(create, "--args")) == [
        "-smbios", "type=2,serial=B 1,,2", "-smbios", "type=3,serial=C'1,asset=IT-4711",
    ]  # fmt: skip
    assert "args" not in proxmox.qm_conf(hardware(), DEBIAN)


def test_kubevirt_has_a_place_for_some_of_it_and_openstack_for_none() -> None:
    made = dataclasses.replace(hardware(), smbios=TOLD)
    domain = list(yaml.safe_load_all(kubevirt.manifest(made, [GIB])))[-1]["spec"]["template"]["spec"]["domain"]
    assert domain["firmware"]["serial"] == "7J0P6Z1"
    assert domain["chassis"] == {"serial": "C'1", "asset": "IT-4711"}
    assert smbios_lost(made, FrontEnd.KUBEVIRT).endswith(": manufacturer, board serial")
    assert smbios_lost(made, FrontEnd.OPENSTACK).endswith(": manufacturer, serial, board serial, chassis serial, asset tag")
    assert [smbios_lost(made, to) for to in (FrontEnd.QEMU, FrontEnd.LIBVIRT, FrontEnd.PROXMOX)] == ["", "", ""]
    assert smbios_lost(hardware(), FrontEnd.OPENSTACK) == ""


PLACES = Storage("fast", {1: "slow"})


def test_proxmox_puts_disks_where_they_were_said_to_go(tmp_path: Path) -> None:
    made = hardware(disks=3, firmware=Firmware.UEFI, tpm=True)
    script = proxmox.import_script(made, DEBIAN, "web1.qm.sh", PLACES)
    calls = run_with_stand_ins(tmp_path, script, ["qm"], "120")
    assert [call[4].partition(",")[0] for call in calls[2:5]] == ["fast:0", "slow:0", "fast:0"]
    assert option(calls[1], "--efidisk0").startswith("fast:0,")
    assert option(calls[1], "--tpmstate0").startswith("fast:0,")
    other = tmp_path / "other"
    other.mkdir()
    calls = run_with_stand_ins(other, script, ["qm"], "120", "local-lvm")
    # what is said there goes before what was said for all
    assert [call[4].partition(",")[0] for call in calls[2:5]] == ["local-lvm:0", "slow:0", "local-lvm:0"]
    conf = proxmox.qm_conf(made, DEBIAN, PLACES)
    assert "virtio1: slow:vm-VMID-disk-1" in conf
    assert "efidisk0: fast:" in conf
    assert "STORAGE" not in conf
    assert "virtio0: STORAGE:" in proxmox.qm_conf(made, DEBIAN, Storage(None, {1: "slow"}))


@pytest.mark.parametrize("arguments", [(), ("120", "a", "b")])
def test_proxmoxs_script_says_how_it_is_called(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    for places in (Storage(), PLACES):
        file = tmp_path / "x.qm.sh"
        file.write_text(proxmox.import_script(hardware(), DEBIAN, file.name, places))
        ended = subprocess.run(["sh", str(file), *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 64
        assert ("[STORAGE]" in ended.stderr) is (places is PLACES)


def test_classes_and_types_of_storage_are_named_by_disk() -> None:
    made = dataclasses.replace(hardware(disks=2), nics=hardware().nics[:1])
    volumes = [each for each in yaml.safe_load_all(kubevirt.manifest(made, [GIB, GIB], PLACES)) if each["kind"] == "DataVolume"]
    assert [each["spec"]["storage"]["storageClassName"] for each in volumes] == ["fast", "slow"]
    only = yaml.safe_load_all(kubevirt.manifest(made, [GIB, GIB], Storage(None, {1: "slow"})))
    assert ["storageClassName" in each["spec"]["storage"] for each in only if each["kind"] == "DataVolume"] == [False, True]
    listed = json.loads(openstack.images(made, [GIB, GIB], DEBIAN, PLACES))["images"]
    assert [each["properties"]["cinder_img_volume_type"] for each in listed] == ["fast", "slow"]
    assert openstack.upload_script(made, [GIB, GIB], DEBIAN, PLACES).count("cinder_img_volume_type=") == 2
    assert "cinder_img_volume_type" not in openstack.upload_script(made, [GIB, GIB], DEBIAN)


def test_discs_are_told_of_in_the_scripts(tmp_path: Path) -> None:
    disc = TargetMedium(DriveKind.CDROM, 0, Path("web 1-cdrom1.iso"))
    made = dataclasses.replace(hardware(), cdroms=1, media=(disc,), nics=hardware().nics[:1])
    script = proxmox.import_script(made, DEBIAN, "web1.qm.sh")
    assert "# its disc: cp './web 1-cdrom1.iso' /var/lib/vz/template/iso/" in script
    assert len(run_with_stand_ins(tmp_path, script, ["qm"], "120", "local-lvm")) == 4
    assert "--disk-format iso" in openstack.upload_script(made, [GIB], DEBIAN)


def test_proxmox_imports_the_machines_own_variables(tmp_path: Path) -> None:
    made = dataclasses.replace(hardware(firmware=Firmware.UEFI), variables=Path("web1 'a'_VARS.fd"))
    calls = run_with_stand_ins(tmp_path, proxmox.import_script(made, DEBIAN, "web1.qm.sh"), ["qm"], "120", "local-lvm")
    expected = f"local-lvm:0,efitype=4m,pre-enrolled-keys=0,import-from={tmp_path}/web1 'a'_VARS.fd"
    assert option(calls[1], "--efidisk0") == expected


def test_proxmox_commands_make_the_machine_and_import_its_disks(tmp_path: Path) -> None:
    made = hardware(disks=2, firmware=Firmware.UEFI, secure_boot=True, tpm=True)
    calls = run_with_stand_ins(tmp_path, proxmox.import_script(made, DEBIAN, "web1.qm.sh"), ["qm"], "120", "local-lvm")
    status, create, *rest = calls
    assert status == ["qm", "status", "120"]
    assert create[:3] == ["qm", "create", "120"]
    assert option(create, "--net0") == "virtio=52:54:00:AA:BB:01,bridge=vmbr0"
    assert option(create, "--net1") == "e1000e=52:54:00:AA:BB:02,bridge=dmz"
    assert option(create, "--smbios1") == f"uuid={made.uuid}"
    assert option(create, "--efidisk0") == "local-lvm:0,efitype=4m,pre-enrolled-keys=1"
    assert option(create, "--tpmstate0") == "local-lvm:0,version=v2.0"
    assert (option(create, "--memory"), option(create, "--cores")) == ("1024", "2")
    folder = str(tmp_path)
    assert rest == [
        ["qm", "set", "120", "--virtio0", f"local-lvm:0,import-from={folder}/web1-0.qcow2,discard=on,serial=S-0"],
        ["qm", "set", "120", "--virtio1", f"local-lvm:0,import-from={folder}/web1-1.qcow2,discard=on,serial=S-1"],
        ["qm", "set", "120", "--boot", "order=virtio0"],
    ]


@pytest.mark.parametrize(("disks", "drive"), [(1, "ide2"), (2, "ide2"), (3, "ide3")])
def test_a_cd_rom_drive_takes_no_disks_place_on_proxmox(disks: int, drive: str) -> None:
    made = dataclasses.replace(hardware(bus=DiskBus.IDE, disks=disks, machine="pc"), cdroms=1)
    lines = proxmox.qm_conf(made, None).splitlines()
    keys = [line.partition(":")[0] for line in lines]
    assert len(keys) == len(set(keys))
    assert f"{drive}: none,media=cdrom" in lines


@pytest.mark.parametrize("front_end", [FrontEnd.PROXMOX, FrontEnd.KUBEVIRT])
def test_front_ends_that_are_told_of_pcs_only_refuse_other_machines(front_end: FrontEnd) -> None:
    made = dataclasses.replace(hardware(machine="virt", firmware=Firmware.UEFI), arch="aarch64")
    with pytest.raises(Usage, match="aarch64"):
        definitions(front_end, made, None, Placing(Path("/x"), [GIB]))


def test_a_machine_without_a_screen_has_none_in_openstack() -> None:
    made = dataclasses.replace(hardware(machine="s390-ccw-virtio"), arch="s390x", video=Video.NONE)
    made = dataclasses.replace(made, nics=made.nics[:1])
    assert openstack.image_properties(made, None)["hw_video_model"] == "none"


def test_proxmox_configuration_in_full() -> None:
    made = dataclasses.replace(hardware(bus=DiskBus.VIRTIO_SCSI), clock=Clock.LOCAL_TIME)
    assert proxmox.qm_conf(made, None).splitlines() == [
        "agent: 1",
        "balloon: 1024",
        "bios: seabios",
        "boot: order=scsi0",
        "cores: 2",
        "cpu: host",
        "localtime: 1",
        "machine: q35",
        "memory: 1024",
        "name: web1",
        "net0: virtio=52:54:00:AA:BB:01,bridge=vmbr0",
        "net1: e1000e=52:54:00:AA:BB:02,bridge=dmz",
        "ostype: other",
        "rng0: source=/dev/urandom",
        "scsi0: STORAGE:vm-VMID-disk-0,discard=on,serial=S-0",
        "scsihw: virtio-scsi-pci",
        "serial0: socket",
        "smbios1: uuid=2b4ad1e5-0c74-5a77-8a44-111213141516",
        "sockets: 1",
        "vga: std",
    ]


@pytest.mark.parametrize(
    "made",
    [
        hardware(bus=DiskBus.SATA, disks=7),
        dataclasses.replace(hardware(), nics=(TargetNic("52:54:00:00:00:01", NicModel.VIRTIO, "VM Network"),)),
        dataclasses.replace(hardware(), disks=(TargetDisk(Path("a,b.qcow2")),)),
        dataclasses.replace(hardware(), nics=tuple(TargetNic(f"52:54:00:00:00:{i:02x}", NicModel.VIRTIO) for i in range(33))),
    ],
    ids=["more disks than the bus has", "a network that is no bridge", "a comma in a file name", "more cards than qm knows"],
)
def test_what_proxmox_has_no_place_for_is_told(made: TargetHardware) -> None:
    with pytest.raises(Usage):
        proxmox.import_script(made, DEBIAN, "x.sh")


def hostile() -> TargetHardware:
    made = dataclasses.replace(hardware(), name=HOSTILE)
    return dataclasses.replace(made, disks=(TargetDisk(Path(HOSTILE.replace(",", "") + ".qcow2")),), nics=made.nics[:1])


def test_no_name_is_taken_for_a_command(tmp_path: Path) -> None:
    scripts = {
        "qm": proxmox.import_script(hostile(), DEBIAN, "x.sh"),
        "openstack": openstack.upload_script(hostile(), [GIB], DEBIAN),
        "virtctl": kubevirt.upload_script(hostile(), HOSTILE + ".yaml"),
    }
    for program, script in scripts.items():
        folder = tmp_path / program
        folder.mkdir()
        calls = run_with_stand_ins(folder, script, ["qm", "openstack", "virtctl", "kubectl"], "100", "local")
        assert any(HOSTILE.replace(",", "") in part for call in calls for part in call)
        assert sorted(os.listdir(folder)) == ["calls", "script.sh", "tools"]
    assert not Path("pwned").exists()


def test_openstack_images_say_what_hardware_the_guest_has_drivers_for(tmp_path: Path) -> None:
    made = dataclasses.replace(hardware(disks=2, firmware=Firmware.UEFI, tpm=True), nics=hardware().nics[:1])
    document = json.loads(openstack.images(made, [10 * GIB + 1, GIB], DEBIAN))
    first, second = document["images"]
    assert first["properties"] == {
        "architecture": "x86_64",
        "hypervisor_type": "qemu",
        "hw_machine_type": "q35",
        "hw_disk_bus": "virtio",
        "hw_vif_model": "virtio",
        "hw_firmware_type": "uefi",
        "hw_video_model": "vga",
        "hw_rng_model": "virtio",
        "hw_qemu_guest_agent": "yes",
        "hw_time_hpet": "false",
        "hw_tpm_version": "2.0",
        "hw_tpm_model": "tpm-crb",
        "os_type": "linux",
        "os_distro": "debian",
        "os_version": "12",
    }
    assert (first["min_disk"], first["min_ram"], second["min_disk"], second["name"]) == (11, 1024, 1, "web1-disk2")
    assert document["ports"] == [{"mac": "52:54:00:aa:bb:01", "network": "default"}]
    calls = run_with_stand_ins(tmp_path, openstack.upload_script(made, [10 * GIB + 1, GIB], DEBIAN), ["openstack"])
    assert [call[-1] for call in calls] == ["web1", "web1-disk2"]
    assert option(calls[0], "--file") == "./web1-0.qcow2"
    assert f"hw_disk_bus={first['properties']['hw_disk_bus']}" in calls[0]


def test_openstack_has_one_model_for_all_cards() -> None:
    with pytest.raises(Usage):
        openstack.upload_script(hardware(), [GIB], DEBIAN)


def test_kubevirt_objects_in_full() -> None:
    made = hardware("Web_1.Example", firmware=Firmware.UEFI, secure_boot=True, tpm=True)
    volume, machine = yaml.safe_load_all(kubevirt.manifest(made, [GIB]))
    assert volume["metadata"]["name"] == "web-1-example-0"
    assert volume["spec"]["storage"]["resources"]["requests"]["storage"] == f"{-(-int(GIB * 1.06) // MIB)}Mi"
    spec = machine["spec"]["template"]["spec"]
    assert machine["spec"]["runStrategy"] == "Halted"
    assert spec["domain"] == {
        "cpu": {"sockets": 1, "cores": 2, "threads": 1},
        "memory": {"guest": "1024Mi"},
        "machine": {"type": "q35"},
        "firmware": {"uuid": made.uuid, "bootloader": {"efi": {"secureBoot": True, "persistent": True}}},
        "features": {"acpi": {}, "smm": {"enabled": True}},
        "clock": {"utc": {}, "timer": {"hpet": {"present": False}}},
        "devices": {
            "disks": [{"name": "disk0", "disk": {"bus": "virtio"}, "bootOrder": 1, "serial": "S-0"}],
            "interfaces": [
                {"name": "net0", "model": "virtio", "macAddress": "52:54:00:aa:bb:01", "masquerade": {}},
                {"name": "net1", "model": "e1000e", "macAddress": "52:54:00:aa:bb:02", "bridge": {}},
            ],
            "rng": {},
            "tpm": {"persistent": True},
            "autoattachMemBalloon": True,
        },
    }
    assert spec["networks"] == [{"name": "net0", "pod": {}}, {"name": "net1", "multus": {"networkName": "dmz"}}]
    assert spec["volumes"] == [{"name": "disk0", "dataVolume": {"name": "web-1-example-0"}}]


@pytest.mark.parametrize("made", [hardware(bus=DiskBus.IDE, machine="pc"), hardware(machine="pc")])
def test_kubevirt_has_no_old_pc(made: TargetHardware) -> None:
    with pytest.raises(Usage):
        kubevirt.manifest(made, [GIB])


@pytest.mark.parametrize(
    ("id_", "version", "expected"),
    [
        ("debian", "11", "http://debian.org/debian/11"),
        ("debian", "10.13", "http://debian.org/debian/10"),
        ("ubuntu", "20.04", "http://ubuntu.com/ubuntu/20.04"),
        ("rhel", "8.2", "http://redhat.com/rhel/8.2"),
        ("rhel", "7", "http://redhat.com/rhel/7.0"),
        ("centos", "7", "http://centos.org/centos/7.0"),
        ("centos", "9", "http://centos.org/centos-stream/9"),
        ("rocky", "9.0", "http://rockylinux.org/rocky/9"),
        ("almalinux", "9.3", "http://almalinux.org/almalinux/9"),
        ("ol", "7.9", "http://oracle.com/ol/7.9"),
        ("fedora", "37", "http://fedoraproject.org/fedora/37"),
        ("opensuse-leap", "15.4", "http://opensuse.org/opensuse/15.4"),
        ("opensuse-tumbleweed", "20240101", "http://opensuse.org/opensuse/tumbleweed"),
        ("sles", "11.0", "http://suse.com/sles/11"),
        ("sles", "11.4", "http://suse.com/sles/11.4"),
        ("sles", "12.5", "http://suse.com/sles/12.5"),
        ("sles", "15.4", "http://suse.com/sle/15.4"),
        ("arch", "", "http://archlinux.org/archlinux/rolling"),
        ("alpine", "3.17.2", "http://alpinelinux.org/alpinelinux/3.17"),
        ("gentoo", "2.14", "http://gentoo.org/gentoo/rolling"),
        ("void", "", "http://voidlinux.org/voidlinux/rolling"),
        ("altlinux", "10.0", "http://altlinux.org/alt/10.0"),
        ("mageia", "8", "http://mageia.org/mageia/8"),
        ("homemade", "1", "http://libosinfo.org/linux/2022"),
        ("debian", "", "http://libosinfo.org/linux/2022"),
    ],
)
def test_systems_have_the_names_that_osinfo_db_has(id_: str, version: str, expected: str) -> None:
    system = dataclasses.replace(DEBIAN, id=id_, version=version)
    assert libosinfo_id(system) == expected
    # the real database is the witness
    vendor, _, rest = expected.removeprefix("http://").partition("/")
    file = OSINFO / vendor / f"{rest.replace('/', '-')}.xml"
    assert f'id="{expected}"' in file.read_text(), "osinfo-db is not installed, or does not know it"


def test_what_is_not_known_is_not_named() -> None:
    unknown = dataclasses.replace(DEBIAN, kind="unknown")
    assert (libosinfo_id(None), libosinfo_id(unknown)) == (None, None)
    assert (proxmox_ostype(None), proxmox_ostype(DEBIAN)) == ("other", "l26")
    assert glance_names(unknown) == {}


@pytest.mark.parametrize("front_end", FrontEnd)
def test_every_front_end_has_its_files_and_the_script_that_tries_the_machine(tmp_path: Path, front_end: FrontEnd) -> None:
    made = dataclasses.replace(hardware(), nics=hardware().nics[:1])
    files = definitions(front_end, made, DEBIAN, Placing(tmp_path, [GIB]))
    assert [file.name for file in files if file.name == "web1.sh" and file.is_program]
    names = [file.name for file in files]
    assert len(set(names)) == len(names) >= 2
    assert all(name.startswith("web1.") for name in names)
