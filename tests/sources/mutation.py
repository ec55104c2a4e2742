"""Descriptions changed at random: whatever comes, a reader answers soon, with a machine or one of the suite's errors."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from p2v.core.errors import P2vError
from p2v.machine import Machine
from p2v.sources.description import Description

# One answer may take so long; the slowest fixture takes a few milliseconds.
SECONDS = 2.0
_VALUES = (b"-1", b"0", b"4294967296", b"99999999999999999999", b"1e9", b"", b"\xff\xfe", b"<a/>", b"&lt;", b"\\\\h\\s\\x")


def survives(description: Description, read: Callable[[Description], Machine], runs: int, seed: int = 1) -> tuple[int, int]:
    """How many of ``runs`` changed descriptions were machines, and how many errors; anything else raised is a finding."""
    noise = random.Random(seed)
    machines = errors = 0
    for _ in range(runs):
        changed = replace(description, data=_changed(description.data, noise))
        started = time.process_time()
        try:
            read(changed)
            machines += 1
        except P2vError as error:
            errors += bool(error.sentence())
        assert time.process_time() - started < SECONDS
    assert machines + errors == runs, "an error without a sentence"
    return machines, errors


def _changed(data: bytes, noise: random.Random) -> bytes:
    for _ in range(noise.choice((1, 1, 2, 4))):
        data = noise.choice(_CHANGES)(data, noise)
    return data


def _bytes_changed(data: bytes, noise: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(noise.choice((1, 3, 20))):
        if made:
            made[noise.randrange(len(made))] = noise.randrange(256)
    return bytes(made)


def _cut(data: bytes, noise: random.Random) -> bytes:
    return data[: noise.randrange(len(data) + 1)]


def _piece_moved(data: bytes, noise: random.Random) -> bytes:
    at, to = noise.randrange(len(data) + 1), noise.randrange(len(data) + 1)
    return data[:to] + data[at : at + noise.choice((1, 30, 400))] + data[to:]


def _value_changed(data: bytes, noise: random.Random) -> bytes:
    """Another text in one element, in the text's own encoding."""
    wide = data[:2] == b"\xff\xfe"
    opens, closes = (b">\0", b"<\0") if wide else (b">", b"<")
    start = data.find(opens, noise.randrange(len(data) + 1))
    end = data.find(closes, start + len(opens))
    if start < 0 or end < 0:
        return data
    value = noise.choice(_VALUES)
    return data[: start + len(opens)] + (value.decode("latin-1").encode("utf-16-le") if wide else value) + data[end:]


_CHANGES: Sequence[Callable[[bytes, random.Random], bytes]] = (
    _bytes_changed, _cut, _piece_moved, _value_changed, _value_changed, _value_changed, _value_changed,
)  # fmt: skip
