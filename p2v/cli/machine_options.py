"""Options about a machine, and what they mean as a Machine; the accelerator it is tried with."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from converters.formats import FORMATS
from converters.references import Lookup
from drivers.keys import Key, parse_key
from drivers.packages import read_package
from drivers.plan import PlanOptions
from p2v.acceleration import acceleration
from p2v.cli.options import lookup_of
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import Usage
from p2v.core.run import SystemRunner
from p2v.core.units import parse_size
from p2v.machine import Firmware, Machine, MachineDisk, Nic

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}")


def add_guest(parser: argparse.ArgumentParser) -> None:
    """What is to be done in the guest besides making it start."""
    group = parser.add_argument_group("the guest")
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
        "--purge-tools",
        action="store_true",
        help="the guest removes other hypervisors' tools itself at its first boot; they are turned off in any case",
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
        compatible=arguments.compatible,
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
    group = parser.add_argument_group("the machine (a bare disk does not tell; defaults are said to be defaults)")
    group.add_argument("--name", help="name of the machine and of the files made (default: the first disk's name)")
    group.add_argument("--cpus", type=int, help="virtual CPUs (default 2)")
    group.add_argument("--memory", help="memory, as 2G or 512M (default 2G)")
    group.add_argument(
        "--mac", action="append", default=[], metavar="MAC", help="MAC address of a network card; repeat for more cards"
    )
    group.add_argument("--network", default="default", help="name of the network the cards join (default: default)")
    group.add_argument("--firmware", choices=[f.value for f in Firmware], help="default: what the disk boots with")


def add_acceleration(parser: argparse.ArgumentParser) -> None:
    """Overriding what the doctor found."""
    parser.add_argument(
        "--accel", choices=("auto", "kvm", "tcg"), default="auto", help="auto: KVM where a tiny guest really ran with it"
    )


def machine_of(arguments: argparse.Namespace) -> Machine:
    """The machine that the options describe. Raises Usage."""
    name = arguments.name or _name_from(arguments.disks[0])
    if not _NAME.fullmatch(name):
        raise Usage(
            f"{name!r} cannot be the name of a machine",
            "Letters, digits and . _ + - only, at most 63, beginning with a letter or digit; give one with --name.",
        )
    assumed = [f for f in ("cpus", "memory") if getattr(arguments, f) is None] + ([] if arguments.mac else ["mac"])
    macs = tuple(_mac(text) for text in arguments.mac)
    if len(set(macs)) != len(macs):
        raise Usage("the same MAC address was given twice")
    return Machine(
        name=name,
        disks=tuple(MachineDisk(path, arguments.input_format, lookup=each) for path, each in _lookups(arguments)),
        nics=tuple(Nic(mac, arguments.network) for mac in macs) or (Nic(None, arguments.network),),
        cpus=_cpus(arguments.cpus),
        memory_bytes=_memory(arguments.memory),
        firmware=Firmware(arguments.firmware) if arguments.firmware else None,
        assumed=tuple(assumed),
    )


def _lookups(arguments: argparse.Namespace) -> Iterator[tuple[Path, Lookup]]:
    """Every disk with what is said for it: a parent that is named is the first disk's."""
    lookup = lookup_of(arguments)
    for index, path in enumerate(arguments.disks):
        yield path, lookup if index == 0 else replace(lookup, parents=())


def _name_from(disk: Path) -> str:
    stem = disk.name
    known = [suffix for each in FORMATS for suffix in each.suffixes]
    for suffix in (".001", ".000", ".gz", ".ova", ".tar", ".zip", *sorted(known, key=len, reverse=True)):
        stem = stem.removesuffix(suffix)
    return re.sub(r"[^A-Za-z0-9._+-]", "-", stem).strip(".-_+")[:63] or "machine"


def _mac(text: str) -> str:
    mac = text.lower().replace("-", ":")
    if not _MAC.fullmatch(mac):
        raise Usage(f"{text!r} is not a MAC address", "As in --mac 00:50:56:aa:bb:cc.")
    if int(mac[:2], 16) & 1:
        raise Usage(f"{text} is a multicast address; a network card cannot have it")
    return mac


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
    if size < 64 * 1024 * 1024:
        raise Usage(f"--memory {given}: less than 64 MiB", "Sizes without a unit are bytes; write 2G or 512M.")
    return size


def acceleration_of(arguments: argparse.Namespace) -> Callable[[], Acceleration]:
    """The accelerator, found out only when something needs it: the doctor's answer unless the user overrules it."""
    if arguments.accel == "auto":
        return lambda: acceleration(SystemRunner())
    chosen = Acceleration(Accelerator(arguments.accel), f"--accel {arguments.accel}")
    return lambda: chosen
