"""Registry hives and their logs as fuzzing targets: a hive is read whole, a log is replayed over a dirty hive and that is read."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable
from pathlib import Path

from drivers.windows.hive_log import recover
from drivers.windows.regf import BadHive, Hive
from tests.drivers.windows.hive_writer import HiveWriter, Node, log_entry, new_log, old_log, with_sequences
from tests.fixtures.hives import dword, make_hive, multi_sz, seal, sz
from tests.fuzz.laying import laid
from tests.fuzz.sparse import Sparse

# guests' files are read into memory, up to their limits; there is nothing to be found in large holes
LARGEST_BYTES = 512 * 1024
_SMALL = {"Select": {"Current": dword(1)}, "ControlSet001\\Services\\disk": {"Start": dword(0), "T": multi_sz("a")},
          "日本": {"": sz("text" * 100)}}  # fmt: skip
_BLOCK_BYTES = 512


def hives(folder: Path) -> Iterable[Path]:
    """One by hivex, and one with every kind of list, a big value and class names."""
    children = [
        Node(f"k{n}", kind=kind, per_leaf=2, subkeys=[Node(f"s{i}") for i in range(5)], class_name="c")
        for n, kind in enumerate((b"li", b"lf", b"lh"))
    ]
    seeds = {"hivex": make_hive(_SMALL), "own": HiveWriter().hive(Node("ROOT", [("big", 3, bytes(40_000))], children))}
    return laid(folder, seeds)


def logs(folder: Path) -> Iterable[Path]:
    """One of each kind, over a hive that was not written to its end."""
    hive = with_sequences(make_hive(_SMALL), 9, 8)
    (folder / "dirty").write_bytes(hive)
    pages, bins_bytes = {0: hive[4096:8192]}, len(hive) - 4096
    entry = log_entry(pages, sequence=9, bins_bytes=bins_bytes)
    old = old_log(hive, pages, bins_bytes=bins_bytes, sequence=9)
    return laid(folder, {"old": old, "new": new_log(hive, [entry], sequence=9)})


def right_sum(file: Sparse) -> None:
    """The checksum of the base block."""
    block = bytearray(file.read(0, _BLOCK_BYTES))
    if len(block) == _BLOCK_BYTES:
        seal(block)
        file.write(_BLOCK_BYTES - 4, struct.pack("<I", *struct.unpack_from("<I", block, _BLOCK_BYTES - 4)))


def read_hive(path: Path) -> None:
    """Everything that is read of a hive. Damage ends in BadHive, which is fine; anything else is a finding."""
    with contextlib.suppress(BadHive):
        _read_all(path.read_bytes())


def read_log(path: Path) -> None:
    """The same of the dirty hive that ``logs`` leaves, with the input as its log."""
    with contextlib.suppress(BadHive):
        _read_all(recover((path.parent / "dirty").read_bytes(), [path.read_bytes()]).data)


def _read_all(data: bytes) -> None:
    for _, key in Hive(data).walk():
        list(key.values())
        key.class_name()
        key.security()
