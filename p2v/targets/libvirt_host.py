"""A libvirt that is asked and told by virsh: what it has, volumes in its pools, domains. Nothing that exists is ever replaced.

Source: virsh(1), libvirt's "Storage pool and volume XML format".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from p2v.core.errors import LeaseLost, P2vError, ProgramFailed, TargetExists, Usage
from p2v.core.run import Runner
from p2v.core.workspace import temporary_folder
from p2v.targets.storage import DEFAULT, Storage

_ASK_SECONDS = 60.0
_UPLOAD_SECONDS = 24 * 3600.0
_INFO_LINE = re.compile(r"^([A-Za-z ()-]+):\s+(.*)$")
# Pools whose volumes are files of any format; the others' are block devices, which hold raw disks.
_FILE_POOLS = frozenset({"dir", "fs", "netfs", "gluster", "vstorage"})


Telling = Callable[[], AbstractContextManager[None]]
"""What to be in while a libvirt is told; it may refuse (LeaseLost)."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A storage pool: its name, its type, whether it runs."""

    name: str
    type: str
    is_active: bool

    @property
    def takes_files(self) -> bool:
        """Whether a volume in it can be a qcow2 file."""
        return self.type in _FILE_POOLS


@dataclass(frozen=True, slots=True)
class LibvirtHost:
    """A connection by its URI (``qemu:///system``, ``qemu+ssh://host/system``); empty: what virsh takes by itself."""

    uri: str
    runner: Runner

    def check(self, name: str, uuid: str, networks: Sequence[str], pools: Sequence[str]) -> dict[str, Pool]:
        """Look before anything is copied: no such domain, every network and pool there; the pools by their names.

        Raises TargetExists, Usage (a network or pool that is not there or does not run), ProgramFailed (no connection).
        """
        self._ask("version")
        for key in (name, uuid):
            if self._knows("dominfo", "--domain", key):
                advice = "Give another name with --name; an existing domain is never replaced."
                raise TargetExists(Path(name), advice)
        self._check_networks(networks)
        return {pool: self._check_pool(pool) for pool in pools}

    def upload(self, pool: Pool, file: Path, disk_format: str, capacity: int) -> str:
        """Make a volume called as the file and fill it; its name. ``capacity``: the disk's virtual size in bytes.

        What was made is taken back when filling it fails. Raises TargetExists, ProgramFailed, ProgramTimedOut.
        """
        name = file.name
        if self._knows("vol-info", "--pool", pool.name, "--vol", name):
            raise TargetExists(Path(pool.name, name), "Give another name with --name; an existing volume is never replaced.")
        made = ["--pool", pool.name, "--name", name, "--capacity", str(capacity)]
        # a pool of files makes the volume's file as large as what is put into it
        kind = ["--format", disk_format, "--allocation", "0"] if pool.takes_files else []
        self._ask("vol-create-as", *made, *kind)
        try:
            self._ask("vol-upload", "--pool", pool.name, "--vol", name, "--file", str(file), "--sparse", seconds=_UPLOAD_SECONDS)
            self._ask("pool-refresh", "--pool", pool.name)
        except BaseException:
            self.forget_volume(pool, name)
            raise
        return name

    def volume_path(self, pool: Pool, name: str) -> Path:
        """Where a volume is on that host. Raises ProgramFailed."""
        return Path(self._ask("vol-path", "--pool", pool.name, "--vol", name).strip())

    def forget_volume(self, pool: Pool, name: str) -> None:
        """Take back a volume that this run made."""
        self._knows("vol-delete", "--pool", pool.name, "--vol", name)

    def define(self, xml: str) -> None:
        """Define a domain, checked against libvirt's schema. Raises ProgramFailed with libvirt's words."""
        with temporary_folder() as folder:
            file = folder / "domain.xml"
            file.write_text(xml, "utf-8")
            self._ask("define", "--file", str(file), "--validate")

    def start(self, name: str) -> None:
        """Start a domain. Raises ProgramFailed with libvirt's words."""
        self._ask("start", "--domain", name)

    def has(self, name: str, uuid: str) -> bool:
        """Whether a domain of this name and UUID is defined: one that this machine became."""
        try:
            return self._ask("domuuid", "--domain", name).strip().lower() == uuid.lower()
        except ProgramFailed:
            return False

    def _check_networks(self, networks: Sequence[str]) -> None:
        there = self._names("net-list", "--all", "--name")
        running = self._names("net-list", "--name")
        for network in dict.fromkeys(networks):
            if network not in there:
                known = ", ".join(sorted(there)) or "none"
                problem = f"libvirt has no network called {network!a} (it has: {known})"
                raise Usage(problem, "Map it with --network, or define it first.")
            if network not in running:
                raise Usage(f"libvirt's network {network!a} is not started", f"As in: virsh net-start {network}")

    def _check_pool(self, name: str) -> Pool:
        if not self._knows("pool-info", "--pool", name):
            known = ", ".join(sorted(self._names("pool-list", "--all", "--name"))) or "none"
            raise Usage(f"libvirt has no storage pool called {name!a} (it has: {known})")
        lines = self._ask("pool-info", "--pool", name).splitlines()
        told = {m[1]: m[2] for line in lines if (m := _INFO_LINE.match(line)) is not None}
        type_ = re.search(r"<pool\s+type=['\"]([a-z-]+)['\"]", self._ask("pool-dumpxml", "--pool", name))
        pool = Pool(name, type_[1] if type_ else "", told.get("State", "").strip() == "running")
        if not pool.is_active:
            raise Usage(f"libvirt's storage pool {name!a} is not started", f"As in: virsh pool-start {name}")
        return pool

    def _names(self, *words: str) -> set[str]:
        return {line.strip() for line in self._ask(*words).splitlines() if line.strip()}

    def _knows(self, *words: str) -> bool:
        try:
            self._ask(*words)
        except ProgramFailed:
            return False
        return True

    def _ask(self, *words: str, seconds: float = _ASK_SECONDS) -> str:
        connection = ["--connect", self.uri] if self.uri else []
        return self.runner.run(["virsh", "--quiet", *connection, *words], timeout=seconds).stdout


