"""What is read of a BitLocker volume without its keys."""

from __future__ import annotations

import struct
import uuid

import pytest

from drivers.bitlocker import BitLocker, read_bitlocker
from tests.drivers.windows import bitlocker_writer as writer


def read(raw: bytes | bytearray) -> BitLocker | None:
    return read_bitlocker(lambda length, offset: bytes(raw[offset : offset + length]) if offset + length <= len(raw) else b"")


@pytest.mark.parametrize("identifier", [writer.IDENTIFIER, writer.USED_SPACE_ONLY])
@pytest.mark.parametrize("form", ["seven", "vista", "to_go"])
def test_state_and_protectors_of_every_form(form: str, identifier: uuid.UUID) -> None:
    block = writer.metadata([writer.TPM, writer.RECOVERY, writer.RECOVERY], version=1 if form == "vista" else 2)
    found = read(writer.volume(block, identifier=identifier, to_go=form == "to_go", vista=form == "vista"))
    assert found == BitLocker("encrypted", ("TPM", "recovery password"))
    assert not found.is_suspended


@pytest.mark.parametrize(
    "current, following, state",
    [(4, 4, "encrypted"), (2, 4, "encrypting"), (5, 4, "encrypting"), (3, 4, "encrypting"), (2, 1, "decrypting"),
     (5, 1, "decrypting"), (4, 1, "decrypting"), (0, 0, "unknown"), (9, 9, "unknown")],
)  # fmt: skip
def test_a_volume_that_is_being_changed_is_told(current: int, following: int, state: str) -> None:
    found = read(writer.volume(writer.metadata([writer.TPM], current=current, following=following)))
    assert found is not None
    assert found.state == state


def test_a_clear_key_means_that_it_is_suspended() -> None:
    found = read(writer.volume(writer.metadata([writer.CLEAR, writer.TPM_PIN, writer.PASSWORD, 0x4321])))
    assert found is not None
    assert found.is_suspended
    assert found.protectors == ("clear key", "TPM and PIN", "password", "protector 0x4321")


def test_other_file_systems_are_none_of_bitlocker() -> None:
    block = writer.metadata([writer.TPM])
    assert read(writer.volume(block, to_go=True, identifier=uuid.UUID(int=1))) is None
    assert read(bytes(4096)) is None
    assert read(b"") is None


def test_a_torn_block_is_made_up_for_by_the_next() -> None:
    raw = writer.volume(writer.metadata([writer.RECOVERY]))
    raw[writer.BLOCKS[0] : writer.BLOCKS[0] + 8] = bytes(8)
    assert read(raw) == BitLocker("encrypted", ("recovery password",))


def _spoilt(at: int, data: bytes) -> bytes:
    raw = writer.volume(writer.metadata([writer.TPM, writer.RECOVERY]))
    for block in writer.BLOCKS:
        raw[block + at : block + at + len(data)] = data
    return bytes(raw)


@pytest.mark.parametrize(
    "at, data",
    [(10, struct.pack("<H", 3)), (64, struct.pack("<I", 0xFFFFFFFF)), (64, struct.pack("<I", 47)), (68, bytes(4)),
     (72, struct.pack("<I", 0xFFFFFFF0))],
)  # fmt: skip
def test_a_block_with_impossible_numbers_counts_as_none(at: int, data: bytes) -> None:
    assert read(_spoilt(at, data)) == BitLocker("unknown")


@pytest.mark.parametrize("size", [0, 7, 0xFFFF])
def test_an_entry_of_an_impossible_size_ends_the_list(size: int) -> None:
    assert read(_spoilt(64 + 48, struct.pack("<H", size))) == BitLocker("encrypted", ())


def test_blocks_outside_of_the_volume_are_not_looked_for() -> None:
    raw = writer.volume(writer.metadata([writer.TPM]))
    struct.pack_into("<3Q", raw, 176, 0, 1 << 63, writer.VOLUME_BYTES - 100)
    assert read(raw) == BitLocker("unknown")
    raw = writer.volume(writer.metadata([writer.TPM]), vista=True)
    struct.pack_into("<Q", raw, 56, (1 << 64) - 1)
    assert read(raw) == BitLocker("unknown")


def test_no_more_kinds_of_protectors_are_told_than_there_may_be() -> None:
    found = read(writer.volume(writer.metadata([*range(0x4000, 0x4100)])))
    assert found is not None
    assert len(found.protectors) == 32


def test_a_key_that_reaches_past_the_end_of_the_metadata_is_none() -> None:
    block = writer.metadata([writer.TPM, writer.RECOVERY])
    at = block.index(struct.pack("<HHH", 0x0002, 0x0008, 1)) - 2
    assert read(_spoilt(at, struct.pack("<H", len(block) - at + 1))) == BitLocker("encrypted", ())
