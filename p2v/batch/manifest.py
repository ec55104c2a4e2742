"""A batch's manifest, read and checked: all of its mistakes at once, each with its line. docs/schema has its shape.

Reading looks at nothing but the manifest: whether sources are there, keys are found and targets have room is for the plan.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2v.batch.csv_jobs import TABLES, WIDE, csv_node, decoded, is_csv
from p2v.batch.jobs import MANIFEST_SCHEMA, Batch, Budget, Hook, MachineJob, Verify, Window
from p2v.batch.manifest_keys import (
    BATCH_HOOK_KEYS,
    BUDGET_KEYS,
    MACHINE_KEYS,
    OPTION_KEYS,
    TOP_KEYS,
    Kind,
    ManifestKey,
    by_name,
)
from p2v.batch.names import usual_store
from p2v.batch.nodes import TEXT_BYTES_AT_MOST, Node, NotYaml, parse
from p2v.batch.options import option_words
from p2v.batch.shares import hosts, storages
from p2v.batch.values import Reading, shown
from p2v.core.errors import BadManifest, Mistake, NoSource, NotPermitted, ReadFailed, Usage

_MACHINES_AT_MOST = 100_000
_KEYS = by_name(MACHINE_KEYS, OPTION_KEYS)
_DEFAULTS = {name: key for name, key in _KEYS.items() if not key.own}
_BUDGET = by_name(BUDGET_KEYS)
_BATCH_HOOKS = by_name(BATCH_HOOK_KEYS)
_STORE = ManifestKey("store", Kind.PATH, "The file that tells what became of each machine.")
_SET_BY_THE_BATCH = {
    "output": "the folder of the results is `target`",
    "key": "passphrases are found by `keys`",
    "in-place": "a batch writes to no source",
    "plan": "a batch plans each machine itself",
    "fresh": "a batch goes on with what an interrupted run left",
    "options": "each option of `p2v convert` is a key of its own here, without its dashes",
}


def read_batch(path: Path) -> Batch:
    """The batch that a manifest (YAML, or a CSV file with a line each) describes; its relative paths begin at its folder.

    Raises BadManifest with every mistake, NoSource, NotPermitted, ReadFailed.
    """
    path = path.absolute()
    reading = Reading(path.parent)
    try:
        text = _text(path)
        root = csv_node(text) if is_csv(path, text) else parse(text)
    except NotYaml as error:
        raise BadManifest(path, (Mistake(error.line, "", error.message),)) from error
    batch = _batch(reading, root, path)
    if batch is None or reading.found:
        raise BadManifest(path, tuple(sorted(reading.found, key=lambda each: each.line)))
    return batch


def require_file(path: Path) -> None:
    """Raise ReadFailed for what is there and no file: a pipe would be waited for, and can be read but once. Usage for a folder."""
    if os.path.isdir(path):
        advice = "Name the batch's manifest, or its store; `p2v batch init FOLDER > jobs.yaml` begins a manifest."
        raise Usage(f"{path}: is a folder", advice)
    if os.path.exists(path) and not os.path.isfile(path):
        raise ReadFailed(str(path), "is no file; write the manifest into one")


def _text(path: Path) -> str:
    require_file(path)
    try:
        with path.open("rb") as file:
            raw = file.read(TEXT_BYTES_AT_MOST + 1)
    except FileNotFoundError as error:
        raise NoSource(str(path), "no such file", "`p2v batch init FOLDER` writes a manifest to begin with.") from error
    except PermissionError as error:
        raise NotPermitted(str(path), "read") from error
    except OSError as error:
        raise ReadFailed(str(path), error.strerror or "cannot be read") from error
    if len(raw) > TEXT_BYTES_AT_MOST:
        raise NotYaml(0, f"has more than {TEXT_BYTES_AT_MOST} bytes")
    try:
        text = decoded(raw) if path.suffix.lower() in TABLES else raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        wide = raw.startswith(WIDE)
        raise NotYaml(
            line,
            "is UTF-16, as some programs of Windows save a text; save it as UTF-8"
            if wide
            else "is no UTF-8 text; save it as UTF-8",
        ) from error
    strange = re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text)
    if strange is not None:
        line = text.count("\n", 0, strange.start()) + 1
        raise NotYaml(line, f"has the control character {strange.group()!a} in it")
    return text


def _batch(reading: Reading, root: Node | None, path: Path) -> Batch | None:
    """The batch; what it lacks is noted. None where there is nothing to go on with."""
    if root is None or root.pairs is None:
        reading.note(root or Node(1), "", "is empty: there are no `machines`" if root is None else "is no mapping with `machines`")
        return None
    top = _mapping(reading, root, TOP_KEYS, "")
    _check_schema(reading, root, top.get("schema"))
    defaults = _values(reading, top.get("defaults"), _DEFAULTS, "defaults")
    budget = _values(reading, top.get("budget"), _BUDGET, "budget")
    hooks = _values(reading, top.get("hooks"), _BATCH_HOOKS, "hooks")
    machines = _machines(reading, root, top.get("machines"), defaults)
    store = reading.value(top["store"], _STORE, "store") if _says(top.get("store")) else None
    if store is None:
        # beside the results, where there is one place for them
        store = usual_store(defaults.get("target", path.parent), path)
    return Batch(tuple(machines), _budget(budget), store, path, end=hooks.get("end"))


def _says(node: Node | None) -> bool:
    return node is not None and not node.is_nothing


def _check_schema(reading: Reading, root: Node, node: Node | None) -> None:
    if node is None:
        reading.note(root, "schema", f"is missing; this is `schema: {MANIFEST_SCHEMA}`")
    elif node.text != str(MANIFEST_SCHEMA):
        reading.note(
            node, "schema", f"'{shown(node.text)}' is none that this version knows; it knows {MANIFEST_SCHEMA}"
        )


def _mapping(reading: Reading, node: Node, known: Iterable[str], where: str) -> dict[str, Node]:
    """What a mapping has under known keys; what is unknown or stands there twice is noted."""
    known = tuple(known)
    made: dict[str, Node] = {}
    for key, value in node.pairs or ():
        place = f"{where}.{key.text}" if where else key.text
        if key.text not in known:
            reading.note(key, place, f"is not known here{_instead(key.text, known)}")
        elif key.text in made:
            reading.note(key, place, f"stands there twice; first in line {made[key.text].line}")
        else:
            made[key.text] = value
    return made


def _instead(name: str, known: Sequence[str]) -> str:
    if name in _KEYS:
        return "; it is a key of a machine" if "name" not in known else ""
    if name.lstrip("-") in _SET_BY_THE_BATCH:
        return f"; {_SET_BY_THE_BATCH[name.lstrip('-')]}"
    plain = name.strip("-").lower().replace("_", "-")
    near = [plain] if plain in known else difflib.get_close_matches(plain, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _values(reading: Reading, node: Node | None, keys: Mapping[str, ManifestKey], where: str) -> dict[str, Any]:
    """The values of a mapping; None for one that says nothing. Those that make no sense are left out, and noted."""
    if node is None or node.is_nothing:
        return {}
    if node.pairs is None:
        reading.note(node, where, "is to be a mapping")
        return {}
    values: dict[str, Any] = {}
    for name, value in _mapping(reading, node, keys, where).items():
        read = None if value.is_nothing else _read(reading, value, keys[name], f"{where}.{name}")
        if read is not None or value.is_nothing:
            values[name] = read
    return values


def _read(reading: Reading, node: Node, key: ManifestKey, where: str) -> Any:
    # these note each of their own mistakes
    several = {Kind.STORAGES: storages, Kind.HOSTS: hosts}.get(key.kind)
    return reading.value(node, key, where) if several is None else several(reading, node, key, where)


def _machines(reading: Reading, root: Node, node: Node | None, defaults: Mapping[str, Any]) -> list[MachineJob]:
    if node is None or not node.items:
        is_other = _says(node) and node is not None and node.items is None
        message = "is to be a list, each with name and source" if is_other else "there are none"
        reading.note(node or root, "machines", message)
        return []
    if len(node.items) > _MACHINES_AT_MOST:
        reading.note(node, "machines", f"are more than {_MACHINES_AT_MOST}")
        return []
    made: list[MachineJob] = []
    lines: dict[str, int] = {}
    for number, each in enumerate(node.items, 1):
        said = _said(reading, each, number)
        if said is None:
            continue
        if said.name and lines.setdefault(said.name, each.line) != each.line:
            reading.note(each, said.where, f"another machine has this name, in line {lines[said.name]}")
        job = _machine(reading, said, defaults)
        if job is not None:
            made.append(job)
    return made


@dataclass(frozen=True, slots=True)
class _Said:
    """What a machine's mapping says; ``name`` is empty where there is none that can be."""

    node: Node
    where: str
    name: str
    values: Mapping[str, Any]


