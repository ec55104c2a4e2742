"""QEMU as a target: the options that make the hardware, and a script that starts the machine by hand."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.firmware import FIRMWARE_PAIRS, FirmwareFiles
from p2v.core.qemu import QEMU_PROGRAMS, cpu_model, option_value, require_qemu
from p2v.core.units import MIB
from p2v.machine import Connection, DiskBus, Firmware, NicModel
from p2v.targets.hardware import Clock, TargetDisk, TargetHardware, TargetNic, Video

_PORTS_PER_SATA_CONTROLLER = 6
_NIC_DEVICES = {
    NicModel.VIRTIO: "virtio-net-pci",
    NicModel.E1000: "e1000",
    NicModel.E1000E: "e1000e",
    NicModel.RTL8139: "rtl8139",
}
_VIDEO_DEVICES = {Video.VGA: "VGA", Video.VIRTIO: "virtio-vga"}


@dataclass(frozen=True, slots=True)
class Wiring:
    """The host's ends of the hardware, which a script and a boot check connect differently.

    ``blockdevs`` replaces how disks are opened (one option value per disk, nodes named ``disk0``, ``disk1``, ...).
    ``netdev``: options of every card's network, whatever it hangs on; None: what it hangs on.
    ``agent``: the character device of the guest agent's channel.
    ``firmware``: the UEFI code and this machine's own variable store. ``cpu``: a CPU model other than the usual one.
    ``rest``: options of the host alone.
    """

    blockdevs: tuple[tuple[str, ...], ...] | None = None
    netdev: str | None = None
    agent: str = "null"
    firmware: FirmwareFiles | None = None
    cpu: str | None = None
    rest: tuple[str, ...] = ()


def qemu_arguments(
    hardware: TargetHardware, acceleration: Acceleration, wiring: Wiring, folder: Path = Path()
) -> list[str]:
    """The whole command that runs the hardware; relative disk paths are taken below ``folder``. Raises ToolMissing."""
    accelerator = acceleration.accelerator
    return [
        require_qemu(),
        *("-accel", accelerator.value, "-cpu", wiring.cpu or cpu_model(accelerator)),
        *(part for option in hardware_options(hardware, wiring, folder) for part in option),
        *wiring.rest,
    ]


def hardware_options(hardware: TargetHardware, wiring: Wiring, folder: Path = Path()) -> Iterator[tuple[str, ...]]:
    """The options that make the hardware, in groups that belong on one line; nothing of the host's speed in them."""
    yield ("-name", f"guest={option_value(hardware.name)}")
    smm = ",smm=on" if hardware.secure_boot else ""
    yield ("-machine", f"{hardware.machine}{smm}")
    yield ("-smp", str(hardware.cpus), "-m", f"{hardware.memory_bytes // MIB}M")
    yield ("-uuid", hardware.uuid, "-rtc", f"base={hardware.clock.value}" + _drift(hardware))
    yield ("-nodefaults", "-no-user-config")
    yield from _firmware(hardware, wiring.firmware)
    yield ("-device", _VIDEO_DEVICES[hardware.video])
    yield from _controllers(hardware)
    for index, disk in enumerate(hardware.disks):
        for blockdev in wiring.blockdevs[index] if wiring.blockdevs is not None else (_blockdev(index, disk, folder),):
            yield ("-blockdev", blockdev)
        yield ("-device", _disk_device(hardware, index, disk))
    for index, nic in enumerate(hardware.nics):
        yield ("-netdev", f"{wiring.netdev or _netdev(nic)},id=net{index}")
        yield ("-device", f"{_NIC_DEVICES[nic.model]},netdev=net{index},mac={option_value(nic.mac)}")
    yield ("-device", "virtio-serial-pci", "-chardev", f"{wiring.agent},id=agent")
    yield ("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0")
    if hardware.rng:
        yield ("-object", "rng-random,id=entropy,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=entropy")
    if hardware.balloon:
        yield ("-device", "virtio-balloon-pci")


def _netdev(nic: TargetNic) -> str:
    # a network of libvirt's is nothing that QEMU knows
    return f"bridge,br={option_value(nic.network)}" if nic.connection is Connection.BRIDGE else "user"


def _drift(hardware: TargetHardware) -> str:
    # a guest that counts timer ticks (Windows) loses time unless missed ones are made up for
    return ",driftfix=slew" if hardware.clock is Clock.LOCAL_TIME else ""


def _firmware(hardware: TargetHardware, files: FirmwareFiles | None) -> Iterator[tuple[str, ...]]:
    if hardware.firmware is not Firmware.UEFI or files is None:
        return
    if hardware.secure_boot:
        yield ("-global", "driver=cfi.pflash01,property=secure,value=on")
    code, store = option_value(str(files.code)), option_value(str(files.variables))
    yield ("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}")
    yield ("-drive", f"if=pflash,unit=1,format=raw,file={store}")


def _blockdev(index: int, disk: TargetDisk, folder: Path) -> str:
    # "./" keeps a name with a colon from being taken for a protocol
    path = folder / disk.path
    name = option_value(str(path) if path.is_absolute() else f"./{path}")
    return f"driver={disk.format},node-name=disk{index},discard=unmap,file.driver=file,file.filename={name}"


