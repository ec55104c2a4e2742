"""Mutations of an image file that know it is one: fields, sizes, places; the rest is left to libFuzzer."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from tests.fuzz.sparse import MAX_FILE_BYTES, Sparse

# Takes bytes and the largest length of the answer.
BytesMutator = Callable[[bytes, int], bytes]

_CONSTANTS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, 1 << 63,
              (1 << 64) - 1)  # fmt: skip
_LONGEST_TEXT = 64 * 1024
_WORDS = re.compile(rb"[A-Za-z0-9_.{}/:-]+|\s+|.", re.DOTALL)
_ODD = (
    b"", b"0", b"-1", b"99999999999999999999", b"18446744073709551616", b"\xff\xfe", b"\0", b"\xc3\x28", b"{", b"[", b"'", b'"',
    b"../../x", b"/dev/zero", b"C:\\x\\y.vdi", b"nbd://h/x", b"<", b">", b"&amp;", b"\r", b"=", b",", b"A" * 5000,
    "\u0661".encode(), b"1e9", b"0x",
)  # fmt: skip
_UNITS = (1, 512, 4096, 65536, 1 << 20)


def mutated(file: Sparse, noise: random.Random, bytes_mutator: BytesMutator | None = None) -> Sparse:
    """The file after one to four mutations; ``file`` itself may be changed."""
    for _ in range(noise.choice((1, 1, 2, 4))):
        _OPERATIONS[noise.randrange(len(_OPERATIONS))](file, noise, bytes_mutator)
    return file


def mutated_words(file: Sparse, noise: random.Random) -> Sparse:
    """A text after mutations that know it is one."""
    text = mutated_text(file.read(0, min(file.size, _LONGEST_TEXT)), noise)
    return Sparse(len(text), [(0, bytearray(text))])


def mutated_text(data: bytes, noise: random.Random) -> bytes:
    """A text with one to three words of it changed, moved or gone."""
    broken = _WORDS.findall(data)
    for _ in range(noise.choice((1, 1, 2, 3))):
        words = [at for at, token in enumerate(broken) if token[:1].isalnum()] or [0]
        broken = broken or [b"x"]
        at, other = noise.choice(words), noise.choice(words)
        match noise.randrange(9):
            case 0 | 6:
                broken[at] = noise.choice(_ODD)
            case 1:
                del broken[at : at + noise.randrange(1, 8)]
            case 2 | 7 | 8:
                # a word in another's place: a number where a name was, a disk's where a card's was
                broken[at] = broken[other]
            case 3:
                broken[at:at] = broken[other : other + noise.randrange(1, 200)]
            case 4:
                broken[at] = bytes(letter ^ 1 << noise.randrange(8) for letter in broken[at][:50])
            case _:
                del broken[noise.randrange(len(broken)) :]
    return b"".join(broken)


def set_field(file: Sparse, chunk: int, at: int, width: int, value: int, *, big: bool) -> None:
    """Write a number into a chunk (both numbers are taken modulo what there is)."""
    if file.chunks:
        content = file.chunks[chunk % len(file.chunks)][1]
        if len(content) >= width:
            begin = at % (len(content) - width + 1)
            new = value & ((1 << 8 * width) - 1)
            content[begin : begin + width] = new.to_bytes(width, "big" if big else "little")


def _field(file: Sparse, noise: random.Random, _: BytesMutator | None) -> None:
    width = noise.choice((1, 2, 4, 4, 8, 8))
    # Structures begin with what matters, and fields lie at multiples of their width.
    at = noise.randrange(noise.choice((64, 128, 1024, 65536))) // width * width
    set_field(file, noise.randrange(1 << 16), at, width, _number(file, noise), big=bool(noise.getrandbits(1)))


def _number(file: Sparse, noise: random.Random) -> int:
    """A number that means something: a limit, the file's size or the place of a chunk, in some unit, or one beside."""
    base = noise.choice(_CONSTANTS)
    if noise.getrandbits(1):
        place = noise.choice(file.chunks)[0] if file.chunks else 0
        base = noise.choice((file.size, file.offset_of(place))) // noise.choice(_UNITS)
    return base + noise.choice((0, 0, 0, -1, 1, 512, -512))


def _flip(file: Sparse, noise: random.Random, _: BytesMutator | None) -> None:
    if file.chunks:
        content = noise.choice(file.chunks)[1]
        if content:
            at = noise.randrange(len(content))
            new = bytes([content[at] ^ 1 << noise.randrange(8)]) if noise.getrandbits(1) else noise.randbytes(4)
            content[at : at + len(new)] = new


def _copy(file: Sparse, noise: random.Random, _: BytesMutator | None) -> None:
    """A field gets the value of another one: two entries of a table then name the same block."""
    if file.chunks:
        source, target = noise.choice(file.chunks)[1], noise.choice(file.chunks)[1]
        width = noise.choice((4, 8, 16, 64))
        if len(source) >= width and len(target) >= width:
            begin = noise.randrange(len(source) - width + 1) // 4 * 4
            at = noise.randrange(len(target) - width + 1) // 4 * 4
            target[at : at + width] = source[begin : begin + width]


def _resize(file: Sparse, noise: random.Random, _: BytesMutator | None) -> None:
    size = _number(file, noise) if noise.getrandbits(1) else file.size + noise.choice((-1, 1)) * noise.choice(_UNITS)
    file.size = min(max(size, 0), MAX_FILE_BYTES)


def _move(file: Sparse, noise: random.Random, _: BytesMutator | None) -> None:
    if file.chunks:
        index = noise.randrange(len(file.chunks))
        place, content = file.chunks[index]
        moved = place + noise.choice((-1, 1)) * noise.choice(_UNITS)
        if (moved < 0) == (place < 0) and abs(moved) < MAX_FILE_BYTES:
            file.chunks[index] = (moved, content)


def _drop_or_double(file: Sparse, noise: random.Random, _: BytesMutator | None) -> None:
    if file.chunks:
        index = noise.randrange(len(file.chunks))
        if noise.getrandbits(1):
            del file.chunks[index]
        else:
            place = noise.choice(file.chunks)[0]
            file.chunks.append((place, bytearray(file.chunks[index][1])))


def _bytes(file: Sparse, noise: random.Random, bytes_mutator: BytesMutator | None) -> None:
    """Whatever libFuzzer does to one chunk (it knows what the readers compare with)."""
    if bytes_mutator is None or not file.chunks:
        _field(file, noise, None)
        return
    content = noise.choice(file.chunks)[1]
    start = noise.randrange(len(content)) // 64 * 64 if content else 0
    part = bytes(content[start : start + 512])
    content[start : start + len(part)] = bytes_mutator(part, len(part) or 1).ljust(len(part), b"\0")


_OPERATIONS: tuple[Callable[[Sparse, random.Random, BytesMutator | None], None], ...] = (
    _field, _field, _field, _bytes, _bytes, _flip, _copy, _resize, _move, _drop_or_double,
)  # fmt: skip
