"""The script that nbdkit's Python plugin loads: serves one of our disk readers, read-only.

It runs inside nbdkit's own interpreter, which knows neither the checkout nor the virtual environment: both come
as ``import_path`` parameters, and nothing of the suite is imported before they are known.

Block status is told from the reader's extents, looked up for the range that is asked for.

Parameters: ``import_path`` (repeated, in order of preference), ``image``, ``input_format`` (left out: probe), and the
fields of ``converters.references.Lookup``: ``parent``, ``extent_dir``, ``allow`` (each repeated), ``size_by``; ``undo_journal`` and
``undo_disk`` for a disk as it was before a conversion in place; ``left_out``: a file with ranges that read as zero
(``converters.allocation.left_out``).
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

import nbdkit

if TYPE_CHECKING:
    from converters.sparse_view import SparseView

API_VERSION = 2

# `converters.nbd` looks for lines that begin so; the name is repeated there because neither can import the other.
READ_FAILED = "p2v-read-failed: "

_import_path: list[str] = []
_parameters: dict[str, str] = {}
_folders: dict[str, list[str]] = {"parent": [], "extent_dir": [], "allow": []}
_disk: list[SparseView] = []


def config(key: str, value: str) -> None:
    """Take one parameter of the command line."""
    if key == "import_path":
        _import_path.append(value)
    elif key in ("image", "input_format", "size_by", "undo_journal", "undo_disk", "left_out"):
        _parameters[key] = value
    elif key in _folders:
        _folders[key].append(value)
    else:
        raise ValueError(f"unknown parameter {key!r}")


def config_complete() -> None:
    """Check that there is a disk to serve."""
    if "image" not in _parameters:
        raise ValueError("the parameter image is missing")


def thread_model() -> int:
    """Requests run side by side; readers allow it, and inflating and reading give up the GIL."""
    return int(nbdkit.THREAD_MODEL_PARALLEL)


def get_ready() -> None:
    """Open the disk before the socket is made, so that a bad image means no server at all."""
    _extend_sys_path()
    from pathlib import Path

    from converters.allocation.left_out import LeftOut
    from converters.references import DiskSpec, Lookup, SizeBy
    from converters.sparse_view import SparseView
    from converters.undo_view import open_spec
    from p2v.core.errors import P2vError

    parents, folders, allowed = (tuple(map(Path, found)) for found in _folders.values())
    lookup = Lookup(parents, folders, allowed, SizeBy(_parameters.get("size_by", SizeBy.CREATOR.value)))
    journal = Path(_parameters["undo_journal"]) if "undo_journal" in _parameters else None
    spec = DiskSpec(
        Path(_parameters["image"]),
        _parameters.get("input_format"),
        lookup,
        journal,
        int(_parameters.get("undo_disk", "0")),
    )
    try:
        left_out = LeftOut.load(Path(_parameters["left_out"])) if "left_out" in _parameters else LeftOut()
        _disk.append(SparseView(open_spec(spec), left_out))
    except P2vError as error:
        # Last words: our caller shows the last line of stderr, nbdkit's own would be a traceback.
        sys.stderr.write(f"{error.sentence()}\n")
        sys.stderr.flush()
        os._exit(error.exit_code)


def cleanup() -> None:
    """Close the disk."""
    while _disk:
        _disk.pop().close()


def open(readonly: bool) -> SparseView:
    """Every connection reads the same disk."""
    return _disk[0]


def get_size(disk: SparseView) -> int:
    """Bytes of the virtual disk."""
    return disk.virtual_size


def can_write(disk: SparseView) -> bool:
    """Never."""
    return False


def can_multi_conn(disk: SparseView) -> bool:
    """Nothing is ever written, so all connections see the same."""
    return True


def can_cache(disk: SparseView) -> int:
    """No: the host's page cache does it."""
    return int(nbdkit.CACHE_NONE)


def pread(disk: SparseView, buffer: Any, offset: int, flags: int) -> None:
    """Fill ``buffer`` from ``offset``. Whatever goes wrong becomes EIO, and a line on stderr that says what."""
    try:
        data = disk.pread(len(buffer), offset)
        if len(data) != len(buffer):
            raise EOFError(f"{len(data)} of {len(buffer)} bytes at {offset}")
        buffer[:] = data
    except Exception as error:
        _tell(error)
        raise


def can_extents(disk: SparseView) -> bool:
    """Always: what a format knows of holes and zeroes."""
    return True


def extents(disk: Any, count: int, offset: int, flags: int) -> list[tuple[int, int, int]]:
    """The story of a range, as far as one answer holds: (offset, length, type) from ``offset`` on."""
    from converters.block_status import block_status

    types = {
        (False, False): 0,
        (True, False): nbdkit.EXTENT_ZERO,
        (True, True): nbdkit.EXTENT_ZERO | nbdkit.EXTENT_HOLE,
    }
    try:
        first = bool(flags & nbdkit.FLAG_REQ_ONE)
        found = block_status(disk.reader, offset, count, only_first=first, left_out=disk.left_out)
        return [(each.offset, each.length, types[each.zero, each.hole]) for each in found]
    except Exception as error:
        _tell(error)
        raise


def _tell(error: Exception) -> None:
    # One write call: lines of parallel requests must not mix.
    os.write(2, f"{READ_FAILED}{_one_line(error)}\n".encode("utf-8", "backslashreplace"))
    nbdkit.set_error(errno.EIO)


def _one_line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())


def _extend_sys_path() -> None:
    """Put our folders after the standard library and before the system's packages."""
    here = next((n for n, entry in enumerate(sys.path) if entry.endswith("-packages")), len(sys.path))
    sys.path[here:here] = [entry for entry in _import_path if entry not in sys.path]
