"""Machines as other hypervisors leave them: descriptions around the disks of a sample guest, with chains where they have them.

Of a chain the base alone starts nothing: its first MiB is zeroes, and the child has it.
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2v.core.units import MIB
from tests.converters.vhd_writer import DIFFERENCING, Vhd

UUID = "2b4ad1e5-0c74-4a77-8a44-111213141516"
MACS = ("00:0c:29:4a:00:01", "00:0c:29:4a:00:02")
NETWORKS = ("VM Network", "dmz")
CPUS, MEMORY_MIB = 2, 1024


@dataclass(frozen=True)
class Wrapped:
    """What to name as the source, and all the files it consists of."""

    source: Path
    files: tuple[Path, ...]


def vmx(folder: Path, disks: Sequence[Path]) -> Wrapped:
    """A VMware machine with a snapshot: the first disk is a delta over its base."""
    base = converted(cut(folder, disks[0]), folder / "web.vmdk", "vmdk", "subformat=monolithicSparse")
    current = folder / "web-000001.vmdk"
    qemu_img("create", "-q", "-f", "vmdk", "-b", base.name, "-F", "vmdk", current, folder=folder)
    write_head(current, "vmdk", disks[0])
    names = [current.name, *(_vmdk(folder, disk, number) for number, disk in enumerate(disks[1:], 2))]
    lines = [
        '.encoding = "UTF-8"', 'config.version = "8"', 'virtualHW.version = "10"', 'displayName = "Web server"',
        'guestOS = "debian8-64"', f'memsize = "{MEMORY_MIB}"', f'numvcpus = "{CPUS}"', 'scsi0.present = "TRUE"',
        'scsi0.virtualDev = "pvscsi"', f'uuid.bios = "{_bios_bytes()}"',
    ]  # fmt: skip
    for number, name in enumerate(names):
        lines += [f'scsi0:{number}.present = "TRUE"', f'scsi0:{number}.fileName = "{name}"']
    for number, (mac, network) in enumerate(zip(MACS, NETWORKS, strict=True)):
        card = f"ethernet{number}"
        lines += [
            f'{card}.present = "TRUE"', f'{card}.virtualDev = "vmxnet3"', f'{card}.networkName = "{network}"',
            f'{card}.addressType = "generated"', f'{card}.generatedAddress = "{mac}"',
        ]  # fmt: skip
    return _described(folder / "web.vmx", "\r\n".join(lines) + "\r\n", folder)


def ova(folder: Path, disks: Sequence[Path]) -> Wrapped:
    """An OVA as VMware exports it: streamOptimized disks behind their description and manifest."""
    parts = folder / "parts"
    parts.mkdir()
    names = []
    for number, disk in enumerate(disks, 1):
        image = converted(disk, parts / f"web-disk{number}.vmdk", "vmdk", "subformat=streamOptimized")
        names.append(image.name)
    (parts / "web.ovf").write_text(_ovf(names, [disk.stat().st_size for disk in disks], parts), "utf-8")
    members = ["web.ovf", *names]
    digests = (f"SHA256({name})= {hashlib.sha256((parts / name).read_bytes()).hexdigest()}\n" for name in members)
    (parts / "web.mf").write_text("".join(digests), "utf-8")
    archive = folder / "web.ova"
    with tarfile.open(archive, "w") as tar:
        for name in ("web.ovf", "web.mf", *names):
            tar.add(parts / name, name)
    return Wrapped(archive, (archive,))


def vmc(folder: Path, disks: Sequence[Path]) -> Wrapped:
    """A Virtual Server machine whose first disk is a differencing VHD over its base."""
    base = converted(cut(folder, disks[0]), folder / "Web base.vhd", "vpc", "subformat=dynamic,force_size=on")
    footer = base.read_bytes()[-512:]
    child = folder / "Web.vhd"
    head = disks[0].read_bytes()[:MIB] if disks[0].stat().st_size <= MIB else _head(disks[0])
    sectors = {n: head[n * 512 : (n + 1) * 512] for n in range(MIB // 512)}
    Vhd(
        disks[0].stat().st_size,
        sectors,
        DIFFERENCING,
        block_bytes=2 * MIB,
        parent_id=uuid.UUID(bytes=footer[68:84]),
        parent_name=base.name,
        parent_time_stamp=int.from_bytes(footer[24:28], "big"),
        locators=[(b"W2ru", f".\\{base.name}".encode("utf-16-le"))],
        creator=b"qem2",
        geometry=(0, 0, 0),
    ).write(child)
    names = [child.name]
    for number, disk in enumerate(disks[1:], 2):
        names.append(converted(disk, folder / f"Data {number}.vhd", "vpc", "subformat=dynamic,force_size=on").name)
    return _described(folder / "Web server.vmc", _vmc(names), folder, "utf-16")


def hyperv(folder: Path, disks: Sequence[Path], generation: int = 1) -> Wrapped:
    """A Hyper-V export: a description in its own folder, VHDX disks in another."""
    machines, images = folder / "Virtual Machines", folder / "Virtual Hard Disks"
    machines.mkdir()
    images.mkdir()
    names = []
    for number, disk in enumerate(disks, 1):
        names.append(converted(disk, images / f"Web{number}.vhdx", "vhdx", "subformat=dynamic").name)
    text = _hyperv([f"D:\\Hyper-V\\Web\\Virtual Hard Disks\\{name}" for name in names], generation)
    _described(machines / f"{UUID.upper()}.xml", text, folder, "utf-16")
    return Wrapped(folder, tuple(path for path in folder.rglob("*") if path.is_file()))


def vbox(folder: Path, disks: Sequence[Path]) -> Wrapped:
    """A VirtualBox machine with VDIs."""
    media = []
    for number, disk in enumerate(disks):
        image = converted(disk, folder / f"web{number}.vdi", "vdi")
        # the image's own UUID, which the description names it by (VDI header, 0x188)
        media.append((image.name, uuid.UUID(bytes_le=image.read_bytes()[0x188 : 0x188 + 16])))
    return _described(folder / "web.vbox", _vbox(media), folder)


KINDS: Mapping[str, Callable[[Path, Sequence[Path]], Wrapped]] = {
    "ova": ova, "vmx-snapshot": vmx, "vmc-differencing": vmc, "hyperv-export": hyperv, "vbox": vbox,
}  # fmt: skip


def cut(folder: Path, disk: Path) -> Path:
    """A copy of a disk whose first MiB is zeroes."""
    copy = folder / "cut.raw"
    subprocess.run(["cp", "--sparse=always", "--no-preserve=mode", disk, copy], check=True)
    with copy.open("r+b") as file:
        file.write(bytes(MIB))
    return copy


def converted(disk: Path, image: Path, image_format: str, options: str = "") -> Path:
    extra = ("-o", options) if options else ()
    qemu_img("convert", "-q", "-f", "raw", "-O", image_format, *extra, disk, image)
    if disk.name == "cut.raw":
        disk.unlink()
    return image


def write_head(image: Path, image_format: str, disk: Path) -> None:
    """Write a disk's first MiB into an image."""
    head = image.with_name("head")
    head.write_bytes(_head(disk))
    subprocess.run(["qemu-io", "-f", image_format, "-c", f"write -q -s {head} 0 {MIB}", image], check=True)
    head.unlink()


