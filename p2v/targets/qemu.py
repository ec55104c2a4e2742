"""QEMU as a target: the options that make the hardware, and a script that starts the machine by hand."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.firmware import FIRMWARE_PACKAGES, FirmwareFiles, firmware_pairs
from p2v.core.qemu import cpu_model, emulator_of, guest_acceleration, option_value, require_qemu
from p2v.core.run import PACKAGES
from p2v.core.units import MIB, SECTOR_BYTES
from p2v.machine import Clock, Connection, DiskBus, DriveKind, Firmware, NicModel, Smbios
from p2v.targets.hardware import LARGE_SECTOR_BUSES, TargetDisk, TargetHardware, TargetMedium, TargetNic, medium_in
from p2v.targets.hyperv import cpu_flags
from p2v.targets.platforms import UsbController, Video, platform_of

_PORTS_PER_SATA_CONTROLLER = 6
_NIC_DEVICES = {
    NicModel.E1000: "e1000",
    NicModel.E1000E: "e1000e",
    NicModel.RTL8139: "rtl8139",
    NicModel.VMXNET3: "vmxnet3",
    NicModel.PCNET: "pcnet",
    NicModel.NE2000: "ne2k_pci",
    NicModel.TULIP: "tulip",
}


_VIDEO_DEVICES = {Video.VGA: "VGA", Video.CIRRUS: "cirrus-vga", Video.RAMFB: "ramfb"}
_USB_DEVICES = {UsbController.UHCI: "piix3-usb-uhci", UsbController.EHCI: "ich9-usb-ehci1", UsbController.XHCI: "qemu-xhci"}


@dataclass(frozen=True, slots=True)
class Wiring:
    """The host's ends of the hardware, which a script and a boot check connect differently.

    ``blockdevs`` replaces how disks are opened (one option value per disk, nodes named ``disk0``, ``disk1``, ...).
    ``netdev``: options of every card's network, whatever it hangs on; None: what it hangs on.
    ``agent``: the character device of the guest agent's channel.
    ``tpm``: the socket of the TPM's emulator (swtpm); empty: the machine goes without it here.
    ``firmware``: the UEFI code and this machine's own variable store. ``keeps_media``: no medium is written to.
    ``cpu``: a CPU model other than the usual one.
    ``rest``: options of the host alone.
    """

    blockdevs: tuple[tuple[str, ...], ...] | None = None
    netdev: str | None = None
    agent: str = "null"
    tpm: str = ""
    firmware: FirmwareFiles | None = None
    keeps_media: bool = False
    cpu: str | None = None
    rest: tuple[str, ...] = ()


def qemu_arguments(
    hardware: TargetHardware, acceleration: Acceleration, wiring: Wiring, folder: Path = Path()
) -> list[str]:
    """The whole command that runs the hardware; relative disk paths are taken below ``folder``. Raises ToolMissing."""
    accelerator = guest_acceleration(acceleration, hardware.arch).accelerator
    return [
        require_qemu(hardware.arch),
        *("-accel", accelerator.value, "-cpu", _cpu(hardware, accelerator, wiring.cpu)),
        *(part for option in hardware_options(hardware, wiring, folder) for part in option),
        *wiring.rest,
    ]


def _cpu(hardware: TargetHardware, accelerator: Accelerator, other: str | None = None) -> str:
    """``other``: a model instead of the usual one, for a guest that starts on any."""
    if hardware.cpu_model:
        return hardware.cpu_model
    # the emulation has none of Hyper-V's interfaces, and ends on some that are asked for
    flags = cpu_flags(hardware.hyperv) if accelerator is Accelerator.KVM else ""
    return (other or cpu_model(accelerator, hardware.arch)) + flags


def hardware_options(hardware: TargetHardware, wiring: Wiring, folder: Path = Path()) -> Iterator[tuple[str, ...]]:
    """The options that make the hardware, in groups that belong on one line; nothing of the host's speed in them."""
    here = platform_of(hardware.arch)
    virtio = f"virtio-%s-{here.bus}"
    yield ("-name", f"guest={option_value(hardware.name)}")
    smm = "smm=on" if hardware.secure_boot else ""
    hpet = "hpet=off" if hardware.counts_ticks else ""
    yield ("-machine", ",".join(filter(None, (hardware.machine, smm, hpet, here.machine_options))))
    yield ("-smp", _cpus(hardware), "-m", f"{hardware.memory_bytes // MIB}M")
    yield ("-uuid", hardware.uuid, "-rtc", f"base={hardware.clock.value}" + _drift(hardware))
    yield from smbios_options(hardware.smbios)
    yield ("-nodefaults", "-no-user-config")
    yield from _firmware(hardware, wiring.firmware)
    yield from _screen(hardware)
    yield from _controllers(hardware)
    for index, disk in enumerate(hardware.disks):
        for blockdev in wiring.blockdevs[index] if wiring.blockdevs is not None else (_blockdev(index, disk, folder),):
            yield ("-blockdev", blockdev)
        yield ("-device", _disk_device(hardware, index, disk))
    for index, nic in enumerate(hardware.nics):
        yield ("-netdev", f"{wiring.netdev or _netdev(nic)},id=net{index}")
        yield ("-device", f"{_NIC_DEVICES.get(nic.model, virtio % 'net')},netdev=net{index},mac={option_value(nic.mac)}")
    if hardware.agent:
        yield ("-device", virtio % "serial", "-chardev", f"{wiring.agent},id=agent")
        yield ("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0")
    if hardware.rng:
        yield ("-object", "rng-random,id=entropy,filename=/dev/urandom", "-device", f"{virtio % 'rng'},rng=entropy")
    if hardware.balloon:
        yield ("-device", virtio % "balloon")
    if hardware.generation_id:
        yield ("-device", f"vmgenid,guid={hardware.generation_id}")
    yield from _removable(hardware, wiring, folder)
    if hardware.tpm and wiring.tpm:
        yield ("-chardev", f"socket,id=tpm,path={option_value(wiring.tpm)}")
        yield ("-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", f"{here.tpm_device},tpmdev=tpm0")


