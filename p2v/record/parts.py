"""How a record is laid out in its file: parts in a fixed order, and the chain that ties each to the one before.

    {"schema": 2, "digest": ..., "chain": [{"part", "previous", "content", "digest"}, ...], "source": {...}, ...}

* ``content`` of a link: SHA-256 of the part's canonical JSON (sorted keys, no blanks, ASCII; ``p2v.core.jsontext``).
* ``previous``: the ``digest`` of the link before; null for the first.
* ``digest`` of a link: SHA-256 of the canonical JSON of the link's other three fields.
* ``digest`` of the record: the same of everything but itself.

So a part that comes from another record fits neither its own link nor those after it, and is named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drivers.plan import GuestPlan
from p2v.core import jsontext
from p2v.documents import PlanDocument

PARTS = ("source", "findings", "plan", "changes", "copy", "checks", "outputs", "boot", "making")
"""Top-level keys of a record beside ``schema``, ``digest`` and ``chain``, each after what it rests on."""

OF_SOURCE = ("machine", "sources", "facts")
OF_FINDINGS = ("warnings", "blockers")
# Fields of a record by the part they stand in, and what they are called there.
OF_PARTS: Mapping[str, Mapping[str, str]] = {
    "plan": {"plan_digest": "digest"},
    "changes": {"applied": "applied"},
    "copy": {"disks": "disks", "allocation": "allocation", "unneeded": "unneeded"},
    "checks": {"checks": "file_systems"},
    "outputs": {"outputs": "files", "hardware": "hardware"},
    "boot": {"boot": "evidence", "boot_files": "files"},
}
_OF_GUEST_PLAN = tuple(f.name for f in dataclasses.fields(GuestPlan) if f.name not in OF_FINDINGS)
_OF_DOCUMENT = tuple(f.name for f in dataclasses.fields(PlanDocument) if f.name not in (*OF_SOURCE, "plan"))


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain; digests in hex."""

    part: str
    previous: str | None
    content: str
    digest: str


def to_parts(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts of a record, given as the plain data of a ``ConversionRecord``.

    ``plan`` has what no other part takes of the plan document, ``making`` what none takes of the record.
    """
    rest = {name: value for name, value in flat.items() if name != "schema"}
    document = dict(rest.pop("document"))
    guest_plan = dict(document.pop("plan"))
    parts = {"source": _taken(document, OF_SOURCE), "findings": _taken(guest_plan, OF_FINDINGS)}
    for part, names in OF_PARTS.items():
        parts[part] = {names[name]: value for name, value in _taken(rest, tuple(names)).items()}
    parts["plan"] |= guest_plan | document
    return parts | {"making": rest}


def from_parts(parts: Mapping[str, Mapping[str, Any]], schema: int) -> dict[str, Any]:
    """The plain data of a ``ConversionRecord``, given its parts. What stands in the wrong part is not made right."""
    plan = dict(parts["plan"])
    guest_plan = _taken(plan, _OF_GUEST_PLAN) | dict(parts["findings"])
    document = {**parts["source"], **_taken(plan, _OF_DOCUMENT), "plan": guest_plan}
    flat = {**parts["making"], "document": document, "schema": schema}
    for part, names in OF_PARTS.items():
        theirs = {there: here for here, there in names.items()}
        found = plan if part == "plan" else parts[part]
        flat |= {theirs.get(name, name): value for name, value in found.items()}
    return flat


def _taken(data: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: data.pop(name) for name in names if name in data}


def chain_of(parts: Mapping[str, Any]) -> Iterator[Link]:
    """The chain over parts as they stand in a file."""
    previous = None
    for part in PARTS:
        link = link_of(part, previous, jsontext.digest(parts[part]))
        yield link
        previous = link.digest


def link_of(part: str, previous: str | None, content: str) -> Link:
    """A link, with the digest that fits it."""
    return Link(part, previous, content, jsontext.digest({"part": part, "previous": previous, "content": content}))
