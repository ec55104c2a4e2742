"""The content digest of a disk: what its guest reads, whatever it is stored in.

Definition (version 1), all of it SHA-256:

* leaf: the digest of one aligned 2 MiB range of the virtual disk; the last leaf is the digest of the rest,
  which may be shorter.
* group: the digest of the concatenated 32-byte leaf digests of one aligned GiB (512 leaves; fewer at the end).
* content digest: the digest of ``b"p2v content digest 1\\n"``, the virtual size as an 8-byte big-endian
  number, and the concatenated group digests.

It is written ``p2v1-`` and 64 hexadecimal digits. Holes, zeroes, compression and layout make no difference.
Leaves may be given in any order, by several threads; a zero leaf costs a look-up and a zero GiB costs one too.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_left
from dataclasses import dataclass

from converters.care import NO_CARE, Care
from converters.patched import PatchedDisk
from converters.piece_walk import walk_pieces
from converters.pieces import PIECE_BYTES, DataPiece, PieceBuffer, ZeroPieces, piece_count, piece_length
from p2v.core.disk import DiskReader
from p2v.core.events import Reporter, silent

LEAF_BYTES = PIECE_BYTES
GROUP_LEAVES = 512
_ROOT_PREFIX = b"p2v content digest 1\n"
_DIGEST_BYTES = 32


def _sha256(data: bytes | bytearray | memoryview) -> bytes:
    return hashlib.sha256(data).digest()


@dataclass
class _Group:
    """One GiB of which some leaves are known; ``seen`` has a bit for each."""

    leaves: bytearray
    seen: int = 0


class ContentDigest:
    """Gathers the leaves of one disk; safe for threads.

    Memory: 32 bytes a GiB, and 16 KiB for each GiB that is begun and not complete.
    """

    def __init__(self, virtual_size: int) -> None:
        self.virtual_size = virtual_size
        self._leaf_count = piece_count(virtual_size)
        self._group_count = -(-self._leaf_count // GROUP_LEAVES)
        self._groups = bytearray(self._group_count * _DIGEST_BYTES)
        self._closed = bytearray(self._group_count)
        self._begun: dict[int, _Group] = {}
        self._zero_leaf = _sha256(bytes(LEAF_BYTES))
        self._zero_group = _sha256(self._zero_leaf * GROUP_LEAVES)
        self._lock = threading.Lock()

    def leaf(self, index: int, data: memoryview) -> None:
        """Take the bytes of leaf ``index``; hashing them needs neither the GIL nor our lock."""
        expected = piece_length(index, self.virtual_size)
        if len(data) != expected:
            raise ValueError(f"leaf {index} has {expected} bytes, not {len(data)}")
        self._add(index, 1, _sha256(data))

    def hashed_leaf(self, index: int, sha256: bytes) -> None:
        """Take the digest of leaf ``index``, of whose bytes somebody else made it."""
        self._add(index, 1, sha256)

    def zero_leaves(self, first: int, count: int) -> None:
        """Take ``count`` leaves from ``first`` on that are all zero."""
        end = first + count
        last_length = piece_length(self._leaf_count - 1, self.virtual_size)
        if end == self._leaf_count and last_length < LEAF_BYTES and count:
            end -= 1
            self._add(end, 1, _sha256(bytes(last_length)))
        while first < end:
            in_group = min(end, (first // GROUP_LEAVES + 1) * GROUP_LEAVES) - first
            self._add(first, in_group, self._zero_leaf)
            first += in_group

    def complete(self) -> bool:
        """Whether every leaf was given."""
        with self._lock:
            return sum(self._closed) == self._group_count

    def text(self) -> str:
        """The digest as it is written down. Raises ValueError while leaves are missing."""
        if not self.complete():
            raise ValueError("the content digest lacks leaves")
        root = _ROOT_PREFIX + self.virtual_size.to_bytes(8, "big") + self._groups
        return f"p2v1-{_sha256(root).hex()}"

    def _add(self, first: int, count: int, digest: bytes) -> None:
        """Enter the same digest for ``count`` leaves of one group."""
        number, slot = divmod(first, GROUP_LEAVES)
        leaves = min(GROUP_LEAVES, self._leaf_count - number * GROUP_LEAVES)
        if slot + count > leaves:
            raise ValueError(f"leaf {first + count - 1} lies behind the end of the disk")
        bits = ((1 << count) - 1) << slot
        with self._lock:
            group = self._begun.get(number) or _Group(bytearray())
            if group.seen & bits or self._closed[number]:
                raise ValueError(f"leaf {first} or one after it was given twice")
            if count == GROUP_LEAVES and digest is self._zero_leaf:
                self._close(number, self._zero_group)
                return
            if not group.leaves:
                group.leaves = bytearray(leaves * _DIGEST_BYTES)
            self._begun[number] = group
            group.leaves[slot * _DIGEST_BYTES : (slot + count) * _DIGEST_BYTES] = digest * count
            group.seen |= bits
            if group.seen == (1 << leaves) - 1:
                del self._begun[number]
                self._close(number, _sha256(group.leaves))

    def _close(self, number: int, digest: bytes) -> None:
        self._groups[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES] = digest
        self._closed[number] = 1


def add_piece(digest: ContentDigest, piece: DataPiece, buffer: PieceBuffer, data_map: int) -> None:
    """Enter a piece that was read; ``data_map`` is what the buffer found in it."""
    if data_map:
        digest.leaf(piece.index, buffer.view[: piece.length])
    else:
        digest.zero_leaves(piece.index, 1)


@dataclass(frozen=True, slots=True)
class _DigestSink:
    digest: ContentDigest

    def zeroes(self, run: ZeroPieces) -> None:
        self.digest.zero_leaves(run.first, run.count)

    def wants(self, piece: DataPiece) -> bool:
        return True

    def data(self, piece: DataPiece, buffer: PieceBuffer) -> None:
        add_piece(self.digest, piece, buffer, buffer.data_map(piece.length))


def digest_disk(
    reader: DiskReader,
    *,
    threads: int = 2,
    report: Reporter = silent,
    phase: str = "digest",
    cancelled: threading.Event | None = None,
    care: Care = NO_CARE,
) -> str:
    """The content digest of a whole disk, reading what is not known to be zero, as gently as ``care`` says.

    Raises what ``converters.piece_walk.walk_pieces`` raises.
    """
    digest = ContentDigest(reader.virtual_size)
    walk_pieces(reader, _DigestSink(digest), report=report, phase=phase, threads=threads, cancelled=cancelled, care=care)
    return digest.text()


@dataclass(frozen=True, slots=True)
class _TwofoldSink:
    """Pieces that both readings have in common are hashed once."""

    now: ContentDigest
    before: ContentDigest
    patched: PatchedDisk
    touched: tuple[int, ...]

    def zeroes(self, run: ZeroPieces) -> None:
        self.now.zero_leaves(run.first, run.count)
        at = run.first
        for index in self.touched[bisect_left(self.touched, at) : bisect_left(self.touched, run.first + run.count)]:
            self.before.zero_leaves(at, index - at)
            self._patched(index)
            at = index + 1
        self.before.zero_leaves(at, run.first + run.count - at)

    def wants(self, piece: DataPiece) -> bool:
        return True

    def data(self, piece: DataPiece, buffer: PieceBuffer) -> None:
        data_map = buffer.data_map(piece.length)
        at = bisect_left(self.touched, piece.index)
        if self.touched[at : at + 1] == (piece.index,):
            add_piece(self.now, piece, buffer, data_map)
            self._patched(piece.index)
        elif data_map:
            leaf = _sha256(buffer.view[: piece.length])
            self.now.hashed_leaf(piece.index, leaf)
            self.before.hashed_leaf(piece.index, leaf)
        else:
            self.now.zero_leaves(piece.index, 1)
            self.before.zero_leaves(piece.index, 1)

    def _patched(self, index: int) -> None:
        length = piece_length(index, self.patched.virtual_size)
        self.before.leaf(index, memoryview(self.patched.pread(length, index * PIECE_BYTES)))


def digest_twofold(
    changed: DiskReader,
    source: DiskReader,
    ranges: tuple[tuple[int, int], ...],
    *,
    threads: int = 2,
    report: Reporter = silent,
    phase: str = "digest",
    cancelled: threading.Event | None = None,
    care: Care = NO_CARE,
) -> tuple[str, str]:
    """The content digests of a disk as it is, and as it is with ``ranges`` taken from ``source``; it is read once.

    ``ranges``: as for ``PatchedDisk``. Raises what ``converters.piece_walk.walk_pieces`` and the source's ``pread`` raise.
    """
    now, before = ContentDigest(changed.virtual_size), ContentDigest(changed.virtual_size)
    touched = sorted({i for at, length in ranges for i in range(at // PIECE_BYTES, piece_count(at + length))})
    sink = _TwofoldSink(now, before, PatchedDisk(changed, source, ranges), tuple(touched))
    walk_pieces(changed, sink, report=report, phase=phase, threads=threads, cancelled=cancelled, care=care)
    return now.text(), before.text()


def digest_range(reader: DiskReader, offset: int, length: int) -> str:
    """SHA-256 (hexadecimal) of ``length`` bytes of the disk; what lies behind its end counts as zeroes.

    Raises what the reader raises.
    """
    sha = hashlib.sha256()
    done = 0
    while done < length:
        wanted = min(length - done, LEAF_BYTES)
        part = reader.pread(wanted, offset + done) if offset + done < reader.virtual_size else b""
        sha.update(part.ljust(wanted, b"\0"))
        done += wanted
    return sha.hexdigest()