def qemu_img(*words: str | Path, folder: Path | None = None) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, cwd=folder)


def _head(disk: Path) -> bytes:
    with disk.open("rb") as file:
        return file.read(MIB)


def _vmdk(folder: Path, disk: Path, number: int) -> str:
    return converted(disk, folder / f"web_{number}.vmdk", "vmdk", "subformat=monolithicSparse").name


def _described(path: Path, text: str, folder: Path, encoding: str = "utf-8") -> Wrapped:
    path.write_bytes(text.encode(encoding))
    return Wrapped(path, tuple(file for file in folder.rglob("*") if file.is_file()))


def _bios_bytes() -> str:
    digits = UUID.replace("-", "")
    pairs = [digits[i : i + 2] for i in range(0, 32, 2)]
    return f"{' '.join(pairs[:8])}-{' '.join(pairs[8:])}"


def _ovf(names: Sequence[str], sizes: Sequence[int], folder: Path) -> str:
    files = "".join(
        f'<File ovf:id="file{n}" ovf:href="{name}" ovf:size="{(folder / name).stat().st_size}"/>'
        for n, name in enumerate(names)
    )
    disks = "".join(
        f'<Disk ovf:diskId="vmdisk{n}" ovf:fileRef="file{n}" ovf:capacity="{size}" ovf:capacityAllocationUnits="byte" '
        'ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>'
        for n, size in enumerate(sizes)
    )
    networks = "".join(f'<Network ovf:name="{name}"><Description/></Network>' for name in NETWORKS)
    cards = "".join(
        f"<Item><rasd:Address>{mac}</rasd:Address><rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>"
        f"<rasd:Connection>{network}</rasd:Connection><rasd:ElementName>Card {n}</rasd:ElementName>"
        f"<rasd:InstanceID>{20 + n}</rasd:InstanceID><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType>"
        "<rasd:ResourceType>10</rasd:ResourceType></Item>"
        for n, (mac, network) in enumerate(zip(MACS, NETWORKS, strict=True))
    )
    drives = "".join(
        f"<Item><rasd:AddressOnParent>{n}</rasd:AddressOnParent><rasd:ElementName>Disk {n}</rasd:ElementName>"
        f"<rasd:HostResource>ovf:/disk/vmdisk{n}</rasd:HostResource><rasd:InstanceID>{10 + n}</rasd:InstanceID>"
        "<rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>"
        for n in range(len(names))
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
 xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
<References>{files}</References>
<DiskSection><Info/>{disks}</DiskSection>
<NetworkSection><Info/>{networks}</NetworkSection>
<VirtualSystem ovf:id="web"><Info/><Name>Web server</Name>
<OperatingSystemSection ovf:id="96"><Info/><Description>Debian GNU/Linux (64 bit)</Description></OperatingSystemSection>
<VirtualHardwareSection><Info/>
<System><vssd:ElementName>Virtual Hardware Family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
<vssd:VirtualSystemIdentifier>web</vssd:VirtualSystemIdentifier><vssd:VirtualSystemType>vmx-10</vssd:VirtualSystemType></System>
<Item><rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits><rasd:ElementName>CPUs</rasd:ElementName>
<rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>{CPUS}</rasd:VirtualQuantity></Item>
<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>Memory</rasd:ElementName>
<rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>{MEMORY_MIB}</rasd:VirtualQuantity></Item>
<Item><rasd:Address>0</rasd:Address><rasd:ElementName>SCSI</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID>
<rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
{drives}{cards}
</VirtualHardwareSection></VirtualSystem></Envelope>
"""


def _vmc(names: Sequence[str]) -> str:
    locations = "".join(
        f'<location id="{n}"><drive_type type="integer">1</drive_type><pathname>'
        f'<absolute type="string">E:\\Machines\\{name}</absolute><relative type="string">.\\{name}</relative>'
        "</pathname></location>"
        for n, name in enumerate(names)
    )
    cards = "".join(
        f'<ethernet_controller id="{n}"><virtual_network><id type="bytes">{n:032x}</id>'
        f'<name type="string">{network}</name></virtual_network>'
        f'<ethernet_card_address type="bytes">{mac.replace(":", "").upper()}</ethernet_card_address></ethernet_controller>'
        for n, (mac, network) in enumerate(zip(MACS, NETWORKS, strict=True))
    )
    return f"""<?xml version="1.0" encoding="UTF-16"?>
<!-- Microsoft Virtual Machine Options and Settings -->
<preferences><version type="string">2.0</version>
<hardware><memory><ram_size type="integer">{MEMORY_MIB}</ram_size></memory>
<pci_bus><ethernet_adapter><controller_count type="integer">{len(MACS)}</controller_count>{cards}</ethernet_adapter>
<ide_adapter><ide_controller id="0">{locations}</ide_controller></ide_adapter></pci_bus>
<bios><bios_guid type="string">{{{UUID.upper()}}}</bios_guid></bios></hardware>
<settings><undo_drives><enabled type="boolean">false</enabled></undo_drives></settings></preferences>
"""


def _hyperv(paths: Sequence[str], generation: int) -> str:
    controller = "83f8638b-8dca-4152-9eda-2ca8b33039b4" if generation == 1 else "d422512d-2bf2-4752-809d-7b82b5fcb1b4"
    synthetic = "2fc216b0-d2e2-4967-9b6d-b8a5c9ca2778"
    nodes = [str(uuid.uuid5(uuid.NAMESPACE_DNS, f"device{n}")) for n in range(1 + len(MACS))]
    bios = "ac6b8dc1-3257-4a70-b1b2-a9c9215659ad"
    manifest = "".join(
        f"<vdev{n:03}><device type=\"string\">{device}</device><instance type=\"string\">{node}</instance></vdev{n:03}>"
        for n, (device, node) in enumerate(zip([controller, *[synthetic] * len(MACS)], nodes, strict=True), 1)
    )
    drives = "".join(
        f'<drive{n}><pathname type="string">{path}</pathname><type type="string">VHD</type></drive{n}>'
        for n, path in enumerate(paths)
    )
    cards = "".join(
        f'<_{node}_><FriendlyName type="string">Network Adapter</FriendlyName><IsConnected type="bool">True</IsConnected>'
        f'<MACAddress type="string">{mac.replace(":", "-").upper()}</MACAddress>'
        f'<MACAddressIsStatic type="bool">True</MACAddressIsStatic><SwitchName type="string">{network}</SwitchName></_{node}_>'
        for node, mac, network in zip(nodes[1:], MACS, NETWORKS, strict=True)
    )
    return f"""<?xml version="1.0" encoding="UTF-16" standalone="yes"?>
<configuration><_{nodes[0]}_><controller0>{drives}</controller0></_{nodes[0]}_>{cards}
<_{bios}_><bios_guid type="string">{{{UUID.upper()}}}</bios_guid></_{bios}_>
<manifest><size type="integer">{1 + len(MACS)}</size>{manifest}
<vdev099><device type="string">{bios}</device><instance type="string">{bios}</instance></vdev099></manifest>
<properties><global_id type="string">{UUID.upper()}</global_id><name type="string">Web server</name>
<subtype type="integer">{generation - 1}</subtype><type_id type="string">Virtual Machines</type_id>
<version type="integer">1280</version></properties>
<settings><memory><bank><size type="integer">{MEMORY_MIB}</size></bank></memory>
<processors><count type="integer">{CPUS}</count></processors></settings></configuration>
"""


def _vbox(media: Sequence[tuple[str, uuid.UUID]]) -> str:
    registry = "".join(f'<HardDisk uuid="{{{id_}}}" location="{name}" format="VDI" type="Normal"/>' for name, id_ in media)
    attached = "".join(
        f'<AttachedDevice type="HardDisk" hotpluggable="false" port="{n}" device="0"><Image uuid="{{{id_}}}"/></AttachedDevice>'
        for n, (_, id_) in enumerate(media)
    )
    cards = "".join(
        f'<Adapter slot="{n}" enabled="true" MACAddress="{mac.replace(":", "").upper()}" type="82540EM">'
        f'<InternalNetwork name="{network}"/></Adapter>'
        for n, (mac, network) in enumerate(zip(MACS, NETWORKS, strict=True))
    )
    return f"""<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.16-linux">
<Machine uuid="{{{UUID}}}" name="Web server" OSType="Debian_64" snapshotFolder="Snapshots">
<MediaRegistry><HardDisks>{registry}</HardDisks></MediaRegistry>
<Hardware><CPU count="{CPUS}"/><Memory RAMSize="{MEMORY_MIB}"/><Network>{cards}</Network><RTC localOrUTC="UTC"/></Hardware>
<StorageControllers><StorageController name="SATA" type="AHCI" PortCount="{len(media)}" useHostIOCache="false" Bootable="true">
{attached}</StorageController></StorageControllers></Machine></VirtualBox>
"""


