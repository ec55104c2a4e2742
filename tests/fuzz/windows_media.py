"""Media of Windows drivers as fuzzing targets: INF files, signatures, and CD images with both in them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from drivers.windows.driver_choice import choose_drivers
from drivers.windows.inf import models_for, parse_inf
from drivers.windows.inf_targets import Architecture, WindowsTarget
from drivers.windows.inf_text import BadInf
from drivers.windows.iso9660 import IsoTree
from drivers.windows.media import ImageFile
from drivers.windows.signature import read_head, read_signature, read_table
from drivers.windows.virtio_win import read_catalogue
from tests.fixtures.signatures import SHA1, SHA256, signed_data
from tests.fixtures.virtio_win import (
    DRIVERS,
    MAKER,
    WHQL,
    inf_text,
    medium,
    program,
    signature,
    write_folder,
    write_iso,
)
from tests.fuzz.laying import laid

_WINDOWS = tuple(
    WindowsTarget(*version, arch) for version in ((5, 1, 2600), (6, 1, 7601), (10, 0, 22631)) for arch in Architecture
)


def inf_files(folder: Path) -> Iterable[Path]:
    """One of each spelling, and of each way to name its Windows."""
    seeds = {
        "plain": inf_text(DRIVERS[0], "w7", "amd64", "NTamd64").encode("latin-1"),
        "wide": inf_text(DRIVERS[1], "w10", "amd64", "NTamd64.10.0...14393").encode("utf-16"),
        "old": inf_text(DRIVERS[2], "xp", "x86", "").encode("latin-1"),
        "null": inf_text(DRIVERS[14], "2k8", "x86", "NTx86.6.0.3").encode("latin-1"),
    }
    return laid(folder, seeds)


def signatures(folder: Path) -> Iterable[Path]:
    """Catalogues, one with a signature within its signature, and a program."""
    inner = signed_data((SHA256,), WHQL.usages, "inner", "230511000000Z")
    seeds = {
        "catalogue": signature(WHQL),
        "nested": signed_data((SHA1,), MAKER.usages, "outer", "100101000000Z", nested=inner, chain=0),
        "program": program("/disk.sys", "amd64", signature(MAKER)),
    }
    return laid(folder, seeds)


def images(folder: Path) -> Iterable[Path]:
    """CD images with a package, by each way to long names."""
    ways = {"joliet": ("--norock", "-J"), "rock-ridge": ("-r",), "enhanced": ("--norock", "-iso-level", "4")}
    with tempfile.TemporaryDirectory() as below:
        plain = write_folder(medium(DRIVERS[2:3], releases=("2k19",)).files, Path(below))
        return [write_iso(plain, folder / f"seed-{name}.iso", *options) for name, options in ways.items()]


def read_inf(path: Path) -> None:
    """Everything that is asked of an INF file."""
    try:
        inf = parse_inf(path.read_bytes())
        for windows in _WINDOWS:
            models_for(inf.sections, windows)
        for name in {model.install for models in inf.sections for model in models.models}:
            for arch in Architecture:
                inf.install(name, arch)
    except BadInf:
        return


def read_signed(path: Path) -> None:
    """The bytes as a catalogue, as a certificate table, and as a program."""
    data = path.read_bytes()
    read_signature(data)
    read_table(data)
    head = read_head(data[:4096], len(data))
    if head is not None:
        read_table(data[head.certificates_offset : head.certificates_offset + head.certificates_bytes])


def read_image(path: Path) -> None:
    """The catalogue of an image, and what each Windows gets from it."""
    with ImageFile(path) as reader:
        try:
            catalogue = read_catalogue(IsoTree(reader), str(path), "iso")
        except BadInf:
            return
    for windows in _WINDOWS:
        choose_drivers(catalogue, windows)