def _controllers(hardware: TargetHardware) -> Iterator[tuple[str, ...]]:
    if hardware.disk_bus is DiskBus.VIRTIO_SCSI:
        yield ("-device", "virtio-scsi-pci,id=scsi0")
    if hardware.disk_bus is DiskBus.SATA:
        for number in range(-(-len(hardware.disks) // _PORTS_PER_SATA_CONTROLLER)):
            yield ("-device", f"ich9-ahci,id=sata{number}")


def _disk_device(hardware: TargetHardware, index: int, disk: TargetDisk) -> str:
    match hardware.disk_bus:
        case DiskBus.VIRTIO_BLK:
            device = "virtio-blk-pci"
        case DiskBus.VIRTIO_SCSI:
            device = f"scsi-hd,bus=scsi0.0,channel=0,scsi-id={index},lun=0"
        case DiskBus.SATA:
            number, port = divmod(index, _PORTS_PER_SATA_CONTROLLER)
            device = f"ide-hd,bus=sata{number}.{port}"
        case DiskBus.IDE:
            device = f"ide-hd,bus=ide.{index // 2},unit={index % 2}"
    serial = f",serial={option_value(disk.serial)}" if disk.serial else ""
    return f"{device},drive=disk{index},bootindex={index + 1}{serial}"


_SCRIPT_HEAD = """\
#!/bin/sh
# Starts this virtual machine with QEMU. It needs no root, and its network is QEMU's own (NAT), but for cards that were to
# hang on a bridge: for those QEMU's helper must be allowed to use the bridge (/etc/qemu/bridge.conf).
#
# P2V_ACCEL    kvm or tcg (emulation: slow, works everywhere)
# P2V_DISPLAY  for instance gtk or none; without it the screen is at VNC on 127.0.0.1, port 5900 or the next free one
# P2V_QEMU     the QEMU program
# Arguments are handed on to QEMU. The terminal shows the first serial port; Ctrl-A X ends, Ctrl-A C is QEMU's monitor.
set -eu
unset CDPATH
cd -- "$(dirname -- "$0")"

accel=${P2V_ACCEL:-%(default)s}
case $accel in
kvm)
	if ! { [ -r /dev/kvm ] && [ -w /dev/kvm ]; }; then
		echo "no usable /dev/kvm: emulating, which is slow" >&2
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
	cpu=host
fi

qemu=${P2V_QEMU:-}
for candidate in %(programs)s /usr/libexec/qemu-kvm; do
	if [ -z "$qemu" ] && command -v "$candidate" >/dev/null; then
		qemu=$candidate
	fi
done
if [ -z "$qemu" ]; then
	echo "QEMU is not installed: apt install qemu-system-x86, or dnf install qemu-kvm" >&2
	exit 69
fi

if [ -n "${P2V_DISPLAY:-}" ]; then
	set -- -display "$P2V_DISPLAY" "$@"
else
	set -- -vnc 127.0.0.1:0,to=99 "$@"
fi
"""

_SCRIPT_UEFI = """
store=%(store)s
code=
for pair in %(pairs)s; do
	if [ -z "$code" ] && [ -e "${pair%%%%:*}" ] && [ -e "${pair#*:}" ]; then
		code=${pair%%%%:*}
		[ -e "$store" ] || cp -- "${pair#*:}" "$store"
	fi
done
if [ -z "$code" ]; then
	echo "UEFI firmware is not installed: apt install ovmf, or dnf install edk2-ovmf" >&2
	exit 69
fi
set -- -drive "if=pflash,unit=0,format=raw,readonly=on,file=$code" \\
	-drive %(store_option)s "$@"
"""


def qemu_script(hardware: TargetHardware, acceleration: Acceleration | None = None) -> str:
    """A POSIX sh script that runs the machine from the folder it lies in; disk paths must be relative to that.

    ``acceleration``: the doctor's answer becomes the default of P2V_ACCEL; without one it is KVM.
    """
    default = acceleration.accelerator if acceleration else Accelerator.KVM
    values = {
        "default": default.value,
        "tcg_cpu": shlex.quote(cpu_model(Accelerator.TCG)),
        "programs": " ".join(QEMU_PROGRAMS),
    }
    head = _SCRIPT_HEAD % values + (_uefi_part(hardware) if hardware.firmware is Firmware.UEFI else "")
    lines = [" ".join(_quoted(option)) for option in hardware_options(hardware, Wiring())]
    command = ['exec "$qemu"', '-accel "$accel" -cpu "$cpu"', *lines, "-serial mon:stdio", '"$@"']
    return head + "\n" + " \\\n\t".join(command) + "\n"


def variable_store_name(hardware: TargetHardware) -> str:
    """The file beside the script that keeps a UEFI machine's variables."""
    return f"{hardware.name}_VARS.fd"


def _uefi_part(hardware: TargetHardware) -> str:
    store = "./" + variable_store_name(hardware)
    pairs = [p for p in FIRMWARE_PAIRS if p.secure_boot is hardware.secure_boot]
    return _SCRIPT_UEFI % {
        "store": shlex.quote(store),
        "pairs": " ".join(f"{p.code}:{p.variables}" for p in pairs),
        "store_option": shlex.quote(f"if=pflash,unit=1,format=raw,file={option_value(store)}"),
    }


def _quoted(option: tuple[str, ...]) -> Iterator[str]:
    return (shlex.quote(part) for part in option)
