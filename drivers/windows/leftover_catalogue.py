"""What other hypervisors' tools and machines' makers leave in a Windows guest, as data.

Every product: whose it is, its services, its entries in the list of installed programs, what it starts at log-on, and what
its own uninstaller would do on KVM. A name here is a service that is of no use on KVM, or does harm there. What is not here:
drivers that Windows brings itself (LSI_SAS, megasas, percsas3i, and from Windows 7 on all of Hyper-V's), drivers of virtio devices
whoever built them, and most drivers of network cards, which wait for their card.

Sources: VMware, "VMware Tools services" and its list of components; Oracle, VirtualBox manual, "Guest Additions for Windows";
Microsoft, "Hyper-V Integration Services" and the notes on Virtual Machine Additions; XenServer's and XCP-ng's public driver
sources (github.com/xenserver/win-xen*); Red Hat, "Xen para-virtualized drivers"; James Harper's GPL drivers
(wiki.xenproject.org); virt-v2v's list of what it disables (prl_*, rhelscsi); HP's, Dell's, IBM's, Intel's support documents.
Names only.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

ALWAYS = (99, 0)


class Uninstaller(enum.Enum):
    """What becomes of a product's own uninstaller on KVM."""

    WORKS = "is not known to refuse"
    REFUSES = "refuses to run without its hypervisor"
    KEPT = "would take drivers of virtio devices along"


@dataclass(frozen=True, slots=True)
class Product:
    """Something that was installed for hardware that is not there on KVM.

    ``services``: names, in any case; ``listed``: patterns (``*``) of DisplayName in the list of installed programs; ``run``:
    names of values that start something at log-on. ``own_of``: services that another product has as well, by the service that
    marks it: where that is there, they stay. ``before``: the version of Windows that brings all this itself, and from which it
    stays. ``silent``: what keeps its uninstaller, where that is no MSI, from asking; ``properties``: for its MSI.
    """

    name: str
    services: tuple[str, ...]
    listed: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    uninstaller: Uninstaller = Uninstaller.WORKS
    silent: str = ""
    properties: tuple[str, ...] = ()
    own_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    before: tuple[int, int] = ALWAYS


HYPERVISORS: tuple[Product, ...] = (
    Product(
        "VMware Tools",
        (
            "VMTools", "VMware Tools", "VGAuthService", "vmvss", "VMware Physical Disk Helper Service",
            "VMUpgradeHelper", "TPAutoConnSvc", "TPVCGateway", "VMwareCAF", "VMwareCAFCommAmqpListener",
            "VMwareCAFManagementAgentHost", "vm3dservice", "vmci", "vsock", "vmhgfs", "hgfs", "VMMEMCTL", "vmdesched",
            "vmdebug", "vmrawdsk", "vmmouse", "vmusbmouse", "vmx_svga", "vm3dmp", "vm3dmp_loader", "vm3dmp-debug",
            "vm3dmp-stats", "vmaudio", "pvscsi", "vmscsi", "vmxnet", "vmxnet2", "vnetflt", "vnetWFP", "vsepflt",
            "giappdef", "glxgi", "bmdrvr",
        ),
        listed=("VMware Tools",),
        run=("VMware Tools", "VMware User Process", "VMware VM3DService Process"),
        uninstaller=Uninstaller.REFUSES,
        # VMware Workstation and Player, whose host uses the same two
        own_of={"VMAuthdService": ("vmci", "vsock")},
    ),
    Product(
        "VirtualBox Guest Additions",
        ("VBoxService", "VBoxGuest", "VBoxMouse", "VBoxSF", "VBoxVideo", "VBoxVideoWddm", "VBoxVideoW8", "VBoxWddm"),
        listed=("*VirtualBox Guest Additions*",),
        run=("VBoxTray",),
        silent="/S",
    ),
    Product(
        "Hyper-V Integration Services",
        (
            "vmbus", "storvsc", "storflt", "netvsc", "s3cap", "hyperkbd", "VMBusHID", "HyperVideo", "SynthVid",
            "vmicheartbeat", "vmickvpexchange", "vmicshutdown", "vmictimesync", "vmicvss", "vmicexchange",
        ),
        listed=("Microsoft Hyper-V Guest Components*", "Hyper-V Guest Components*", "Microsoft Hyper-V Integration Services*"),
        uninstaller=Uninstaller.REFUSES,
        # Windows 7 and Server 2008 R2 have them in every installation
        before=(6, 1),
    ),
    Product(
        "Virtual Machine Additions",
        ("1-vmsrvc", "vmsrvc", "vmadd", "msvmmouf", "VPCMap", "VPC-S3", "vpc-8042", "VPCNetS2", "vpcuhub", "vpcvmm"),
        listed=("Virtual Machine Additions*", "Virtual PC Integration Components*", "Windows Virtual PC Integration Components*"),
        run=("VMUserServices", "vmusrvc"),
        uninstaller=Uninstaller.REFUSES,
    ),
    Product(
        "Xen's and Citrix' drivers",
        (
            "xenbus", "xenfilt", "xenvbd", "xencrsh", "xendisk", "xenvif", "xennet", "xennet6", "xeniface", "xenlite",
            "xenhid", "xenvkbd", "xencons", "xenbus_monitor", "xencons_monitor", "xenutil", "xevtchn", "scsifilt",
            "XenSvc", "xenagent", "XenInstall", "XenPVInstall", "CitrixXenStorageService", "xenpci", "xenhide",
            "xenscsi", "xenusb", "xenstub", "ShutdownMon", "AWSLiteAgent",
        ),
        listed=(
            "Citrix Hypervisor *", "Citrix XenServer *", "Citrix Tools for Virtual Machines*", "Citrix VM Tools*",
            "XenServer VM Tools*", "XCP-ng * Management Agent*", "XenServer Windows *", "GPL PV Drivers*",
            "AWS PV Drivers*",
        ),
    ),
    Product(
        "Red Hat's drivers for Xen",
        ("rhelscsi", "rhelfltr", "rhelnet", "rhelsvc"),
        listed=("Red Hat Paravirtualized Xen Drivers*",),
        silent="/S",
    ),
    Product(
        "Parallels Tools",
        (
            "prl_boot", "prl_dd", "prl_eth5", "prl_fs", "prl_fs_freeze", "prl_memdev", "prl_mouf", "prl_mou",
            "prl_pv32", "prl_pv64", "prl_scsi", "prl_sound", "prl_strg", "prl_tg", "prl_time", "prl_uprof", "prl_va",
            "prl_vfs", "prl_naptd", "prl_tools_service", "Parallels Tools Service", "Parallels Coherence Service",
        ),
        listed=("Parallels Tools*", "Virtuozzo Tools*"),
        properties=("PREVENT_REBOOT=Yes", "LAUNCHED_BY_SETUP_EXE=Yes"),
    ),
    Product(
        "Nutanix Guest Tools",
        ("Nutanix Guest Agent", "Nutanix Self Service Restore", "Nutanix Guest Tools Monitor"),
        listed=("Nutanix Guest Tools*",),
    ),
    Product(
        "an older KVM's guest tools",
        ("RHEV-Agent", "RHEVAgent", "ovirt-guest-agent", "OVirtGuestService", "RHEV-SSO"),
        listed=("RHEV-Tools*", "Red Hat Enterprise Virtualization *", "oVirt guest tools*"),
        uninstaller=Uninstaller.KEPT,
    ),
)  # fmt: skip

