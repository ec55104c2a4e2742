"""The audit's documents as files: which are wanted, and writing them; only an older document of the same kind is replaced."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from p2v.audit.document import AuditDocument
from p2v.core.errors import NoSource, ReadFailed, TargetExists, Usage
from p2v.core.io_errors import write_problem
from p2v.core.workspace import write_synced


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of document: its option, what every one of its files begins with, how it is made.

    ``module`` and ``function`` name the latter; it is imported when such a document is asked for, which most runs do not.
    """

    name: str
    begins: bytes
    help: str
    module: str
    function: str

    def make(self, document: AuditDocument) -> str:
        """The text of the document."""
        make: Callable[[AuditDocument], str] = getattr(import_module(self.module), self.function)
        return make(document)

    @property
    def attribute(self) -> str:
        """What the option's value is called."""
        return self.name.replace("-", "_")


_KINDS = (
    Kind("html", b"<!doctype html>", "a report to read and print, in one file", "p2v.audit.report.page", "report_html"),
    Kind("csv", b'"machine","verdict",', "a table with a line a finding", "p2v.audit.formats.csv_table", "findings_csv"),
    Kind("machines-csv", b'"machine","verdict",', "a table with a line a machine", "p2v.audit.formats.csv_table", "machines_csv"),
    Kind("sarif", b"{", "for tools that show findings (SARIF 2.1.0)", "p2v.audit.formats.sarif", "sarif_json"),
    Kind("junit", b"<?xml", "for CI: a failed test a blocker", "p2v.audit.formats.junit", "junit_xml"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group(
        "documents (written when the audit is done; an older one of the same kind is replaced)"
    )
    for each in _KINDS:
        group.add_argument(f"--{each.name}", type=Path, metavar="FILE", help=each.help)


def wanted(arguments: argparse.Namespace) -> list[tuple[Kind, Path]]:
    """Each wanted document and its file, looked at before hours of auditing.

    Raises NoSource where its folder is not there, TargetExists where something else stands at its place, Usage where two are to
    go into one file.
    """
    chosen = list(_chosen(arguments))
    for number, (kind, path) in enumerate(chosen):
        if path in [other for _, other in chosen[:number]]:
            raise Usage(f"--{kind.name} {path}: another document goes there already", "Give each a file of its own.")
        if not path.absolute().parent.is_dir():
            raise NoSource(str(path.parent), "is no folder", f"Make it, or name another file with --{kind.name}.")
        if path.exists() and not _is_older(kind, path):
            raise TargetExists(
                path, f"It is no such document as --{kind.name} writes: choose another name, or remove it."
            )
    return chosen


def _chosen(arguments: argparse.Namespace) -> Iterator[tuple[Kind, Path]]:
    for kind in _KINDS:
        path: Path | None = getattr(arguments, kind.attribute)
        if path is not None:
            yield kind, path


def _is_older(kind: Kind, path: Path) -> bool:
    """Whether what stands there is a document of the kind, or nothing at all. Raises ReadFailed."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(len(kind.begins))
    except OSError as error:
        raise ReadFailed(str(path), error.strerror or "cannot be read") from error
    return head in (b"", kind.begins)


def write(document: AuditDocument, files: list[tuple[Kind, Path]]) -> None:
    """Write them; each appears whole or not at all. Raises NoSpace, NotPermitted, ReadFailed."""
    for kind, path in files:
        _write(path, kind.make(document))


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write_synced(partial, text)
        os.replace(partial, path)
    except OSError as error:
        raise write_problem(error, path) from error
    finally:
        with suppress(OSError):
            partial.unlink()
