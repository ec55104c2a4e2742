"""Memory that no earlier test of the process left behind.

What malloc has got free in its heap is taken first, and is no new address space: after a test that used much, a child that may
use 64 MiB more gets 200 MiB from it. What is mapped counts always.
"""

from __future__ import annotations

import mmap


def take(size: int) -> mmap.mmap:
    """``size`` new bytes of address space, as long as the result is kept. Raises MemoryError as any allocation."""
    try:
        return mmap.mmap(-1, size)
    except OSError as error:
        raise MemoryError(size) from error
