"""Findings about a machine point at the line of its description that says so, in every kind of description there is."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.plan import Finding
from p2v.audit.description_text import BYTES_AT_MOST, description_text
from p2v.audit.evidence import evidence_of
from p2v.audit.examined import Examined
from p2v.audit.findings import Evidence, EvidenceKind
from p2v.machine import Machine, Nic
from p2v.sources.recognition import read_machine
from tests.audit.planned_guests import bare, examined, findings
from tests.drivers.linux.guest import facts_of, files
from tests.sources.readers import DATA, DISKS
from tests.sources.test_ovf import FILES as OVF_DISKS
from tests.sources.test_vmx import FILES as VMX_DISKS

FACTS = facts_of(files())
_MORE = {
    **VMX_DISKS, **OVF_DISKS, "2008-r2.xml": ("Web.VHD", "web-data.vhd"), "saved-with-host-disks.xml": ("app.vhdx",),
    "virtual-pc-2007.vmc": ("System.vhd", "Daten.vhd"),
}  # fmt: skip
SAMPLES = (
    "hyperv/2008-r2.xml", "hyperv/saved-with-host-disks.xml", "libvirt/paravirtual.xml", "libvirt/server.xml", "libvirt/vmware.xml",
    "ovf/esxi.ovf", "ovf/ovirt.ovf", "ovf/virtualbox.ovf", "ovf/xencenter.ovf", "proxmox/100.conf", "proxmox/101.conf",
    "virtualbox/server.vbox", "virtualbox/windows.vbox", "vmc/virtual-pc-2007.vmc", "vmx/esxi.vmx", "vmx/gsx.vmx",
    "vmx/workstation.vmx", "xen/hvm.cfg", "xen/pv.cfg",
)  # fmt: skip


def guest(folder: Path, sample: str) -> Examined:
    """A sample with files as its disks, read and planned as the audit does."""
    kind, _, name = sample.partition("/")
    for disk in (*DISKS.get(kind, ()), *_MORE.get(name, ())):
        (folder / disk).parent.mkdir(parents=True, exist_ok=True)
        (folder / disk).write_bytes(b"a disk")
    path = Path(shutil.copyfile(DATA / sample, folder / name))
    machine = read_machine(path)
    assert machine is not None
    return examined(FACTS, machine, description=description_text(path))


def told(seen: Examined, id_: str, words: str = "") -> tuple[Evidence, ...]:
    """The evidence of the first finding of an id with these words in it."""
    finding = next(each for each in findings(seen) if each.id == id_ and words in each.message)
    return evidence_of(seen, finding)


@pytest.mark.parametrize("sample", SAMPLES)
def test_lines_that_are_pointed_at_are_lines_of_the_description(tmp_path: Path, sample: str) -> None:
    seen = guest(tmp_path, sample)
    lines = seen.description.split("\n")
    pointed = [
        each for finding in findings(seen) if finding.id.startswith("source.") for each in evidence_of(seen, finding)
    ]
    assert [each for each in pointed if each.line is not None]
    for each in pointed:
        assert (each.kind, each.where) == (EvidenceKind.DESCRIPTION, str(tmp_path / sample.partition("/")[2]))
        if each.line is not None and each.text:
            assert lines[each.line - 1].strip()[:200].replace("\t", " ") == each.text


@pytest.mark.parametrize(
    "sample, id_, words, line",
    [
        ("vmx/esxi.vmx", "source.not-shut-down", "", 'cleanShutdown = "FALSE"'),
        ("vmx/esxi.vmx", "source.drive-empty", "scsi0:2", 'scsi0:2.present = "TRUE"'),
        ("vmx/esxi.vmx", "source.disk-shared", "scsi1:0", 'scsi1:0.sharing = "sharing-multi-writer"'),
        ("vmx/esxi.vmx", "source.disk-mode", "scsi0:1", 'scsi0:1.mode = "independent-nonpersistent"'),
        ("vmx/esxi.vmx", "source.passthrough", "pcipassthru1", 'pciPassthru1.present = "TRUE"'),
        ("vmx/esxi.vmx", "source.disk-serials", "", 'disk.EnableUUID = "TRUE"'),
        ("vmx/workstation.vmx", "source.port", "serial0", 'serial0.fileName = "\\\\.\\pipe\\debug"'),
        ("vmx/workstation.vmx", "source.smbios", "reflectHost", 'SMBIOS.reflectHost = "TRUE"'),
        ("vmx/workstation.vmx", "source.variables", "", 'nvram = "Büro-PC.nvram"'),
        ("vmx/workstation.vmx", "hardware.medium", "", 'sata0:1.fileName = "D:\\ISO\\Windows 10.iso"'),
        ("vmx/workstation.vmx", "hardware.link", "", 'ethernet1.startConnected = "FALSE"'),
        ("libvirt/server.xml", "source.passthrough", "interface", "<interface type='hostdev' managed='yes'>"),
        ("libvirt/server.xml", "source.passthrough", "PCI", "<hostdev mode='subsystem' type='pci' managed='yes'>"),
        ("libvirt/server.xml", "source.disk-shared", "", "<target dev='sdb' bus='scsi'/>"),
        ("libvirt/server.xml", "source.memory-balloon", "", "<currentMemory unit='KiB'>4194304</currentMemory>"),
        ("libvirt/paravirtual.xml", "source.paravirtual", "", "<bootloader>/usr/bin/pygrub</bootloader>"),
        ("ovf/esxi.ovf", "hardware.medium", "", '<File ovf:href="install.iso" ovf:id="file4" ovf:size="512"/>'),
        ("proxmox/100.conf", "source.passthrough", "PCI", "hostpci0: 0000:01:00,pcie=1,x-vga=1"),
        ("proxmox/100.conf", "source.passthrough", "USB", "usb0: host=1234:5678"),
        ("proxmox/100.conf", "source.disk-unused", "", "unused0: local-lvm:vm-100-disk-9"),
        ("proxmox/100.conf", "source.snapshots", "", "parent: before_update"),
        (
            "proxmox/100.conf",
            "source.disk-mode",
            "virtio5",
            "virtio5: nas:base-90-disk-0/vm-100-disk-5.raw,snapshot=1,size=1.5T",
        ),
        ("virtualbox/server.vbox", "source.variables", "", '<NVRAM path="files.nvram"/>'),
        (
            "vmc/virtual-pc-2007.vmc",
            "source.additions",
            "",
            '<additions_number type="string">13.820</additions_number>',
        ),
        ("hyperv/2008-r2.xml", "source.port", "COM2", '<connection type="string">\\\\.\\pipe\\console</connection>'),
        ("xen/pv.cfg", "source.disk-partition", "xvda1", '"tap:aio:/srv/xen/legacy-swap.img,xvda1,w",'),
        ("xen/hvm.cfg", "source.port", "", 'serial = [ "pty", "/dev/ttyS0", ]'),
    ],
)
def test_a_finding_points_at_the_line_that_says_it(
    tmp_path: Path, sample: str, id_: str, words: str, line: str
) -> None:
    (found,) = told(guest(tmp_path, sample), id_, words)
    assert found.text == line


def test_a_line_that_may_hold_a_secret_is_pointed_at_and_not_shown(tmp_path: Path) -> None:
    (found,) = told(guest(tmp_path, "proxmox/101.conf"), "source.arguments")
    assert found.line is not None
    assert found.text == ""


def test_without_a_text_the_description_is_pointed_at_as_a_whole(tmp_path: Path) -> None:
    seen = replace(guest(tmp_path, "vmx/esxi.vmx"), description="")
    assert told(seen, "source.disk-mode") == (Evidence(EvidenceKind.DESCRIPTION, str(tmp_path / "esxi.vmx")),)


def test_what_stands_in_files_beside_a_description_is_not_in_it(tmp_path: Path) -> None:
    (tmp_path / "esxi.vmx.lck").mkdir()
    (tmp_path / "esxi.vmx.lck/M1.lck").touch()
    assert told(guest(tmp_path, "vmx/esxi.vmx"), "source.running") == ()


def test_disks_without_a_description_have_no_line() -> None:
    assert evidence_of(examined(FACTS), Finding("source.tpm", "what the machine's TPM holds does not travel")) == ()


def test_of_several_unplugged_cards_none_is_pointed_at() -> None:
    for count, expected in ((1, 1), (2, 0)):
        cards = tuple(Nic(f"00:50:56:00:00:0{number}", connected=False) for number in range(count))
        machine: Machine = replace(bare(1), nics=cards, description=Path("/vms/web/web.vmx"))
        seen = examined(FACTS, machine, description='ethernet0.startConnected = "FALSE"\n')
        assert len(told(seen, "hardware.link")) == expected


def test_numbers_that_are_assumed_are_not_pointed_at() -> None:
    described = replace(bare(1), description=Path("/vms/web/web.vmx"), cpus=9)
    text = 'numvcpus = "9"\n'
    finding = Finding("hardware.cpus", "the guest can use 2 of the machine's 9 CPUs; it gets no more")
    (found,) = evidence_of(examined(FACTS, described, description=text), finding)
    assert (found.line, found.text) == (1, 'numvcpus = "9"')
    assert evidence_of(examined(FACTS, replace(described, assumed=("cpus",)), description=text), finding) == ()


@pytest.mark.parametrize("value", ["a.*b", "{place}", "x" * 300, "\x1b[2J", "(((("])
def test_values_from_a_hostile_description_are_no_patterns(value: str) -> None:
    described = replace(bare(1), description=Path("/vms/web/web.vmx"))
    finding = Finding("source.mac", f"{value!a} is not a MAC address a card can have; the card gets a new one")
    seen = examined(FACTS, described, description=f"first = x\nsecond = {value}\n")
    (found,) = evidence_of(seen, finding)
    assert found.line in (None, 2)
    assert found.text.isprintable()


_MAC = "00:50:56:aa:bb:cc"


@pytest.mark.parametrize(
    "id_, message, text, number",
    [
        ("source.aborted", "VirtualBox ended while the machine ran", '<A>\n<Machine name="a" aborted="true">', 2),
        (
            "source.suspended",
            "the machine is suspended (a.vmss): its memory",
            'a = "b"\ncheckpoint.vmState = "a.vmss"',
            2,
        ),
        ("source.suspended", "the machine is suspended (suspended): its memory", "name: a\nlock: suspended", 2),
        ("source.snapshots", "the machine has a snapshot; its current state", 'scsi0.present = "TRUE"', 0),
        ("source.architecture", "the machine's CPU is a 'mips64'", "<domain>\n<type arch='mips64'>hvm</type>", 2),
        ("source.firmware", "the firmware is called 'coreboot', which is not known here", '\nfirmware = "coreboot"', 2),
        ("source.firmware-32", "the machine has a 32-bit UEFI", '\n<Firmware type="EFI32"/>', 2),
        ("source.uuid", "the machine's UUID is 'not one', which is no UUID", '\nuuid.bios = "not one"', 2),
        ("source.number", "numvcpus is 'lots', which is no number", '\nnumvcpus = "lots"', 2),
        ("source.number", "numvcpus is 'x', which is no number", 'x = "x"', None),
        (
            "source.mac-twice",
            f"two network cards have the MAC address {_MAC}; the second one",
            'a\nb = "00-50-56-AA-BB-CC"',
            2,
        ),
        ("machine.mac-kept", f"the copy has its source's MAC addresses ({_MAC})", 'a\nb = "005056AABBCC"', 2),
        (
            "source.network",
            "network card 1 was on 'VM Network'; here it is on 'default'",
            '\nnetworkName = "VM Network"',
            2,
        ),
        ("source.vlan", "the network card on x has VLAN settings on its switch port", "<x/>\n<VlanSettingData/>", 2),
        ("source.disk-twice", "the disk 'a.vmdk' is named twice", '\nscsi0:0.fileName = "a.vmdk"', 2),
        ("source.disk-found", "'a.vmdk' is not there; '/x/a.vmdk' is taken for it", '\nscsi0:0.fileName = "a.vmdk"', 2),
        (
            "source.disk-unknown",
            "Disk 1 stands for 'ovf:/disk/9', which the package",
            "\n<HostResource>ovf:/disk/9</HostResource>",
            2,
        ),
        ("source.disk-size", "a.vmdk has 4.0 GiB, and its description says 5.0 GiB", '\n<File href="a.vmdk"/>', 2),
        ("source.disk-raw", "the disk scsi0:1 stands for a device", '\nscsi0:1.deviceType = "rawDisk"', 2),
        (
            "source.disk-format",
            "the disk vda has the format 'cow', which is not known",
            "<driver/>\n<target dev='vda'/>",
            2,
        ),
        ("source.disk-job", "the disk vda is being copied by its host", "<disk>\n<mirror type='file'/>", 2),
        (
            "source.disk-parent",
            "the disk b holds only changes to the disk a",
            '\n<Disk diskId="b" ovf:parentRef="a"/>',
            2,
        ),
        ("source.disk-blank", "the disk b (1 GiB) has no file", '\n<ovf:Disk ovf:diskId="b"/>', 2),
        (
            "source.drive",
            "the drive ide0:1 is of a kind that is not known (7)",
            "<location>\n<drive_type>7</drive_type>",
            2,
        ),
        ("source.drive-twice", "the drive scsi0:1 is described twice", '\nscsi0:1.fileName = "a"', 2),
        (
            "source.compression",
            "'a.vmdk' is compressed as 'bzip2', which is not read",
            '\n<File href="a.vmdk" compression="bzip2"/>',
            2,
        ),
        ("source.undo-disk", "the disk ide0:0 has an undo disk (a.vud)", "\n<undo_pathname>a.vud</undo_pathname>", 2),
        ("source.undo-disk-missing", "the changes of the disk ide0:0", "\n<undo_pathname>a.vud</undo_pathname>", 2),
        ("source.redo-log", "the disk scsi0:0 has a redo log (a.REDO)", '\nscsi0:0.redo = "./a.REDO"', 2),
        (
            "source.medium",
            "the medium '/iso/a.iso' is a drive of the old host's",
            '\nide1:0.fileName = "/iso/a.iso"',
            2,
        ),
        (
            "source.dynamic-memory",
            "the machine's memory grew and shrank",
            "<b/>\n<dynamic_memory_enabled>True</...>",
            2,
        ),
        ("source.shared-memory", "the memory 'ring' that machines share", "\n<shmem name='ring'/>", 2),
        ("source.launch-security", "the machine's memory was encrypted", "\n<launchSecurity type='sev'/>", 2),
        ("source.hypervisor-hidden", "the guest was not told", '\nhypervisor.cpuid.v0 = "FALSE"', 2),
        ("source.graphics-3d", "the graphics card drew in three dimensions", '\nmks.enable3d = "TRUE"', 2),
        ("source.direct-kernel", "the machine was started with the kernel '/boot/k' of", "\nkernel = '/boot/k'", 2),
        ("source.configuration", "the machine comes in several sizes", '\n<Configuration ovf:id="small"/>', 2),
        (
            "source.hardware-alternatives",
            "the machine is described for 2 kinds of host",
            "\n<VirtualHardwareSection>",
            2,
        ),
        ("source.section-required", "the package demands that a X section", '\n<x:Section ovf:required="true"/>', 2),
        ("source.section", "the package has a X section", "<x/>", None),
        ("source.device", "NVDIMM (vmware.nvdimm) has no counterpart", "<x/>", None),
        ("source.key-twice", "the description has two values for memsize", "memsize = 1", None),
        ("source.vmcx", "the .vmcx was read by a published description", "", None),
        ("source.log", "the configuration has 2 changes in its log", "", None),
        ("source.checkpoint", "this is a checkpoint of a machine", "<x/>", None),
        ("hardware.secure-boot", "the machine started with secure boot", '\nuefi.secureBoot.enabled = "TRUE"', 2),
        ("hardware.tpm", "the machine had a TPM, which it will not have", '\nvtpm.present = "TRUE"', 2),
        ("hardware.smbios", "the machine had serial numbers or tags", '\nserialNumber = "ABC"', 2),
        ("hardware.memory", "the guest can use 4 GiB of the machine's 8 GiB", '\nmemSize = "8192"', 2),
        ("hardware.sockets", "its CPUs were in 4 sockets", '\ncpuid.coresPerSocket = "1"', 2),
    ],
)
def test_what_a_message_names_is_found_in_a_text(id_: str, message: str, text: str, number: int | None) -> None:
    """``number`` 0: nothing is pointed at; None: the description as a whole."""
    described = replace(bare(1), description=Path("/vms/web/web.vmx"), assumed=())
    found = evidence_of(examined(FACTS, described, description=text), Finding(id_, message))
    assert [each.line for each in found] == ([] if number == 0 else [number])
    if number:
        assert found[0].text == text.split("\n")[number - 1].strip()


def test_keys_of_an_encrypted_machine_and_settings_of_a_package_are_not_shown() -> None:
    described = replace(bare(1), description=Path("/vms/web/web.vmx"))
    for id_, text in (
        ("source.encrypted", 'encryption.keySafe = "vmware:key/secret"\n'),
        ("source.properties", '<Property ovf:key="password" ovf:value="secret"/>\n'),
        ("source.cloud-init", "ide0: local:vm-1-cloudinit,media=cdrom\n"),
    ):
        (found,) = evidence_of(examined(FACTS, described, description=text), Finding(id_, "the machine is encrypted"))
        assert (found.line, found.text) == (1, "")


# --- the text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, expected",
    [
        (b'a = "\xc3\xbc"\n', 'a = "ü"\n'),
        (b"\xef\xbb\xbfa\n", "a\n"),
        ("<vmc>ü</vmc>".encode("utf-16"), "<vmc>ü</vmc>"),
        (b'a = "\xfc"\n', 'a = "ü"\n'),
        (b"store\0\0", ""),
        (b"", ""),
    ],
)
def test_a_description_is_a_text_in_whatever_encoding_it_was_written(
    tmp_path: Path, data: bytes, expected: str
) -> None:
    path = tmp_path / "m.vmx"
    path.write_bytes(data)
    assert description_text(path) == expected


def test_what_is_no_file_of_a_description_has_no_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.write(b"a" * (BYTES_AT_MOST + 1))
    for path in (None, tmp_path, tmp_path / "missing", tmp_path / "fifo", large):
        assert description_text(path) == ""
