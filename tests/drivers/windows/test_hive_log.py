"""Replaying the logs of hives that were not written to their end."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

import pytest

from drivers.windows import c_regf as c
from drivers.windows.hive_log import LogState, Recovered, marvin32, recover
from drivers.windows.regf import BadHive, Hive
from tests.drivers.windows.hive_writer import log_entry, new_log, old_log, pages_that_differ, with_sequences
from tests.fixtures.hives import dword, make_hive, seal, sz

_KEYS = {f"Key{n}": {"text": sz(f"text {n}" * 30)} for n in range(40)}
_BEFORE = make_hive({**_KEYS, "Last": {"n": dword(0)}})
_AFTER = make_hive({**_KEYS, "Last": {"n": dword(1)}, **{f"New{n}": {"t": sz("x" * 900)} for n in range(20)}})
_BINS = len(_AFTER) - c.BASE_BLOCK_BYTES


def _number(data: bytes) -> int | None:
    key = Hive(data).key("Last")
    value = key.value("n") if key is not None else None
    return value.number() if value is not None else None


def _sequences(data: bytes) -> tuple[int, int]:
    primary, secondary = struct.unpack_from("<II", data, 4)
    return primary, secondary


def _assert_is_after(found: Recovered) -> None:
    assert found.state is LogState.REPLAYED
    assert found.data[c.BASE_BLOCK_BYTES :] == _AFTER[c.BASE_BLOCK_BYTES :]
    assert _number(found.data) == 1
    base = c.BaseBlock.of(found.data)
    assert base is not None
    assert not base.is_dirty
    # what is replayed once is clean, so its logs are not looked at again
    assert recover(found.data, ()) == Recovered(found.data, LogState.CLEAN)


@pytest.mark.parametrize(
    "data, expected",
    # the registry's seed: values computed by others, confirmed by them against logs of Windows 11
    [(b"", 0xB39EFCA403966E08), (b"a", 0x21A013C726F292F4), (b"ab", 0x7911DA00317285F8), (b"abc", 0xB9CF3DFCA41914F7),
     (b"abcd", 0x20094FB11A6CD086), (b"abcdefg", 0x0C00597AC6BF45F2), (bytes(range(40)), 0x2366E1BAB67B6EA3)],
)  # fmt: skip
def test_marvin32_with_the_seed_of_the_registry(data: bytes, expected: int) -> None:
    assert marvin32(data) == expected


@pytest.mark.parametrize(
    "data, expected",
    [("af", 0x48E73FC77D75DDC1), ("e70f", 0xB5F6E1FC485DBFF8), ("37f495", 0xF0B07C789B8CF7E8), ("153fb79826", 0xE6C08C6DA2AFA997),
     ("0932e6246c47", 0x6F04BF1A5EA24060), ("ab427ea8d10fc7", 0xE11847E4F0678C41)],
)  # fmt: skip
def test_marvin32_by_the_vectors_of_the_dotnet_runtime(data: str, expected: int) -> None:
    assert marvin32(bytes.fromhex(data), seed=0x004FB61A001BDBCC) == expected


def test_a_clean_hive_stays_as_it_is_whatever_its_logs_hold() -> None:
    log = new_log(_BEFORE, [log_entry(pages_that_differ(_BEFORE, _AFTER), sequence=1, bins_bytes=_BINS)], sequence=1)
    assert recover(_BEFORE, [log, log]) == Recovered(_BEFORE, LogState.CLEAN)


def test_entries_of_one_log_bring_a_hive_up_to_date_and_make_it_grow() -> None:
    assert len(_AFTER) > len(_BEFORE)
    hive = with_sequences(_BEFORE, 6, 5)
    pages = pages_that_differ(_BEFORE, _AFTER)
    halves = [dict(list(pages.items())[::2]), dict(list(pages.items())[1::2])]
    entries = [log_entry(half, sequence=5 + n, bins_bytes=_BINS) for n, half in enumerate(halves)]
    found = recover(hive, [new_log(hive, entries, sequence=5), b""])
    _assert_is_after(found)
    assert found.applied == (0,)
    assert _sequences(found.data) == (7, 7)


@pytest.mark.parametrize("earlier", [0, 1])
def test_the_log_with_the_earlier_entries_goes_first(earlier: int) -> None:
    hive = with_sequences(_BEFORE, 9, 8)
    middle = bytearray(_AFTER)
    at = middle.index(b"n\0" if b"n\0" in middle else b"n")
    middle[at] = ord("m")
    first = log_entry(pages_that_differ(_BEFORE, bytes(middle)), sequence=8, bins_bytes=_BINS)
    second = log_entry(pages_that_differ(_BEFORE, _AFTER), sequence=9, bins_bytes=_BINS)
    logs = [new_log(hive, [first], sequence=8), new_log(hive, [second], sequence=9)]
    found = recover(hive, logs if earlier == 0 else logs[::-1])
    _assert_is_after(found)
    assert found.applied == ((0, 1) if earlier == 0 else (1, 0))


def test_a_log_whose_entries_do_not_follow_is_left_out() -> None:
    hive = with_sequences(_BEFORE, 9, 8)
    pages = pages_that_differ(_BEFORE, _AFTER)
    first = new_log(hive, [log_entry(pages, sequence=8, bins_bytes=_BINS)], sequence=8)
    gap = new_log(hive, [log_entry({0: b"\xee" * 4096}, sequence=10, bins_bytes=_BINS)], sequence=10)
    found = recover(hive, [first, gap])
    _assert_is_after(found)
    assert found.applied == (0,)
    # and what we leave is beyond the entries that were not applied
    assert _sequences(found.data) == (11, 11)


def test_older_entries_than_the_hive_are_not_applied() -> None:
    hive = with_sequences(_BEFORE, 9, 8)
    stale = new_log(hive, [log_entry({0: b"\xee" * 4096}, sequence=7, bins_bytes=_BINS)], sequence=7)
    with pytest.raises(BadHive, match="no entry that follows"):
        recover(hive, [stale])


@pytest.mark.parametrize("what", ["body", "header", "sequence", "size"])
def test_entries_behind_a_wrong_one_are_not_applied(what: str) -> None:
    hive = with_sequences(_BEFORE, 9, 8)
    good = log_entry(pages_that_differ(_BEFORE, _AFTER), sequence=8, bins_bytes=_BINS)
    bad = bytearray(log_entry({0: b"\xee" * 4096}, sequence=10 if what == "sequence" else 9, bins_bytes=_BINS))
    if what in ("body", "header"):
        bad[100 if what == "body" else 8] ^= 1
    if what == "size":
        struct.pack_into("<I", bad, 4, len(bad) + 8)
    worse = log_entry({0: b"\xdd" * 4096}, sequence=10, bins_bytes=_BINS)
    _assert_is_after(recover(hive, [new_log(hive, [good, bytes(bad), worse], sequence=8)]))


def test_a_base_block_with_a_wrong_checksum_comes_from_the_log() -> None:
    log = new_log(_AFTER, [log_entry(pages_that_differ(_BEFORE, _AFTER), sequence=8, bins_bytes=_BINS)], sequence=8)
    hive = bytearray(with_sequences(_BEFORE, 9, 8))
    hive[36:44] = bytes(8)
    _assert_is_after(recover(bytes(hive), [b"", log]))


def _old(pages: dict[int, bytes], base: bytes = _BEFORE, file_type: int = 1) -> bytes:
    return old_log(base, pages, bins_bytes=_BINS, sequence=9, file_type=file_type)


@pytest.mark.parametrize("file_type", [1, 2])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_dirty_pages_of_an_old_log_bring_a_hive_up_to_date(number: int, file_type: int) -> None:
    hive = with_sequences(_BEFORE, 9, 8)
    logs = [b"", b"", b""]
    logs[number] = _old(pages_that_differ(_BEFORE, _AFTER), file_type=file_type)
    found = recover(hive, logs)
    _assert_is_after(found)
    assert found.applied == (number,)
    assert _sequences(found.data) == (10, 10)


def test_an_old_log_restores_a_base_block_too() -> None:
    hive = bytearray(with_sequences(_BEFORE, 9, 8))
    hive[508] ^= 1
    _assert_is_after(recover(bytes(hive), [_old(pages_that_differ(_BEFORE, _AFTER))]))


def test_an_old_log_of_another_time_is_not_applied() -> None:
    other = bytearray(_BEFORE)
    other[12] ^= 1
    with pytest.raises(BadHive, match="no log of it can be applied"):
        recover(with_sequences(_BEFORE, 9, 8), [_old({0: b"\xee" * 4096}, bytes(other))])


def test_two_old_logs_that_disagree_are_for_nobody_to_choose_from() -> None:
    pages = pages_that_differ(_BEFORE, _AFTER)
    hive = with_sequences(_BEFORE, 9, 8)
    with pytest.raises(BadHive, match="disagree"):
        recover(hive, [_old(pages), _old(dict(itertools.islice(pages.items(), len(pages) - 1)))])
    assert recover(hive, [_old(pages), _old(pages)]).state is LogState.REPLAYED


def test_a_log_cannot_make_a_hive_larger_than_what_stands_in_it() -> None:
    hive = with_sequences(_BEFORE, 9, 8)
    with pytest.raises(BadHive, match="bytes of bins"):
        recover(hive, [new_log(hive, [log_entry({}, sequence=8, bins_bytes=1 << 27)], sequence=8)])


@pytest.mark.parametrize("logs", [(), (b"",), (b"regf" * 200,), (bytes(4096),), (_BEFORE[:300],)])
def test_a_dirty_hive_without_a_log_to_apply_is_refused(logs: Sequence[bytes]) -> None:
    with pytest.raises(BadHive):
        recover(with_sequences(_BEFORE, 2, 1), logs)


def test_an_old_log_that_is_cut_off_is_refused() -> None:
    log = _old(pages_that_differ(_BEFORE, _AFTER))
    for size in (len(log) - 512, 1024, 600, 514):
        with pytest.raises(BadHive):
            recover(with_sequences(_BEFORE, 9, 8), [log[:size]])


def test_a_log_that_was_not_written_to_its_end_is_not_applied() -> None:
    log = bytearray(_old(pages_that_differ(_BEFORE, _AFTER)))
    struct.pack_into("<II", log, 4, 9, 8)
    seal(log)
    with pytest.raises(BadHive, match="no log of it"):
        recover(with_sequences(_BEFORE, 9, 8), [bytes(log)])


@pytest.mark.parametrize("bins_bytes", [0, 4097, 1 << 31, 0xFFFFF000])
def test_a_log_that_names_an_impossible_size_is_refused(bins_bytes: int) -> None:
    hive = with_sequences(_BEFORE, 9, 8)
    logs = [
        new_log(hive, [log_entry({}, sequence=8, bins_bytes=bins_bytes)], sequence=8),
        old_log(hive, {}, bins_bytes=bins_bytes & 0xFFFF, sequence=9),
    ]
    for log in logs[: 1 if bins_bytes > 0xFFFF else 2]:
        with pytest.raises(BadHive):
            recover(hive, [log])


def test_a_page_outside_the_hive_is_not_written() -> None:
    hive = with_sequences(_BEFORE, 9, 8)
    log = new_log(hive, [log_entry({_BINS - 512: bytes(4096)}, sequence=8, bins_bytes=_BINS)], sequence=8)
    with pytest.raises(BadHive, match="no entry that follows"):
        recover(hive, [log])


def test_the_flag_that_entries_carry_is_taken_over() -> None:
    hive = with_sequences(_BEFORE, 9, 8)
    for flag in (1, 0):
        entry = log_entry({}, sequence=8, bins_bytes=len(_BEFORE) - c.BASE_BLOCK_BYTES, flags=flag)
        found = recover(hive, [new_log(hive, [entry], sequence=8)])
        assert struct.unpack_from("<I", found.data, c.FLAGS_OFFSET) == (flag,)


def test_a_sequence_number_that_nothing_can_follow_is_refused() -> None:
    hive = with_sequences(_BEFORE, 0xFFFFFFFF, 0xFFFFFFFE)
    entry = log_entry({}, sequence=0xFFFFFFFE, bins_bytes=len(_BEFORE) - c.BASE_BLOCK_BYTES)
    log = new_log(hive, [entry], sequence=0xFFFFFFFE)
    with pytest.raises(BadHive, match="sequence"):
        recover(hive, [log])
