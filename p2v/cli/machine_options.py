"""Options about a machine, and what they mean as a Machine; the accelerator it is tried with."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.references import Lookup
from drivers.keys import Key, parse_key
from drivers.packages import read_package
from drivers.plan import PlanOptions
from p2v.acceleration import acceleration
from p2v.cli import cards
from p2v.cli.options import lookup_of
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import Usage
from p2v.core.run import SystemRunner
from p2v.core.units import MIB, parse_size
from p2v.machine import Firmware, Machine, MachineDisk
from p2v.sources.disk_names import name_from
from p2v.sources.media import with_media
from p2v.sources.networks import mapped, unmapped
from p2v.sources.recognition import read_machine

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}")


def add_guest(parser: argparse.ArgumentParser) -> None:
    """What is to be done in the guest besides making it start."""
    group = parser.add_argument_group("the guest")
    cards.configure_addresses(group)
    group.add_argument(
        "--new-identity",
        action="store_true",
        help="a copy to run beside its source: new machine id, SSH host keys and random seeds at the first boot",
    )
    group.add_argument(
        "--install-agent", action="store_true", help="the guest installs the QEMU guest agent itself at its first boot"
    )
    group.add_argument(
        "--agent-package",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="the same from this .deb or .rpm, which is carried into the guest; repeat for what it depends on",
    )
    group.add_argument(
        "--virtio-win",
        type=Path,
        metavar="PATH",
        help="a Windows guest's drivers: virtio-win.iso, or a folder (default: where virtio-win is installed); see `p2v drivers`",
    )
    group.add_argument(
        "--purge-tools",
        action="store_true",
        help="the guest removes other hypervisors' tools (a Windows guest its machine's agents as well) itself at its first boot; "
        "they are turned off in any case",
    )
    group.add_argument(
        "--rebuild-initramfs",
        action="store_true",
        help="run the guest's own program (update-initramfs, dracut, mkinitcpio, mkinitrd) for each kernel in the appliance, "
        "instead of adding drivers to what it built; takes minutes without KVM",
    )
    group.add_argument(
        "--discard-hibernation",
        action="store_true",
        help="a Windows that is hibernated, or was shut down by fast start-up, loses that session on the target and starts anew; "
        "what was not saved in it is lost",
    )
    group.add_argument(
        "--compatible",
        action="store_true",
        help="run on hardware it has drivers for (SATA or IDE, e1000e) where it cannot be made ready for virtio",
    )


def guest_of(arguments: argparse.Namespace) -> PlanOptions:
    """What the options ask for in the guest. Raises NoSource for a package file that is none."""
    return PlanOptions(
        new_identity=arguments.new_identity,
        install_agent=arguments.install_agent,
        purge_tools=arguments.purge_tools,
        discard_hibernation=arguments.discard_hibernation,
        compatible=arguments.compatible,
        rebuild_initramfs=arguments.rebuild_initramfs,
        virtio_win=arguments.virtio_win,
        agent_packages=tuple(read_package(path) for path in arguments.agent_package),
    )


def add_keys(parser: argparse.ArgumentParser) -> None:
    """Passphrases of encrypted disks."""
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="[SELECTOR:]file:PATH",
        help="passphrase of encrypted disks, also as env:NAME or key:TEXT; "
        "SELECTOR is a UUID, a device (/dev/sda2) or all (default)",
    )


def keys_of(arguments: argparse.Namespace) -> tuple[Key, ...]:
    """The passphrases given. Raises Usage."""
    return tuple(parse_key(text) for text in arguments.key)


def add_machine(parser: argparse.ArgumentParser) -> None:
    """What a bare disk does not tell about its machine."""
    group = parser.add_argument_group("the machine (goes before what a description says; for disks alone, defaults are told)")
    group.add_argument("--name", help="name of the machine and of the files made (default: the description's or first disk's)")
    group.add_argument("--cpus", type=int, help="virtual CPUs (for disks alone 2)")
    group.add_argument("--memory", help="memory, as 2G or 512M (for disks alone 2G)")
    cards.configure(group)
    group.add_argument(
        "--with-media", action="store_true", help="images of discs and floppies that are in the machine's drives come along"
    )
    group.add_argument(
        "--firmware", choices=[f.value for f in Firmware], help="default: the description's, else what the disk boots with"
    )


def add_acceleration(parser: argparse.ArgumentParser) -> None:
    """Overriding what the doctor found."""
    parser.add_argument(
        "--accel", choices=("auto", "kvm", "tcg"), default="auto", help="auto: KVM where a tiny guest really ran with it"
    )


def machine_of(arguments: argparse.Namespace) -> Machine:
    """The machine that a description tells of, as the options overrule it, or that the options alone describe.

    Raises Usage, and what reading a description raises.
    """
    described = described_by(arguments)
    return _bare(arguments) if described is None else _overruled(described, arguments)


def described_by(arguments: argparse.Namespace) -> Machine | None:
    """The machine that the one source named describes; None when the sources are disks. Raises as ``read_machine``."""
    # who says the format says that it is a disk
    if arguments.input_format is not None:
        return None
    for path in arguments.disks:
        found = read_machine(path, lookup_of(arguments), arguments.system)
        if found is not None and len(arguments.disks) > 1:
            raise Usage(f"{path} describes a machine with its disks", "Name it alone: its description says what disks it has.")
        if found is not None:
            return found
    return None


def disks_of(arguments: argparse.Namespace) -> tuple[MachineDisk, ...]:
    """The disks that were named, as they were named."""
    return tuple(MachineDisk(path, arguments.input_format, lookup=each) for path, each in _lookups(arguments))


def _overruled(machine: Machine, arguments: argparse.Namespace) -> Machine:
    """What the options say goes before what a description says."""
    given: dict[str, Any] = {}
    if arguments.cpus is not None:
        given.update(cpus=_cpus(arguments.cpus), topology=None)
    if arguments.memory is not None:
        given.update(memory_bytes=_memory(arguments.memory))
    if arguments.firmware is not None:
        given.update(firmware=Firmware(arguments.firmware))
    known = {"cpus": arguments.cpus, "memory": arguments.memory, "firmware": arguments.firmware}
    assumed = tuple(field for field in machine.assumed if known.get(field) is None)
    placed = mapped(replace(machine, **given, assumed=assumed), cards.networks_of(arguments, machine.nics))
    placed = replace(placed, name=_checked(arguments.name or machine.name), nics=cards.cards_of(arguments, placed.nics))
    placed = with_media(placed) if arguments.with_media else placed
    return replace(placed, warnings=(*placed.warnings, *unmapped(placed)))


def _bare(arguments: argparse.Namespace) -> Machine:
    if arguments.map or arguments.map_file is not None:
        raise Usage("--map needs a source that describes its networks", "For disks alone, say --network.")
    if arguments.with_media:
        raise Usage("--with-media needs a source that describes its drives", "Disks alone have no media.")
    assumed = [f for f in ("cpus", "memory") if getattr(arguments, f) is None] + ([] if arguments.mac else ["mac"])
    return Machine(
        name=_checked(arguments.name or name_from(arguments.disks[0])),
        disks=disks_of(arguments),
        nics=cards.cards_of(arguments),
        cpus=_cpus(arguments.cpus),
        memory_bytes=_memory(arguments.memory),
        firmware=Firmware(arguments.firmware) if arguments.firmware else None,
        assumed=tuple(assumed),
    )


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Usage(
            f"{name!r} cannot be the name of a machine",
            "Letters, digits and . _ + - only, at most 63, beginning with a letter or digit; give one with --name.",
        )
    return name


def _lookups(arguments: argparse.Namespace) -> Iterator[tuple[Path, Lookup]]:
    """Every disk with what is said for it: a parent that is named is the first disk's."""
    lookup = lookup_of(arguments)
    for index, path in enumerate(arguments.disks):
        yield path, lookup if index == 0 else replace(lookup, parents=())


def _cpus(given: int | None) -> int:
    if given is None:
        return 2
    if not 1 <= given <= 512:
        raise Usage(f"--cpus {given}: a machine has 1 to 512 CPUs here")
    return given


def _memory(given: str | None) -> int:
    try:
        size = parse_size(given or "2G")
    except ValueError as error:
        raise Usage(f"--memory: {error}") from error
    # systems of the nineties had no more
    if size < 16 * MIB:
        raise Usage(f"--memory {given}: less than 16 MiB", "Sizes without a unit are bytes; write 2G or 512M.")
    return size


def acceleration_of(arguments: argparse.Namespace) -> Callable[[], Acceleration]:
    """The accelerator, found out only when something needs it: the doctor's answer unless the user overrules it."""
    if arguments.accel == "auto":
        return lambda: acceleration(SystemRunner())
    chosen = Acceleration(Accelerator(arguments.accel), f"--accel {arguments.accel}")
    return lambda: chosen
