"""Xen's configurations to machines, and what is no configuration."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from drivers.plan import Finding
from p2v.core.errors import BadDescription, P2vError
from p2v.core.units import MIB
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
)
from p2v.sources import xen
from p2v.sources.xen_devices import Drive, drive_of
from p2v.sources.xen_text import Value, parse
from tests.sources.readers import DATA, described, from_data, ids, stands_mutations

_PARAVIRTUAL_HINT = "It needs a boot loader in its first disk's boot sector, and a kernel that runs outside Xen too."
_PARTITION_HINT = "Copy it into a partition of a disk with a boot loader before the machine is converted."
_TPM = Finding(
    "source.tpm",
    "what the machine's TPM holds does not travel: it gets an empty one",
    "Have recovery keys at hand for disks that are sealed to it (BitLocker, LUKS with TPM).",
)


def _partition(name: str) -> Finding:
    text = f"the disk {name} was shown to the guest as a partition: it has no partition table and no boot sector"
    return Finding("source.disk-partition", text, _PARTITION_HINT)


def test_a_windows_guest_of_xl_with_every_way_to_write_a_disk(tmp_path: Path) -> None:
    description = from_data(tmp_path, "xen/hvm.cfg", "win2012.img", "data,2.qcow2", "logs", "old.vhd")
    assert xen.read(description) == Machine(
        name="win2012",
        disks=(
            MachineDisk(tmp_path / "win2012.img", "raw", attachment=Attachment(SourceBus.XEN, 0, 0)),
            MachineDisk(tmp_path / "data,2.qcow2", "qcow2", attachment=Attachment(SourceBus.XEN, 0, 1)),
            MachineDisk(tmp_path / "logs", "raw", attachment=Attachment(SourceBus.SCSI, 0, 0)),
            MachineDisk(tmp_path / "old.vhd", "vhd", attachment=Attachment(SourceBus.UNKNOWN)),
        ),
        nics=(
            Nic("00:16:3e:5e:6c:00", "xenbr1", "e1000"),
            Nic("00:16:3e:5e:6c:01", "ovsbr0.20", "netfront"),
            Nic(None, "xenbr0", "rtl8139"),
        ),
        cpus=4,
        memory_bytes=4096 * MIB,
        firmware=Firmware.UEFI,
        smbios=Smbios(serial="3fb78ba6-8182-484c-acf0-8faba9773f68"), uuid="3fb78ba6-8182-484c-acf0-8faba9773f68",
        assumed=("mac",),
        described_by="Xen machine configuration (xl, xm)",
        guest="HVM",
        tpm=True,
        clock=Clock.LOCAL_TIME,
        display="stdvga",
        removable=(
            RemovableDrive(DriveKind.CDROM, "/srv/iso/en windows.iso", Attachment(SourceBus.IDE, 1, 0)),
            RemovableDrive(DriveKind.CDROM, "/srv/iso/drivers.iso", Attachment(SourceBus.IDE, 1, 1)),
            RemovableDrive(DriveKind.CDROM, "", Attachment(SourceBus.IDE, 2, 1)),
        ),
        warnings=(
            Finding(
                "source.disk-shared",
                "the disk 'sda' is shared with other machines; the copy is this machine's own",
                "Shut the others down before it is copied, and decide which of them keeps the data.",
            ),
            Finding("source.disk-mode", "the disk d4 could not be written to; its copy can be"),
            Finding("source.passthrough", "the PCI device 03:00.0 is a device of the old host; it does not travel"),
            Finding("source.passthrough", "the PCI device 04:00.0,permissive=1 is a device of the old host; it does not travel"),
            Finding("source.port", "a serial port leads to '/dev/ttyS0' on the old host, which stays there"),
            _TPM,
            Finding("source.memory-balloon", "the machine had 4096 MiB of memory and could be given 8192 MiB; it gets 4096 MiB"),
        ),
    )


def test_a_paravirtual_guest_of_xm_whose_disks_are_partitions(tmp_path: Path) -> None:
    description = from_data(tmp_path, "xen/pv.cfg", "legacy-disk", "legacy-swap.img", "legacy-home.img")
    assert xen.read(description) == Machine(
        name="legacydb",
        disks=(
            MachineDisk(tmp_path / "legacy-disk", "raw", attachment=Attachment(SourceBus.XEN, 0, 0)),
            MachineDisk(tmp_path / "legacy-swap.img", "raw", attachment=Attachment(SourceBus.XEN, 0, 0)),
            MachineDisk(tmp_path / "legacy-home.img", "raw", attachment=Attachment(SourceBus.SCSI, 0, 1)),
        ),
        nics=(Nic("00:16:3e:00:00:01", "xenbr0", "netfront"), Nic(None, "xenbr0", "netfront")),
        cpus=2,
        memory_bytes=256 * MIB,
        assumed=("mac",),
        described_by="Xen machine configuration (xl, xm)",
        guest="PV",
        clock=Clock.UTC,
        warnings=(
            _partition("xvda2"),
            _partition("xvda1"),
            Finding("source.disk-mode", "the disk sdb1 could not be written to; its copy can be"),
            _partition("sdb1"),
            Finding(
                "source.paravirtual",
                "the machine is one of Xen's paravirtual guests: Xen started its kernel ('/usr/bin/pygrub' read its menu), no boot "
                "loader on its disk did",
                _PARAVIRTUAL_HINT,
            ),
        ),
    )


def test_an_old_full_guest_with_prefixes_carriage_returns_and_escapes(tmp_path: Path) -> None:
    description = from_data(tmp_path, "xen/old-hvm.cfg", "a.vhd", "c.qcow2")
    assert xen.read(description) == Machine(
        name="Buro-a",
        disks=(
            MachineDisk(tmp_path / "a.vhd", "vhd", attachment=Attachment(SourceBus.IDE, 0, 0)),
            MachineDisk(tmp_path / "c.qcow2", "qcow2", attachment=Attachment(SourceBus.IDE, 0, 1)),
        ),
        nics=(Nic("00:16:3e:00:00:01", "xenbr0.7", "rtl8139"), Nic("00:16:3e:00:00:02", "vif-route", "rtl8139")),
        cpus=1,
        memory_bytes=512 * MIB,
        firmware=Firmware.BIOS,
        described_by="Xen machine configuration (xl, xm)",
        guest="HVM",
        clock=Clock.UTC,
        display="stdvga",
        removable=(
            RemovableDrive(DriveKind.CDROM, "/x/b.iso", Attachment(SourceBus.IDE, 1, 0)),
            RemovableDrive(DriveKind.CDROM, "/dev/cdrom", Attachment(SourceBus.IDE, 1, 1)),
        ),
        warnings=(
            Finding("source.passthrough", "the graphics card (gfx_passthru) is a device of the old host; it does not travel"),
            Finding("source.port", "a serial port leads to 'file:/tmp/x' on the old host, which stays there"),
            Finding("source.shared-folder", "the shared folder '/srv/p9' is on the old host and stays there"),
            Finding("source.arguments", "arguments that the machine's hypervisor was given beside its description do not travel"),
        ),
    )


# The equal spellings of xl-disk-configuration(5), and the old ones.
@pytest.mark.parametrize(
    "text",
    (
        "/dev/vg/guest-volume,,hda",
        "/dev/vg/guest-volume,raw,hda,",
        "format=raw, vdev=hda, target=/dev/vg/guest-volume",
        "raw:/dev/vg/guest-volume,hda",
        "phy:/dev/vg/guest-volume,hda",
        "phy:/dev/vg/guest-volume,ioemu:hda",
        "vdev=hda,/dev/vg/guest-volume",
        *(f"{flag},/dev/vg/guest-volume,raw,hda" for flag in ("discard", "no-discard", "direct-io-safe", "colo", "no-colo")),
        "backendtype=phy, vdev=hda ,discard, backend=Domain-0,target=/dev/vg/guest-volume",
    ),
)
def test_equal_disks_are_read_as_equal(text: str) -> None:
    assert drive_of(text) == Drive("/dev/vg/guest-volume", "raw", "hda", "", False)


@pytest.mark.parametrize(
    "text, away",
    (
        ("iscsi:iqn.2001-05.com.x:a,xvda,w", "iscsi iqn.2001-05.com.x:a"),
        ("drbd:res0,xvda,w", "drbd res0"),
        ("vdev=xvda,script=block-nbd,target=host:10809", "block-nbd host:10809"),
        ("/dev/vg/a,raw,xvda,w,backend=storage", "/dev/vg/a of the domain storage"),
    ),
)
def test_disks_that_scripts_and_other_domains_provide_are_an_error_that_names_them(tmp_path: Path, text: str, away: str) -> None:
    with pytest.raises(BadDescription, match=f"no files: '{away}'"):
        _read(tmp_path, f"disk = ['{text}']\nname='x'\n")


def _read(tmp_path: Path, text: str) -> Machine:
    path = tmp_path / "m.cfg"
    path.write_text(text)
    return xen.read(described(path, "a.img"))


def _values(tmp_path: Path, text: str) -> dict[str, Value]:
    path = tmp_path / "m.cfg"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return dict(parse(described(path)).values)


@pytest.mark.parametrize(
    "text, expected",
    (
        ("a=1;b = 0x10 ; c=010; d=-5\ne=08", {"a": 1, "b": 16, "c": 8, "d": -5, "e": 8}),
        ("a='x\\'y' # b=1", {"a": "x'y"}),
        ('a="\\x41\\101\\n\\t\\\\\\q"', {"a": "AA\n\t\\q"}),
        ("a=[ 1,\n 'x' , # c\n\n [2, ], ]\n", {"a": (1, "x", (2,))}),
        ("a=['x']\na += ['y']\nb='p'\nb+='q'\nc+=[1]", {"a": ("x", "y"), "b": "pq", "c": (1,)}),
        ("a=('x')\nb=('x',)\nc=()\nd=True\ne=1\ne=None", {"a": "x", "b": ("x",), "c": (), "d": 1}),
        ("a='''x\n'y'\n''' \"z\"", {"a": "x\n'y'\nz"}),
        ("a=['x']\na=['y']\nb='p'\nb='q'\nc=False\nd='\\r'", {"a": ("y",), "b": "q", "c": 0, "d": "\r"}),
        ("a=r'x\\n'\nb=u'\u00e9'", {"a": "x\\n", "b": "\u00e9"}),
        ("\ufeffa=1\r\nb=2\rc=3", {"a": 1, "b": 2, "c": 3}),
        ("# nothing", {}),
    ),
)
def test_settings_are_literals(tmp_path: Path, text: str, expected: dict[str, Value]) -> None:
    assert _values(tmp_path, text) == expected


@pytest.mark.parametrize(
    "text, line, what",
    (
        ("import os\nname='x'", 1, "os"),
        ("a=1\nname = os.uname()[1]", 2, "os"),
        ("a=1\n\n\nname = 'x' + arch", 4, "+"),
        ("name = 'vm%d' % vmid", 1, "%"),
        ("def f(x):\n  return x", 1, "f"),
        ("if 1:\n a=1", 1, "1"),
        ("name = 'x", 1, "'"),
        ("a = [1, 2\nb = 3", 2, "b"),
        ("a = [1", 1, "the end of the file"),
        ("a = '''x\ny", 1, "'''"),
        ("a = 1.5", 1, "1"),
        ("__import__('os').system('touch /tmp/owned')", 1, "("),
        ("a = " + "[" * 50 + "]" * 50, 1, "["),
    ),
)
def test_a_program_is_not_run_and_the_error_has_its_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    with pytest.raises(BadDescription) as caught:
        _values(tmp_path, text)
    assert f"line {line}: {what!r} is not expected" in str(caught.value)


@pytest.mark.parametrize(
    "text, guest, firmware, warned",
    (
        ("type='hvm'", "HVM", Firmware.BIOS, []),
        ("builder='hvm'", "HVM", Firmware.BIOS, []),
        ("kernel='/usr/lib/xen/boot/hvmloader'", "HVM", Firmware.BIOS, []),
        ("type='hvm'\nkernel='/usr/lib/xen/boot/hvmloader.gz'", "HVM", Firmware.BIOS, []),
        ("type='HVM'\nbios='ovmf'", "HVM", Firmware.UEFI, []),
        ("type='hvm'\nbios='seabios'", "HVM", Firmware.BIOS, []),
        ("type='hvm'\nfirmware='uefi'", "HVM", Firmware.UEFI, []),
        ("type='hvm'\nbios_path_override='/usr/share/OVMF/ovmf.bin'", "HVM", Firmware.UEFI, []),
        ("", "PV", None, ["source.paravirtual"]),
        ("builder='linux'", "PV", None, ["source.paravirtual"]),
        ("type='pv'\nbuilder='hvm'", "PV", None, ["source.paravirtual"]),
        ("type='pvh'", "PVH", None, ["source.paravirtual"]),
        ("kernel='/boot/vmlinuz-xen'", "PV", None, ["source.direct-kernel", "source.paravirtual"]),
    ),
)
def test_full_and_paravirtual_guests_are_told_apart(
    tmp_path: Path, text: str, guest: str, firmware: Firmware | None, warned: list[str]
) -> None:
    machine = _read(tmp_path, f"disk=['a.img,raw,xvda']\n{text}")
    assert (machine.guest, machine.firmware, ids(machine.warnings)) == (guest, firmware, warned)


@pytest.mark.parametrize(
    "text, nic",
    (
        ("''", Nic(None, "xenbr0", "rtl8139")),
        ("'bridge=br1'", Nic(None, "br1", "rtl8139")),
        ("'BRIDGE = br1 , Model=e1000'", Nic(None, "br1", "e1000")),
        ("'type=vif'", Nic(None, "xenbr0", "netfront")),
        ("'type=netfront,vlan=5'", Nic(None, "xenbr0.5", "netfront")),
        ("'type=ioemu,script=vif-nat,ip=10.0.0.1'", Nic(None, "vif-nat", "rtl8139")),
        ("'bridge=br1,script=/etc/xen/scripts/vif-openvswitch'", Nic(None, "br1", "rtl8139")),
    ),
)
def test_a_card_has_the_manuals_defaults(tmp_path: Path, text: str, nic: Nic) -> None:
    assert _read(tmp_path, f"type='hvm'\ndisk=['a.img,raw,hda']\nvif=[{text}]").nics == (nic,)


@pytest.mark.parametrize(
    "vdev, attachment, partition",
    (
        ("hda", Attachment(SourceBus.IDE, 0, 0), 0),
        ("hdd", Attachment(SourceBus.IDE, 1, 1), 0),
        ("sdb", Attachment(SourceBus.SCSI, 0, 1), 0),
        ("vdc", Attachment(SourceBus.VIRTIO, 0, 2), 0),
        ("xvdaa", Attachment(SourceBus.XEN, 0, 26), 0),
        ("xvda15", Attachment(SourceBus.XEN, 0, 0), 15),
        ("d5p0", Attachment(SourceBus.XEN, 0, 5), 0),
        ("d5p2", Attachment(SourceBus.XEN, 0, 5), 2),
        ("ubda", Attachment(SourceBus.UNKNOWN), 0),
    ),
)
def test_a_disks_name_says_where_it_hangs(vdev: str, attachment: Attachment, partition: int) -> None:
    drive = drive_of(f"/x,raw,{vdev},w")
    assert (drive.attachment, drive.partition) == (attachment, partition)


@pytest.mark.parametrize(
    "text, format_id",
    (
        ("/x", "raw"),
        ("/x,,hda", "raw"),
        ("/x,qcow2,hda", "qcow2"),
        ("/x,QCOW,hda", "qcow"),
        ("/x,vhd,hda", "vhd"),
        ("/x,qed,hda", "qed"),
        ("tap:qcow:/x,hda,w", "qcow"),
        ("tap2:tapdisk:vhd:/x,hda,w", "vhd"),
        ("tap:vmdk:/x,hda,w", "vmdk"),
        ("file:/x,hda,w", "raw"),
        ("ioemu:qcow2:/x,hda,w", "qcow2"),
        ("raw:/x,hda", "raw"),
        ("qed:/x,hda", "qed"),
        ("aio:/x,hda", "raw"),
        ("tap:sync:/x,hda", "raw"),
        ("tap:ram:/x,hda", "raw"),
        ("tap2:/x,hda", "raw"),
    ),
)
def test_a_disks_format_is_stated_or_raw(text: str, format_id: str) -> None:
    drive = drive_of(text)
    assert (drive.target, drive.format, drive.away) == ("/x", format_id, "")


@pytest.mark.parametrize(
    "text", ("/x,raw,hdc,cdrom", "/x,,hdc,,cdrom", "vdev=hdc,devtype=cdrom,target=/x", "/x,raw,hdc:cdrom,r", "/x,raw,fda")
)
def test_removable_drives_are_told_from_disks(text: str) -> None:
    assert drive_of(text).is_removable


def test_a_firmware_takes_disks_by_their_names_and_xens_own_loaders_as_they_are_listed(tmp_path: Path) -> None:
    disks = "disk=['b.img,raw,sda','c.img,raw,hdb','a.img,raw,xvda']\n"
    for name in "bc":
        (tmp_path / f"{name}.img").write_bytes(b"a disk")
    assert [disk.path.name for disk in _read(tmp_path, f"{disks}type='hvm'").disks] == ["a.img", "c.img", "b.img"]
    assert [disk.path.name for disk in _read(tmp_path, f"{disks}type='pv'").disks] == ["b.img", "c.img", "a.img"]


@pytest.mark.parametrize(
    "text, warned",
    (
        ("usbdev=['type=hostdev,hostbus=1']", ["source.passthrough"]),
        ("dtdev=['/soc/x']", ["source.passthrough"]),
        ("gfx_passthru='igd'", ["source.passthrough"]),
        ("gfx_passthru=0\nserial='pty'", []),
        ("serial=['none','null','stdio','vc']", []),
        ("device_model_args=['-s']", ["source.arguments"]),
        ("memory=512\nmaxmem=512", []),
        ("memory=256\nmaxmem=512", ["source.memory-balloon"]),
        ("vcpus=0", ["source.number"]),
        ("disk=['a.img,raw,hda', 'vdev=hdb']", ["source.drive-empty"]),
    ),
)
def test_what_does_not_travel_is_named(tmp_path: Path, text: str, warned: list[str]) -> None:
    assert ids(_read(tmp_path, f"type='hvm'\ndisk=['a.img,raw,hda']\n{text}").warnings) == warned


def test_maxmem_alone_is_the_memory(tmp_path: Path) -> None:
    assert _read(tmp_path, "type='hvm'\ndisk=['a.img,raw,hda']\nmaxmem=512").memory_bytes == 512 * MIB


def test_a_kernel_beside_the_firmware_of_a_full_guest_is_named(tmp_path: Path) -> None:
    machine = _read(tmp_path, "type='hvm'\nkernel='/boot/vmlinuz'\ndisk=['a.img,qcow9,hda']\nvif=[]")
    assert ids(machine.warnings) == ["source.disk-format", "source.direct-kernel"]
    assert machine.nics == ()
    assert (machine.name, machine.assumed) == ("m", ("memory",))


def test_without_disks_and_with_missing_ones_there_is_no_machine(tmp_path: Path) -> None:
    with pytest.raises(BadDescription, match="without any fixed disk"):
        _read(tmp_path, "type='hvm'\nname='x'")
    with pytest.raises(BadDescription, match=r"not there: 'b\.img', 'c\.img'"):
        _read(tmp_path, "disk=['b.img,raw,hda','c.img,raw,hdb']")


_LARGE = {
    "commas": "disk = ['" + "," * 3_000_000 + "']",
    "a text grows": "a = 'x'\n" + f"a += '{'y' * 200}'\n" * 15_000,
    "a list grows": "a = []\n" + "a += [1]\n" * 24_000,
    "texts side by side": "a = " + "'x' " * 90_000,
    "drives": "disk = [" + "'hda:cdrom'," * 40_000 + "]",
    "a comment": "#" * 3_000_000,
    "backslashes": "a = '" + "\\" * 3_000_000,
    "line ends": "a = [" + "\n" * 3_000_000,
}


@pytest.mark.parametrize("text", _LARGE.values(), ids=_LARGE.keys())
def test_large_descriptions_take_no_long_time(tmp_path: Path, text: str) -> None:
    began = time.process_time()
    with pytest.raises(P2vError):
        _read(tmp_path, text)
    assert time.process_time() - began < 3


def test_configurations_are_recognised_and_other_settings_are_not() -> None:
    for sample in (DATA / "xen").iterdir():
        assert xen.recognises(sample.read_bytes()[:4096])
    for other in (DATA / "proxmox").iterdir():
        assert not xen.recognises(other.read_bytes()[:4096])
    others = ('config.version = "8"\nmemsize = "512"\n', "disk = [1]", "<disk = [>", '{"name": 1}', "name: x\ndisk: []")
    assert not any(xen.recognises(other.encode()) for other in others)


def test_broken_descriptions_are_refused_or_read_and_nothing_else_comes_of_them(tmp_path: Path) -> None:
    was_read, refused = stands_mutations(xen.read, tmp_path, "xen")
    assert was_read > 50
    assert refused > 50
