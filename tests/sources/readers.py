"""What tests of readers share: a description from tests/sources/data with small files as its disks, and broken copies of it."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from converters.references import NOTHING_SAID, Lookup
from p2v.core.errors import P2vError
from p2v.machine import Machine
from p2v.sources.description import Description, Folder

DATA = Path(__file__).parent / "data"
_TOKENS = re.compile(rb"[A-Za-z0-9_.{}/:-]+|\s+|.", re.DOTALL)
_ODD = (
    b"", b"0", b"-1", b"99999999999999999999", b"18446744073709551616", b"\xff\xfe", b"\0", b"\xc3\x28", b"{", b"[", b"'", b'"',
    b"../../x", b"/dev/zero", b"C:\\x\\y.vdi", b"nbd://h/x", b"<", b">", b"&amp;", b"\r", b"=", b",", b"A" * 5000,
    "\u0661".encode(), b"1e9", b"0x",
)  # fmt: skip


def described(path: Path, *disks: str, lookup: Lookup = NOTHING_SAID) -> Description:
    """A description that stands in a folder, with files of these names (paths from the folder) as its disks."""
    for name in disks:
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).write_bytes(b"a disk")
    return Description(path, path.read_bytes(), Folder(path.parent, path, lookup), lookup)


def from_data(folder: Path, name: str, *disks: str, lookup: Lookup = NOTHING_SAID) -> Description:
    """The same for a copy of one of tests/sources/data (``virtualbox/linux.vbox``)."""
    path = folder / Path(name).name
    path.write_bytes((DATA / name).read_bytes())
    return described(path, *disks, lookup=lookup)


def ids(findings: object) -> list[str]:
    """The ids of findings, in their order."""
    assert isinstance(findings, tuple)
    return [finding.id for finding in findings]


def stands_mutations(read: Callable[[Description], Machine], folder: Path, kind: str, *, count: int = 250) -> tuple[int, int]:
    """Read broken copies of a kind's samples: only P2vError may come of it, and soon. How many were read, and how many not."""
    was_read = refused = 0
    samples = sorted((DATA / kind).iterdir())
    assert samples
    for number, sample in enumerate(samples):
        path = folder / sample.name
        path.write_bytes(sample.read_bytes())
        around = Folder(folder, path)
        noise = random.Random(number)
        for broken in _mutations(sample.read_bytes(), noise, count):
            began = time.process_time()
            try:
                read(Description(path, broken, around))
                was_read += 1
            except P2vError:
                refused += 1
            assert time.process_time() - began < 2, broken
    return was_read, refused


def _mutations(data: bytes, noise: random.Random, count: int) -> Iterator[bytes]:
    tokens = _TOKENS.findall(data)
    words = [at for at, token in enumerate(tokens) if token[:1].isalnum()]
    for _ in range(count):
        broken = list(tokens)
        for _ in range(noise.choice((1, 1, 2, 3))):
            at = min(noise.choice(words), len(broken) - 1)
            other = min(noise.choice(words), len(broken) - 1)
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
                    del broken[noise.randrange(1, len(broken)) :]
            broken = broken or [b"x"]
        yield b"".join(broken)
