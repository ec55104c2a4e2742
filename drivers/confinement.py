"""A child process that may only compute and read the disks it was given.

Guest contents are hostile input, and the libraries that parse them are written in C. So they run in a forked
child that, as nobody, can start no program, open no file, make no connection, and has limits on memory and
time. Every guard stands alone: where one is missing (no seccomp, no root) the others hold. The answer comes
back as JSON, which is checked like any other input.
"""

from __future__ import annotations

import codecs
import ctypes
import dataclasses
import errno
import fcntl
import gc
import json
import os
import resource
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from drivers.remote_tree import BadQuestion, RemoteTree, answer_one
from drivers.seccomp import filter_system_calls
from drivers.tree import GuestTree
from p2v.core import errors, jsonio
from p2v.core.disk import DiskReader
from p2v.core.errors import P2vError, ReaderCrashed
from p2v.core.units import KIB, MIB

NOBODY = 65534
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_LONGEST_MESSAGE = 500
# looked up before the fork, as the converter is: their modules are loaded on first use, and the child can open no file
_CODECS = ("utf-8", "ascii", "latin-1", "utf-16-le", "utf-16-be", "cp437")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the child may use. ``memory_bytes`` is address space on top of what the forked process has already."""

    memory_bytes: int = 1536 * MIB
    seconds: float = 60.0
    cpu_seconds: int = 60
    result_bytes: int = 16 * MIB


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Answers:
    """Where a child's questions come in, and what answers one of them (False when no more will come)."""

    descriptor: int
    answer: Callable[[], bool]


def disks_name(readers: Sequence[DiskReader]) -> str:
    """The disks in an error: by the first one's file."""
    return str(readers[0].files[0]) if readers and readers[0].files else "disk"


def confined(
    function: Callable[[Sequence[DiskReader]], Any],
    readers: Sequence[DiskReader],
    *,
    limits: Limits = DEFAULT_LIMITS,
    keep_fds: Sequence[int] = (),
    answers: Answers | None = None,
) -> Any:
    """Run ``function(readers)`` in a child without privileges and give back the JSON data that it returned.

    The readers are open already and their modules imported: the child can open nothing. Of the open file
    descriptors it keeps those that are read-only and stand on a file of the readers, and ``keep_fds`` (for
    readers over something that is no file). No other thread of this process may be holding a lock of theirs.
    ``answers``: what this process does meanwhile when the child asks it something.

    Raises ReaderCrashed when the child dies, hangs, breaks a limit or answers nonsense; a P2vError raised in the
    child is raised here again.
    """
    name = disks_name(readers)
    for codec in _CODECS:
        codecs.lookup(codec)
    jsonio.converter()
    answer_end, child_end = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _run_child(function, readers, limits, {child_end, *keep_fds}, child_end, parent)
    os.close(child_end)
    ended = False
    try:
        answer, how = _receive(answer_end, limits, answers)
        ended = how is None
    finally:
        os.close(answer_end)
        status = _end(pid, patience_seconds=1.0 if ended else 0.0)
    if how is None and not os.WIFEXITED(status):
        how = _death(os.WTERMSIG(status), limits)
    if how is not None:
        raise ReaderCrashed(name, how)
    return _understood(answer, name, limits)


def confined_over_tree(
    function: Callable[[GuestTree], Any], tree: GuestTree, *, limits: Limits = DEFAULT_LIMITS
) -> Any:
    """Run ``function`` over a guest's tree that only this process can read; see ``confined``.

    Raises what ``confined`` raises, and what ``tree`` raises when it fails as a whole.
    """
    ours, childs = socket.socketpair()
    with ours, childs:
        # the child closes its copy of our end, as it closes everything it does not need
        answers = Answers(ours.fileno(), lambda: answer_one(ours.fileno(), tree))
        remote = RemoteTree(childs.fileno())
        return confined(lambda _: function(remote), (), limits=limits, keep_fds=(childs.fileno(),), answers=answers)


# --- the parent's side -----------------------------------------------------------------------------------


def _receive(fd: int, limits: Limits, answers: Answers | None) -> tuple[bytes, str | None]:
    """What the child sends up to its end, and how it failed."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if answers is not None:
        poll.register(answers.descriptor, select.POLLIN)
    deadline = time.monotonic() + limits.seconds
    received = bytearray()
    while True:
        left = deadline - time.monotonic()
        ready = {number for number, _ in poll.poll(left * 1000)} if left > 0 else set()
        if not ready:
            if time.monotonic() >= deadline:
                return b"", f"took longer than {limits.seconds:g} s"
            continue
        if answers is not None and answers.descriptor in ready:
            try:
                if not answers.answer():
                    poll.unregister(answers.descriptor)
            except BadQuestion as error:
                return b"", f"failed: it {error}"
        if fd not in ready:
            continue
        piece = os.read(fd, 256 * KIB)
        if not piece:
            return bytes(received), None
        received += piece
        if len(received) > limits.result_bytes:
            return b"", f"gave more than {limits.result_bytes} bytes of results"


def _end(pid: int, patience_seconds: float) -> int:
    """Reap the child; one that closed its pipe is about to go, and is ended when it does not."""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _death(number: int, limits: Limits) -> str:
    if number == signal.SIGXCPU:
        return f"took more than {limits.cpu_seconds} s of processor time"
    try:
        return f"crashed with {signal.Signals(number).name}"
    except ValueError:
        return f"crashed with signal {number}"


def _understood(answer: bytes, name: str, limits: Limits) -> Any:
    """The child's result, or the error it reports. The child may have been taken over: nothing in it is believed."""
    try:
        message = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise ReaderCrashed(name, "ended without a result") from error
    match message:
        case {"result": data}:
            return data
        case {"error": str(kind), "fields": dict(fields)}:
            raise _rebuilt(kind, fields, name)
        case {"memory": True}:
            raise ReaderCrashed(name, f"used more than {limits.memory_bytes} bytes of memory")
        case {"bug": str(text)}:
            raise ReaderCrashed(name, f"failed: {text[:_LONGEST_MESSAGE]}")
    raise ReaderCrashed(name, "ended without a result")


