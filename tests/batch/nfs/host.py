"""The host's side: the machine is started with this checkout's code on a second disk, and is told rows, one after the other."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2v.acceleration import acceleration
from p2v.core.qemu import cpu_model, option_value, require_qemu
from p2v.core.units import GIB
from tests.batch.nfs.agent import READY
from tests.fixtures.nfs import FIRST, PYTHON, NfsHost, nfs_host

_REPOSITORY = Path(__file__).parents[3]
_CODE = ("p2v", "converters", "drivers", "tests")
# of the environment's packages what no conversion and no test takes, and is large
_NOT_TAKEN = (
    "*.dist-info", "__pycache__", "mypy*", "*__mypyc*", "pip", "setuptools", "pkg_resources", "dask*", "distributed*",
    "hypothesis*", "grimp*", "importlinter*", "ruff*", "bokeh*", "openpyxl*", "ast_serialize*", "rich*",
)  # fmt: skip
_OF_THE_DISTRIBUTION = ("yaml",)
"""Packages that an environment may see through to the host's own."""
_NOT_OURS = ("__pycache__", "fixtures", "fuzz", "proof", "pages", "support_matrix*")
_CODE_BYTES = GIB
_EXPORT_BYTES = 4 * GIB
_START_SECONDS = 900.0
_ROW_SECONDS = 3100.0
_LOOK = 0.2


def why_not() -> str:
    """What the machine needs that is not here; empty: nothing."""
    if sys.version_info[:2] != PYTHON:
        return f"compiled modules come from here, and the machine has Python {PYTHON[0]}.{PYTHON[1]}, not {sys.version_info[:2]}"
    from tests.fixtures import nfs

    return nfs.why_not()


def code_image(folder: Path) -> Path:
    """An ext4 with this checkout and the packages of its environment, made with the bytecode that a slow machine need not make."""
    tree, image = folder / "code", folder / "code.ext4"
    for name in _CODE:
        left_out = shutil.ignore_patterns(*(_NOT_OURS if name == "tests" else _NOT_OURS[:1]))
        shutil.copytree(_REPOSITORY / name, tree / name, ignore=left_out)
    packages = Path(sysconfig.get_paths()["purelib"])
    shutil.copytree(packages, tree / "packages", ignore=shutil.ignore_patterns(*_NOT_TAKEN), symlinks=True)
    for name in _OF_THE_DISTRIBUTION:
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None and not (tree / "packages" / name).exists():
            shutil.copytree(Path(found.origin).parent, tree / "packages" / name)
    words = [sys.executable, "-m", "compileall", "-q", "-j", "1", "-s", str(tree), "-p", "/code", str(tree)]
    subprocess.run(words, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with image.open("wb") as file:
        file.truncate(_CODE_BYTES)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, image], check=True, env=_with_sbin())
    shutil.rmtree(tree)
    return image


def _with_sbin() -> Mapping[str, str]:
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


@dataclass
class Answer:
    """What became of a row. ``told``: what it measured; ``log``: all it printed; ``failed``: why, empty where it passed."""

    failed: str
    told: Mapping[str, Any] = field(default_factory=dict)
    log: str = ""


@dataclass
class Machine:
    """The started machine, and the line to its agent."""

    process: subprocess.Popen[bytes]
    line: socket.socket
    console: Path
    _heard: bytes = b""

    def await_ready(self) -> None:
        assert self._line(_START_SECONDS) == READY, self.said()

    def row(self, name: str, *words: str) -> Answer:
        """Run a row. When it has not ended in time, or failed, the machine is good for nothing any more."""
        before = self.console.stat().st_size
        self.line.sendall(json.dumps({"row": name, "words": words}).encode() + b"\n")
        answer = json.loads(self._line(_ROW_SECONDS))
        return Answer(answer["failed"], answer["told"], self.console.read_bytes()[before:].decode(errors="replace"))

    def said(self) -> str:
        """The end of its console."""
        return self.console.read_text(errors="replace")[-6000:]

    def _line(self, seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._heard:
            assert self.process.poll() is None, f"the machine has ended:\n{self.said()}"
            assert time.monotonic() < deadline, f"no answer of the machine for {seconds:g} s:\n{self.said()}"
            self.line.settimeout(1.0)
            with contextlib.suppress(TimeoutError):
                self._heard += self.line.recv(65536)
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode(errors="replace").strip()


@contextmanager
def machine(folder: Path, image: Path) -> Iterator[Machine]:
    """One, with its disks of exports below ``folder``; it ends with the context."""
    folder.mkdir(exist_ok=True)
    exports, line = folder / "exports.raw", folder / "line"
    with exports.open("wb") as file:
        file.truncate(_EXPORT_BYTES)
    with (folder / "console").open("wb") as console:
        words = _qemu(nfs_host(), image, exports, line)
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=console, stderr=console, cwd=folder, env=_with_sbin()
        )
    try:
        with _connected(folder, process) as connection:
            made = Machine(process, connection, folder / "console")
            made.await_ready()
            yield made
    finally:
        process.kill()
        process.wait()
        exports.unlink()


@contextmanager
def _connected(folder: Path, process: subprocess.Popen[bytes]) -> Iterator[socket.socket]:
    """A socket's path must be short, and QEMU made it in its own folder."""
    deadline = time.monotonic() + _START_SECONDS
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            while True:
                try:
                    connection.connect(f"/proc/self/fd/{handle}/line")
                    break
                except OSError:
                    said = (folder / "console").read_text(errors="replace")
                    assert process.poll() is None, said
                    assert time.monotonic() < deadline, said
                    time.sleep(_LOOK)
            yield connection
    finally:
        os.close(handle)


def _qemu(host: NfsHost, code: Path, exports: Path, line: Path) -> list[str]:
    """QEMU with the accelerator that works here, as ``p2v doctor`` finds it."""
    accelerator = acceleration().accelerator
    disks = ((host.root, "snapshot=on"), (code, "readonly=on"), (exports, "cache=unsafe"))
    drives = [f"if=virtio,format=raw,file={option_value(str(path))},{how}" for path, how in disks]
    return [
        require_qemu(), "-machine", "q35", "-accel", accelerator.value, "-cpu", cpu_model(accelerator), "-smp", "2", "-m", "2048",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none", "-serial", "stdio",
        "-chardev", f"socket,id=line,path={line.name},server=on,wait=off", "-device", "isa-serial,chardev=line",
        *(word for drive in drives for word in ("-drive", drive)),
        "-kernel", str(host.kernel), "-initrd", str(host.initramfs),
        "-append", f"root=/dev/vda rw init={FIRST} console=ttyS0,115200 quiet panic=-1 mitigations=off",
    ]  # fmt: skip