def smbios_options(told: Smbios) -> Iterator[tuple[str, ...]]:
    """What SMBIOS tells the guest: of the system, its board and its case."""
    tables = {
        1: {
            "manufacturer": told.manufacturer, "product": told.product, "version": told.version, "serial": told.serial,
            "sku": told.sku, "family": told.family,
        },
        2: {"serial": told.board_serial, "asset": told.board_asset},
        3: {"serial": told.chassis_serial, "asset": told.asset_tag},
    }  # fmt: skip
    for number, values in tables.items():
        stated = [f"{key}={option_value(value)}" for key, value in values.items() if value]
        if stated:
            yield ("-smbios", ",".join([f"type={number}", *stated]))


def _cpus(hardware: TargetHardware) -> str:
    made = hardware.topology
    parts = f",sockets={made.sockets},cores={made.cores},threads={made.threads}" if made else ""
    return f"{hardware.cpus}{parts}"


def _removable(hardware: TargetHardware, wiring: Wiring, folder: Path) -> Iterator[tuple[str, ...]]:
    """Drives and what is in them, behind the disks on their controller or on one of their own."""
    for medium in hardware.media:
        yield ("-blockdev", _medium(medium, wiring, folder))
    for number in range(hardware.cdroms):
        inside = _inside(hardware, DriveKind.CDROM, number)
        if hardware.disk_bus is DiskBus.IDE or hardware.machine == "pc":
            # the old PC's own controller: its second channel's end, which disks reach last
            yield ("-device", f"ide-cd,bus=ide.1,unit={1 - number}{inside}")
        else:
            yield ("-device", "ich9-ahci,id=drives", "-device", f"ide-cd,bus=drives.{number}{inside}")
    for number in range(hardware.floppies):
        inside = _inside(hardware, DriveKind.FLOPPY, number)
        # a drive with something in it is of the kind that its medium needs
        yield ("-device", f"floppy,unit={number}{inside or ',drive-type=144'}")


