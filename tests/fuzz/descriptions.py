"""Microsoft's descriptions as fuzzing targets: their fixtures as seeds, tiny files as the disks that they name."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.fuzz.sparse import Sparse
from tests.sources.laid import DATA
from tests.sources.storage_writer import store

# Of each kind's module: the folder of its fixtures, and what makes bytes of their text. Not UTF-16, for words of it to be
# changed; the tests of the readers do that.
KINDS: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "vmc": ("vmc", str.encode),
    "hyperv": ("hyperv", str.encode),
    "hyperv_exp": ("hyperv_exp", str.encode),
    "vmcx": ("hyperv", store),
}
DISKS = (
    "System.vhd", "daten.vhd", "sql.vhd", "Virtual_sql_0_0.vud", "logs.vhd", "quorum.vhd", "XP Mode.vhd", "web.vhd", "web-data.vhd",
    "db_8A2C5C0E-29C1-4E0C-8B35-3F3C7A0B0D11.avhdx", "data.vhdx", "Shared Log.vhdx", "db.vhdx", "app.vhdx", "Büro 11.vhdx",
    "queue.vhd", "archive.vhd", "print_3F2504E0-4F89-11D3-9A0C-0305E82C3301.avhd", "mail.vhd", "boot.vhd",
)  # fmt: skip
_STORE_HEADERS, _STORE_HEADER_BYTES = (0, 4096), 46


def seeds(kind: str) -> Callable[[Path], Iterable[Path]]:
    """What lays a kind's fixtures out in a folder with their disks beside them."""
    fixtures, to_bytes = KINDS[kind]

    def make(folder: Path) -> Iterable[Path]:
        for name in DISKS:
            (folder / name).write_bytes(b"disk")
        made = []
        for fixture in sorted((DATA / fixtures).iterdir()):
            made.append(folder / f"seed-{fixture.stem}")
            made[-1].write_bytes(to_bytes(fixture.read_text(encoding="utf-8")))
        return made

    return make


def store_sums(file: Sparse) -> None:
    """Both headers of a store; nothing else in it has a sum that is checked."""
    for at in _STORE_HEADERS:
        raw = file.read(at, _STORE_HEADER_BYTES)
        if len(raw) == _STORE_HEADER_BYTES:
            file.write(at + 4, zlib.crc32(raw[:4] + bytes(4) + raw[8:]).to_bytes(4, "little"))
