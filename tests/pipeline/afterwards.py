"""A converted guest in use: started on its own disks, written to, until it switches itself off; then looked into.

Nothing is mounted: files are put into the root file system and read from it with debugfs, so it has to be ext4.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from p2v.acceleration import acceleration
from p2v.core import jsonio
from p2v.core.firmware import FirmwareFiles, installed_firmware
from p2v.core.run import Background, SystemRunner, background
from p2v.documents import PlanDocument, document_converter, load_plan
from p2v.record import ConversionRecord, load_record
from p2v.targets.hardware import TargetDisk
from p2v.targets.qemu import Wiring, qemu_arguments
from p2v.verify import BootEvidence
from tests.fixtures.guests import guest_disks
from tests.fixtures.programs import run
from tests.fixtures.records import Firmware, Guest
from tests.pipeline.running import p2v, proven

NAME = "vm"
IMAGE = f"{NAME}.img"
SERIAL_LOG, TASK_LOG = "serial.log", "task.log"
SECONDS = 1000.0
# emulated AVX slows a boot by a third, and Debian does without it
_CPU = "max,la57=off,avx=off,avx2=off"
_UNIT = """[Unit]
Description=What this guest is asked to do by a test
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/bin/sh {script}
StandardOutput=null
"""
_TASK = "/etc/p2v-test-task"
_TASK_UNIT = "/etc/systemd/system/p2v-test-task.service"
_TASK_LINK = "/etc/systemd/system/multi-user.target.wants/p2v-test-task.service"


@dataclass(frozen=True)
class Put:
    """A file for the guest; ``label`` is its SELinux label where the guest has such."""

    path: str
    content: str
    mode: int = 0o644
    label: str = ""


@dataclass(frozen=True)
class RootFileSystem:
    """An ext4 file system in an image; ``offset`` in bytes."""

    image: Path
    offset: int

    def put(self, files: Sequence[Put]) -> None:
        """Write files of root:root into folders that are there; one that is there is replaced."""
        with TemporaryDirectory() as scratch:
            commands = []
            for index, file in enumerate(files):
                source = Path(scratch, str(index))
                source.write_text(file.content, "utf-8")
                source.chmod(file.mode)
                folder, _, name = file.path.rpartition("/")
                commands += [f"cd {folder or '/'}", f"rm {name}", f"write {source} {name}"]
                commands += [f"set_inode_field {name} {field} 0" for field in ("uid", "gid")]
                commands += _labelling(Path(scratch, f"label-{index}"), name, file.label)
            self._debugfs(commands, write=True)

    def link(self, path: str, target: str, label: str = "") -> None:
        """Make a symbolic link in a folder that is there."""
        folder, _, name = path.rpartition("/")
        with TemporaryDirectory() as scratch:
            commands = [f"cd {folder}", f"symlink {name} {target}", *_labelling(Path(scratch, "label"), name, label)]
            self._debugfs(commands, write=True)

    def read(self, path: str) -> str:
        """A text; empty when it is not there."""
        with TemporaryDirectory() as scratch:
            copy = Path(scratch, "copy")
            self._debugfs([f"dump {path} {copy}"])
            return copy.read_text("utf-8", "replace") if copy.exists() else ""

    def names(self, folder: str) -> set[str]:
        """What is in a folder."""
        lines = self._debugfs([f"ls -p {folder}"]).splitlines()
        return {line.split("/")[5] for line in lines if line.count("/") >= 6} - {"", ".", ".."}

    def _debugfs(self, commands: Sequence[str], *, write: bool = False) -> str:
        script = "\n".join(commands) + "\n"
        mode = ["-w"] if write else []
        return run("debugfs", *mode, "-f", "-", f"{self.image}?offset={self.offset}", stdin=script).stdout


def _labelling(file: Path, name: str, label: str) -> list[str]:
    if not label:
        return []
    # as libselinux stores them, with a NUL
    file.write_bytes(label.encode() + b"\0")
    return [f"ea_set -f {file} {name} security.selinux"]


@dataclass(frozen=True)
class Result:
    """A converted guest of one disk in its folder."""

    folder: Path
    record: ConversionRecord

    @property
    def image(self) -> Path:
        return self.folder / IMAGE

    @property
    def root(self) -> RootFileSystem:
        """Where the guest's files are."""
        return self.root_in(self.image)

    def root_in(self, image: Path) -> RootFileSystem:
        """The same in another image that is laid out alike, as the source is."""
        facts = self.record.document.facts
        mount = facts.root
        assert mount is not None
        (offset,) = [p.offset for p in facts.partitions if (p.disk, p.number) == (mount.disk, mount.partition)]
        return RootFileSystem(image, offset)

    def said(self, log: str) -> str:
        """What came from a serial port of the guest."""
        path = self.folder / log
        return path.read_text("utf-8", "replace").replace("\r", "") if path.exists() else ""

    def facts(self) -> dict[str, Any]:
        """What ``p2v inspect`` finds now."""
        ran = p2v("inspect", self.image, "--input-format", "raw", "--json")
        assert ran.status == 0, ran.err
        return dict(json.loads(ran.out)["facts"])

    def planned(self) -> PlanDocument:
        """What a conversion of the result would do now, and on what hardware."""
        ran = p2v("plan", self.image, "--input-format", "raw", "--json")
        assert ran.status == 0, ran.err + ran.out
        path = self.folder / "again.json"
        path.write_text(ran.out, "utf-8")
        return load_plan(path)

    def checked(self, planned: PlanDocument) -> ConversionRecord:
        """The record with the evidence of another boot check, of the guest and on the hardware as it is now."""
        log = self.folder / "again.log"
        ran = p2v("verify", self.image, "--input-format", "raw", "--json", "--progress", "none", "--log", log)
        assert ran.status in (0, 3), ran.err + ran.out
        evidence = jsonio.decode(document_converter(), json.loads(ran.out), BootEvidence)
        return replace(self.record, hardware=planned.hardware, boot=evidence)