def _inside(hardware: TargetHardware, kind: DriveKind, number: int) -> str:
    return f",drive={_medium_node(kind, number)}" if medium_in(hardware, kind, number) is not None else ""


def _medium_node(kind: DriveKind, number: int) -> str:
    return f"{kind.value}{number}"


def _medium(medium: TargetMedium, wiring: Wiring, folder: Path) -> str:
    state = "on" if medium.kind is DriveKind.CDROM or wiring.keeps_media else "off"
    node, name = _medium_node(medium.kind, medium.number), _file_name(folder / medium.path)
    return f"driver=raw,node-name={node},read-only={state},file.driver=file,file.filename={name}"


def _screen(hardware: TargetHardware) -> Iterator[tuple[str, ...]]:
    here = platform_of(hardware.arch)
    if hardware.video is not Video.NONE:
        yield ("-device", _VIDEO_DEVICES.get(hardware.video, here.virtio_video))
    if hardware.tablet is not None:
        yield ("-device", f"{_USB_DEVICES[hardware.tablet]},id=usb", "-device", "usb-tablet,bus=usb.0")
    if here.usb_input:
        yield ("-device", "qemu-xhci", "-device", "usb-kbd", "-device", "usb-tablet")


def _netdev(nic: TargetNic) -> str:
    # a network of libvirt's is nothing that QEMU knows
    return f"bridge,br={option_value(nic.network)}" if nic.connection is Connection.BRIDGE else "user"


def _drift(hardware: TargetHardware) -> str:
    # a guest that counts timer ticks (Windows) loses time unless missed ones are made up for
    return ",driftfix=slew" if hardware.counts_ticks or hardware.clock is Clock.LOCAL_TIME else ""


def _firmware(hardware: TargetHardware, files: FirmwareFiles | None) -> Iterator[tuple[str, ...]]:
    if hardware.firmware is not Firmware.UEFI or files is None:
        return
    if hardware.secure_boot:
        yield ("-global", "driver=cfi.pflash01,property=secure,value=on")
    code, store = option_value(str(files.code)), option_value(str(files.variables))
    yield ("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}")
    yield ("-drive", f"if=pflash,unit=1,format=raw,file={store}")


def _blockdev(index: int, disk: TargetDisk, folder: Path) -> str:
    name = _file_name(folder / disk.path)
    node = f"driver={disk.format},node-name=disk{index},discard=unmap"
    if disk.is_device:
        return f"{node},cache.direct=on,file.driver=host_device,file.aio=native,file.filename={name}"
    return f"{node},file.driver=file,file.filename={name}"


def _file_name(path: Path) -> str:
    # "./" keeps a name with a colon from being taken for a protocol
    return option_value(str(path) if path.is_absolute() else f"./{path}")


