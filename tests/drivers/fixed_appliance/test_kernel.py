"""A kernel out of a bzImage: only one that QEMU can start unpacked, and never more than is there."""

from __future__ import annotations

import gzip
import lzma
import struct

import pytest
import zstandard

from drivers.fixed_appliance.kernel import Unsuitable, plain_kernel
from tests.drivers.fixed_appliance.made_parts import bzimage, elf, kernel


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(elf()),
        lzma.compress(elf()) + struct.pack("<I", len(elf())),
        zstandard.compress(elf()) + struct.pack("<I", len(elf())),
    ],
    ids=["gzip", "xz", "zstd"],
)
def test_a_kernel_is_unpacked_however_it_was_packed(packed: bytes) -> None:
    assert plain_kernel(bzimage(packed)) == elf()


def test_a_kernel_without_a_note_of_its_pvh_entry_is_refused() -> None:
    with pytest.raises(Unsuitable, match="CONFIG_PVH"):
        plain_kernel(kernel(elf(note=1)))
    with pytest.raises(Unsuitable, match="CONFIG_PVH"):
        plain_kernel(kernel(elf(name=b"GNU\0")))


@pytest.mark.parametrize(
    "image",
    [
        b"",
        bytes(4096),
        bzimage(b""),
        bzimage(lzma.compress(elf()), length=1 << 31),
        bzimage(lzma.compress(elf())[:-100]),
        bzimage(b"what is this?"),
        kernel(b"\x7fELF"),
        kernel(elf(machine=183)),
        kernel(elf(note_bytes=1 << 40)),
    ],
    ids=["empty", "zeroes", "no-payload", "beyond", "cut", "codec", "short-elf", "arm64", "note-beyond"],
)
def test_what_is_no_whole_kernel_is_refused(image: bytes) -> None:
    with pytest.raises(Unsuitable):
        plain_kernel(image)
