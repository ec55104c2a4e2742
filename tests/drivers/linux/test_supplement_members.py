"""What was appended to an initramfs is the planned members, byte for byte, and nothing before, between or behind them."""

from __future__ import annotations

import hashlib
import random
import time

import lz4.block
import pytest

from drivers.changes import ExtendInitramfs, InitramfsFile
from drivers.linux import supplement_members
from drivers.linux.cpio import NewEntry, write_archive
from drivers.linux.inflate import lz4_legacy
from p2v.core.units import MIB

_MODULE = b"module" * 50
_PREFIX = "usr/lib/modules/6.1"
_FOLDERS = tuple(NewEntry(name, 0o40755) for name in ("usr", "usr/lib", "usr/lib/modules", _PREFIX, f"{_PREFIX}/kernel"))
_KO = NewEntry(f"{_PREFIX}/kernel/v.ko", 0o100644, _MODULE)
_DEP = NewEntry(f"{_PREFIX}/modules.dep", 0o100644, b"dep")
_TEXT = NewEntry("etc/x.conf", 0o100644, b"after")
_ENTRIES = (*_FOLDERS, _KO, _DEP, _TEXT)
_EVIL = write_archive([NewEntry("init", 0o100755, b"evil")])


def _change(codec: str = "none", size: int = 101) -> ExtendInitramfs:
    text = InitramfsFile("etc/x.conf", "before", "after")
    return ExtendInitramfs("/boot/i", size, "", "6.1", "/usr/lib/modules/6.1", ("kernel/v.ko",), _PREFIX, codec, "why", (text,))


def _problems(appended: bytes, codec: str = "none", size: int = 101) -> list[str]:
    digests = {"kernel/v.ko": hashlib.sha256(_MODULE).hexdigest()}
    return list(supplement_members.problems(_change(codec, size), appended, digests))


def _plain(*entries: NewEntry) -> bytes:
    return bytes(-101 % 4) + write_archive(entries or _ENTRIES)


def test_what_was_planned_is_no_problem() -> None:
    assert not _problems(_plain())
    assert not _problems(write_archive(_ENTRIES), size=100)
    for zeroes in range(4):
        assert not _problems(bytes(zeroes) + lz4_legacy(bytes(3 - zeroes) + write_archive(_ENTRIES)), "lz4")


def _other(entry: NewEntry, **fields: object) -> tuple[NewEntry, ...]:
    changed = NewEntry(**{"name": entry.name, "mode": entry.mode, "data": entry.data, **fields})  # type: ignore[arg-type]
    return tuple(changed if each == entry else each for each in _ENTRIES)


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        (_other(_KO, data=b"evil"), "not the guest's own"), (_other(_TEXT, data=b"evil"), "other contents"),
        (_other(_TEXT, mode=0o100755), "mode"), (_other(_KO, name=f"{_PREFIX}/kernel/w.ko"), "nobody planned"),
        (_other(_KO, name="etc/v.ko"), "nobody planned"), (_other(_KO, name=f"{_PREFIX}/../v.ko"), "nobody planned"),
        (_other(_DEP, name=f"{_PREFIX}/modules.evil"), "nobody planned"), (_other(_DEP, name="etc/modules.dep"), "nobody planned"),
        (_other(_DEP, name=f"{_PREFIX}/../../../../etc/modprobe.d/modules.dep"), "nobody planned"),
        (_other(_TEXT, name="./etc/x.conf"), "nobody planned"), (_other(_TEXT, name="/etc/x.conf"), "nobody planned"),
        ((*_ENTRIES, NewEntry("init", 0o100755, b"evil")), "init"), ((*_ENTRIES, NewEntry("init", 0o120777, b"/evil")), "init"),
        ((*_ENTRIES, NewEntry("empty", 0o40755)), "empty"), (_other(_FOLDERS[0], mode=0o40777), "usr"),
        ((*_ENTRIES, _TEXT), "twice"), (tuple(e for e in _ENTRIES if e != _KO), "not there"),
        (tuple(e for e in _ENTRIES if e != _TEXT), "not there"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_every_other_member_is_told(entries: tuple[NewEntry, ...], word: str, codec: str) -> None:
    appended = _plain(*entries) if codec == "none" else lz4_legacy(write_archive(entries))
    assert any(word in problem for problem in _problems(appended, codec))


@pytest.mark.parametrize(
    ("appended", "codec"),
    [
        (_plain() + _EVIL, "none"), (_plain() + bytes(512) + _EVIL, "none"), (b"abc" + _plain()[3:], "none"),
        (lz4_legacy(write_archive(_ENTRIES)) + bytes(8) + _EVIL, "lz4"), (lz4_legacy(write_archive(_ENTRIES) + _EVIL), "lz4"),
        (lz4_legacy(write_archive(_ENTRIES)) + lz4_legacy(_EVIL), "lz4"), (_plain().replace(b"TRAILER!!!", b"TRAILER!!?"), "none"),
        (b"", "none"), (bytes(600), "lz4"), (_plain()[:-600], "none"), (_plain().replace(b"00000000", b"000003E8", 2), "none"),
        (_plain(), "lz4"), (b"\xff" * 600, "none"),
    ],
)  # fmt: skip
def test_nothing_stands_before_between_or_behind_the_members(appended: bytes, codec: str) -> None:
    assert _problems(appended, codec)


def test_a_bomb_is_refused_in_time() -> None:
    chunk = lz4.block.compress(bytes(8 * MIB), store_size=False)
    bomb = lz4_legacy(b"")[:4] + (len(chunk).to_bytes(4, "little") + chunk) * 200
    begin = time.process_time()
    assert any("inflates" in problem for problem in _problems(bomb, "lz4"))
    many = write_archive([NewEntry(f"d{number}", 0o40755) for number in range(20_001)])
    assert any("more than 20000 members" in problem for problem in _problems(bytes(3) + many))
    assert time.process_time() - begin < 20


def test_every_byte_counts() -> None:
    """But for those of depmod's lists, which nobody knows beforehand."""
    chance = random.Random(3)
    good = _plain(*_FOLDERS, _KO, _TEXT)
    assert not _problems(good)
    for _ in range(400):
        spoilt = bytearray(good)
        at = chance.randrange(len(spoilt))
        spoilt[at] ^= chance.randrange(1, 256)
        assert _problems(bytes(spoilt)), at
