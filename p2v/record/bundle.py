"""The support bundle: a record and what belongs to it, packed for others to look at, without what is whose.

    p2v-bundle/MANIFEST.txt     what is in it, what was replaced, what was left out
    p2v-bundle/record.json      the record, scrubbed (``p2v.record.scrub``); a record of its own that names its original
    p2v-bundle/events.jsonl     when phases began and ended, and what was warned of
    p2v-bundle/versions.json    of everything that had a hand in it
    p2v-bundle/boot.log         what the guest said at the boot check, scrubbed
    p2v-bundle/screenshot.png   only when asked for: a picture cannot be scrubbed

The same record and files give the same bytes.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import p2v
from p2v.core import jsontext
from p2v.core.errors import TargetExists
from p2v.core.io_errors import write_problem
from p2v.core.units import MIB, format_bytes
from p2v.core.workspace import PARTIAL, remove_quietly, rename_new
from p2v.documents import plan_digest, to_data
from p2v.record.conversion import RECORD_SCHEMA, ConversionRecord
from p2v.record.reading import open_record, record_json
from p2v.record.scrub import Scrubber

FOLDER = "p2v-bundle"
_LARGEST_LOG_BYTES = 16 * MIB
_LARGEST_PICTURE_BYTES = 16 * MIB


@dataclass(frozen=True, slots=True)
class Packed:
    """A bundle that was written: its manifest, as it is inside too."""

    path: Path
    manifest: str


def bundle(record_path: Path, target: Path, *, screenshot: bool = False) -> Packed:
    """Pack a record that is whole into ``target`` (a .tar.gz), with what of its files is beside it.

    Raises BadRecord, TargetExists, NotPermitted, NoSpace, ReadFailed.
    """
    if os.path.lexists(target):
        raise TargetExists(target, "Choose another name with -o, or remove the file.")
    opened = open_record(record_path)
    record = opened.whole()
    scrubber = Scrubber()
    scrubber.learn(record)
    files = _files(record, opened.digest, scrubber)
    notes: list[str] = []
    _add_log(files, notes, record_path.parent, record, scrubber)
    _add_screenshot(files, notes, record_path.parent, record, screenshot)
    manifest = "\n".join(_manifest(opened.digest, files, notes, scrubber)) + "\n"
    write_packed(target, {"MANIFEST.txt": manifest.encode(), **files})
    return Packed(target, manifest)


def _files(record: ConversionRecord, digest: str, scrubber: Scrubber) -> dict[str, bytes]:
    shown = scrubber.value(replace(record, copy_of=None))
    shown = replace(shown, copy_of=digest, schema=RECORD_SCHEMA, plan_digest=plan_digest(shown.document))
    events = "".join(json.dumps(to_data(moment)) + "\n" for moment in shown.timeline)
    return {
        "record.json": record_json(shown).encode("ascii"),
        "events.jsonl": events.encode("ascii"),
        "versions.json": jsontext.pretty({"made by p2v": record.suite_version, **record.tools}).encode("ascii"),
    }


def _add_log(
    files: dict[str, bytes], notes: list[str], folder: Path, record: ConversionRecord, scrubber: Scrubber
) -> None:
    if record.boot is None:
        notes.append("boot.log: there was no boot check")
    elif (data := _read(folder, record.boot.log, _LARGEST_LOG_BYTES)) is None:
        notes.append("boot.log: it is not beside the record, or too large")
    else:
        text = data.decode("utf-8", "replace")
        files["boot.log"] = "".join(f"{scrubber.log_line(line)}\n" for line in text.splitlines()).encode(
            "ascii", "replace"
        )


def _add_screenshot(
    files: dict[str, bytes], notes: list[str], folder: Path, record: ConversionRecord, wanted: bool
) -> None:
    if record.boot is None or record.boot.screenshot is None:
        return
    if not wanted:
        notes.append("screenshot.png: a picture cannot be scrubbed; --screenshot puts it in")
    elif (data := _read(folder, record.boot.screenshot, _LARGEST_PICTURE_BYTES)) is None:
        notes.append("screenshot.png: it is not beside the record, or too large")
    else:
        files["screenshot.png"] = data


def _read(folder: Path, name: str | None, most: int) -> bytes | None:
    path = folder / Path(name or "").name
    if name is None or not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError:
        return None
    return data if len(data) <= most else None


def _manifest(digest: str, files: Mapping[str, bytes], notes: list[str], scrubber: Scrubber) -> Iterator[str]:
    yield f"Support bundle of p2v {p2v.__version__}"
    yield f"about the record with the digest {digest}"
    yield from manifest_rows(files, notes, scrubber)


def manifest_rows(files: Mapping[str, bytes], notes: Sequence[str], scrubber: Scrubber) -> Iterator[str]:
    """What is in a bundle, what was replaced in it, and what was left out: lines for its manifest."""
    yield ""
    yield "In it"
    yield from (f"  {name:<16}{len(data):>10} bytes{_remark(name)}" for name, data in sorted(files.items()))
    yield ""
    yield "Replaced by placeholders, the same thing by the same one throughout"
    rows = [f"  {count:>6} different: {kind}" for kind, count in sorted(scrubber.replaced.items())]
    yield from rows or ["  nothing"]
    yield ""
    yield "Left out"
    yield from (f"  {note}" for note in notes)
    if scrubber.left_out:
        total = format_bytes(sum(scrubber.left_out.values()))
        yield f"  contents of the guest's files, before and after changes: {total} of text"
    yield "  the disks, the definitions, the source's description"
    yield ""
    yield "Kept as they are: numbers, the suite's and the kernel's own words, names of devices, versions of programs, times."
    yield "Look through it before you send it."


def _remark(name: str) -> str:
    return "  NOT SCRUBBED: it shows what the guest's screen showed" if name.endswith(".png") else ""


def write_packed(target: Path, files: Mapping[str, bytes]) -> None:
    """Pack files into ``target``, which is there whole or not at all. Raises NotPermitted, NoSpace, ReadFailed, TargetExists."""
    partial = target.with_name(target.name + PARTIAL)
    try:
        with partial.open("xb") as file:
            # no name and no time in the header: the same input gives the same bytes
            with (
                gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
            ):
                for name, data in sorted(files.items()):
                    entry = tarfile.TarInfo(f"{FOLDER}/{name}")
                    entry.size, entry.mode = len(data), 0o644
                    tar.addfile(entry, io.BytesIO(data))
            file.flush()
            os.fsync(file.fileno())
        rename_new(partial, target)
    except OSError as error:
        raise write_problem(error, target) from error
    finally:
        remove_quietly([partial])