def _controllers(hardware: TargetHardware) -> Iterator[tuple[str, ...]]:
    if hardware.disk_bus is DiskBus.VIRTIO_SCSI:
        yield ("-device", f"virtio-scsi-{platform_of(hardware.arch).bus},id=scsi0")
    if hardware.disk_bus is DiskBus.SATA:
        for number in range(-(-len(hardware.disks) // _PORTS_PER_SATA_CONTROLLER)):
            yield ("-device", f"ich9-ahci,id=sata{number}")


def _disk_device(hardware: TargetHardware, index: int, disk: TargetDisk) -> str:
    match hardware.disk_bus:
        case DiskBus.VIRTIO_BLK:
            device = f"virtio-blk-{platform_of(hardware.arch).bus}"
        case DiskBus.VIRTIO_SCSI:
            device = f"scsi-hd,bus=scsi0.0,channel=0,scsi-id={index},lun=0"
        case DiskBus.SATA:
            number, port = divmod(index, _PORTS_PER_SATA_CONTROLLER)
            device = f"ide-hd,bus=sata{number}.{port}"
        case DiskBus.IDE:
            device = f"ide-hd,bus=ide.{index // 2},unit={index % 2}"
    serial = f",serial={option_value(disk.serial)}" if disk.serial else ""
    return f"{device},drive=disk{index},bootindex={index + 1}{serial}{_sectors(hardware, disk)}"


def _sectors(hardware: TargetHardware, disk: TargetDisk) -> str:
    if hardware.disk_bus not in LARGE_SECTOR_BUSES:
        return ""
    logical = f",logical_block_size={disk.logical_sector_bytes}" if disk.logical_sector_bytes != SECTOR_BYTES else ""
    return logical + (f",physical_block_size={disk.physical_sector_bytes}" if disk.physical_sector_bytes != SECTOR_BYTES else "")


_SCRIPT_HEAD = """\
#!/bin/sh
# Starts this virtual machine with QEMU. It needs no root, and its network is QEMU's own (NAT), but for cards that were to
# hang on a bridge: for those QEMU's helper must be allowed to use the bridge (/etc/qemu/bridge.conf).
%(devices)s#
# P2V_ACCEL    kvm or tcg (emulation: slow, works everywhere)
# P2V_DISPLAY  for instance gtk or none; without it the screen is at VNC on 127.0.0.1, port 5900 or the next free one
# P2V_QEMU     the QEMU program
# Arguments are handed on to QEMU. The terminal shows the first serial port; Ctrl-A X ends, Ctrl-A C is QEMU's monitor.
set -eu
unset CDPATH
cd -- "$(dirname -- "$0")"

# what RHEL and its relatives call QEMU for the host's own architecture
own=
case $(uname -m) in
%(hosts)s) own="qemu-kvm /usr/libexec/qemu-kvm" ;;
esac
accel=${P2V_ACCEL:-%(default)s}
case $accel in
kvm)
	if ! { [ -n "$own" ] && [ -r /dev/kvm ] && [ -w /dev/kvm ]; }; then
		echo "no usable /dev/kvm for this guest: emulating, which is slow" >&2
		accel=tcg
	fi
	;;
tcg) ;;
*)
	echo "P2V_ACCEL must be kvm or tcg, not $accel" >&2
	exit 64
	;;
esac
cpu=%(tcg_cpu)s
if [ "$accel" = kvm ]; then
	cpu=%(kvm_cpu)s
fi

qemu=${P2V_QEMU:-}
for candidate in %(program)s $own; do
	if [ -z "$qemu" ] && command -v "$candidate" >/dev/null; then
		qemu=$candidate
	fi
done
if [ -z "$qemu" ]; then
	echo "QEMU for %(arch)s is not installed: %(package)s" >&2
	exit 69
fi

if [ -n "${P2V_DISPLAY:-}" ]; then
	set -- -display "$P2V_DISPLAY" "$@"
else
	set -- -vnc 127.0.0.1:0,to=99 "$@"
fi
"""

_DEVICES_NEED = "# It has block devices of this host as disks: who runs it must be allowed to write to them.\n"

_SCRIPT_UEFI = """
store=%(store)s
code=
# a firmware takes only a store that is as large as its own template
fits() {
	[ ! -e "$store" ] || [ "$(wc -c <"$store")" -eq "$(wc -c <"$1")" ]
}
for pair in %(pairs)s; do
	if [ -z "$code" ] && [ -e "${pair%%%%:*}" ] && [ -e "${pair#*:}" ] && fits "${pair#*:}"; then
		code=${pair%%%%:*}
		[ -e "$store" ] || cp -- "${pair#*:}" "$store"
	fi
done
if [ -z "$code" ]; then
	echo "UEFI firmware for %(arch)s is not installed: %(package)s" >&2
	exit 69
fi
set -- -drive "if=pflash,unit=0,format=raw,readonly=on,file=$code" \\
	-drive %(store_option)s "$@"
"""


# swtpm takes no comma in a name, and one that goes to the background by itself has left this folder before it looks for its own
_SCRIPT_TPM = """
state=%(state)s
if ! command -v swtpm >/dev/null; then
	echo "the machine's TPM needs swtpm: apt install swtpm, or dnf install swtpm" >&2
	exit 69
fi
mkdir -p -m 700 -- "$state"
rm -f -- "$state/socket"
(cd -- "$state" && exec swtpm socket --tpm2 --terminate --tpmstate dir=. --ctrl type=unixio,path=socket) &
tries=0
until [ -S "$state/socket" ] || [ "$tries" -ge 50 ]; do
	sleep 0.1 2>/dev/null || sleep 1
	tries=$((tries + 1))
done
set -- -chardev %(socket)s -tpmdev emulator,id=tpm0,chardev=tpm -device %(device)s,tpmdev=tpm0 "$@"
"""


def qemu_script(hardware: TargetHardware, acceleration: Acceleration | None = None) -> str:
    """A POSIX sh script that runs the machine from the folder it lies in; disk paths must be relative to that.

    ``acceleration``: the doctor's answer becomes the default of P2V_ACCEL; without one it is KVM.
    """
    default = acceleration.accelerator if acceleration else Accelerator.KVM
    emulator = emulator_of(hardware.arch)
    values = {
        "default": default.value,
        "tcg_cpu": shlex.quote(_cpu(hardware, Accelerator.TCG)),
        "kvm_cpu": shlex.quote(_cpu(hardware, Accelerator.KVM)),
        "hosts": " | ".join(emulator.hosts),
        "program": emulator.program,
        "arch": hardware.arch,
        "package": PACKAGES[emulator.program],
        "devices": _DEVICES_NEED if any(disk.is_device for disk in hardware.disks) else "",
    }
    head = _SCRIPT_HEAD % values + (_uefi_part(hardware) if hardware.firmware is Firmware.UEFI else "")
    head += _tpm_part(hardware) if hardware.tpm else ""
    lines = [" ".join(_quoted(option)) for option in hardware_options(hardware, Wiring())]
    command = ['exec "$qemu"', '-accel "$accel" -cpu "$cpu"', *lines, "-serial mon:stdio", '"$@"']
    return head + "\n" + " \\\n\t".join(command) + "\n"


def variable_store_name(hardware: TargetHardware) -> str:
    """The file beside the script that keeps a UEFI machine's variables."""
    return f"{hardware.name}_VARS.fd"


def tpm_state_name(hardware: TargetHardware) -> str:
    """The folder beside the script that keeps what the machine's TPM holds."""
    return f"{hardware.name}.tpm"


def _tpm_part(hardware: TargetHardware) -> str:
    state = f"./{tpm_state_name(hardware)}"
    return _SCRIPT_TPM % {
        "state": shlex.quote(state),
        "socket": shlex.quote(f"socket,id=tpm,path={option_value(state)}/socket"),
        "device": platform_of(hardware.arch).tpm_device,
    }


def _uefi_part(hardware: TargetHardware) -> str:
    store = "./" + variable_store_name(hardware)
    pairs = firmware_pairs(secure_boot=hardware.secure_boot, arch=hardware.arch)
    return _SCRIPT_UEFI % {
        "store": shlex.quote(store),
        "arch": hardware.arch,
        "package": FIRMWARE_PACKAGES.get(hardware.arch, "none is known"),
        "pairs": " ".join(f"{p.code}:{p.variables}" for p in pairs),
        "store_option": shlex.quote(f"if=pflash,unit=1,format=raw,file={option_value(store)}"),
    }


def _quoted(option: tuple[str, ...]) -> Iterator[str]:
    return (shlex.quote(part) for part in option)
