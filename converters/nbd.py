"""Serves disk readers read-only over NBD, so that QEMU reads every format through our one parser.

nbdkit is not told to change its user (``-u nobody``): the image need not be readable to anybody else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import converters
import p2v
from converters.allocation.left_out import LeftOut
from converters.references import DiskSpec
from p2v.core.errors import ProgramFailed, ProgramTimedOut, TargetExists, Usage
from p2v.core.io_errors import write_problem
from p2v.core.run import Background, background

# The prefix of ``converters.nbdkit_plugin.READ_FAILED``, which lives in another interpreter.
_READ_FAILED = "p2v-read-failed: "

# A request is at most 32 MiB, and each thread of nbdkit may hold one.
_THREADS = 4
_START_SECONDS = 60.0
_POLL_SECONDS = 0.02
_SOCKET_PATH_BYTES = 107
_FIRST_SOCKET = "nbd0.sock"
_NAME_TAKEN = "Name another socket, or remove what is there if nothing serves it any more."
_FAILURES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class NbdExport:
    """A disk that is being served: the default export behind one UNIX socket."""

    socket: Path
    log: Path
    program: Background

    @property
    def uri(self) -> str:
        """What QEMU, libnbd and a qcow2 backing file take: ``nbd+unix:///?socket=...`` (format raw)."""
        return f"nbd+unix:///?socket={quote(str(self.socket))}"

    def failures(self) -> tuple[str, ...]:
        """Why reads failed so far (clients only see EIO), the first few different ones."""
        found: dict[str, None] = {}
        with self.log.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(_READ_FAILED):
                    found.setdefault(line.removeprefix(_READ_FAILED).rstrip("\n"))
                    if len(found) == _FAILURES_SHOWN:
                        break
        return tuple(found)


@contextmanager
def serve(spec: DiskSpec, socket_folder: Path, left_out: LeftOut | None = None) -> Iterator[NbdExport]:
    """Serve one disk until the context ends; the server ends with it, however it is left, and with this process.

    ``socket_folder``: a private folder (mode 0700) with a short path, see ``p2v.core.workspace.socket_folder``; several
    exports may share it. What is ``left_out`` reads as zero.

    The kernel ends the server when the *thread* that called this ends: leave the context in it.

    Raises ProgramFailed whose last line is the reader's own sentence when the disk cannot be opened,
    ProgramTimedOut, ToolMissing.
    """
    address, log = _names(socket_folder)
    command = _command(spec, address)
    if left_out is not None:
        ranges = address.with_suffix(".ranges")
        left_out.save(ranges)
        command.append(f"left_out={ranges}")
    with background(command, stderr_file=log) as program:
        try:
            _wait_until_it_accepts(program, address)
            yield NbdExport(address, log, program)
        finally:
            address.unlink(missing_ok=True)


@contextmanager
def serve_at(spec: DiskSpec, address: Path) -> Iterator[NbdExport]:
    """Serve one disk at a socket of the caller's name until the context ends; only the owner may connect to it.

    nbdkit gives its socket to everybody, so it makes it in a private folder beside ``address``, and the name is
    linked to it when its mode is right. Raises TargetExists when the name is taken, Usage for a path that is too
    long for a socket, NotPermitted and ReadFailed where the folder cannot be written to; and what ``serve`` raises.
    """
    if os.path.lexists(address):
        raise TargetExists(address, _NAME_TAKEN)
    try:
        private = tempfile.mkdtemp(prefix=".p2v-", dir=address.parent)
    except OSError as error:
        raise write_problem(error, address) from error
    try:
        with serve(spec, _short_enough(Path(private), address)) as export:
            export.socket.chmod(0o600)
            _link_new(export.socket, address)
            try:
                yield replace(export, socket=address)
            finally:
                address.unlink(missing_ok=True)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _short_enough(folder: Path, address: Path) -> Path:
    if max(len(os.fsencode(folder / _FIRST_SOCKET)), len(os.fsencode(address))) > _SOCKET_PATH_BYTES:
        raise Usage(f"{address}: too long a path for a UNIX socket", "Name one in /run or /tmp.")
    return folder


def _link_new(socket: Path, address: Path) -> None:
    try:
        os.link(socket, address)
    except FileExistsError:
        raise TargetExists(address, _NAME_TAKEN) from None
    except OSError as error:
        raise write_problem(error, address) from error


def _names(folder: Path) -> tuple[Path, Path]:
    if folder.stat().st_mode & 0o077:
        raise ValueError(f"{folder}: a folder for sockets is nobody else's (mode 0700)")
    number = 0
    while True:
        log = folder / f"nbd{number}.log"
        # created here and now, so that two exports made at once never share a name
        with contextlib.suppress(FileExistsError):
            os.close(os.open(log, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            break
        number += 1
    address = folder / f"nbd{number}.sock"
    if len(os.fsencode(address)) > _SOCKET_PATH_BYTES:
        raise ValueError(f"{address}: a UNIX socket's path has at most {_SOCKET_PATH_BYTES} bytes")
    return address, log


def _command(spec: DiskSpec, address: Path) -> list[str]:
    spec = spec.absolute()
    script = Path(converters.__file__).with_name("nbdkit_plugin.py")
    command = ["nbdkit", "--readonly", "--foreground", "--exit-with-parent", f"--threads={_THREADS}"]
    command += ["--unix", str(address), "python", f"script={script}"]
    command += [f"import_path={folder}" for folder in _import_path()]
    command.append(f"image={spec.path}")
    if spec.input_format is not None:
        command.append(f"input_format={spec.input_format}")
    command += [f"parent={path}" for path in spec.lookup.parents]
    command += [f"extent_dir={path}" for path in spec.lookup.folders]
    command += [f"allow={path}" for path in spec.lookup.allowed]
    command.append(f"size_by={spec.lookup.size_by.value}")
    if spec.undo_journal is not None:
        command += [f"undo_journal={spec.undo_journal}", f"undo_disk={spec.undo_disk}"]
    return command


def _import_path() -> tuple[str, ...]:
    """Where this process finds the suite and the packages it needs."""
    ours = [str(Path(package.__file__ or "").resolve().parent.parent) for package in (converters, p2v)]
    packages = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    return tuple(dict.fromkeys([*ours, *packages]))


def _wait_until_it_accepts(program: Background, address: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _accepts(address):
        # _POLL_SECONDS is the pause and the wait for its end in one
        if program.wait(_POLL_SECONDS) is not None:
            raise ProgramFailed("nbdkit", program.exit_status() or 0, program.stderr_tail())
        if time.monotonic() > deadline:
            raise ProgramTimedOut("nbdkit", _START_SECONDS)


def _accepts(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(address))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True
