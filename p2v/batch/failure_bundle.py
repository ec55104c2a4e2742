"""What is kept of a machine that was parked, for those who look into it: a folder without contents of the guest.

failure.json     code, message and hint, the attempts
events.jsonl     the last attempt's events, as `p2v batch logs --json` has them
said.txt         what the child said that was no event
versions.json    of everything that had a hand in it
facts.json       the guest's system, partitions and file systems by kind and size; no names, no contents
record.tar.gz    where there is a record: its scrubbed support bundle (`p2v record bundle`)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from p2v.batch.event_data import log_data
from p2v.batch.jobs import Failure, Job, JobEvent
from p2v.batch.json_forms import Count
from p2v.core import jsonio, jsontext
from p2v.core.io_errors import write_problem
from p2v.core.text import printable
from p2v.core.workspace import remove_files, write_synced

RECORD = "record.tar.gz"
BUNDLE_SCHEMA = 1
_LONGEST = 200
_MOST_PARTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledFailure:
    """Why a machine was parked, in its failure bundle."""

    schema: int = BUNDLE_SCHEMA
    """Which form of the document it is; another number only where a field goes away, or means something else."""
    job: str
    """The machine, as the manifest calls it."""
    sources: tuple[Path, ...]
    """Its sources, as the manifest has them."""
    attempts: Count
    """Attempts begun since somebody asked for it last."""
    fence: Count
    """The number of the lease of the last one."""
    code: str
    """The error's name, which stays the same."""
    exit_code: int
    """As `p2v convert` ends with it."""
    message: str
    """What, and where."""
    hint: str
    """What to do; may be empty."""
    may_help: bool
    """Whether trying again may help."""

    @classmethod
    def of(cls, job: Job, failure: Failure) -> BundledFailure:
        """Of a job as it was when its last attempt began."""
        return cls(
            job=job.machine.name,
            sources=job.machine.sources,
            attempts=job.attempts,
            fence=job.fence,
            code=failure.code,
            exit_code=failure.exit_code,
            message=failure.message,
            hint=failure.hint,
            may_help=failure.may_help,
        )


def bundles_folder(store: Path) -> Path:
    """Where all bundles of a batch stand."""
    return store.with_name(f"{store.stem}-failures")


def bundle_folder(store: Path, job: Job) -> Path:
    """Where a job's failure bundle stands, one for each attempt."""
    return bundles_folder(store) / numbered(job.machine.name, job.fence)


def numbered(name: str, fence: int) -> str:
    """A folder's name for an attempt at a machine, whose own may hold what no file's name may."""
    plain = quote(name, safe=" +@,=").replace(".", "%2E") or "%"
    return f"{plain[:150]}-{fence}"


def begin_bundle(folder: Path) -> None:
    """Make the folder, empty. Raises NoSpace, NotPermitted, ReadFailed."""
    remove_files([folder])
    try:
        folder.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise write_problem(error, folder) from error


def write_bundle(
    folder: Path,
    job: Job,
    failure: Failure,
    told: Iterable[JobEvent],
    said: str,
    versions: Mapping[str, str],
    inspection: str,
) -> None:
    """Fill it; ``inspection``: what `p2v inspect --json` said, if anything. Raises NoSpace, NotPermitted, ReadFailed."""
    summary = jsonio.encode(jsonio.converter(), BundledFailure.of(job, failure))
    files = {
        "failure.json": jsontext.pretty(summary),
        "events.jsonl": "".join(jsontext.canonical(log_data(each)).decode() + "\n" for each in told),
        "said.txt": printable(said) + "\n",
        "versions.json": jsontext.pretty(dict(versions)),
    }
    facts = facts_of(inspection)
    if facts is not None:
        files["facts.json"] = jsontext.pretty(facts)
    for name, text in files.items():
        write_synced(folder / name, text)


def facts_of(inspection: str) -> Mapping[str, Any] | None:
    """Of an inspection what names nobody: kinds, sizes and versions. None when it is none."""
    try:
        found = json.loads(inspection)
    except (ValueError, RecursionError):
        return None
    match found:
        case {"facts": dict(facts), "sources": list(sources)}:
            images = [each.get("image") for each in sources[:_MOST_PARTS] if isinstance(each, dict)]
            return {
                "os": _plain(facts.get("os"), ("kind", "id", "version", "arch", "family")),
                "partitions": [_partition(each) for each in _list(facts.get("partitions"))],
                "images": [_plain(each, ("format", "virtual_size", "allocated_size")) for each in images],
            }
    return None


def _partition(part: object) -> Mapping[str, Any]:
    system = part.get("filesystem") if isinstance(part, dict) else None
    kinds = ("kind", "size_bytes", "free_bytes", "dirty", "why_not_host")
    return {**_plain(part, ("disk", "number", "offset", "length", "type_id")), "filesystem": _plain(system, kinds)}


def _list(value: object) -> list[object]:
    return value[:_MOST_PARTS] if isinstance(value, list) else []


def _plain(value: object, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    kept = {name: value.get(name) for name in names}
    return {
        name: each[:_LONGEST] if isinstance(each, str) else each
        for name, each in kept.items()
        if isinstance(each, str | int | float | bool)
    }