def converted(guest: Guest, folder: Path, *more: str, proof: bool = True) -> Result:
    """The guest converted into a folder, and not booted yet; with ``proof`` also held against its source."""
    ran = p2v("convert", *guest_disks(guest.name), "-o", folder, "--name", NAME, "--format", "raw", *more)
    assert ran.status == 0, ran.err
    if proof:
        proven(folder / f"{NAME}.json")
    return Result(folder, load_record(folder / f"{NAME}.json"))


def give_task(result: Result, script: str, files: Sequence[Put] = (), labels: tuple[str, str] = ("", "")) -> None:
    """Have the guest run a shell script at its next boot, when that is over, and switch itself off.

    What it says goes to the second serial port, where no getty takes over; its exit status is in ``task ended with N``.
    ``labels``: of the script, of the unit.
    """
    whole = (
        f"exec >/dev/ttyS1 2>&1 </dev/null\nrm {_TASK_LINK}\n( set -e\n{script}\n)\n"
        'echo "task ended with $?"\nsystemctl poweroff\n'
    )
    unit = _UNIT.format(script=_TASK)
    result.root.put([*files, Put(_TASK, whole, label=labels[0]), Put(_TASK_UNIT, unit, label=labels[1])])
    result.root.link(_TASK_LINK, _TASK_UNIT, labels[1])


def run_to_its_end(result: Result, seconds: float = SECONDS) -> str:
    """Boot the disk itself and wait until the guest switches itself off; returns what its task said."""
    with started(result) as qemu:
        await_end(result, qemu, seconds)
    return result.said(TASK_LOG)


@contextmanager
def started(result: Result, agent: Path | None = None) -> Iterator[Background]:
    """The guest running on its own disk; ``agent``: the socket of the guest agent's channel."""
    for name in (SERIAL_LOG, TASK_LOG):
        (result.folder / name).unlink(missing_ok=True)
    ports = [("-serial", f"file:{result.folder / name}") for name in (SERIAL_LOG, TASK_LOG)]
    # one CPU: emulated ones of a busy host lose each other's timers
    hardware = replace(result.record.hardware, cpus=1, disks=(TargetDisk(Path(IMAGE), "raw"),))
    wiring = Wiring(
        netdev="user,restrict=on",
        agent=f"socket,path={agent},server=on,wait=off" if agent else "null",
        firmware=_firmware(result),
        cpu=_CPU,
        rest=("-display", "none", "-no-reboot", *(word for port in ports for word in port)),
    )
    argv = qemu_arguments(hardware, acceleration(SystemRunner()), wiring, result.folder)
    with background(argv, ends_with_us=True) as qemu:
        yield qemu


def await_end(result: Result, qemu: Background, seconds: float = SECONDS) -> None:
    """Wait until the guest has switched itself off, and its disk is written."""
    begun = time.monotonic()
    while qemu.running() and time.monotonic() - begun < seconds:
        time.sleep(0.5)
    assert not qemu.running(), result.said(SERIAL_LOG)[-2000:] + result.said(TASK_LOG)[-2000:]
    subprocess.run(["sync"], check=True)


def _firmware(result: Result) -> FirmwareFiles | None:
    if result.record.hardware.firmware.value != Firmware.UEFI.value:
        return None
    found = installed_firmware(secure_boot=False)
    assert found is not None
    store = result.folder / "variables.fd"
    if not store.exists():
        shutil.copyfile(found.variables, store)
    return replace(found, variables=store)
