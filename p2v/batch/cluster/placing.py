"""Which workers a job may go to, and what it takes there: pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from p2v.batch.cluster.address import Certificates, objection
from p2v.batch.jobs import MachineJob, Verify
from p2v.core.errors import Usage

CONVERT = "convert"
"""The resource that a worker has one of for each conversion it may do at the same time."""
KVM = "kvm"
"""How many of a worker's conversions may boot at the same time. No task takes it: children take turns (``p2v.core.turns``)."""
APPLIANCE = "appliance"
"""The same for rewriting appliances, where a host cannot have as many as conversions; it is asked of no worker."""
_STORAGE = "storage-"
_MOST = 1000.0
"""Of a resource; who offers more offers this."""
_NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage that must not be asked for too much: everything below ``folder``, as all hosts see it.

    ``at_once``: jobs that may copy from or to it in the whole cluster; None: each worker says how many it may do, by the
    resource ``storage-NAME``.
    """

    name: str
    folder: Path
    at_once: int | None = None

    @property
    def resource(self) -> str:
        """Its token at a worker."""
        return _STORAGE + self.name


@dataclass(frozen=True, slots=True)
class ClusterWish:
    """A cluster as the user names it. ``patience_seconds``: how long a job waits for a scheduler and for a worker it fits."""

    engine: str
    certificates: Certificates | None = None
    storages: tuple[Storage, ...] = ()
    patience_seconds: float = 600.0
    blind_seconds: float = 90.0
    """How long a job waits for a worker that sees what the runner's host sees; longer than a mount by network may be behind."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker, as it describes itself. ``problem``: why nothing can be given to it; ``process``: see ``process_of``."""

    address: str
    name: str = ""
    hostname: str = ""
    resources: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""
    process: str = ""

    def is_host(self, host: str) -> bool:
        """Whether a host's name in a manifest means the one it runs on."""
        wanted, own = host.casefold(), self.hostname.casefold()
        address = self.address.partition("://")[2].rpartition(":")[0].strip("[]")
        return wanted in {own, own.partition(".")[0], self.name.casefold(), address}


def parse_storage(text: str) -> Storage:
    """``NAME=FOLDER`` or ``NAME=FOLDER:COUNT``. Raises Usage."""
    name, equals, rest = text.partition("=")
    folder, colon, count = rest.rpartition(":")
    if not colon or not count.isdecimal():
        folder, count = rest, ""
    if not equals or not name.replace("-", "").isalnum() or not folder.startswith("/") or count == "0":
        raise Usage(
            f"--storage {text}: not a storage's name and its folder",
            "As in --storage nfs1=/mnt/nfs1, or nfs1=/mnt/nfs1:4.",
        )
    return Storage(name, Path(folder), int(count) if count else None)


def storages_of(machine: MachineJob, storages: Iterable[Storage]) -> tuple[Storage, ...]:
    """Those that a job reads from or writes to, always in the same order: two jobs that wait for both never wait for each other."""
    places = (*machine.sources, machine.folder)
    used = (each for each in storages if any(place.is_relative_to(each.folder) for place in places))
    return tuple(sorted(used, key=lambda each: each.name))


def needs(machine: MachineJob, storages: Iterable[Storage]) -> dict[str, float]:
    """The resources that a job takes of its worker from beginning to end."""
    counted = (each.resource for each in storages_of(machine, storages) if each.at_once is None)
    return {CONVERT: 1.0} | dict.fromkeys(counted, 1.0)


def turns(machine: MachineJob) -> dict[str, float]:
    """What a worker must offer as well, and jobs take turns at: others that wait for theirs may be there all the same."""
    return {KVM: 1.0} if machine.verify is Verify.BOOT else {}


def fitting(machine: MachineJob, workers: Iterable[WorkerSeen], storages: Iterable[Storage]) -> tuple[str, ...]:
    """The addresses of the workers that a job may go to, busy ones as well."""
    wanted = needs(machine, storages) | turns(machine)
    return tuple(
        worker.address
        for worker in workers
        if not worker.problem
        and (not machine.host or worker.is_host(machine.host))
        and all(worker.resources.get(name, 0.0) >= amount for name, amount in wanted.items())
    )


def roomiest(
    fits: Iterable[WorkerSeen],
    wanted: Mapping[str, float],
    taken: Callable[[str, str], float],
    shared: Mapping[str, float] = _NOTHING,
) -> str:
    """Of workers that fit, the address of the one that has most room for what is wanted; empty: none has any now.

    ``taken``: what jobs have of a worker's resource, or take turns at, by its address and the resource's name. ``shared``: what
    it will take turns at: a worker where many wait for theirs is the worse one, but not full.
    """

    def room(worker: WorkerSeen, amounts: Mapping[str, float]) -> float:
        shares = (
            (worker.resources[name] - taken(worker.address, name) - amount) / worker.resources[name]
            for name, amount in amounts.items()
        )
        return min(shares, default=1.0)

    free = (worker for worker in fits if room(worker, wanted) >= 0)
    best = max(free, key=lambda worker: min(room(worker, wanted), room(worker, shared)), default=None)
    return best.address if best is not None else ""


def why_none(machine: MachineJob, workers: Iterable[WorkerSeen], storages: Iterable[Storage]) -> str:
    """In words, why no worker fits."""
    there = tuple(workers)
    sound = tuple(worker for worker in there if not worker.problem)
    if not there:
        return "no worker is there"
    if not sound:
        return f"no worker can be used: {there[0].problem}"
    at_home = tuple(worker for worker in sound if not machine.host or worker.is_host(machine.host))
    if not at_home:
        return f"no worker runs on {machine.host}, which alone can reach its disks"
    wanted = needs(machine, storages) | turns(machine)
    missing = [name for name in wanted if not any(worker.resources.get(name, 0.0) >= 1.0 for worker in at_home)]
    return (
        f'no worker offers {" and ".join(missing or wanted)} (--resources "{" ".join(f"{name}=1" for name in wanted)}")'
    )


def seen(
    address: str, said: Mapping[str, object], described: Mapping[str, object], version: str, protocol: int
) -> WorkerSeen:
    """A worker from what the scheduler says of it and what it says itself; both come over the network and are not believed.

    ``version``, ``protocol``: of p2v and of its messages, at this host.
    """
    problem = objection(address)
    if not problem and "error" in described:
        problem = f"{address}: {str(described['error'])[:500]}"
    if not problem and described.get("version") != version:
        problem = f"{address} has version {str(described.get('version'))[:40]} of p2v, and this host {version}"
    if not problem and described.get("protocol") != protocol:
        problem = f"{address} has version {version} of p2v as this host has, but not the same: it speaks another protocol"
    resources = said.get("resources")
    return WorkerSeen(
        address,
        str(said.get("name", ""))[:255],
        str(described.get("hostname", ""))[:255],
        amounts(resources) if isinstance(resources, Mapping) else {},
        problem,
        process_of(said),
    )


def process_of(said: Mapping[str, object]) -> str:
    """Which process a worker is, of those that may have had its address: its folder, of which each makes its own."""
    return str(said.get("local_directory", ""))


def amounts(resources: Mapping[Any, Any]) -> dict[str, float]:
    """What a worker offers, as numbers to count with: some write ``inf`` for any number."""
    found = {str(name): float(amount) for name, amount in resources.items() if isinstance(amount, int | float)}
    return {name: min(amount, _MOST) for name, amount in found.items() if amount > 0}