@dataclass(frozen=True, slots=True)
class Delivery:
    """A machine's way into libvirt: which host, which pools (a disk without one stays the file it is), started or not."""

    host: LibvirtHost
    pools: Storage = DEFAULT
    start: bool = False


@dataclass(frozen=True, slots=True)
class DeliveredFile:
    """A file that becomes a volume of a pool, or stays where it is; ``capacity``: virtual size in bytes."""

    path: Path
    format: str
    capacity: int
    pool: Pool | None = None


def deliver(
    delivery: Delivery,
    files: Sequence[DeliveredFile],
    name: str,
    xml: Callable[[Path | None], str],
    variables: DeliveredFile | None = None,
    *,
    telling: Telling = nullcontext,
    begun: Callable[[Pool, str], None] = lambda pool, volume: None,
) -> None:
    """Upload the files (disks, media) that have a pool, define the domain, start it if wanted.

    ``xml``: the definition, for UEFI variables at a path of that host's (None: where they are). ``variables``: their file, which
    goes into its pool if that holds files. Volumes that were made here are taken back when the domain cannot be defined; a domain
    that does not start stays defined. ``telling``: what to be in while the domain is defined and started, and looked at before
    each upload. Whoever it refuses takes nothing back: what was made is the other's to go on with. ``begun``: called before a
    volume is made. Raises as the methods of ``LibvirtHost``, and what ``telling`` raises.
    """
    host = delivery.host
    made: list[tuple[Pool, str]] = []

    def upload(pool: Pool, file: DeliveredFile) -> None:
        with telling():
            begun(pool, file.path.name)
        made.append((pool, host.upload(pool, file.path, file.format, file.capacity)))

    try:
        for file in files:
            if file.pool is not None:
                upload(file.pool, file)
        placed = None
        if variables is not None and variables.pool is not None and variables.pool.takes_files:
            upload(variables.pool, variables)
            placed = host.volume_path(variables.pool, variables.path.name)
        definition = xml(placed)
        with telling():
            host.define(definition)
            made.clear()  # they are the domain's now
            if delivery.start:
                host.start(name)
    except LeaseLost:
        raise
    except BaseException:
        with suppress(P2vError), telling():
            for volume in made:
                host.forget_volume(*volume)
        raise
