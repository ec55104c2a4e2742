"""Devices as their bus names them: what Plug and Play matches drivers against.

Source: Microsoft, "Identifiers for PCI Devices" and "Identifiers for IDE Devices" (Windows driver documentation). The numbers
are those of the pci.ids list and, for emulated devices, of QEMU's docs/specs/pci-ids.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A device on a PCI bus, or on another one (``other``: its hardware ids as they are).

    ``vendor``, ``device`` and ``class_code`` are lower-case hexadecimal, as ``lspci -n`` has them (class with its programming
    interface: 6 digits); ``subsystem`` is device then vendor, 8 digits.
    """

    name: str
    vendor: str = ""
    device: str = ""
    subsystem: str = ""
    revision: str = "00"
    class_code: str = ""
    other: tuple[str, ...] = ()

    @property
    def hardware_ids(self) -> tuple[str, ...]:
        """Most specific first."""
        if self.other:
            return self.other
        whole = f"PCI\\VEN_{self.vendor}&DEV_{self.device}".upper()
        subsystem = f"&SUBSYS_{self.subsystem}".upper()
        return (
            f"{whole}{subsystem}&REV_{self.revision}".upper(),
            f"{whole}{subsystem}",
            f"{whole}&CC_{self.class_code}".upper(),
            f"{whole}&CC_{self.class_code[:4]}".upper(),
        )

    @property
    def compatible_ids(self) -> tuple[str, ...]:
        """Most specific first."""
        if self.other:
            return ()
        whole = f"PCI\\VEN_{self.vendor}&DEV_{self.device}".upper()
        vendor = f"PCI\\VEN_{self.vendor}".upper()
        return (
            f"{whole}&REV_{self.revision}".upper(),
            whole,
            f"{vendor}&CC_{self.class_code}".upper(),
            f"{vendor}&CC_{self.class_code[:4]}".upper(),
            vendor,
            f"PCI\\CC_{self.class_code}".upper(),
            f"PCI\\CC_{self.class_code[:4]}".upper(),
        )

    @property
    def ids(self) -> tuple[str, ...]:
        """All that a driver may be listed under, best match first."""
        return self.hardware_ids + self.compatible_ids

    @property
    def device_id(self) -> str:
        """The key below ``Enum`` that its instances are found in."""
        return self.hardware_ids[0]


# What a converted guest meets: QEMU's devices.
VIRTIO_BLK = Device("virtio-blk", "1af4", "1001", "00021af4", "00", "010000")
VIRTIO_BLK_MODERN = Device("virtio-blk (virtio 1.0)", "1af4", "1042", "11001af4", "01", "010000")
VIRTIO_SCSI = Device("virtio-scsi", "1af4", "1004", "00081af4", "00", "010000")
VIRTIO_SCSI_MODERN = Device("virtio-scsi (virtio 1.0)", "1af4", "1048", "11001af4", "01", "010000")
AHCI = Device("q35's AHCI", "8086", "2922", "11001af4", "02", "010601")
PIIX_IDE = Device("pc's PIIX3 IDE", "8086", "7010", "11001af4", "00", "010180")
PIIX4_IDE = Device("PIIX4 IDE", "8086", "7111", "11001af4", "00", "010180")
CMD646_IDE = Device("CMD646 IDE", "1095", "0646", "11001af4", "07", "01018f")
VIRTIO_NET = Device("virtio-net", "1af4", "1000", "00011af4", "00", "020000")
VIRTIO_NET_MODERN = Device("virtio-net (virtio 1.0)", "1af4", "1041", "11001af4", "01", "020000")
E1000 = Device("e1000", "8086", "100e", "11001af4", "03", "020000")
RTL8139 = Device("rtl8139", "10ec", "8139", "11001af4", "20", "020000")
VIRTIO_STORAGE = (VIRTIO_BLK, VIRTIO_BLK_MODERN, VIRTIO_SCSI, VIRTIO_SCSI_MODERN)
CONTROLLERS: dict[str, tuple[Device, ...]] = {
    "virtio-blk": (VIRTIO_BLK, VIRTIO_BLK_MODERN),
    "virtio-scsi": (VIRTIO_SCSI, VIRTIO_SCSI_MODERN),
    "sata": (AHCI,),
    "ide": (PIIX_IDE, PIIX4_IDE, CMD646_IDE),
}
"""By the words that plans have for buses."""

# What guests were installed on.
VMWARE_IDE = Device("VMware's PIIX4 IDE", "8086", "7111", "197615ad", "01", "01018a")
VMWARE_LSI = Device("VMware's LSI Logic Parallel", "1000", "0030", "197615ad", "01", "010000")
VMWARE_LSI_SAS = Device("VMware's LSI Logic SAS", "1000", "0054", "197615ad", "01", "010700")
VMWARE_BUSLOGIC = Device("VMware's BusLogic", "104b", "1040", "1040104b", "01", "010000")
VMWARE_PVSCSI = Device("VMware Paravirtual SCSI", "15ad", "07c0", "07c015ad", "02", "010000")
VMWARE_AHCI = Device("VMware's AHCI", "15ad", "07e0", "07e015ad", "00", "010601")
VMWARE_NVME = Device("VMware's NVMe", "15ad", "07f0", "07f015ad", "00", "010802")
VIRTUALBOX_IDE = Device("VirtualBox's PIIX4 IDE", "8086", "7111", "00000000", "01", "01018a")
VIRTUALBOX_AHCI = Device("VirtualBox's AHCI", "8086", "2829", "00000000", "02", "010601")
HYPERV_IDE = Device("Hyper-V's PIIX4 IDE", "8086", "7111", "00000000", "01", "010180")
HYPERV_SCSI = Device("Hyper-V's SCSI", other=("VMBUS\\{ba6163d9-04a1-4d29-b605-72e2ffb1dc7f}",))
XEN_IDE = Device("Xen's PIIX3 IDE", "8086", "7010", "00015853", "00", "010180")
PARALLELS_AHCI = Device("Parallels' AHCI", "8086", "2821", "04001ab8", "02", "010601")
HP_P400 = Device("HP Smart Array P400", "103c", "3230", "3234103c", "03", "010400")
HP_P410 = Device("HP Smart Array P410i", "103c", "323a", "3245103c", "01", "010400")
DELL_PERC6 = Device("Dell PERC 6/i", "1000", "0060", "1f0c1028", "04", "010400")
DELL_H730 = Device("Dell PERC H730", "1000", "005d", "1f491028", "02", "010400")
IBM_M5015 = Device("IBM ServeRAID M5015", "1000", "0079", "03b21014", "04", "010400")
PC_AHCI = Device("a PC's AHCI (Intel 6 series)", "8086", "1c02", "04951028", "04", "010601")

# A controller's IDE channels, where they are devices of their own: children of the controller's driver.
PRIMARY_CHANNEL = Device("the primary IDE channel", other=("Primary_IDE_Channel", "*PNP0600"))
INTERNAL_CHANNEL = Device("an ATA channel", other=("Internal_IDE_Channel", "*PNP0600"))
DISK = Device("the disk", other=("GenDisk",))
VOLUME_MANAGER = Device("the volume manager", other=("ROOT\\VOLMGR",))
VOLUME = Device("the system volume", other=("STORAGE\\Volume",))


def seabios_heads(size_bytes: int) -> int:
    """How many heads SeaBIOS gives a disk of that size: the least power of two from 64 up with which 1,024 cylinders hold it.

    At most 255. The limits are those that libguestfs' conversion of Windows XP and older goes by.
    """
    return 64 if size_bytes < 2_114_445_312 else 128 if size_bytes < 4_228_374_780 else 255
