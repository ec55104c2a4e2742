"""Writing around the page cache: which runs do, and that the file holds the same whatever the host takes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from converters.device_writer import DeviceWriter
from converters.direct_file import DirectFile
from converters.pieces import FULL_MAP, PIECE_BYTES, PieceBuffer
from converters.raw_writer import RawWriter
from p2v.core.errors import NoSpace
from p2v.core.units import KIB, MIB

_DISK, _NO_DISK = os.makedev(8, 1), os.makedev(0, 40)


@dataclass
class Host:
    """A host whose file system takes direct writes, or refuses, or cuts them short; whatever is below ``tmp_path``."""

    device: int = _DISK
    is_block_device: bool = False
    refuses: int = 0
    takes: int = 1 << 40
    direct: set[int] = field(default_factory=set)
    writes: list[tuple[bool, int, int]] = field(default_factory=list)
    """Of each write: whether it was direct, its offset and its length."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        real_open, real_fstat, real_write = os.open, os.fstat, os.pwritev

        def opened(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            handle = real_open(path, flags & ~os.O_DIRECT, *rest, **more)
            if flags & os.O_DIRECT:
                self.direct.add(handle)
            return handle

        def status(handle: int) -> os.stat_result:
            found = list(real_fstat(handle))
            found[2] = self.device
            if self.is_block_device:
                found[0] = stat.S_IFBLK | 0o600
            return os.stat_result(found)

        def written(handle: int, parts: Sequence[memoryview], offset: int) -> int:
            if handle in self.direct:
                if self.refuses:
                    raise OSError(self.refuses, os.strerror(self.refuses))
                parts = [memoryview(b"".join(parts)[: self.takes])]
            self.writes.append((handle in self.direct, offset, sum(len(part) for part in parts)))
            return real_write(handle, parts, offset)

        patch.setattr(os, "open", opened)
        patch.setattr(os, "fstat", status)
        patch.setattr(os, "pwritev", written)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """After ``tmp_path``, whose making and clearing looks at device numbers too."""
    assert tmp_path.is_dir()
    made = Host()
    made.install(monkeypatch)
    return made


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[int]:
    made = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
    yield made
    os.close(made)


def _bytes(length: int, seed: int) -> memoryview:
    return memoryview(bytes((at * 7 + seed) % 251 for at in range(251)) * (length // 251 + 1))[:length]


def _write(handle: int, path: Path, parts: list[memoryview], offset: int) -> None:
    file = DirectFile(handle, path)
    try:
        file.write(handle, parts, offset)
    finally:
        file.close()


def test_a_long_run_goes_around_the_page_cache_and_a_short_one_through_it(
    host: Host, handle: int, tmp_path: Path
) -> None:
    _write(handle, tmp_path / "file", [_bytes(MIB, 1)], 64 * KIB)
    _write(handle, tmp_path / "file", [_bytes(64 * KIB, 2)], 0)
    assert host.writes == [(True, 64 * KIB, MIB), (False, 0, 64 * KIB)]
    assert (tmp_path / "file").read_bytes() == bytes(_bytes(64 * KIB, 2)) + bytes(_bytes(MIB, 1))


def test_runs_that_stand_side_by_side_count_together(host: Host, handle: int, tmp_path: Path) -> None:
    parts = [_bytes(64 * KIB, seed) for seed in range(5)]
    _write(handle, tmp_path / "file", parts, 0)
    assert host.writes == [(True, 0, 320 * KIB)]
    assert (tmp_path / "file").read_bytes() == b"".join(parts)


@pytest.mark.parametrize(("offset", "length"), [(512, MIB), (0, MIB - 512), (MIB, MIB + 1)])
def test_what_is_not_made_of_whole_units_goes_through_the_page_cache(
    host: Host, handle: int, tmp_path: Path, offset: int, length: int
) -> None:
    _write(handle, tmp_path / "file", [_bytes(length, 3)], offset)
    assert host.writes == [(False, offset, length)]


def test_a_file_system_without_a_disk_of_this_host_is_written_through_the_page_cache(
    host: Host, handle: int, tmp_path: Path
) -> None:
    host.device = _NO_DISK
    _write(handle, tmp_path / "file", [_bytes(MIB, 4)], 0)
    assert host.writes == [(False, 0, MIB)]
    assert not host.direct


def test_a_block_device_is_written_around_the_page_cache(host: Host, tmp_path: Path) -> None:
    """Wherever its node stands: that is on a file system without a disk, as a rule."""
    host.device, host.is_block_device = _NO_DISK, True
    handle = os.open(tmp_path / "device", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(handle, 2 * PIECE_BYTES)
    writer = DeviceWriter(handle, tmp_path / "device", 2 * PIECE_BYTES)
    writer.write_piece(1, _bytes(PIECE_BYTES, 9), FULL_MAP)
    writer.close()
    assert host.writes == [(True, PIECE_BYTES, PIECE_BYTES)]
    assert (tmp_path / "device").read_bytes() == bytes(PIECE_BYTES) + bytes(_bytes(PIECE_BYTES, 9))


def test_one_refusal_ends_it_and_nothing_is_lost(host: Host, handle: int, tmp_path: Path) -> None:
    host.refuses = errno.EINVAL
    file = DirectFile(handle, tmp_path / "file")
    file.write(handle, [_bytes(MIB, 5)], 0)
    host.refuses = 0
    file.write(handle, [_bytes(MIB, 6)], MIB)
    file.close()
    assert host.writes == [(False, 0, MIB), (False, MIB, MIB)]
    assert (tmp_path / "file").read_bytes() == bytes(_bytes(MIB, 5)) + bytes(_bytes(MIB, 6))


@pytest.mark.parametrize("takes", [1, 64 * KIB, 300 * KIB + 5, 512 * KIB])
def test_a_write_that_is_cut_short_is_finished(host: Host, handle: int, tmp_path: Path, takes: int) -> None:
    host.takes = takes
    parts = [_bytes(256 * KIB, seed) for seed in range(3)]
    _write(handle, tmp_path / "file", parts, 0)
    assert host.writes == [(True, 0, takes), (False, takes, 768 * KIB - takes)]
    assert (tmp_path / "file").read_bytes() == b"".join(parts)


def test_a_full_disk_is_told_as_such(host: Host, handle: int, tmp_path: Path) -> None:
    host.refuses = errno.ENOSPC
    with pytest.raises(NoSpace):
        _write(handle, tmp_path / "file", [_bytes(MIB, 7)], 0)
    assert not host.writes


def test_closed_it_has_given_its_descriptor_back(host: Host, handle: int, tmp_path: Path) -> None:
    file = DirectFile(handle, tmp_path / "file")
    (direct,) = host.direct
    file.close()
    file.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.get_inheritable(direct)


@pytest.mark.parametrize("data_map", [0xFFFFFFFF, 0x0000FFFF, 0x5, 0xFF00FF0F])
def test_a_raw_target_holds_what_it_was_given_on_this_very_file_system(tmp_path: Path, data_map: int) -> None:
    size = PIECE_BYTES + 300 * KIB + 100
    buffer = PieceBuffer()
    buffer.view[:] = _bytes(PIECE_BYTES, 8)
    for bit in range(32):
        if not data_map >> bit & 1:
            buffer.clear(bit * 64 * KIB, (bit + 1) * 64 * KIB)
    writer = RawWriter(tmp_path / "raw", size)
    writer.write_piece(0, buffer.view, data_map)
    writer.write_piece(1, buffer.view[: size - PIECE_BYTES], 0x1F)
    writer.finish()
    writer.close()
    assert (tmp_path / "raw").read_bytes() == bytes(buffer.view) + bytes(buffer.view[: size - PIECE_BYTES])
    with pytest.raises(ValueError, match="closed"):
        writer.write_piece(0, buffer.view, data_map)
