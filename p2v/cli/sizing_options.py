"""The options about sizing (docs/audit-sizing.md); ``sizing_wish`` has what they ask for."""

from __future__ import annotations

import argparse
from pathlib import Path

HOST = ("host_cores", "host_memory", "host_threads", "host_sockets", "host_numa_nodes", "host_mhz", "host_disk")
POLICY = (
    "overcommit", "memory_headroom", "cpu_headroom", "spare_hosts", "memory_overhead", "machine_seconds", "concurrent",
    "leave_out_powered_off",
)  # fmt: skip


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


def given(arguments: argparse.Namespace, name: str) -> bool:
    """Whether an option was given."""
    return getattr(arguments, name) not in (None, False)


def is_asked_for(arguments: argparse.Namespace) -> bool:
    """Whether any of them was given."""
    return any(given(arguments, name) for name in ("size", *HOST, *POLICY, "utilisation", "prices", "measure"))
