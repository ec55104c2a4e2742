"""Linux swap areas: the contents need not travel, but label, UUID and whatever else stands at the begin must."""

from __future__ import annotations

import struct

from converters.allocation.runs import Runs
from converters.allocation.volume import NotUnderstood, Volume
from p2v.core.units import KIB

KEPT_BYTES = 64 * KIB
"""From the begin on: the header fills one page, and pages have up to this many bytes."""
_PAGES = tuple(4 * KIB << power for power in range(5))
_SIGNATURES = (b"SWAPSPACE2", b"SWAP-SPACE")
# the kernel's, those of its 32-bit and user-space kinds, and of TuxOnIce
_SUSPENDED = (b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001", b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c")
_VERSION = 1


def is_swap(volume: Volume) -> bool:
    """Whether there is a swap area's signature, or the one that suspending puts in its place."""
    return any(_signature(volume, page).startswith((*_SIGNATURES, *_SUSPENDED)) for page in _PAGES)


def free_runs(volume: Volume) -> Runs:
    """All behind the begin. Raises NotUnderstood, for one that holds a suspended machine as well."""
    runs = Runs()
    found = [page for page in _PAGES if _signature(volume, page).startswith((*_SIGNATURES, *_SUSPENDED))]
    if len(found) != 1:
        raise NotUnderstood("it has the signatures of several swap areas")
    page, signature = found[0], _signature(volume, found[0])
    if signature.startswith(_SUSPENDED):
        raise NotUnderstood("it holds the memory of a suspended machine")
    if signature != _SIGNATURES[0]:
        raise NotUnderstood("it is a swap area of a version that is not known")
    version, last_page, bad_pages = struct.unpack_from("<III", volume.read(12, KIB))
    if version != _VERSION:
        version, last_page, bad_pages = struct.unpack_from(">III", volume.read(12, KIB))
    if version != _VERSION or bad_pages > (page - 1536) // 4:
        raise NotUnderstood("it is a swap area of a version that is not known")
    end = (last_page + 1) * page
    if end > volume.size:
        raise NotUnderstood(f"it is {end} bytes long, in a place of {volume.size}")
    if end > KEPT_BYTES:
        runs.add(KEPT_BYTES, end - KEPT_BYTES)
    return runs


def _signature(volume: Volume, page: int) -> bytes:
    return volume.peek(10, page - 10)
