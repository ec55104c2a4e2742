"""A Slurm of one host for a test: munged, slurmctld and slurmd started by hand in a folder of its own, without cgroups."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.batch.cluster.clusters import processes_with, until

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_CONFIGURATION = """\
ClusterName=p2v
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs=32 RealMemory=200000 State=UNKNOWN
PartitionName={queue} Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """What this host lacks, in words; empty: nothing."""
    programs = [each for each in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(each, path=_PATH) is None]
    if programs:
        return f"Slurm: {', '.join(programs)} not found; make setup-matrix brings it"
    return "" if os.geteuid() == 0 else "root, whom slurmd wants to be"


@dataclass
class Slurm:
    """One that runs. ``environment``: what its clients need, and what they submit."""

    folder: Path
    environment: Mapping[str, str]
    _daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def ask(self, *command: str) -> str:
        """What a program of Slurm's says."""
        done = subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        return done.stdout

    def running(self) -> Sequence[str]:
        """The numbers of jobs that run."""
        return self.ask("squeue", "--noheader", "--states=RUNNING", "--format=%i").split()

    def jobs(self) -> Sequence[str]:
        """The numbers of all jobs that have not ended."""
        return self.ask("squeue", "--noheader", "--format=%i").split()

    def start(self, program: str, *options: str) -> None:
        """Start one of its daemons in the foreground."""
        words = [shutil.which(program, path=_PATH) or program, *options]
        with (self.folder / f"{program}.out").open("wb") as log:
            daemon = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=self.environment
            )
        self._daemons.append(daemon)

    def end(self) -> None:
        """End its jobs, and then itself."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.ask("scancel", "--user=root")
            until(lambda: not self.jobs(), "the end of all jobs of Slurm")
        for daemon in reversed(self._daemons):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()
        # of a job that did not end
        for pid in processes_with(str(self.folder)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def slurm(queue: str) -> Iterator[Slurm]:
    """A Slurm with one partition; all of it ends with the context."""
    host = socket.gethostname().partition(".")[0]
    # a socket's path must be short
    with tempfile.TemporaryDirectory(prefix="p2v-slurm-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        for each in ("state", "spool"):
            (folder / each).mkdir()
        configuration, key = folder / "slurm.conf", folder / "munge.key"
        controller_port, node_port = _free_ports(2)
        configuration.write_text(
            _CONFIGURATION.format(
                host=host, folder=folder, queue=queue, controller_port=controller_port, node_port=node_port
            )
        )
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        made = Slurm(folder, {**os.environ, "PATH": _PATH, "SLURM_CONF": str(configuration)})
        stack.callback(made.end)
        made.start(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.sock",
            f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed",
        )  # fmt: skip
        until((folder / "munge.sock").exists, "munge's socket")
        made.start("slurmctld", "-D", "-i", "-f", str(configuration))
        made.start("slurmd", "-D", "-f", str(configuration))
        until(lambda: _is_idle(made), "a node that takes jobs")
        yield made


def _is_idle(made: Slurm) -> bool:
    with contextlib.suppress(subprocess.CalledProcessError):
        return made.ask("sinfo", "--noheader", "--format=%T").strip() == "idle"
    return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
