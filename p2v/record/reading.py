"""Writing a record and reading it again: everything that does not fit is found and named, all of it at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from p2v.core import jsonio, jsontext
from p2v.core.errors import NoSource, P2vError
from p2v.core.io_errors import read_problem
from p2v.core.text import printable
from p2v.documents import document_converter, to_data
from p2v.record.conversion import FLAT_SCHEMA, RECORD_SCHEMA, ConversionRecord
from p2v.record.parts import PARTS, Link, chain_of, from_parts, link_of, to_parts

_LARGEST_BYTES = 256 * 1024 * 1024
_HEAD = ("schema", "digest", "chain")
_ADVICE = "Name a record made by `p2v convert`."


@dataclass(eq=False)
class BadRecord(P2vError):
    """A file is no record, or not as it was written; ``problems`` has a clause for each thing that does not fit."""

    file: Path
    problems: tuple[str, ...]
    exit_code: ClassVar[int] = 65
    code: ClassVar[str] = "bad-record"

    def sentence(self) -> str:
        return f"{self.file}: {'; '.join(self.problems)}"

    def hint(self) -> str:
        return "It is damaged, or was changed after it was written. Take it from where it was made, or from a backup."


@dataclass(frozen=True, slots=True)
class OpenedRecord:
    """A record as it stands in a file.

    ``problems`` is empty for one that is whole; ``record`` is None where it is too broken to be read. ``digest`` is what the
    file says of itself. ``data``: the file's bytes.
    """

    path: Path
    data: bytes
    schema: int
    digest: str
    record: ConversionRecord | None
    problems: tuple[str, ...] = ()

    @property
    def is_chained(self) -> bool:
        """Whether its parts are tied to each other; those of version 0.1 have one digest over everything."""
        return self.schema != FLAT_SCHEMA

    def whole(self) -> ConversionRecord:
        """The record. Raises BadRecord when anything is wrong with it."""
        if self.problems or self.record is None:
            raise BadRecord(self.path, self.problems)
        return self.record


def record_json(record: ConversionRecord) -> str:
    """The record as a file: its digest and its chain first."""
    flat = to_data(record)
    if record.schema == FLAT_SCHEMA:
        return jsontext.pretty({"digest": jsontext.digest(flat), **flat})
    parts = to_parts(flat)
    body = {"schema": record.schema, "chain": [asdict(link) for link in chain_of(parts)], **parts}
    return jsontext.pretty({"schema": record.schema, "digest": jsontext.digest(body), **body})


def record_digest(record: ConversionRecord) -> str:
    """What ``record_json`` says the record's digest is."""
    return str(json.loads(record_json(record))["digest"])


def load_record(path: Path) -> ConversionRecord:
    """Read a record. Raises NoSource or NotPermitted when it cannot be read, BadRecord when it is none or not whole."""
    return open_record(path).whole()


def open_record(path: Path) -> OpenedRecord:
    """Read a record with all that is wrong with it. Raises NoSource, NotPermitted, ReadFailed, and BadRecord for no record."""
    data = read_document(path)
    try:
        found = parse(data)
    except ValueError as error:
        raise BadRecord(path, (f"not a JSON document ({error}); it may be cut short",)) from error
    if not isinstance(found, dict) or found.get("schema") not in (FLAT_SCHEMA, RECORD_SCHEMA):
        raise BadRecord(path, ("not a conversion record that this version reads",))
    reading = _Reading(found)
    record = reading.flat_record() if found["schema"] == FLAT_SCHEMA else reading.chained_record()
    return OpenedRecord(path, data, found["schema"], str(found.get("digest")), record, tuple(reading.problems))


def read_document(path: Path) -> bytes:
    """A JSON document's bytes, of bounded size. Raises NoSource, NotPermitted, ReadFailed, BadRecord."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NoSource(str(path), error.strerror or "cannot be read", _ADVICE) from error
    except OSError as error:
        raise read_problem(error, path) from error
    if len(data) > _LARGEST_BYTES:
        raise BadRecord(path, ("too large for a record",))
    return data


def parse(data: bytes) -> Any:
    """JSON of which there is one reading only: no key twice, no NaN. Raises ValueError."""
    try:
        return json.loads(data, object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _no_key_twice(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!a} stands in one object twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


@dataclass
class _Reading:
    """One record being read, and what was found wrong with it so far."""

    found: Mapping[str, Any]
    problems: list[str] = field(default_factory=list)

    def flat_record(self) -> ConversionRecord | None:
        """Of schema 1."""
        data = {name: value for name, value in self.found.items() if name != "digest"}
        if self.found.get("digest") != jsontext.digest(data):
            self.problems.append("the record was changed after it was written: its digest does not fit")
        return self._decoded(data)

    def chained_record(self) -> ConversionRecord | None:
        """Of schema 2."""
        missing = [name for name in (*_HEAD, *PARTS) if name not in self.found]
        unknown = [name for name in self.found if name not in (*_HEAD, *PARTS)]
        self.problems += [f"{name} is missing" for name in missing]
        self.problems += [f"{printable(name, keep='')} stands in no record" for name in unknown]
        no_objects = [name for name in PARTS if name not in missing and not isinstance(self.found[name], dict)]
        self.problems += [f"the part {name} is no object" for name in no_objects]
        if missing or unknown or no_objects:
            return None
        parts = {name: self.found[name] for name in PARTS}
        self.problems += _chain_problems(self.found["chain"], parts)
        if self.found["digest"] != jsontext.digest({n: v for n, v in self.found.items() if n != "digest"}):
            self.problems.append("the digest of the whole record does not fit it")
        flat = from_parts(parts, self.found["schema"])
        if _names(to_parts(flat)) != _names(parts):
            self.problems.append("its fields do not stand in the parts they belong to")
            return None
        if flat["document"] and parts["plan"].get("digest") != jsontext.digest(flat["document"]):
            self.problems.append("part plan: its digest is not that of the plan made of source, findings and plan")
        return self._decoded(flat)

    def _decoded(self, data: Mapping[str, Any]) -> ConversionRecord | None:
        try:
            record = jsonio.decode(document_converter(), data, ConversionRecord)
        except jsonio.BadDocument as error:
            self.problems.append(f"not a conversion record: {error}")
            return None
        if not len(record.disks) == len(record.document.sources) == len(record.hardware.disks):
            self.problems.append("source, copy and outputs tell of different numbers of disks")
            return None
        return record


def _names(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str]]:
    return {name: set(part) for name, part in parts.items()}


def _chain_problems(chain: Any, parts: Mapping[str, Any]) -> Iterator[str]:
    try:
        links = jsonio.decode(document_converter(), chain, tuple[Link, ...])
    except jsonio.BadDocument:
        yield "the chain is not one of links"
        return
    if tuple(link.part for link in links) != PARTS:
        named = ", ".join(printable(link.part, keep="") for link in links)
        yield f"the chain has the parts {named}; they are to be {', '.join(PARTS)}"
        return
    previous = None
    for link in links:
        if link.content != jsontext.digest(parts[link.part]):
            yield f"part {link.part}: its contents do not fit its digest in the chain"
        if link.previous != previous:
            yield f"part {link.part}: its link does not name the digest of the part before it"
        elif link != link_of(link.part, link.previous, link.content):
            yield f"part {link.part}: the digest of its link does not fit the link"
        previous = link.digest
