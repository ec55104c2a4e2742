"""Proxmox VE's configurations to machines."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from drivers.plan import Finding
from p2v.core.errors import BadDescription, P2vError
from p2v.core.units import GIB, KIB, MIB
from p2v.machine import (
    Attachment,
    Clock,
    DriveKind,
    Firmware,
    Machine,
    MachineDisk,
    Nic,
    RemovableDrive,
    Smbios,
    SourceBus,
    Topology,
)
from p2v.sources import proxmox
from tests.sources.readers import DATA, described, from_data, ids, stands_mutations, variables_gone


def test_a_machine_with_snapshots_and_pending_changes_is_read_as_it_is_now(tmp_path: Path) -> None:
    description = from_data(tmp_path, "proxmox/100.conf", "vm-100-disk-1.raw", "vm-100-disk-2.qcow2", "vm-100-disk-5.raw")
    assert proxmox.read(description) == Machine(
        name="web.example.org",
        disks=(
            MachineDisk(
                tmp_path / "vm-100-disk-2.qcow2",
                "qcow2",
                attachment=Attachment(SourceBus.SCSI, 0, 1, "virtio-scsi-single"),
                stated_bytes=512 * MIB,
            ),
            MachineDisk(
                tmp_path / "vm-100-disk-1.raw",
                "raw",
                "SN0001",
                attachment=Attachment(SourceBus.SCSI, 0, 0, "virtio-scsi-single"),
                stated_bytes=32 * GIB,
            ),
            MachineDisk(tmp_path / "vm-100-disk-5.raw", "raw", attachment=Attachment(SourceBus.VIRTIO, 0, 5)),
        ),
        nics=(
            Nic("bc:24:11:00:00:01", "vmbr0.20", "virtio"),
            Nic("bc:24:11:00:00:02", "vmbr1", "e1000", connected=False),
            Nic("bc:24:11:00:00:03", "vmbr0", "vmxnet3"),
            Nic("bc:24:11:00:00:10", "nat", "rtl8139"),
        ),
        cpus=8,
        memory_bytes=4096 * MIB,
        firmware=Firmware.UEFI,
        smbios=Smbios(manufacturer="Proxmox"), uuid="a5d2e1c0-8f2f-4dae-a0f2-6a1b8e5c7d01",
        described_by="Proxmox VE machine",
        guest="l26",
        topology=Topology(2, 4),
        generation_id="0d3d2f4d-4d0f-4a6d-8e3a-94cfe9bbd0b1",
        secure_boot=True,
        tpm=True,
        clock=Clock.UTC,
        display="virtio",
        removable=(RemovableDrive(DriveKind.CDROM, "local:iso/debian-12.5.0-amd64-netinst.iso", Attachment(SourceBus.IDE, 1, 0)),),
        warnings=(
            Finding("source.disk-mode", "the disk virtio5 is in snapshot mode: what a run wrote to it was thrown away at its end"),
            Finding("source.passthrough", "PCI 0000:01:00 is a device of the old host; it does not travel"),
            Finding("source.port", "a serial port leads to '/dev/ttyS0' on the old host, which stays there"),
            Finding("source.disk-unused", "the disk 'local-lvm:vm-100-disk-9' is not attached to the machine and is left out"),
            Finding("source.passthrough", "USB host=1234:5678 is a device of the old host; it does not travel"),
            Finding(
                "source.snapshots",
                "the machine is converted as it is now; its snapshots (the last is 'before_update') do not travel",
            ),
            Finding(
                "source.tpm",
                "what the machine's TPM holds does not travel: it gets an empty one",
                "Have recovery keys at hand for disks that are sealed to it (BitLocker, LUKS with TPM).",
            ),
            variables_gone("vm-100-disk-0"),
        ),
    )


def test_an_old_machine_with_a_boot_disk_carriage_returns_and_a_host_device(tmp_path: Path) -> None:
    description = from_data(tmp_path, "proxmox/101.conf", "101/vm-101-disk-1.vmdk", "vm-101-disk-2.raw", "ata-OLD")
    assert proxmox.read(description) == Machine(
        name="nt4-a",
        disks=(
            MachineDisk(
                tmp_path / "101/vm-101-disk-1.vmdk", "vmdk", attachment=Attachment(SourceBus.IDE, 0, 0), stated_bytes=10 * GIB
            ),
            MachineDisk(tmp_path / "ata-OLD", "raw", attachment=Attachment(SourceBus.IDE, 0, 1)),
            MachineDisk(tmp_path / "vm-101-disk-2.raw", "raw", attachment=Attachment(SourceBus.VIRTIO, 0, 0)),
        ),
        nics=(Nic("aa:bb:cc:00:00:01", "vmbr0", "ne2k_pci"),),
        cpus=1,
        memory_bytes=768 * MIB,
        firmware=Firmware.BIOS,
        described_by="Proxmox VE machine",
        guest="wxp",
        topology=Topology(1, 1),
        clock=Clock.UTC,  # said so, though Windows would have local time
        removable=(
            RemovableDrive(DriveKind.CDROM, "", Attachment(SourceBus.IDE, 1, 0)),
            RemovableDrive(DriveKind.CDROM, "", Attachment(SourceBus.SATA, 0, 3)),
        ),
        warnings=(
            Finding(
                "source.disk-shared",
                "the disk 'virtio0' is shared with other machines; the copy is this machine's own",
                "Shut the others down before it is copied, and decide which of them keeps the data.",
            ),
            Finding("source.disk-mode", "the disk virtio0 could not be written to; its copy can be"),
            Finding("source.port", "a parallel port leads to '/dev/parport0' on the old host, which stays there"),
            Finding("source.arguments", "arguments that the machine's hypervisor was given beside its description do not travel"),
        ),
    )


def test_a_backups_configuration_with_defaults_and_block_volumes_saved_as_files(tmp_path: Path) -> None:
    description = from_data(tmp_path, "proxmox/qemu-server.conf", "vm-102-disk-0", "vm-102-disk-1.qcow2")
    assert proxmox.read(description) == Machine(
        name="win2019",
        disks=(
            MachineDisk(tmp_path / "vm-102-disk-0", "raw", attachment=Attachment(SourceBus.VIRTIO, 0, 0), stated_bytes=80 * GIB),
            MachineDisk(
                tmp_path / "vm-102-disk-1.qcow2", "qcow2", attachment=Attachment(SourceBus.SATA, 0, 0), stated_bytes=100 * GIB
            ),
        ),
        nics=(Nic("bc:24:11:0a:00:01", "nat", "virtio"),),
        cpus=3,
        memory_bytes=2048 * MIB,
        firmware=Firmware.BIOS,
        described_by="Proxmox VE machine",
        guest="win10",
        topology=None,  # three of four sockets were plugged in
        clock=Clock.LOCAL_TIME,
    )


def _read(tmp_path: Path, text: str, *files: str) -> Machine:
    path = tmp_path / "100.conf"
    path.write_text(text)
    return proxmox.read(described(path, "a.raw", *files))


@pytest.mark.parametrize(
    "line, blocker",
    (
        ("lock: suspended", "source.suspended"),
        ("vmstate: local:100/vm-100-state-suspend.raw", "source.suspended"),
        ("lock: backup", "source.running"),
        ("lock: migrate", "source.running"),
        ("arch: riscv64", "source.architecture"),
    ),
)
def test_locked_suspended_and_foreign_machines_are_blocked(tmp_path: Path, line: str, blocker: str) -> None:
    assert ids(_read(tmp_path, f"{line}\nscsi0: local:a.raw\n").blockers) == [blocker]


def test_scsi_disks_hang_on_the_controller_that_is_named_or_on_the_default_one(tmp_path: Path) -> None:
    assert _read(tmp_path, "scsi3: local:a.raw\n").disks[0].attachment == Attachment(SourceBus.SCSI, 0, 3, "lsi")
    assert _read(tmp_path, "scsi3: a.raw\nscsihw: pvscsi\n").disks[0].attachment == Attachment(SourceBus.SCSI, 0, 3, "pvscsi")


@pytest.mark.parametrize(
    "size, expected",
    (
        ("4096", 4096),
        ("528K", 528 * KIB),
        ("4M", 4 * MIB),
        ("32G", 32 * GIB),
        ("2T", 2048 * GIB),
        ("1.5T", None),
        ("x", None),
        ("", None),
    ),
)
def test_sizes_have_their_units_and_a_rounded_one_is_not_used(tmp_path: Path, size: str, expected: int | None) -> None:
    assert _read(tmp_path, f"scsi0: local:a.raw,size={size}\n").disks[0].stated_bytes == expected


@pytest.mark.parametrize(
    "volume, found, expected",
    (
        ("s:100/d.qcow2", "d.qcow2", "qcow2"),
        ("s:100/d.vmdk", "d.vmdk", "vmdk"),
        ("s:100/d.qcow", "d.qcow", "qcow"),
        ("s:100/d.qed", "d.qed", "qed"),
        ("s:100/d.raw", "d.raw", "raw"),
        ("s:100/d.subvol", "d.subvol", None),
        ("s:d,format=qcow2", "d", "qcow2"),
        ("s:d", "d", "raw"),
        ("s:d", "d.vmdk", "vmdk"),
        ("s:d", "d.img", None),
        ("/dev/vg/d", "d", "raw"),
        ("file=s:d", "d", "raw"),
    ),
)
def test_a_disks_format_is_stated_or_that_of_its_suffix_and_a_block_volume_is_raw(
    tmp_path: Path, volume: str, found: str, expected: str | None
) -> None:
    disk = _read(tmp_path, f"scsi0: {volume}\n", found).disks[0]
    assert (disk.path.name, disk.input_format) == (found, expected)


@pytest.mark.parametrize(
    "lines, clock",
    (
        ("", Clock.UTC),
        ("ostype: l26", Clock.UTC),
        ("ostype: other", Clock.UTC),
        *((f"ostype: {name}", Clock.LOCAL_TIME) for name in ("wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win11")),
        ("ostype: win7\nlocaltime: 0", Clock.UTC),
        ("ostype: l26\nlocaltime: 1", Clock.LOCAL_TIME),
    ),
)
def test_the_clock_is_local_for_windows_or_where_that_is_said(tmp_path: Path, lines: str, clock: Clock) -> None:
    assert _read(tmp_path, f"scsi0: local:a.raw\n{lines}\n").clock is clock


@pytest.mark.parametrize(
    "lines, firmware, secure",
    (
        ("efidisk0: s:e,pre-enrolled-keys=1", Firmware.BIOS, False),
        ("bios: seabios", Firmware.BIOS, False),
        ("bios: ovmf", Firmware.UEFI, False),
        ("bios: ovmf\nefidisk0: s:e,efitype=4m", Firmware.UEFI, False),
        ("bios: ovmf\nefidisk0: s:e,efitype=4m,pre-enrolled-keys=1", Firmware.UEFI, True),
    ),
)
def test_secure_boot_needs_keys_in_the_firmwares_variables(tmp_path: Path, lines: str, firmware: Firmware, secure: bool) -> None:
    machine = _read(tmp_path, f"scsi0: local:a.raw\n{lines}\n")
    assert (machine.firmware, machine.secure_boot) == (firmware, secure)


@pytest.mark.parametrize(
    "lines, cpus, topology",
    (
        ("", 1, Topology(1, 1)),
        ("cores: 3", 3, Topology(1, 3)),
        ("smp: 2", 2, Topology(2, 1)),
        ("sockets: 2\ncores: 4\nvcpus: 8", 8, Topology(2, 4)),
        ("sockets: 2\ncores: 4\nvcpus: 7", 7, None),
        ("sockets: 4096", 4096, Topology(4096, 1)),
    ),
)
def test_cpus_are_sockets_times_cores_or_those_that_are_plugged_in(
    tmp_path: Path, lines: str, cpus: int, topology: Topology | None
) -> None:
    machine = _read(tmp_path, f"scsi0: local:a.raw\n{lines}\n")
    assert (machine.cpus, machine.topology, machine.warnings) == (cpus, topology, ())


@pytest.mark.parametrize(
    "lines, order",
    (
        ("", ["b", "c", "d", "e"]),
        ("boot: cdn", ["b", "c", "d", "e"]),
        ("bootdisk: virtio0", ["d", "b", "c", "e"]),
        ("boot: cdn\nbootdisk: sata0", ["e", "b", "c", "d"]),
        ("boot: order=net0;sata0;scsi10;sata0", ["e", "c", "b", "d"]),
        ("boot: order=scsi10\nbootdisk: sata0", ["c", "b", "d", "e"]),
    ),
)
def test_disks_are_in_boot_order_and_then_by_kind_and_number(tmp_path: Path, lines: str, order: list[str]) -> None:
    text = "sata0: s:e\nvirtio0: s:d\nscsi10: s:c\nide3: s:b\n"
    assert [disk.path.name for disk in _read(tmp_path, f"{text}{lines}\n", *"bcde").disks] == order


def test_more_lines_than_any_configuration_has_are_an_error(tmp_path: Path) -> None:
    _read(tmp_path, "scsi0: local:a.raw\n" + "#\n" * 19_999)
    with pytest.raises(BadDescription, match="20000 lines"):
        _read(tmp_path, "scsi0: local:a.raw\n" + "#\n" * 20_000)


def test_what_stands_in_a_snapshot_is_not_the_machines(tmp_path: Path) -> None:
    machine = _read(tmp_path, "scsi0: local:a.raw\n[suspended]\nlock: suspended\nscsi1: local:b.raw\nmemory: 1\n")
    assert machine.blockers == ()
    assert [disk.path.name for disk in machine.disks] == ["a.raw"]
    assert machine.memory_bytes == 512 * MIB  # the default that qm.conf(5) states


def test_machines_of_other_architectures_that_kvm_has_are_read(tmp_path: Path) -> None:
    assert _read(tmp_path, "arch: aarch64\nscsi0: local:a.raw\n").blockers == ()


def test_containers_are_refused(tmp_path: Path) -> None:
    text = "arch: amd64\nrootfs: local:100/vm-100-disk-0.raw\nostype: debian\nmemory: 512\n"
    assert not proxmox.recognises(text.encode())
    with pytest.raises(BadDescription, match="container"):
        _read(tmp_path, text)


def test_missing_volumes_are_told_in_one_sentence_by_their_names(tmp_path: Path) -> None:
    with pytest.raises(BadDescription, match=r"'vm-100-disk-0', '100/vm-100-disk-1\.qcow2'"):
        _read(tmp_path, "scsi0: local-lvm:vm-100-disk-0\nscsi1: local:100/vm-100-disk-1.qcow2\n")


def test_a_drive_without_a_volume_is_left_out(tmp_path: Path) -> None:
    assert ids(_read(tmp_path, "scsi0: local:a.raw\nscsi1: size=4G\nscsi2: none\n").warnings) == ["source.drive-empty"] * 2


def test_a_cloud_init_drive_is_named(tmp_path: Path) -> None:
    machine = _read(tmp_path, "scsi0: local:a.raw\nide2: local-lvm:vm-100-cloudinit,media=cdrom\n")
    assert ids(machine.warnings) == ["source.cloud-init"]


_LARGE = {
    "spaces": "name: a" + " " * 2_000_000 + "x\n",
    "a boot order": "boot: order=" + "net0;" * 400_000 + "\n" + "".join(f"scsi{n}: none\n" for n in range(1, 99)),
    "colons": "a:" * 1_000_000 + "\n",
}


@pytest.mark.parametrize("text", _LARGE.values(), ids=_LARGE.keys())
def test_large_descriptions_take_no_long_time(tmp_path: Path, text: str) -> None:
    began = time.process_time()
    _read(tmp_path, f"scsi0: local:a.raw\n{text}")
    assert time.process_time() - began < 3


def test_more_cpus_than_any_machine_has_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(P2vError, match="CPUs"):
        _read(tmp_path, "scsi0: local:a.raw\ncores: 4096\nsockets: 4096\n")


def test_configurations_are_recognised_and_other_settings_are_not() -> None:
    for sample in (DATA / "proxmox").iterdir():
        assert proxmox.recognises(sample.read_bytes()[:4096])
    for other in (DATA / "xen").iterdir():
        assert not proxmox.recognises(other.read_bytes()[:4096])
    for text in ("scsi0: x\n", "memory: 512\ncores: 1\n", 'scsi0:0.fileName = "a"\nmemory: 1', "\0scsi0: x\nmemory: 1\n"):
        assert not proxmox.recognises(text.encode())


def test_broken_descriptions_are_refused_or_read_and_nothing_else_comes_of_them(tmp_path: Path) -> None:
    was_read, refused = stands_mutations(proxmox.read, tmp_path, "proxmox")
    assert was_read > 50
    assert refused > 50
