"""Where built appliances are kept: one folder for each set of parts, whole or not there, used and removed under a lock."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drivers.fixed_appliance.building import FILES
from drivers.fixed_appliance.parts import FIXED_MARK
from p2v.core.acceleration import Accelerator

# The one before this stays a while: hosts with other packages may have the same home.
KEPT = 2
_LOCK = "lock"
_CONTENTS = "contents.json"
_WORKS = "works-"
_UNFIT = ".unfit"
_BUILDING = ".building-"
_LOOK_SECONDS = 0.1
_EXT2_MAGIC_AT, _EXT2_MAGIC = 1080, b"\x53\xef"
_REASON_CHARACTERS = 500
_REASON_BYTES = 4 * _REASON_CHARACTERS


class Busy(OSError):
    """Somebody else had the lock for too long."""


class Untrusted(ValueError):
    """Others than this user could change what is kept there; the text says where."""


@dataclass(frozen=True, slots=True)
class Store:
    """The appliances kept in ``folder`` (made when something is built)."""

    folder: Path

    def path(self, key: str) -> Path:
        """Where the appliance of these parts is, or would be."""
        return self.folder / key

    def is_whole(self, key: str) -> bool:
        """Whether it is there as it was built: regular files of ours with their sizes and times."""
        folder = self.path(key)
        try:
            noted = json.loads((folder / _CONTENTS).read_text("utf-8"))
            return noted == _contents(folder) and (folder / FIXED_MARK).is_file() and _is_ext2(folder / "root")
        except (OSError, ValueError, RecursionError):
            return False

    def take_in(self, made: Path, key: str) -> None:
        """Put a built appliance (in ``folder``'s file system) in its place, instead of a damaged one. With the lock held."""
        (made / _CONTENTS).write_text(json.dumps(_contents(made)), "utf-8")
        self.forget_reason(key)
        if self.path(key).exists() or self.path(key).is_symlink():
            _remove(self.path(key))
        made.rename(self.path(key))

    def works(self, key: str, accelerator: Accelerator) -> bool:
        """Whether it has started here before."""
        return (self.path(key) / f"{_WORKS}{accelerator.value}").exists()

    def note_works(self, key: str, accelerator: Accelerator) -> None:
        """It has started; it is the one in use."""
        with contextlib.suppress(OSError):
            (self.path(key) / f"{_WORKS}{accelerator.value}").touch()
            os.utime(self.path(key))

    def reason_against(self, key: str, accelerator: Accelerator) -> str | None:
        """Why none of these parts is used, found by trying."""
        for name in (f"{key}{_UNFIT}", f"{key}{_UNFIT}-{accelerator.value}"):
            with contextlib.suppress(OSError), (self.folder / name).open("rb") as file:
                return file.read(_REASON_BYTES).decode("utf-8", "replace")
        return None

    def note_reason(self, key: str, reason: str, accelerator: Accelerator | None = None) -> None:
        """Why it cannot be built, or does not start under ``accelerator``: not tried again as long as the parts are the same."""
        ending = f"-{accelerator.value}" if accelerator else ""
        with contextlib.suppress(OSError):
            (self.folder / f"{key}{_UNFIT}{ending}").write_text(reason[:_REASON_CHARACTERS], "utf-8", errors="replace")

    def forget_reason(self, key: str) -> None:
        """It is to be tried again."""
        for path in self.folder.glob(f"{key}{_UNFIT}*"):
            path.unlink(missing_ok=True)

    def kept(self) -> tuple[Path, ...]:
        """The appliances there, the last used first."""
        found = []
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                if not path.is_symlink() and (path / FIXED_MARK).exists() and not path.name.startswith(_BUILDING):
                    found.append((path.stat().st_mtime, path))
        return tuple(path for _, path in sorted(found, reverse=True))

    def remove_old(self, key: str) -> None:
        """Remove what a killed build left, and all but this and the last used of the others. With the lock held for us alone."""
        for path in [path for path in self.kept() if path.name != key][KEPT - 1 :]:
            _remove(path)
        for path in self.folder.glob(f"{_BUILDING}*"):
            _remove(path)

    def remove_all(self, seconds: float) -> int:
        """Remove every appliance and what was found out about them; how many there were. Raises Busy, OSError, Untrusted."""
        if not self.folder.is_dir():
            return 0
        self.require_trust()
        with self.locked(seconds, alone=True):
            count = len(self.kept())
            for path in self.folder.iterdir():
                if path.name != _LOCK:
                    _remove(path)
        return count

    @contextmanager
    def building(self) -> Iterator[Path]:
        """A folder to build in, which goes away with what is left in it. With the lock held for us alone."""
        folder = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=self.folder))
        try:
            yield folder
        finally:
            _remove(folder)

    def make(self) -> None:
        """Make the folder, for this user alone. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def require_trust(self) -> None:
        """Raise Untrusted where another user could have put something there, or could put it there later."""
        whole = self.folder.resolve()
        for folder in (whole, *whole.parents, *self.folder.absolute().parents):
            facts = folder.stat()
            if facts.st_uid not in (0, os.geteuid()):
                raise Untrusted(f"{folder} belongs to another user")
            shared = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if shared and (folder == whole or not facts.st_mode & stat.S_ISVTX):
                raise Untrusted(f"{folder} can be written to by other users")

    @contextmanager
    def locked(self, seconds: float, *, alone: bool) -> Iterator[None]:
        """Hold the lock, ``alone`` or with others that only use what is there. Raises Busy after ``seconds``, OSError."""
        descriptor = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        deadline = time.monotonic() + seconds
        try:
            while not _locks(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
                if time.monotonic() >= deadline:
                    raise Busy(f"{self.folder} was locked for {seconds:g} seconds")
                time.sleep(_LOOK_SECONDS)
            yield
        finally:
            # said, and not left to the closing: a child that was forked meanwhile may have it open, too
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _locks(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _contents(folder: Path) -> dict[str, list[int]]:
    """Size and time of each file. Raises OSError where one is no regular file of this user's."""
    found = {}
    for name in FILES:
        facts = (folder / name).lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
            raise OSError(f"{name} is no regular file of this user's")
        found[name] = [facts.st_size, facts.st_mtime_ns]
    return found


def _is_ext2(root: Path) -> bool:
    """libguestfs takes the root's UUID from its superblock, and where there is none its launch ends by SIGSEGV."""
    with root.open("rb") as file:
        file.seek(_EXT2_MAGIC_AT)
        return file.read(len(_EXT2_MAGIC)) == _EXT2_MAGIC


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
