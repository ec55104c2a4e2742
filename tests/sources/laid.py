"""Descriptions laid out in a folder as their product lays them, with tiny files for disks: readers open none."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from converters.references import NOTHING_SAID, Lookup
from p2v.sources.description import Description, Folder

DATA = Path(__file__).parent / "data"


def fixture(name: str) -> str:
    """A fixture's text."""
    return (DATA / name).read_text(encoding="utf-8")


def windows_text(text: str, encoding: str = "utf-16") -> bytes:
    """As Windows writes it: CRLF, and UTF-16 with its mark unless something else is said."""
    return text.replace("\n", "\r\n").encode(encoding)


def lay(root: Path, name: str, data: bytes, files: Iterable[str] = (), lookup: Lookup = NOTHING_SAID) -> Description:
    """A description at ``name`` below the machine's folder, and files beside it; all names from that folder."""
    for each in (name, *files):
        (root / each).parent.mkdir(parents=True, exist_ok=True)
        (root / each).write_bytes(b"disk")
    (root / name).write_bytes(data)
    return Description(root / name, data, Folder(root, root / name, lookup), lookup)


def ids(findings: Iterable[object]) -> list[str]:
    """The identifiers of findings."""
    return [str(getattr(each, "id", each)) for each in findings]
