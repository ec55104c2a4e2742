"""libvirt's domains to machines."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from converters.references import Lookup
from drivers.plan import Finding
from p2v.core.errors import BadDescription, ForbiddenReference
from p2v.core.run import SystemRunner, find_program
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
    SourceBus,
    Topology,
)
from p2v.sources import libvirt
from tests.sources.readers import DATA, described, from_data, ids, stands_mutations, variables_gone

_KERNEL_HINT = "It needs a kernel and a boot loader on its own disk."


def test_a_domain_of_kvm_with_drives_on_every_bus_and_all_kinds_of_networks(tmp_path: Path) -> None:
    description = from_data(tmp_path, "libvirt/server.xml", "web-data.qcow2", "web.img", "old.vhd")
    assert libvirt.read(description) == Machine(
        name="web",
        disks=(
            MachineDisk(tmp_path / "web.img", "raw", attachment=Attachment(SourceBus.VIRTIO, 0, 26)),
            MachineDisk(
                tmp_path / "web-data.qcow2", "qcow2", "DATA-0001", attachment=Attachment(SourceBus.SCSI, 1, 3, "virtio-scsi")
            ),
            MachineDisk(tmp_path / "old.vhd", "vhd", attachment=Attachment(SourceBus.IDE, 1, 1)),
        ),
        nics=(
            Nic("52:54:00:aa:bb:01", "default", "virtio"),
            Nic("52:54:00:aa:bb:02", "br0.20", "e1000e", connected=False),
            Nic(None, "enp3s0", ""),
            Nic("52:54:00:aa:bb:04", "hostdev", ""),
            Nic(None, "user", ""),
        ),
        cpus=8,
        memory_bytes=8 * GIB,
        firmware=Firmware.UEFI,
        uuid="6a5f5d1c-1f1c-4d39-9a52-7f4c8ac5e0a1",
        assumed=("mac",),
        described_by="libvirt domain (kvm)",
        guest="http://debian.org/debian/12",
        topology=Topology(2, 2, 2),
        generation_id="43dc0cf8-809b-4adb-9bea-a9abb5f3d90e",
        secure_boot=True,
        tpm=True,
        clock=Clock.UTC,
        display="qxl",
        chipset="pc-q35-7.2",
        removable=(
            RemovableDrive(DriveKind.CDROM, "/var/lib/libvirt/images/Debian 12.iso", Attachment(SourceBus.SATA, 0, 0)),
            RemovableDrive(DriveKind.CDROM, "http /boot.iso on example.org", Attachment(SourceBus.SATA, 0, 2)),
            RemovableDrive(DriveKind.FLOPPY, "", Attachment(SourceBus.FLOPPY, 0, 0)),
        ),
        warnings=(
            Finding(
                "source.disk-shared",
                "the disk 'sdb' is shared with other machines; the copy is this machine's own",
                "Shut the others down before it is copied, and decide which of them keeps the data.",
            ),
            Finding("source.disk-mode", "the disk hdd is transient: what a run wrote to it was thrown away at its end"),
            Finding("source.disk-mode", "the disk hdd could not be written to; its copy can be"),
            Finding("source.drive-empty", "the drive vdb names no file and is left out"),
            Finding("source.passthrough", "a network card (interface hostdev) is a device of the old host; it does not travel"),
            Finding("source.passthrough", "PCI device (hostdev) is a device of the old host; it does not travel"),
            Finding("source.port", "a serial port leads to '/var/log/web.log' on the old host, which stays there"),
            Finding("source.shared-folder", "the shared folder '/srv/share' is on the old host and stays there"),
            Finding(
                "source.tpm",
                "what the machine's TPM holds does not travel: it gets an empty one",
                "Have recovery keys at hand for disks that are sealed to it (BitLocker, LUKS with TPM).",
            ),
            Finding("source.arguments", "arguments that the machine's hypervisor was given beside its description do not travel"),
            variables_gone("/var/lib/libvirt/qemu/nvram/web_VARS.fd"),
            Finding("source.memory-balloon", "the machine had 4096 MiB of its 8192 MiB of memory; it gets all of them"),
        ),
    )


def test_a_paravirtual_guest_of_xen_is_told_what_it_lacks(tmp_path: Path) -> None:
    description = from_data(tmp_path, "libvirt/paravirtual.xml", "office", "swap.img", "home.img")
    assert libvirt.read(description) == Machine(
        name="buro",
        disks=(
            MachineDisk(tmp_path / "office", "raw", attachment=Attachment(SourceBus.XEN, 0, 0)),
            MachineDisk(tmp_path / "swap.img", "raw", attachment=Attachment(SourceBus.XEN, 0, 1)),
            MachineDisk(tmp_path / "home.img", "raw", attachment=Attachment(SourceBus.XEN, 0, 2)),
        ),
        nics=(Nic("00:16:3e:01:02:03", "xenbr0", ""),),
        cpus=1,
        memory_bytes=524288 * KIB,
        firmware=None,
        uuid="9a7a3f5e-1122-4d7b-8c9d-aabbccddeeff",
        described_by="libvirt domain (xen)",
        clock=Clock.LOCAL_TIME,
        warnings=(
            Finding("source.port", "a parallel port leads to '/dev/parport0' on the old host, which stays there"),
            Finding(
                "source.direct-kernel",
                "the machine was started with the kernel '/boot/vmlinuz-2.6.18-xen' of the old host, which stays there",
                _KERNEL_HINT,
            ),
            Finding(
                "source.paravirtual",
                "the machine is one of Xen's paravirtual guests: Xen started its kernel ('/usr/bin/pygrub' read its menu), no boot "
                "loader on its disk did",
                "It needs a boot loader in its first disk's boot sector, and a kernel that runs outside Xen too.",
            ),
        ),
    )


def test_a_machine_of_vmware_as_libvirt_dumps_it_with_datastores_in_its_paths(tmp_path: Path) -> None:
    description = from_data(tmp_path, "libvirt/vmware.xml", "Windows Server.vmdk", "second.vmdk", "lun.raw")
    assert libvirt.read(description) == Machine(
        name="Windows-Server",
        disks=(
            MachineDisk(tmp_path / "Windows Server.vmdk", attachment=Attachment(SourceBus.SCSI, 0, 2, "lsisas1068")),
            MachineDisk(tmp_path / "second.vmdk", attachment=Attachment(SourceBus.IDE, 1, 0)),
            MachineDisk(tmp_path / "lun.raw", attachment=Attachment(SourceBus.SCSI, 0, 1)),
        ),
        nics=(Nic("00:0c:29:10:35:15", "VM Network", "vmxnet3"), Nic(None, "VM Network", "e1000")),
        cpus=2,
        memory_bytes=2 * GIB,
        firmware=Firmware.UEFI,
        uuid="564d9bef-acd9-b4e0-c8f0-aea8b9103515",
        assumed=("mac",),
        described_by="libvirt domain (vmware)",
        topology=None,  # its four sockets are not the two CPUs
        clock=Clock.LOCAL_TIME,
        display="vmvga",
        warnings=(
            Finding("source.disk-format", "the disk hdc has the format 'cow', which is not known here; its contents tell"),
            Finding("source.disk-raw", "the disk sdb stands for a device of the old host; its contents are copied if it is there"),
            Finding("source.mac", "'00:00:00:00:00:00' is not a MAC address a card can have; the card gets a new one"),
        ),
    )


def _read(tmp_path: Path, domain: str, *, files: tuple[str, ...] = ("a.img",), lookup: Lookup | None = None) -> Machine:
    path = tmp_path / "m.xml"
    path.write_text(domain)
    return libvirt.read(described(path, *files) if lookup is None else described(path, *files, lookup=lookup))


def _domain(inside: str = "", devices: str = "", attributes: str = "type='kvm'") -> str:
    disk = "<disk type='file'><source file='a.img'/><target dev='vda'/></disk>"
    return f"<domain {attributes}><name>m</name>{inside}<devices>{disk}{devices}</devices></domain>"


@pytest.mark.parametrize(
    "unit, number, expected",
    (
        ("", 1024, MIB),
        (" unit='b'", 5_000_000, 5_000_000),
        (" unit='bytes'", 5_000_000, 5_000_000),
        (" unit='KB'", 5000, 5_000_000),
        (" unit='k'", 1024, MIB),
        (" unit='MB'", 5, 5_000_000),
        (" unit='M'", 5, 5 * MIB),
        (" unit='GB'", 2, 2_000_000_000),
        (" unit='G'", 2, 2 * GIB),
        (" unit='TiB'", 1, 1024 * GIB),
    ),
)
def test_memory_is_counted_in_its_unit(tmp_path: Path, unit: str, number: int, expected: int) -> None:
    machine = _read(tmp_path, _domain(f"<memory{unit}>{number}</memory>"))
    assert (machine.memory_bytes, machine.warnings, machine.assumed) == (expected, (), ())


def test_memory_in_no_known_unit_is_a_warning_and_assumed(tmp_path: Path) -> None:
    machine = _read(tmp_path, _domain("<memory unit='pages'>100</memory>"))
    assert (ids(machine.warnings), machine.assumed) == (["source.number"], ("memory",))


@pytest.mark.parametrize(
    "system, firmware, secure",
    (
        ("", Firmware.BIOS, False),
        ("<os firmware='bios'><type>hvm</type><nvram>x</nvram></os>", Firmware.BIOS, False),
        ("<os firmware='efi'><type>hvm</type><loader secure='yes'/></os>", Firmware.UEFI, True),
        ("<os><type>hvm</type><nvram>x</nvram></os>", Firmware.UEFI, False),
        ("<os><type>hvm</type><loader type='rom'>/usr/share/seabios/bios.bin</loader></os>", Firmware.BIOS, False),
        ("<os><type>hvm</type><loader type='rom'>/usr/share/edk2-ovmf/x64.fd</loader></os>", Firmware.UEFI, False),
        (
            "<os firmware='efi'><type>hvm</type><firmware><feature name='secure-boot' enabled='no'/></firmware>"
            "<loader secure='yes'/></os>",
            Firmware.UEFI,
            False,
        ),
        ("<os><type>xenpvh</type></os>", None, False),
    ),
)
def test_the_firmware_is_found_however_it_is_said(tmp_path: Path, system: str, firmware: Firmware | None, secure: bool) -> None:
    machine = _read(tmp_path, _domain(system or "<os><type>hvm</type></os>"))
    assert (machine.firmware, machine.secure_boot) == (firmware, secure)


@pytest.mark.parametrize(
    "driver, expected",
    (
        ("", None),
        ("<driver name='qemu'/>", None),
        ("<driver name='qemu' type='raw'/>", "raw"),
        ("<driver name='qemu' type='QCOW2'/>", "qcow2"),
        ("<driver name='qemu' type='vpc'/>", "vhd"),
        ("<driver name='qemu' type='vdi'/>", "vdi"),
        ("<driver name='qemu' type='vmdk'/>", "vmdk"),
        ("<driver name='qemu' type='vhdx'/>", "vhdx"),
        ("<driver name='qemu' type='qed'/>", "qed"),
        ("<driver name='qemu' type='qcow'/>", "qcow"),
        ("<driver name='qemu' type='parallels'/>", "parallels"),
        ("<driver name='tap2' type='aio'/>", "raw"),
        ("<driver name='tap' type='vhd'/>", "vhd"),
        ("<driver name='phy'/>", "raw"),
        ("<driver name='file'/>", "raw"),
        ("<driver name='file' type='qcow2'/>", "qcow2"),
        ("<driver type='auto'/>", None),
        ("<driver type='iso'/>", "raw"),
    ),
)
def test_a_disks_format_is_the_one_that_is_stated(tmp_path: Path, driver: str, expected: str | None) -> None:
    disk = f"<domain type='kvm'><devices><disk>{driver}<source file='a.img'/></disk></devices></domain>"
    machine = _read(tmp_path, disk)
    assert (machine.disks[0].input_format, machine.warnings) == (expected, ())


@pytest.mark.parametrize(
    "place, attachment",
    (
        ("<target dev='vda' bus='virtio'/>", Attachment(SourceBus.VIRTIO)),
        ("<target dev='vdz'/>", Attachment(SourceBus.VIRTIO, 0, 25)),
        ("<target dev='sdb' bus='sata'/>", Attachment(SourceBus.SATA, 0, 1)),
        ("<target dev='sdc' bus='usb'/>", Attachment(SourceBus.USB, 0, 2)),
        ("<target dev='sdc' bus='scsi'/>", Attachment(SourceBus.SCSI, 0, 2, "lsilogic")),
        ("<target dev='hdc'/>", Attachment(SourceBus.IDE, 1, 0)),
        ("<target dev='fdb'/>", Attachment(SourceBus.FLOPPY, 0, 1)),
        ("<target dev='xvda1' bus='xen'/>", Attachment(SourceBus.XEN)),
        ("<target dev='nvme0n1' bus='nvme'/>", Attachment(SourceBus.NVME)),
        ("<target dev='vda' bus='sd'/>", Attachment(SourceBus.UNKNOWN)),
        ("", Attachment(SourceBus.UNKNOWN)),
        ("<target dev='hda' bus='ide'/><address type='drive' controller='1' bus='1' unit='1'/>", Attachment(SourceBus.IDE, 3, 1)),
        ("<target dev='sda' bus='sata'/><address type='drive' controller='1' unit='4'/>", Attachment(SourceBus.SATA, 1, 4)),
        ("<target bus='scsi'/><address type='drive' controller='7' target='3'/>", Attachment(SourceBus.SCSI, 7, 3, "auto")),
        ("<target dev='vdc' bus='virtio'/><address type='pci' slot='0x07'/>", Attachment(SourceBus.VIRTIO, 0, 2)),
    ),
)
def test_a_disk_hangs_where_its_address_or_its_name_says(tmp_path: Path, place: str, attachment: Attachment) -> None:
    controllers = "<controller type='scsi' model='lsilogic'/><controller type='scsi' index='7' model='auto'/>"
    disk = f"<domain type='kvm'><devices>{controllers}<disk><source file='a.img'/>{place}</disk></devices></domain>"
    assert _read(tmp_path, disk).disks[0].attachment == attachment


@pytest.mark.parametrize(
    "interface, nic",
    (
        ("<interface type='network'><source network='lan'/></interface>", Nic(None, "lan")),
        ("<interface type='bridge'><source bridge='br0'/></interface>", Nic(None, "br0")),
        ("<interface type='direct'><source dev='eth0' mode='bridge'/></interface>", Nic(None, "eth0")),
        ("<interface type='internal'><source name='VM Network'/></interface>", Nic(None, "VM Network")),
        ("<interface type='bridge'><source type='vds' switchid='50 3f'/></interface>", Nic(None, "50 3f")),
        ("<interface type='vhostuser'><source type='unix' path='/tmp/s'/></interface>", Nic(None, "/tmp/s")),
        ("<interface type='user'><source/></interface>", Nic(None, "user")),
        ("<interface/>", Nic(None, "default")),
        ("<interface type='user'><model/><link/><mac/></interface>", Nic(None, "user")),
        ("<interface type='user'><link state='up'/><model type='ne2k_pci'/></interface>", Nic(None, "user", "ne2k_pci")),
        ("<interface type='user'><link state='down'/></interface>", Nic(None, "user", "", False)),
    ),
)
def test_every_kind_of_interface_names_its_network(tmp_path: Path, interface: str, nic: Nic) -> None:
    machine = _read(tmp_path, _domain(devices=interface))
    assert (machine.nics, machine.warnings) == ((nic,), ())


@pytest.mark.parametrize(
    "clock, expected",
    (
        ("", Clock.UTC),
        ("<clock/>", Clock.UTC),
        ("<clock offset='utc'/>", Clock.UTC),
        ("<clock offset='localtime'/>", Clock.LOCAL_TIME),
        ("<clock offset='timezone' timezone='Europe/Paris'/>", Clock.LOCAL_TIME),
        ("<clock offset='variable' adjustment='0'/>", Clock.UTC),
        ("<clock offset='variable' basis='localtime'/>", Clock.LOCAL_TIME),
        ("<clock offset='absolute' start='0'/>", Clock.UTC),
    ),
)
def test_the_clock_is_utc_or_local(tmp_path: Path, clock: str, expected: Clock) -> None:
    assert _read(tmp_path, _domain(clock)).clock is expected


@pytest.mark.parametrize(
    "inside, cpus, topology",
    (
        ("", 1, None),
        ("<vcpu>6</vcpu>", 6, None),
        ("<vcpu current='2'>6</vcpu>", 2, None),
        ("<vcpu>6</vcpu><cpu><topology sockets='1' cores='3' threads='2'/></cpu>", 6, Topology(1, 3, 2)),
        ("<vcpu>24</vcpu><cpu><topology sockets='1' dies='2' clusters='2' cores='3' threads='2'/></cpu>", 24, Topology(1, 12, 2)),
        ("<vcpu current='2'>6</vcpu><cpu><topology sockets='6' cores='1' threads='1'/></cpu>", 2, None),
        ("<vcpu>4</vcpu><cpu mode='host-model'/>", 4, None),
    ),
)
def test_cpus_are_those_that_are_plugged_in(tmp_path: Path, inside: str, cpus: int, topology: Topology | None) -> None:
    machine = _read(tmp_path, _domain(inside))
    assert (machine.cpus, machine.topology, machine.warnings) == (cpus, topology, ())


@pytest.mark.parametrize(
    "orders, expected",
    (
        (("", "", ""), ["a.img", "b.img", "c.img"]),
        (("", "", "<boot order='1'/>"), ["c.img", "a.img", "b.img"]),
        (("<boot order='3'/>", "<boot order='2'/>", ""), ["b.img", "a.img", "c.img"]),
    ),
)
def test_disks_are_in_boot_order_and_then_as_they_are_listed(tmp_path: Path, orders: tuple[str, ...], expected: list[str]) -> None:
    disks = "".join(f"<disk><source file='{name}.img'/>{order}</disk>" for name, order in zip("abc", orders, strict=True))
    machine = _read(tmp_path, f"<domain type='kvm'><devices>{disks}</devices></domain>", files=("a.img", "b.img", "c.img"))
    assert [disk.path.name for disk in machine.disks] == expected


@pytest.mark.parametrize(
    "devices, warned",
    (
        ("<serial type='pty'><source path='/dev/pts/1'/></serial><serial type='null'/><serial type='file'/>", []),
        ("<serial type='tcp'><source mode='connect' host='10.0.0.1' service='23'/></serial>", ["source.port"]),
        ("<parallel type='dev'><source path='/dev/parport0'/></parallel>", ["source.port"]),
        *(
            (f"<serial type='{kind}'><source path='/tmp/x'/></serial>", ["source.port"])
            for kind in ("file", "pipe", "unix", "udp", "dev")
        ),
        ("<hostdev mode='subsystem' type='usb'/>", ["source.passthrough"]),
        ("<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>", ["source.passthrough"]),
        ("<shmem name='shared'/>", ["source.shared-memory"]),
        ("<filesystem><source name='x'/></filesystem><filesystem/>", ["source.shared-folder"] * 2),
        ("<tpm model='tpm-tis'><backend type='passthrough'/></tpm>", ["source.tpm"]),
    ),
)
def test_what_is_tied_to_the_old_host_is_named(tmp_path: Path, devices: str, warned: list[str]) -> None:
    assert ids(_read(tmp_path, _domain(devices=devices)).warnings) == warned


def test_the_uuid_may_stand_in_the_smbios_tables_alone_and_sealed_memory_is_named(tmp_path: Path) -> None:
    number = "6a5f5d1c-1f1c-4d39-9a52-7f4c8ac5e0a1"
    tables = f"<sysinfo type='smbios'><system><entry name='serial'>1</entry><entry name='uuid'>{number}</entry></system></sysinfo>"
    machine = _read(tmp_path, _domain(tables + "<launchSecurity type='sev'/>"))
    assert (machine.uuid, ids(machine.warnings)) == (number, ["source.launch-security"])


def test_disks_that_are_no_files_are_one_error_that_names_them(tmp_path: Path) -> None:
    devices = (
        "<disk type='network'><source protocol='rbd' name='pool/image'><host name='mon1' port='6789'/></source></disk>"
        "<disk type='network'><source protocol='nbd' name='export'/></disk>"
        "<disk type='nvme'><source type='pci' namespace='1'/></disk><disk type='dir'><source dir='/srv'/></disk>"
    )
    with pytest.raises(BadDescription) as caught:
        _read(tmp_path, _domain(devices=devices))
    assert "'rbd pool/image on mon1', 'nbd export', 'nvme 1', 'dir /srv'" in str(caught.value)


def test_a_running_domain_a_saved_one_and_one_that_is_being_copied_are_blocked(tmp_path: Path) -> None:
    assert ids(_read(tmp_path, _domain(attributes="type='kvm' id='7'")).blockers) == ["source.running"]
    status = f"<domstatus state='running' pid='1'>{_domain()}</domstatus>"
    assert libvirt.recognises(status.encode())
    assert ids(_read(tmp_path, status).blockers) == ["source.running"]
    assert ids(_read(tmp_path, _domain(), files=("a.img", "save/m.save")).blockers) == ["source.suspended"]
    (tmp_path / "save/m.save").unlink()
    copied = "<disk type='file'><source file='b.img'/><target dev='vdb'/><mirror type='file'/></disk>"
    assert ids(_read(tmp_path, _domain(devices=copied), files=("a.img", "b.img")).blockers) == ["source.disk-job"]
    assert _read(tmp_path, _domain()).blockers == ()


@pytest.mark.parametrize("name", ("x86_64", "i686", "aarch64", "ppc64le", "s390x"))
def test_machines_of_architectures_that_kvm_has_are_read(tmp_path: Path, name: str) -> None:
    assert _read(tmp_path, _domain(f"<os><type arch='{name}'>hvm</type></os>")).blockers == ()


def test_an_encrypted_disk_and_another_architecture_are_blocked(tmp_path: Path) -> None:
    encrypted = "<disk type='file'><source file='b.img'><encryption format='luks'/></source><target dev='vdb'/></disk>"
    machine = _read(tmp_path, _domain("<os><type arch='riscv64'>hvm</type></os>", encrypted), files=("a.img", "b.img"))
    assert ids(machine.blockers) == ["source.encrypted", "source.architecture"]


def test_encryption_is_seen_in_the_old_place_too(tmp_path: Path) -> None:
    old = "<disk type='file'><source file='b.img'/><target dev='vdb'/><encryption format='qcow'/></disk>"
    assert ids(_read(tmp_path, _domain(devices=old), files=("a.img", "b.img")).blockers) == ["source.encrypted"]


@pytest.mark.parametrize(
    "domain",
    (*(_domain(attributes=f"type='{kind}'") for kind in ("lxc", "openvz", "uml")), _domain("<os><type>exe</type></os>")),
)
def test_containers_are_refused(tmp_path: Path, domain: str) -> None:
    with pytest.raises(BadDescription, match="container"):
        _read(tmp_path, domain)


def test_a_kernel_that_the_host_gave_to_a_full_machine_is_named(tmp_path: Path) -> None:
    machine = _read(tmp_path, _domain("<os><type>hvm</type><kernel>/boot/vmlinuz</kernel></os>"))
    assert ids(machine.warnings) == ["source.direct-kernel"]


def test_a_disk_in_the_hosts_image_folder_is_followed_only_when_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/vm.img").write_bytes(b"a disk")
    (tmp_path / "etc").mkdir()
    domain = _domain().replace("a.img", f"{tmp_path}/images/vm.img")
    with pytest.raises(ForbiddenReference):
        _read(tmp_path / "etc", domain)
    lookup = Lookup(allowed=(tmp_path / "images",))
    machine = _read(tmp_path / "etc", domain, lookup=lookup)
    assert machine.disks == (MachineDisk(tmp_path / "images/vm.img", lookup=lookup, attachment=Attachment(SourceBus.VIRTIO)),)


@pytest.mark.parametrize(
    "name, place, is_named",
    (
        ("/var/lib/libvirt/images/root.img", "root.img", False),
        ("/var/lib/libvirt/images/root.img", "images/root.img", False),
        ("images/root.img", "images/root.img", False),
        ("/var/lib/libvirt/images/root.img", "Downloads/other/root.img", True),
    ),
)
def test_a_disk_that_is_found_deep_below_by_its_last_name_alone_is_named(
    tmp_path: Path, name: str, place: str, is_named: bool
) -> None:
    machine = _read(tmp_path, _domain().replace("a.img", name), files=(place,))
    assert machine.disks[0].path == tmp_path / place
    assert ids(machine.warnings) == (["source.disk-found"] if is_named else [])


def test_a_disk_in_a_folder_that_the_user_named_is_the_right_one(tmp_path: Path) -> None:
    lookup = Lookup(folders=(tmp_path / "Downloads/other",))
    place = "Downloads/other/root.img"
    machine = _read(tmp_path, _domain().replace("a.img", "/images/root.img"), files=(place,), lookup=lookup)
    assert (machine.disks[0].path, machine.warnings) == (tmp_path / place, ())


def test_the_same_disk_twice_is_a_blocker(tmp_path: Path) -> None:
    again = "<disk type='file'><source file='./a.img'/><target dev='vdb'/></disk>"
    assert ids(_read(tmp_path, _domain(devices=again)).blockers) == ["source.disk-twice"]


def test_domains_are_recognised_and_other_programs_domains_are_not() -> None:
    for sample in (DATA / "libvirt").iterdir():
        assert libvirt.recognises(sample.read_bytes()[:4096])
    assert libvirt.recognises(_domain().encode("utf-16"))
    for kind in ("qemu", "kqemu", "xen", "hyperv", "vbox", "hvf", "bhyve", "vz", "parallels", "test", "lxc", "openvz", "uml"):
        assert libvirt.recognises(f'<domain id="1" type="{kind}">'.encode())
    others = ("<domain xmlns='urn:jboss:domain:4.0'>", "<domain type='server'>", "<domains type='kvm'>", "<domainsnapshot>", "")
    assert not any(libvirt.recognises(other.encode()) for other in others)


@pytest.mark.skipif(find_program("virt-xml-validate") is None, reason="virt-xml-validate is not installed")
@pytest.mark.parametrize("name", ("server.xml", "paravirtual.xml", "vmware.xml"))
def test_the_samples_are_what_libvirt_itself_accepts(name: str) -> None:
    command = ["virt-xml-validate", str(DATA / "libvirt" / name), "domain"]
    ended = SystemRunner().run(command, timeout=60, accept=range(256))
    assert ended.exit_status == 0, ended.stderr


def test_large_descriptions_take_no_long_time(tmp_path: Path) -> None:
    drive = "<disk device='cdrom'><target bus='scsi'/><address type='drive'/></disk>"
    began = time.process_time()
    machine = _read(tmp_path, _domain(devices=drive * 20_000 + "<controller type='scsi' index='1'/>" * 20_000))
    assert len(machine.removable) == 20_000
    with pytest.raises(BadDescription, match="more than 1000 things"):
        _read(tmp_path, _domain(devices="<hostdev/>" * 20_000))
    assert time.process_time() - began < 5


def test_entities_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDescription, match="DTD"):
        _read(tmp_path, f"<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>{_domain('<title>&x;</title>')}")


def test_broken_descriptions_are_refused_or_read_and_nothing_else_comes_of_them(tmp_path: Path) -> None:
    was_read, refused = stands_mutations(libvirt.read, tmp_path, "libvirt")
    assert was_read > 50
    assert refused > 50
