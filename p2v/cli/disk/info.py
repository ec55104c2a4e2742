"""``p2v disk info SRC``: what an image is, without reading its data."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from converters.image import describe
from converters.info import ImageInfo
from converters.layering import Link, links
from p2v.cli import console
from p2v.cli.disk.source import add_source, open_spec, spec_of
from p2v.core import jsontext
from p2v.core.units import format_bytes


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_source(parser)
    parser.add_argument("--json", action="store_true", help="as a JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Describe and print. 0; what cannot be read is an error."""
    with open_spec(spec_of(arguments)) as disk:
        found = describe(disk)
        chain = tuple(links(disk))
    if arguments.json:
        console.out_json(jsontext.pretty(_document(found, chain)))
    else:
        console.out("\n".join(_text(found, chain)))
    return 0


def _document(found: ImageInfo, chain: tuple[Link, ...]) -> dict[str, Any]:
    document = asdict(found)
    document["identifiers"] = _named(found.identifiers)
    # each image's parents are the rest of the chain
    del document["parents"]
    document["chain"] = [_link(link) for link in chain]
    return document


def _link(link: Link) -> dict[str, Any]:
    facts = asdict(link.facts)
    del facts["parent"]
    files = list(dict.fromkeys(str(source.host_path) for source in link.sources))
    return facts | {
        "identifiers": _named(link.facts.identifiers),
        "virtual_size": link.layout.virtual_size,
        "files": files,
    }


def _named(identifiers: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in identifiers]


def _text(found: ImageInfo, chain: tuple[Link, ...]) -> list[str]:
    rows = [
        _row("virtual size", f"{format_bytes(found.virtual_size)} ({found.virtual_size} bytes)"),
        _row("allocated size", f"{format_bytes(found.allocated_size)} in {format_bytes(found.file_size)} of files"),
        _row("sectors", f"{found.logical_sector_size} bytes, physical {found.physical_sector_size}"),
    ]
    for depth, link in enumerate(chain):
        rows += ["", *_image(link, depth)] if depth else _image(link, depth)
    return rows


def _image(link: Link, depth: int) -> list[str]:
    facts = link.facts
    files = list(dict.fromkeys(str(source.host_path) for source in link.sources))
    rows = [f"parent {depth}"] if depth else []
    rows += [
        _row("file" if number == 0 else "", path) for number, path in enumerate(files)
    ]
    rows.append(_row("format", f"{facts.format}, {facts.variant}" if facts.variant else facts.format))
    if depth:
        rows.append(_row("virtual size", f"{format_bytes(link.layout.virtual_size)} ({link.layout.virtual_size} bytes)"))
    if facts.creator or facts.creator_version:
        rows.append(_row("made by", f"{facts.creator} {facts.creator_version}".strip()))
    rows += [_row(name, value) for name, value in facts.identifiers]
    rows += [_row("unfinished", sign) for sign in facts.dirty]
    rows += [_row("note", note) for note in facts.notes]
    return rows


def _row(name: str, value: str) -> str:
    return f"{name:<20}{value}"
