"""Whose a store is: the one host that opens it. Told by a file beside it, which can be read without opening the store.

SQLite's write-ahead log has an index in memory that all who use the store share; hosts share none, and "WAL does not work over a
network filesystem" (https://www.sqlite.org/wal.html). Two hosts that opened one store would damage it without a word, already by
reading: whoever closes it last moves the log into the file.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from p2v.batch.mounts import Mounts
from p2v.core.errors import ReadFailed, StoreElsewhere, TargetExists
from p2v.core.marks import HostName, this_host
from p2v.core.text import printable
from p2v.core.workspace import remove_quietly, rename_new, write_synced

_SUFFIX = "-host"
_LONGEST_BYTES = 4096
_LONGEST_NAME = 253


@dataclass(frozen=True, slots=True)
class Owner:
    """The host that opens a store. ``over``: the kind of a network's file system that it sees it on; empty: a disk of its own."""

    host: HostName
    over: str


def owner_path(store: Path) -> Path:
    """The file that tells whose a store is."""
    return store.with_name(store.name + _SUFFIX)


def require_ours(store: Path, *, make: bool) -> str:
    """See to it that no other host opens this store; the kind of a network's file system that it is on, empty for none.

    ``make``: it becomes ours where it is nobody's. One that stands on a disk of this host, and that its owner saw on a disk of its
    own, has come here with its disk (or the host has another name): it is ours from now on. Raises StoreElsewhere, and as writing.
    """
    here = Owner(this_host(), network_file_system(store.parent))
    known = _owner(store)
    if known is None:
        if not make or _claimed(store, here):
            return here.over
        known = _owner(store)
    if known is not None and known.host != here.host:
        if here.over or known.over:
            raise StoreElsewhere(store, printable(known.host.name, keep=""), here.over, owner_path(store))
        if make:
            _write(store, here)
    return here.over


def _owner(store: Path) -> Owner | None:
    """Raises ReadFailed for a file that is damaged."""
    path = owner_path(store)
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_BYTES)
        match json.loads(text):
            case {"host": str(name), "machine": str(machine), "over": str(over)}:
                return Owner(HostName(name[:_LONGEST_NAME], machine), over)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReadFailed(str(path), f"cannot be read: {error.strerror}") from error
    except ValueError:
        pass
    raise ReadFailed(
        str(path), "does not tell which host has this store; remove it when no p2v uses the store anywhere"
    )


def _claimed(store: Path, here: Owner) -> bool:
    """Make the file, whole, unless there is one by now."""
    try:
        _write(store, here, replacing=False)
    except TargetExists:
        return False
    return True


def _write(store: Path, owner: Owner, *, replacing: bool = True) -> None:
    path = owner_path(store)
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    data = {"host": owner.host.name, "machine": owner.host.machine, "over": owner.over}
    try:
        write_synced(new, json.dumps(data) + "\n", 0o600)
        if replacing:
            os.replace(new, path)
        else:
            rename_new(new, path)
    except OSError as error:
        raise ReadFailed(str(path), f"cannot be written: {error.strerror}") from error
    finally:
        remove_quietly([new])


def network_file_system(folder: Path, mounts: str | None = None) -> str:
    """The kind of a network's file system that a folder is on; empty where it is on none, or nobody can tell.

    ``mounts``: what stands in /proc/self/mountinfo (https://docs.kernel.org/filesystems/proc.html, section 3.5).
    """
    return Mounts.of(mounts).network_of(folder)[0]
