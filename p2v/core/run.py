"""The only module that starts programs.

Argument lists, never a shell; stdin closed unless given; a fixed locale, so that messages can be read by
machines; the tail of stderr kept for the error; a timeout that ends the whole process group.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from p2v.core.collected import Collector
from p2v.core.errors import ProgramFailed, ProgramTimedOut, ToolMissing

_STDERR_TAIL_LINES = 40
_GRACE_SECONDS = 5.0

# Which Debian package brings a program; `p2v doctor` names the others' packages beside it.
PACKAGES: Mapping[str, str] = {
    "qemu-img": "qemu-utils (dnf: qemu-img)",
    "qemu-system-x86_64": "qemu-system-x86 (dnf: qemu-kvm)",
    "qemu-system-aarch64": "qemu-system-arm (dnf: qemu-system-aarch64-core)",
    "qemu-system-ppc64": "qemu-system-ppc (dnf: qemu-system-ppc-core)",
    "qemu-system-s390x": "qemu-system-misc (dnf: qemu-system-s390x-core)",
    "qemu-nbd": "qemu-utils (dnf: qemu-img)",
    "prlimit": "util-linux",
    "setpriv": "util-linux",
    "nbdkit": "nbdkit and nbdkit-plugin-python (dnf: nbdkit nbdkit-python-plugin)",
    "depmod": "kmod",
    "virt-xml-validate": "libvirt-clients (dnf: libvirt-client)",
    "e2fsck": "e2fsprogs",
    "swtpm": "swtpm",
    "lvcreate": "lvm2",
    "lvremove": "lvm2",
    "lvs": "lvm2",
    "ssh-keygen": "openssh-client (dnf: openssh)",
}


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that ended with an accepted status."""

    stdout: str
    stderr: str
    seconds: float
    exit_status: int = 0


class Runner(Protocol):
    """Runs a program to its end; tests hand in a fake."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: bytes | None = None,
        on_line: Callable[[str], None] | None = None,
        accept: Sequence[int] = (0,),
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run ``argv``.

        ``on_line`` gets each line of stdout as it comes, carriage returns ending lines too (they are kept as well);
        ``accept`` lists the exit statuses that are answers rather than failures (``qemu-img compare`` says 1 for "different").

        Raises ProgramFailed, ProgramTimedOut, ToolMissing.
        """
        ...


def program_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment programs get: the caller's, with the locale fixed."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LC_") and k != "LANGUAGE"}
    env["LANG"] = env["LC_ALL"] = "C.UTF-8"
    env.update(extra or {})
    return env


def find_program(name: str) -> Path | None:
    """Where a program is: on PATH, or in the system folders an ordinary user's PATH leaves out."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/libexec:/usr/lib/qemu")
    return Path(found) if found else None


def require_program(name: str) -> str:
    """The same; a path is taken as it is. Raises ToolMissing."""
    if "/" in name:
        return name
    found = find_program(name)
    if found is None:
        raise ToolMissing(name, PACKAGES.get(name, f"the package that brings {name}"))
    return str(found)


def end_group(process: subprocess.Popen[bytes], grace_seconds: float = _GRACE_SECONDS) -> None:
    """End a program and all it started: politely, then not."""
    for sig, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 10.0)):
        try:
            os.killpg(process.pid, sig)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
            # The leader is gone; its group may still hold stragglers, which get no second chance.
            if sig is signal.SIGTERM:
                os.killpg(process.pid, signal.SIGKILL)
            break
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            break
    process.wait()


@dataclass
class SystemRunner:
    """Runs real programs."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: bytes | None = None,
        on_line: Callable[[str], None] | None = None,
        accept: Sequence[int] = (0,),
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """See ``Runner.run``."""
        started = time.monotonic()
        command = [require_program(argv[0]), *argv[1:]]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=program_environment(env),
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdout, process.stderr:
            out = Collector(process.stdout, on_line).start()
            err = Collector(process.stderr, keep_lines=_STDERR_TAIL_LINES).start()
            try:
                _feed(process, stdin)
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                end_group(process)
                raise ProgramTimedOut(argv[0], timeout) from None
            except BaseException:
                end_group(process)
                raise
            stdout, stderr = out.text(), err.text()
        if status not in accept:
            raise ProgramFailed(argv[0], status, stderr)
        return Completed(stdout, stderr, time.monotonic() - started, status)


