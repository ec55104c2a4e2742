"""The options about sizing (docs/audit-sizing.md), and what they ask for."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from p2v.audit.sizing.inputs import Policy, SizingWish
from p2v.audit.sizing.prices import read_prices
from p2v.audit.sizing.utilisation import read_utilisation
from p2v.audit.sizing.values import HostType
from p2v.core.errors import Usage
from p2v.core.units import MIB, parse_size

_PERCENT = re.compile(r"(\d{1,2}(?:\.\d{1,6})?)\s*(%?)")
_MOST = 1_000_000
_LEAST_HOST_MEMORY = 64 * MIB
_HOST = ("host_cores", "host_memory", "host_threads", "host_sockets", "host_numa_nodes", "host_mhz", "host_disk")
_POLICY = (
    "overcommit", "memory_headroom", "cpu_headroom", "spare_hosts", "memory_overhead", "machine_seconds", "concurrent",
    "leave_out_powered_off",
)  # fmt: skip
# what policy fields are called where their options are called otherwise
_FIELDS = {"memory_overhead": "machine_overhead_bytes", "machine_seconds": "machine_overhead_seconds"}


def add_sizing(parser: argparse.ArgumentParser) -> None:
    """Add them. Any of them asks for sizing."""
    group = parser.add_argument_group("sizing: hosts, storage, time and money (docs/audit-sizing.md)")
    group.add_argument(
        "--size", action="store_true", help="say what the machines need; any other option here does so too"
    )
    _add_host(group)
    _add_policy(group)
    group.add_argument(
        "--utilisation", type=Path, metavar="FILE", help="a CSV of 95th percentiles: name, cpu p95, memory p95"
    )
    group.add_argument(
        "--prices", type=Path, metavar="FILE", help="a TOML file with your own prices; without it, no money"
    )
    group.add_argument(
        "--measure",
        type=Path,
        metavar="FOLDER",
        help="measure how fast this host writes in FOLDER (on the storage the machines will stand on) and reads the disks. "
        "Writes random data there, at most a quarter of what is free, and removes it",
    )
    group.add_argument("--concurrent", metavar="N", help="disks copied, and measured, at a time (default: 4)")


def _add_host(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--host-cores", metavar="N", help="cores of a host, all sockets together")
    group.add_argument("--host-memory", metavar="SIZE", help="memory of a host, as 512G")
    group.add_argument("--host-sockets", metavar="N", help="sockets of a host (default: 1); each is a NUMA node")
    group.add_argument(
        "--host-threads", metavar="N", help="threads of a host (default: its cores); no machine may have more CPUs"
    )
    group.add_argument("--host-numa-nodes", metavar="N", help="NUMA nodes of a host, where they are not its sockets")
    group.add_argument("--host-mhz", metavar="N", help="MHz of one core, for utilisation in MHz")
    group.add_argument("--host-disk", metavar="SIZE", help="room on a host's own disks, where machines stand on them")


def _add_policy(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--overcommit", metavar="RATIO", help="virtual CPUs a core, where use is not known (default: 4)")
    group.add_argument("--memory-headroom", metavar="PERCENT", help="memory left free on each host (default: 10%%)")
    group.add_argument("--cpu-headroom", metavar="PERCENT", help="CPU left free, sizing by utilisation (default: 20%%)")
    group.add_argument("--spare-hosts", metavar="N", help="how many hosts may fail at once (default: 1)")
    group.add_argument("--memory-overhead", metavar="SIZE", help="memory of QEMU beside each guest's (default: 256M)")
    group.add_argument("--machine-seconds", metavar="N", help="what a machine takes beside copying (default: 60)")
    group.add_argument(
        "--leave-out-powered-off", action="store_true", help="no hosts for machines that are powered off"
    )


def sizing_wish(arguments: argparse.Namespace) -> SizingWish | None:
    """What they say; None when none was given. Files are read now, before hours of auditing. Raises Usage, and as reading does."""
    files = ("utilisation", "prices", "measure")
    if not any(_given(arguments, name) for name in ("size", *_HOST, *_POLICY, *files)):
        return None
    host, policy = _host(arguments), _policy(arguments)
    if arguments.measure is not None and not arguments.measure.is_dir():
        raise Usage(
            f"--measure {arguments.measure}: is no folder", "Name a folder on the storage that machines will stand on."
        )
    return SizingWish(
        host=host,
        policy=policy,
        utilisation=read_utilisation(arguments.utilisation) if arguments.utilisation is not None else (),
        prices=read_prices(arguments.prices) if arguments.prices is not None else None,
        measure=arguments.measure,
    )


def _given(arguments: argparse.Namespace, name: str) -> bool:
    return getattr(arguments, name) not in (None, False)


def _host(arguments: argparse.Namespace) -> HostType | None:
    if not any(_given(arguments, name) for name in _HOST):
        return None
    if arguments.host_cores is None or arguments.host_memory is None:
        missing = "--host-cores" if arguments.host_cores is None else "--host-memory"
        raise Usage(f"{missing} is missing", "A host type needs --host-cores and --host-memory at least.")
    cores = _count(arguments, "host_cores")
    sockets = _count(arguments, "host_sockets") if arguments.host_sockets is not None else 1
    threads = _count(arguments, "host_threads") if arguments.host_threads is not None else cores
    nodes = _count(arguments, "host_numa_nodes") if arguments.host_numa_nodes is not None else None
    if threads < cores or cores < max(sockets, nodes or 1):
        raise Usage(
            f"a host of {cores} cores, {threads} threads, {sockets} sockets and {nodes or sockets} NUMA nodes cannot be",
            "--host-cores and --host-threads count all sockets together.",
        )
    return HostType(
        cores=cores,
        memory_bytes=_size(arguments, "host_memory", _LEAST_HOST_MEMORY),
        threads=threads,
        sockets=sockets,
        numa_nodes=nodes,
        core_mhz=_count(arguments, "host_mhz") if arguments.host_mhz is not None else None,
        disk_bytes=_size(arguments, "host_disk", 1) if arguments.host_disk is not None else None,
    )


def _policy(arguments: argparse.Namespace) -> Policy:
    given = [name for name in _POLICY if _given(arguments, name)]
    readers = {
        "overcommit": _ratio,
        "memory_headroom": _part,
        "cpu_headroom": _part,
        "spare_hosts": lambda of, name: _count(of, name, least=0),
        "memory_overhead": lambda of, name: _size(of, name, 0),
        "machine_seconds": lambda of, name: float(_count(of, name, least=0)),
        "concurrent": lambda of, name: _count(of, name, most=64),
        "leave_out_powered_off": getattr,
    }
    values = {_FIELDS.get(name, name): readers[name](arguments, name) for name in given}
    return Policy(**values, given=tuple(values))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _count(arguments: argparse.Namespace, name: str, least: int = 1, most: int = _MOST) -> int:
    text = getattr(arguments, name)
    if not re.fullmatch(r"\d{1,7}", text, re.ASCII) or not least <= int(text) <= most:
        raise Usage(f"{_option(name)} {text}: is no whole number from {least} to {most}")
    return int(text)


def _size(arguments: argparse.Namespace, name: str, least: int) -> int:
    text = getattr(arguments, name)
    try:
        size = parse_size(text)
    except (ValueError, OverflowError) as error:
        raise Usage(f"{_option(name)}: {error}") from error
    if not least <= size < 1 << 60:
        raise Usage(f"{_option(name)} {text}: are {size} bytes, {least} are the least", "Write 512G for 512 GiB.")
    return size


def _ratio(arguments: argparse.Namespace, name: str) -> float:
    match = re.fullmatch(r"(?:1:)?(\d{1,3}(?:\.\d{1,6})?)", getattr(arguments, name), re.ASCII)
    if match is None or not float(match[1]):
        raise Usage(
            f"{_option(name)} {getattr(arguments, name)}: is no ratio",
            "As in --overcommit 4: four virtual CPUs a core.",
        )
    return float(match[1])


def _part(arguments: argparse.Namespace, name: str) -> float:
    text = getattr(arguments, name)
    match = _PERCENT.fullmatch(text)
    # 0.1 may be meant as a tenth, or as a thousandth
    if match is None or (not match[2] and 0 < float(match[1]) < 1):
        raise Usage(f"{_option(name)} {text}: is no part of a host", "In percent, from 0 to 99, as in 10%.")
    return round(float(match[1]) / 100, 8)
