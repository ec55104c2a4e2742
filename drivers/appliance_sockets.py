"""Where libguestfs has its sockets: for root in /tmp, whatever it is told, in a folder that nobody knows again after a kill.

So it is noted as soon as there is a socket in it, for whoever cleans up.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2v.core.unix_sockets import unix_sockets
from p2v.core.workspace import SOCKETS_VARIABLE, note_elsewhere

_NAME = "libguestfs"
_LOOK_SECONDS = 0.05


@contextmanager
def noted_sockets() -> Iterator[None]:
    """While the context lasts (a launch), note each such folder as it comes to be. Without a batch nothing is looked at."""
    if not os.environ.get(SOCKETS_VARIABLE):
        yield
        return
    known = socket_folders()
    over = threading.Event()
    looking = threading.Thread(target=_look, args=(known, over), name="sockets", daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


def _look(known: set[Path], over: threading.Event) -> None:
    ended = False
    while not ended:
        ended = over.wait(_LOOK_SECONDS)
        for folder in socket_folders() - known:
            note_elsewhere(folder)
            known.add(folder)


def socket_folders() -> set[Path]:
    """Folders of libguestfs in which this process has UNIX sockets."""
    inodes = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            aim = os.readlink(entry)
            if aim.startswith("socket:["):
                inodes.add(int(aim[len("socket:[") : -1]))
    found = set()
    with contextlib.suppress(OSError):
        folders = {Path(each.name).parent for each in unix_sockets() if each.inode in inodes}
        found = {folder for folder in folders if folder.name.startswith(_NAME)}
    return found