def _rebuilt(kind: str, fields: dict[str, Any], name: str) -> P2vError:
    known = getattr(errors, kind, None)
    if not (isinstance(known, type) and issubclass(known, P2vError)):
        return ReaderCrashed(name, f"failed: {kind[:_LONGEST_MESSAGE]}")
    try:
        return jsonio.decode(jsonio.converter(), fields, known)
    except jsonio.BadDocument as problem:
        return ReaderCrashed(name, f"failed: {kind} ({str(problem)[:_LONGEST_MESSAGE]})")


# --- the child's side ------------------------------------------------------------------------------------


def _run_child(
    function: Callable[[Sequence[DiskReader]], Any],
    readers: Sequence[DiskReader],
    limits: Limits,
    keep: set[int],
    answer_fd: int,
    parent: int,
) -> NoReturn:
    """Never returns: whatever happens, the copy of the parent's state that this process is must not act on it."""
    status = 1
    try:
        leave_parents_garbage()

        def work() -> Any:
            _confine(readers, limits, keep, parent)
            return function(readers)

        answer = _answer(work)
        view = memoryview(answer)
        while view:
            view = view[os.write(answer_fd, view) :]
        status = 0
    finally:
        os._exit(status)


def _answer(work: Callable[[], Any]) -> bytes:
    try:
        return json.dumps({"result": work()}).encode("ascii")
    except MemoryError:
        return b'{"memory": true}'
    except P2vError as error:
        conv = jsonio.converter()
        fields = {f.name: conv.unstructure(getattr(error, f.name)) for f in dataclasses.fields(error)}
        return json.dumps({"error": type(error).__name__, "fields": fields}).encode("ascii")
    except Exception as error:  # noqa: BLE001 - the parent makes it a ReaderCrashed; there is nobody else to tell
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(last.filename)} line {last.lineno}"
        return json.dumps({"bug": f"{type(error).__name__}: {error} ({where})"}).encode("ascii")


def _confine(readers: Sequence[DiskReader], limits: Limits, keep: set[int], parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    _close_descriptors(readers, keep)
    used_pages = int(_read_small("/proc/self/statm").split()[0])
    drop_privileges(libc)
    _prctl(libc, _PR_SET_DUMPABLE, 0)
    forbid_new_privileges(libc)
    if os.getppid() != parent:
        os._exit(1)
    _limit_resources(limits, used_pages * resource.getpagesize())
    filter_system_calls(libc)


def _read_small(path: str) -> str:
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 4096).decode()
    finally:
        os.close(fd)


def _close_descriptors(readers: Sequence[DiskReader], keep: set[int]) -> None:
    """Close all that is neither the answer's pipe nor a read-only descriptor on a file of the readers."""
    of_readers = set()
    for reader in readers:
        for file in reader.files:
            try:
                info = os.stat(file)
            except OSError:
                continue  # gone or out of reach; a descriptor on it cannot be told from any other, so it is closed
            of_readers.add((info.st_dev, info.st_ino))
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        if standard not in keep:
            os.dup2(null, standard)
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd > 2 and fd not in keep and not _reads_one_of(fd, of_readers):
            try:
                os.close(fd)
            except OSError as error:
                if error.errno != errno.EBADF:  # the listing's own descriptor is gone already
                    raise


def _reads_one_of(fd: int, files: set[tuple[int, int]]) -> bool:
    try:
        info = os.fstat(fd)
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError:
        return False
    return (info.st_dev, info.st_ino) in files and flags & os.O_ACCMODE == os.O_RDONLY


def drop_privileges(libc: ctypes.CDLL) -> None:
    """Become nobody, without a network, when we are root; others keep who they are."""
    if os.geteuid() != 0:
        return
    # refused in some containers; the seccomp filter and the closed descriptors keep it off the network as well
    libc.unshare(_CLONE_NEWNET)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _limit_resources(limits: Limits, used_bytes: int) -> None:
    address_space = used_bytes + limits.memory_bytes
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_AS, address_space),
        # what is open stays open; nothing new is opened, not even for reading
        (resource.RLIMIT_NOFILE, 0),
    ):
        limit(kind, value)
    # the hard limit a second later kills what has learned to ignore the signal
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard == resource.RLIM_INFINITY or hard > limits.cpu_seconds:
        resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 1))


def limit(kind: int, value: int) -> None:
    """Lower a resource limit for good, to ``value`` or what is allowed anyway."""
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def forbid_new_privileges(libc: ctypes.CDLL) -> None:
    """No program started from here on gains anything; and the process ends with its parent."""
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    # after the change of user, which clears it
    _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)


def leave_parents_garbage() -> None:
    """In a forked child: never collect what the parent has thrown away.

    Its finalizers are the parent's to run, once; and memory that it gave back here would come on top of the child's limit.
    """
    gc.freeze()


def end_with_parent() -> None:
    """From now on this process is killed when the thread that forked it ends."""
    _prctl(ctypes.CDLL(None, use_errno=True), _PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