def _said(reading: Reading, node: Node, number: int) -> _Said | None:
    where = f"machines[{number}]"
    if node.pairs is None:
        reading.note(node, where, "is to be a mapping with name and source")
        return None
    stated = next((value.text for key, value in node.pairs if key.text == "name" and value.is_scalar), "")
    if stated:
        where = f"machine {shown(stated)}"
    values = _values(reading, node, _KEYS, where)
    return _Said(node, where, values.get("name") or "", values)


def _machine(reading: Reading, said: _Said, defaults: Mapping[str, Any]) -> MachineJob | None:
    """The machine; None where something that it must have is missing, which is noted."""
    own = said.values
    stated = {key.text for key, _ in said.node.pairs or ()}

    def value(name: str, otherwise: Any = None) -> Any:
        found = own[name] if name in own else defaults.get(name)
        return otherwise if found is None else found

    lacking = [
        name for name in ("name", "source") if own.get(name) is None and not (name in stated and name not in own)
    ]
    if value("target") is None and not ("target" in stated and "target" not in own):
        lacking.append("target")
    for name in lacking:
        hint = ", here or in the `defaults` of a YAML manifest" if name == "target" else ""
        reading.note(said.node, f"{said.where}.{name}", f"is missing{hint}")
    if not said.name or own.get("source") is None or value("target") is None:
        return None
    return _job(said, value, option_words(own, defaults))


def _job(said: _Said, value: Any, options: tuple[str, ...]) -> MachineJob:
    window: Window | None = value("window")
    before: Hook | None = value("before")
    after: Hook | None = value("after")
    return MachineJob(
        name=said.name,
        sources=said.values["source"],
        folder=value("target"),
        disk_format=value("format", "qcow2"),
        options=options,
        keys=value("keys", ()),
        wave=value("wave", 0),
        priority=value("priority", 0),
        window=window,
        before=before,
        after=after,
        verify=Verify(value("verify", Verify.NONE.value)),
        attempts=value("attempts", 3),
        host=value("host", ""),
        line=said.node.line,
    )


def _budget(values: Mapping[str, Any]) -> Budget:
    usual = Budget()
    return Budget(
        copies=values.get("copies") or usual.copies,
        appliances=values.get("appliances") or usual.appliances,
        boots=values.get("boots") or usual.boots,
        jobs=values.get("jobs") or usual.jobs,
        bytes_per_second=values.get("bytes-per-second"),
        copies_per_storage=values.get("copies-per-storage"),
        memory_bytes=values.get("memory"),
        storages=values.get("storages") or {},
        hosts=values.get("hosts") or {},
    )