def run_at_terminal(argv: Sequence[str], *, timeout: float) -> None:
    """Run a program that may ask the person at the terminal something: it has our terminal and our stdin.

    Its stdout is thrown away. Raises ProgramFailed, ProgramTimedOut, ToolMissing.
    """
    process = subprocess.Popen(
        [require_program(argv[0]), *argv[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=program_environment()
    )
    assert process.stderr is not None
    with process.stderr:
        err = Collector(process.stderr, keep_lines=_STDERR_TAIL_LINES).start()
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProgramTimedOut(argv[0], timeout) from None
        finally:
            # a group of its own would not be let read from the terminal, so it is ended by itself
            if process.poll() is None:
                process.kill()
                process.wait()
        stderr = err.text()
    if status != 0:
        raise ProgramFailed(argv[0], status, stderr)


def _feed(process: subprocess.Popen[bytes], data: bytes | None) -> None:
    if process.stdin is None:
        return
    try:
        with process.stdin as pipe:
            pipe.write(data or b"")
    except BrokenPipeError:
        pass  # the program ended without reading; its exit status tells the story


@dataclass
class Background:
    """A program that runs beside us (QEMU, an NBD server) until its context ends."""

    process: subprocess.Popen[bytes]
    stderr_file: Path | None

    def running(self) -> bool:
        """Whether the program is still there."""
        return self.process.poll() is None

    def exit_status(self) -> int | None:
        """Its exit status, None while it runs."""
        return self.process.poll()

    def wait(self, timeout: float) -> int | None:
        """Wait for its end; None when it is still running after ``timeout`` seconds."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def forbid_new_descriptors(self) -> bool:
        """Let it open nothing any more, no file and no socket, for good; False where the host cannot do that.

        It keeps what it has. Its limit becomes the first free number, not 0: poll(2) refuses more descriptors than
        the limit.
        """
        try:
            taken = {int(name) for name in os.listdir(f"/proc/{self.process.pid}/fd")}
            limit = next(number for number in range(len(taken) + 1) if number not in taken)
            if any(number > limit for number in taken):
                return False
            resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        except OSError:
            return False
        return True

    def stderr_tail(self) -> str:
        """The last lines it wrote to stderr, as far as they were kept in a file."""
        if self.stderr_file is None or not self.stderr_file.exists():
            return ""
        return "\n".join(self.stderr_file.read_text("utf-8", "replace").splitlines()[-_STDERR_TAIL_LINES:])


def _ending_with_us(command: list[str], sig: str) -> list[str]:
    if find_program("setpriv") is None:
        return command
    return [require_program("setpriv"), "--pdeathsig", sig, "--", *_if_still_ours(command)]


def _if_still_ours(command: list[str]) -> list[str]:
    """A command that does nothing when we are gone already: nobody is told of a death that came before the asking."""
    # the name after the script is what the shell calls itself when it does not find the program
    return [require_program("sh"), "-c", '[ "$PPID" = "$1" ] && shift && exec "$@"', "p2v", str(os.getpid()), *command]


@contextmanager
def background(
    argv: Sequence[str],
    *,
    stderr_file: Path | None = None,
    env: Mapping[str, str] | None = None,
    grace_seconds: float = _GRACE_SECONDS,
    pass_fds: Sequence[int] = (),
    stdin_fd: int | None = None,
    ends_with_us: bool = False,
) -> Iterator[Background]:
    """Start a program in its own process group and end the whole group on leaving, however that happens.

    ``stdin_fd`` is an open descriptor that it gets as its stdin. ``ends_with_us``: should we be killed, the kernel kills
    it, provided the host has setpriv; it does so already when the *thread* that called this ends.

    Raises ToolMissing.
    """
    command = [require_program(argv[0]), *argv[1:]]
    if ends_with_us:
        command = _ending_with_us(command, "KILL")
    sink: int | IO[bytes] = subprocess.DEVNULL
    opened = stderr_file.open("wb") if stderr_file is not None else None
    if opened is not None:
        sink = opened
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if stdin_fd is None else stdin_fd,
            stdout=subprocess.DEVNULL,
            stderr=sink,
            env=program_environment(env),
            start_new_session=True,
            pass_fds=tuple(pass_fds),
        )
    finally:
        if opened is not None:
            opened.close()
    try:
        yield Background(process, stderr_file)
    finally:
        end_group(process, grace_seconds)


@dataclass
class Piped:
    """A program of its own process group that says things through pipes; nothing here waits for it.

    ``stdout`` and ``stderr``: our ends, which never block; ``stdout`` is None where it is not listened to, and there is no
    ``stderr`` where that goes to a file. ``ended``: a descriptor that is readable once the program has ended.
    """

    process: subprocess.Popen[bytes]
    ended: int

    @property
    def stdout(self) -> int | None:
        """Our end of its stdout."""
        return None if self.process.stdout is None else self.process.stdout.fileno()

    @property
    def stderr(self) -> int:
        """Our end of its stderr; none where it goes elsewhere."""
        assert self.process.stderr is not None
        return self.process.stderr.fileno()

    def tell(self, words: bytes) -> bool:
        """Say something to its stdin, all of it or nothing (a few bytes); whether there was room, or nobody who would hear it."""
        if self.process.stdin is None:
            return True
        try:
            os.write(self.process.stdin.fileno(), words)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def has_ended(self) -> bool:
        """Whether the program has ended; its number is not given to another one until ``close``."""
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def ask_to_end(self) -> None:
        """SIGTERM, to the program alone: what it started is its own to end."""
        # by its descriptor: Popen.send_signal takes note of an end first, and nobody could ask for it any more
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.ended, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, to all of its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self, patience: float = 5.0) -> int | None:
        """Kill what is left of the group; its exit status, negative for a signal. None: it did not end, it waits in the kernel."""
        self.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        with contextlib.suppress(OSError):
            os.close(self.ended)
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return None


def start_piped(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    with_stdout: bool = False,
    is_told: bool = False,
    said: int = -1,
    ends_with_us: bool = True,
) -> Piped:
    """Start a program that is listened to through ``Piped``; what it says to stdout is thrown away without ``with_stdout``.

    ``env`` is beside ours. ``is_told``: its stdin is what ``Piped.tell`` says, not ``stdin``. It gets SIGTERM when the *thread*
    that called this ends, as far as the host has setpriv; not so without ``ends_with_us``. ``said``: a file for its stderr, which
    takes what it says also when we are gone. Raises ToolMissing, and OSError where the host starts no more programs.
    """
    named = [require_program(argv[0]), *argv[1:]]
    # what a shell cannot start it says itself, with a status that is known
    command = _ending_with_us(named, "TERM") if ends_with_us else [require_program("sh"), "-c", 'exec "$@"', "p2v", *named]
    # a file and not a pipe: nobody has to feed it
    with os.fdopen(os.memfd_create("stdin", os.MFD_CLOEXEC), "w+b") as given:
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if is_told else given,
            stdout=subprocess.PIPE if with_stdout else subprocess.DEVNULL,
            stderr=subprocess.PIPE if said < 0 else said,
            env=program_environment(env),
            start_new_session=True,
            bufsize=0,
        )
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            os.set_blocking(stream.fileno(), False)
    return Piped(process, os.pidfd_open(process.pid))
