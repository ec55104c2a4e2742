"""Rows about what the suite stands on: locks of several hosts, names, holes, and what is refused only when a file is synced."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from converters.direct_file import DirectFile
from converters.host_file import fallocate, make_zero, punch_hole, stored_ranges
from p2v.core.errors import LeaseLost, NoSpace, TargetExists
from p2v.core.fence import fence_path, fenced, raise_fence, remove_fence
from p2v.core.units import MIB
from p2v.core.workspace import (
    LockState,
    lock_state,
    locked,
    remove_files,
    rename_new,
    sync_folder,
    take_lock,
    write_synced,
)
from tests.batch.nfs.servers import EXPORT, SMALL, Host, Server, measured, mounted, run, second_host, served, until

NFS, NFS_2 = Path("/nfs"), Path("/nfs2")

# On the other host: says when it is about to lock a file that it has opened, and does so when it is told.
_SLOW = """
import fcntl, os, sys
from pathlib import Path
from p2v.core import workspace, fence
from p2v.core.errors import P2vError
real, asked = fcntl.flock, []
def flock(descriptor, how):
    if not asked:
        asked.append(os.fstat(descriptor).st_ino)
        print("opened", asked[0], flush=True)
        sys.stdin.readline()
    return real(descriptor, how)
fcntl.flock = flock
path = Path(sys.argv[1])
os.stat(path)
os.listdir(path.parent)
"""
_HOLDS = """
import sys, time
from pathlib import Path
from p2v.core.workspace import take_lock
held = take_lock(Path(sys.argv[1]), Path("x"))
print("held", flush=True)
time.sleep(1000)
"""
_TAKES = (
    _SLOW
    + """
try:
    descriptor, held = workspace.take_lock(path, path)
    print("locked" if held else "no locks", os.fstat(descriptor).st_ino, flush=True)
    sys.stdin.readline()
except P2vError as error:
    print(error.code, flush=True)
"""
)
_FENCES = (
    _SLOW
    + """
try:
    fence.raise_fence(path.parent, sys.argv[2], 2)
    print("raised", flush=True)
except P2vError as error:
    print(error.code, flush=True)
"""
)


def locks(version: str = "4.2") -> Mapping[str, Any]:
    """Two hosts never hold one lock; who is killed holds none; what is held outlives the server's restart."""
    how = (f"vers={version}",)
    with served() as server, mounted(NFS, how), second_host(NFS_2, how) as other:
        folder = NFS / "locks"
        folder.mkdir()
        _is_refused_elsewhere(folder / "one", other)
        _lock_of_the_killed(folder / "two")
        _lock_on_a_file_that_goes(folder / "three", other)
        _fence_that_goes(folder, "vm", other)
        # who looks at a lock at that moment lets the client keep the file, under another name
        _lock_on_a_file_that_goes(folder / "seen", other, is_seen=True)
        _fence_that_goes(folder, "seen", other, is_seen=True)
        print("all was one at a time")
        began = time.monotonic()
        _outlives_a_restart(folder / "four", other, server)
        return {"seconds of a restart": measured(began)}


def _take_elsewhere(other: Host, path: Path) -> str:
    program = other.python(_TAKES, NFS_2 / path.relative_to(NFS))
    assert program.stdin is not None
    assert program.stdout is not None
    assert program.stdout.readline().startswith("opened")
    said, _ = program.communicate("\n\n", timeout=200)
    return said.split()[0]


def _is_refused_elsewhere(path: Path, other: Host) -> None:
    with locked(path, path) as held:
        assert held
        assert lock_state(path) is LockState.HELD
        assert _take_elsewhere(other, path) == "target-busy"
    assert not path.exists()
    descriptor, held = take_lock(path, path)
    os.close(descriptor)
    assert _take_elsewhere(other, path) == "locked"


def _lock_of_the_killed(path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDS, path], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert lock_state(path) is LockState.HELD
    holder.kill()
    holder.wait()
    until(lambda: lock_state(path) is LockState.FREE, "the end of a dead one's lock", 20)


def _lock_on_a_file_that_goes(path: Path, other: Host, *, is_seen: bool = False) -> None:
    """Who holds it takes the file away while another has it open and waits: that one locks the file that has the name then."""
    with ExitStack() as stack:
        with locked(path, path):
            if is_seen:
                stack.enter_context(path.open())
            program = other.python(_TAKES, NFS_2 / path.relative_to(NFS))
            assert program.stdin is not None
            assert program.stdout is not None
            program.stdout.readline()
        program.stdin.write("\n")
        program.stdin.flush()
        said = program.stdout.readline().split()
        real = EXPORT / path.relative_to(NFS)
        there = real.stat().st_ino if real.exists() else None
    program.communicate("\n", timeout=200)
    assert said == ["locked", str(there)], (said, there, "a lock on a file without a name guards nothing")


def _fence_that_goes(folder: Path, name: str, other: Host, *, is_seen: bool = False) -> None:
    """A job's end takes its fence away while the next one's worker waits for it: that one's number stands there afterwards."""
    raise_fence(folder, name, 1)
    path = fence_path(folder, name)
    program = other.python(_FENCES, NFS_2 / path.relative_to(NFS), name)
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdout.readline()
    with path.open() if is_seen else nullcontext():
        assert remove_fence(folder, name, 1)
        said, _ = program.communicate("\n", timeout=200)
    assert said == "raised\n", said
    real = EXPORT / path.relative_to(NFS)
    assert real.exists(), "a number in a file without a name fences nobody"
    assert int(real.read_text()) == 2, "a number in a file without a name fences nobody"
    try:
        with fenced(folder, name, 1):
            raise AssertionError("a lower number gave names")
    except LeaseLost:
        pass


