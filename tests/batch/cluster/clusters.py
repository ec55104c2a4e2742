"""A scheduler and workers of Dask as programs of their own on 127.0.0.1, and children to give to them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from p2v.batch.children import Child, Ended, Order, wait_for
from p2v.batch.jobs import MachineJob, Verify
from p2v.core.units import MIB
from tests.drivers.making import make_disk

_HAIKU = "label: dos\nlabel-id: 0x12345678\nstart=2048, type=eb, bootable\n"
PATIENCE = 240.0
"""For facts that come in a second on a host with nothing else to do."""
_LOOK = 0.05
Heard = list[Mapping[str, Any]]
"""Events of a child."""


def until(fact: Callable[[], Any], what: str) -> Any:
    """Wait for a fact."""
    deadline = time.monotonic() + PATIENCE
    while not (found := fact()):
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(_LOOK)
    return found


@dataclass
class Program:
    """A program in a group of its own, ended with the test."""

    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """As the kernel does when memory is short: this process alone, without a word to it."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Cluster:
    """What was started, in a folder of its own. ``security``: options of Dask's programs and the scheme they listen by."""

    folder: Path
    security: tuple[str, ...] = ()
    scheme: str = "tcp"
    programs: list[Program] = field(default_factory=list)
    port: int = 0
    host: str = "127.0.0.1"
    """As it stands in an address."""

    def scheduler(self) -> Program:
        """Start one; after the first, at the same port."""
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        program = self._start(
            "scheduler", "--host", f"{self.scheme}://{self.host}:{self.port}", "--dashboard-address", "127.0.0.1:0",
            "--no-show",
            "--scheduler-file", str(file), *self.security,
        )  # fmt: skip
        self.port = until(lambda: _port(file, program), "the scheduler's address")
        return program

    def worker(
        self, resources: str = "convert=2 kvm=1", name: str = "", nanny: str = "--no-nanny", preload: str = "",
        port: int = 0, environment: Mapping[str, str] = MappingProxyType({}), enter: Sequence[str] = (),
    ) -> Program:  # fmt: skip
        """Start one, and wait until the scheduler has taken it. ``enter``: what a command begins with that is to run elsewhere."""
        program = self._start(
            "worker", f"{self.scheme}://{self.host}:{self.port}", nanny, "--dashboard-address", "127.0.0.1:0",
            "--nthreads", "4",
            "--memory-limit", "0", "--host", self.host, "--local-directory", str(self.folder),
            "--resources", resources, *(["--name", name] if name else []),
            *(["--preload", preload] if preload else []), *(["--worker-port", str(port)] if port else []), *self.security,
            environment=environment, enter=enter,
        )  # fmt: skip
        until(lambda: b"Registered to:" in program.log.read_bytes(), "a worker at the scheduler")
        return program

    @property
    def engine(self) -> str:
        return f"dask://{self.host}:{self.port}"

    def end(self) -> None:
        for program in self.programs:
            program.end()

    def _start(
        self,
        kind: str,
        *options: str,
        environment: Mapping[str, str] = MappingProxyType({}),
        enter: Sequence[str] = (),
    ) -> Program:
        log = self.folder / f"{kind}{len(self.programs)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*enter, sys.executable, "-m", f"distributed.cli.dask_{kind}", *options],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **environment},
            )  # fmt: skip
        self.programs.append(Program(process, log))
        return self.programs[-1]


def _port(file: Path, program: Program) -> int:
    assert program.process.poll() is None, program.log.read_text()
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int(json.loads(file.read_text())["address"].rpartition(":")[2])
    return 0


@contextlib.contextmanager
def cluster(
    folder: Path, security: tuple[str, ...] = (), scheme: str = "tcp", host: str = "127.0.0.1"
) -> Iterator[Cluster]:
    """A cluster of which all ends with the context."""
    made = Cluster(folder, security, scheme, host=host)
    try:
        yield made
    finally:
        made.end()


def disk(path: Path, megabytes: int) -> Path:
    """A raw disk with a partition table's signature and contents that no two places share."""
    with path.open("wb") as file:
        for number in range(megabytes * 16):
            file.write(number.to_bytes(8, "big") * 8192)
        file.seek(510)
        file.write(b"\x55\xaa")
    return path


def haiku_machine(folder: Path, name: str, megabytes: int) -> MachineJob:
    """A machine of a system that is converted as it is, which needs no appliance; its disk is full of what no two disks share."""
    source = folder / f"{name}.img"
    if not source.exists():
        make_disk(source, (megabytes + 2) * MIB, _HAIKU)
        with source.open("r+b") as file:
            file.seek(MIB)
            file.write(random.Random(name).randbytes(megabytes * MIB))
    return MachineJob(name, (source,), folder / "out", disk_format="raw")


def copy_order(source: Path, target: Path, *options: str, fence: int = 1, host: str = "", boots: bool = False) -> Order:
    """A copy of a disk, as a job: what a conversion does with its bytes, without the appliance."""
    machine = MachineJob(target.stem, (source,), target.parent, host=host, verify=Verify.BOOT if boots else Verify.NONE)
    argv = ("disk", "convert", str(source), str(target), "--progress", "json", *options)
    return Order(machine.name, argv, {}, fence, machine)


def finished(child: Child, events: list[Mapping[str, Any]] | None = None) -> Ended:
    """Listen to a child until it has ended."""
    heard = events if events is not None else []
    deadline = time.monotonic() + PATIENCE
    while True:
        wait_for([child], 0.2)
        ended = child.ended()
        heard.extend(child.heard())
        if ended is not None:
            return ended
        assert time.monotonic() < deadline, f"never ended; heard {heard}"


def heard_of(child: Child, kind: str, events: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Listen to a child until it tells of something."""

    def listen() -> Mapping[str, Any] | None:
        # asked first: what it said last may come with its end
        ended = child.ended()
        events.extend(child.heard())
        found = next((event for event in events if event["event"] == kind), None)
        assert found or ended is None, ended
        return found

    found = until(listen, f"{kind}, of a child")
    assert isinstance(found, Mapping)
    return found


def processes_with(word: str) -> Sequence[int]:
    """Processes that have a word among their arguments, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if word.encode() in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
    return found