MACHINES: tuple[Product, ...] = (
    Product(
        "HP's agents",
        (
            "CqMgHost", "CqMgServ", "CqMgStor", "CpqNicMgmt", "CIMnotify", "Cissesrv", "sysdown", "ProLiantMonitor",
            "SysMgmtHp", "HPWMISTOR", "CpqRcmc3", "CpqCiDrv", "cpqasm2", "hpqilo2", "hpqilo3", "hpqilo4",
        ),
        listed=(
            "HP Insight Management *", "HPE Insight Management *", "HP System Management Homepage*", "HP ProLiant *",
            "HPE ProLiant *", "HP Lights-Out *", "HPE Agentless Management*", "HP Agentless Management*",
            "HP Version Control Agent*",
        ),
    ),
    Product("HP's drivers of RAID controllers and disks", ("HpCISSs2", "HpCISSs3", "cpqcissm", "cpqarry2", "SmartPqi", "hpdskflt")),
    Product(
        "Dell's agents",
        (
            "mr2kserv", "omsad", "dcdbas", "dcevt32", "dcevt64", "dcstor32", "dcstor64", "Server Administrator",
            "racsvc", "iDRAC Service Module",
        ),
        listed=(
            "Dell OpenManage *", "Dell EMC OpenManage *", "Dell Lifecycle Controller *",
            "OpenManage Server Administrator*", "iDRAC Service Module*", "Dell Remote Access *",
        ),
    ),
    Product(
        "IBM's and Lenovo's agents",
        ("TWGIPC", "ibmspsvc", "ibmsprem", "ibmiasrw", "wmicimserver", "dirserver", "tier1slp", "ServeRAIDManagerAgent"),
        listed=("IBM Systems Director *", "IBM Director *", "IBM ServeRAID Manager*", "Lenovo XClarity *"),
    ),
    Product(
        "Intel's, AMD's and NVIDIA's drivers of disks",
        (
            "iaStor", "iaStorA", "iaStorAC", "iaStorB", "iaStorF", "iaStorAFS", "iaStorVD", "iaStorE", "iaStorS",
            "IAStorDataMgrSvc", "IAANTMON", "megasr", "amd_sata", "amd_xata", "ahcix64s", "ahcix86s", "nvgts",
            "nvrd32", "nvrd64", "nvstor32", "nvstor64", "JRAID", "rcraid", "rcbottom",
        ),
    ),
    Product(
        "filters of several paths to a disk",
        ("EmcpBase", "EmcpMpx", "Emcpgpx", "EmcpDM", "Emcpdvfl", "hpeaadsm", "hpdsm", "mppdsm", "RdacDisk", "sdddsm"),
        listed=("EMC PowerPath*", "Dell EMC PowerPath*"),
    ),
)  # fmt: skip

PRODUCTS: tuple[Product, ...] = (*HYPERVISORS, *MACHINES)