def _outlives_a_restart(path: Path, other: Host, server: Server) -> None:
    with locked(path, path):
        server.kill()
        server.start()
        said = _take_elsewhere(other, path)
        assert said == "target-busy", said
    assert not path.exists()


def names(version: str = "4.2") -> Mapping[str, Any]:
    """A name is given once, whole; folders go with all that somebody has open in them; no file that NFS hides is left."""
    with served(), mounted(NFS, (f"vers={version}",)):
        folder = NFS / "names"
        folder.mkdir()
        (folder / "a").write_text("a")
        (folder / "b").write_text("b")

        try:
            rename_new(folder / "a", folder / "b")
            raise AssertionError("a name was given twice")
        except TargetExists:
            pass
        with (folder / "a").open() as held:
            rename_new(folder / "a", folder / "c")
            assert held.read() == "a"
            hidden = sorted(path.name for path in folder.iterdir() if path.name.startswith(".nfs"))
        until(
            lambda: sorted(path.name for path in folder.iterdir()) == ["b", "c"], "the end of a name that NFS made", 20
        )
        work = folder / "work"
        work.mkdir()
        (work / "overlay").write_text("x")
        program = "import sys, time; held = open(sys.argv[1]); print('open', flush=True); time.sleep(1)"
        with subprocess.Popen([sys.executable, "-c", program, work / "overlay"], stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"open\n"
            began = time.monotonic()
            remove_files([work])
            assert not work.exists()
            taken = measured(began)
        until(lambda: sorted(path.name for path in folder.iterdir()) == ["b", "c"], "the end of what was open", 20)
        sync_folder(folder)
        return {"hidden names while open": hidden, "a folder with an open file": taken}


def files(version: str = "4.2") -> Mapping[str, Any]:
    """Holes are seen and made where the protocol knows them, and bytes are right where it does not."""
    with served(), mounted(NFS, (f"vers={version}",)):
        path = NFS / "holes"
        with path.open("wb") as file:
            file.truncate(64 * MIB)
            file.seek(16 * MIB)
            file.write(os.urandom(4 * MIB))
        handle = os.open(path, os.O_RDWR)
        try:
            os.fsync(handle)
            ranges = list(stored_ranges(handle, path))
            punched = punch_hole(handle, 17 * MIB, MIB)
            make_zero(handle, path, 17 * MIB, MIB)
            os.fsync(handle)
            assert os.pread(handle, MIB, 17 * MIB) == bytes(MIB)
            assert os.pread(handle, MIB, 16 * MIB) == (EXPORT / "holes").read_bytes()[16 * MIB : 17 * MIB]
            direct = DirectFile(handle, path)
            direct.write(handle, [memoryview(bytes(MIB))], 0)
            direct.close()
            reserved = fallocate(handle, 0, 0, MIB) == 0
        finally:
            os.close(handle)
        return {
            "stored ranges of a sparse file": ranges,
            "punched": punched,
            "reserved": reserved,
            "fstype": path.stat().st_dev,
        }


@contextmanager
def _filled(place: Path) -> Iterator[None]:
    """A file system with a little room."""
    with (place / "ballast").open("wb") as file:
        free = shutil.disk_usage(place).free - 2 * MIB
        os.posix_fallocate(file.fileno(), 0, free)
    try:
        yield
    finally:
        (place / "ballast").unlink()


def refusals(version: str = "4.2") -> Mapping[str, Any]:
    """What the server refuses is told of by a file's sync alone, and is taken for what it is; a quota as well."""
    with served(), mounted(NFS / "small", (f"vers={version}",), SMALL) as small:
        with _filled(SMALL):
            late = _refused_late(small / "late")
            try:
                write_synced(small / "whole", os.urandom(8 * MIB))
                raise AssertionError("it was taken")
            except NoSpace as error:
                said = error.sentence()
            remove_files([small / "late", small / "whole"])
        run("setquota", "-u", "65534", "4096", "4096", "0", "0", SMALL)
        SMALL.chmod(0o777)
        quota = _quota(small)
        return {"late": late, "said": said, "quota": quota}


def _refused_late(path: Path) -> Mapping[str, str]:
    """By which call ENOSPC came."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    told = ""
    try:
        for _ in range(8):
            os.write(handle, os.urandom(MIB))
    except OSError as error:
        told = f"write {errno.errorcode[error.errno or 0]}"
    try:
        os.fsync(handle)
    except OSError as error:
        told = told or f"fsync {errno.errorcode[error.errno or 0]}"
    try:
        os.close(handle)
    except OSError as error:
        told = told or f"close {errno.errorcode[error.errno or 0]}"
    return {"call": told}


def _quota(small: Path) -> str:
    program = f"""
import os
from pathlib import Path
from p2v.core.errors import P2vError
from p2v.core.workspace import write_synced
os.setgid(65534); os.setuid(65534)
try:
    write_synced(Path({str(small / "quota")!r}), os.urandom(8 << 20))
    print("taken")
except P2vError as error:
    print(error.code, error.sentence())
"""
    said = run(sys.executable, "-c", program)
    assert said.startswith("no-space"), said
    return said.strip()
