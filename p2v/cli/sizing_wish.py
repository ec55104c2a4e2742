"""What the options about sizing ask for, as values. Imported when one was given."""

from __future__ import annotations

import argparse
import re

from p2v.audit.sizing.inputs import Policy, SizingWish
from p2v.audit.sizing.prices import read_prices
from p2v.audit.sizing.utilisation import read_utilisation
from p2v.audit.sizing.values import HostType
from p2v.cli.sizing_options import HOST, POLICY, given
from p2v.core.errors import Usage
from p2v.core.units import MIB, parse_size

_PERCENT = re.compile(r"(\d{1,2}(?:\.\d{1,6})?)\s*(%?)")
_MOST = 1_000_000
_LEAST_HOST_MEMORY = 64 * MIB
# what policy fields are called where their options are called otherwise
_FIELDS = {"memory_overhead": "machine_overhead_bytes", "machine_seconds": "machine_overhead_seconds"}


def sizing_wish(arguments: argparse.Namespace) -> SizingWish:
    """What they say. Files are read now, before hours of auditing. Raises Usage, and as reading does."""
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


def _host(arguments: argparse.Namespace) -> HostType | None:
    if not any(given(arguments, name) for name in HOST):
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
    named = [name for name in POLICY if given(arguments, name)]
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
    values = {_FIELDS.get(name, name): readers[name](arguments, name) for name in named}
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
