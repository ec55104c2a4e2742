"""What this process has open, for tests that assert that all of it was closed."""

from __future__ import annotations

import contextlib
import os


def descriptors() -> frozenset[tuple[int, str]]:
    """Each open descriptor with what it leads to.

    To be compared as a set, not counted: what another test left may be closed at any moment, by a thread of it or a
    collection of garbage.
    """
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
    return frozenset(found)
