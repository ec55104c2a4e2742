"""The support bundle of a conversion that failed, which has no record: packed for others to look at, without what is whose.

p2v-bundle/MANIFEST.txt     what is in it, what was replaced, what was left out
p2v-bundle/failure.json     the error's code, sentence and hint, scrubbed; of a failure of the suite itself, where in its code
p2v-bundle/plan.json        what was to be done, scrubbed, where it had been planned
p2v-bundle/events.jsonl     when phases began and ended, and what was warned of
p2v-bundle/versions.json    of everything that had a hand in it
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import TracebackType

import p2v
from p2v.core import jsontext
from p2v.core.errors import P2vError
from p2v.core.events import Moment
from p2v.documents import PlanDocument, plan_json, to_data
from p2v.record.bundle import Packed, manifest_rows, write_packed
from p2v.record.scrub import Scrubber

_PACKAGES = ("p2v", "converters", "drivers")
_FRAMES_AT_MOST = 100


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A conversion that ended with an error. ``document``: its plan, where it came so far; ``tools``: programs' versions."""

    error: Exception
    moments: tuple[Moment, ...]
    document: PlanDocument | None
    tools: Mapping[str, str]


def failed_bundle(run: FailedRun, target: Path) -> Packed:
    """Pack it into ``target`` (a .tar.gz). Raises TargetExists, NotPermitted, NoSpace, ReadFailed."""
    scrubber = Scrubber()
    scrubber.learn(run.document)
    files = {
        "failure.json": jsontext.pretty(_failure(run.error, scrubber)).encode("ascii"),
        "events.jsonl": "".join(json.dumps(to_data(scrubber.value(each))) + "\n" for each in run.moments).encode(
            "ascii"
        ),
        "versions.json": jsontext.pretty(dict(run.tools)).encode("ascii"),
    }
    notes = []
    if run.document is None:
        notes.append("plan.json: it failed before there was a plan")
    else:
        files["plan.json"] = plan_json(scrubber.value(run.document)).encode("ascii")
    rows = (
        f"Support bundle of p2v {p2v.__version__}",
        "about a conversion that failed",
        *manifest_rows(files, notes, scrubber),
    )
    manifest = "\n".join(rows) + "\n"
    write_packed(target, {"MANIFEST.txt": manifest.encode(), **files})
    return Packed(target, manifest)


def _failure(error: Exception, scrubber: Scrubber) -> Mapping[str, object]:
    if isinstance(error, P2vError):
        said = {"code": error.code, "exit_code": error.exit_code, "message": scrubber.text(error.sentence())}
        return {**said, "hint": scrubber.text(error.hint()), "because": list(_because(error, scrubber))}
    return {
        "code": "",
        "exit_code": 1,
        "message": f"{type(error).__name__}: {scrubber.text(str(error))}",
        "hint": "",
        "where": list(_where(error.__traceback__)),
        "because": list(_because(error, scrubber)),
    }


def _because(error: BaseException, scrubber: Scrubber) -> Iterator[str]:
    """What it was raised from, each with the place in the code."""
    seen: list[BaseException] = [error]
    while (cause := seen[-1].__cause__) is not None and cause not in seen and len(seen) < _FRAMES_AT_MOST:
        seen.append(cause)
        where = [*_where(cause.__traceback__)][-1:]
        yield " at ".join((f"{type(cause).__name__}: {scrubber.text(str(cause))}", *where))


def _where(found: TracebackType | None) -> Iterator[str]:
    """Lines of code, which are the suite's own or Python's, and no data."""
    for frame in traceback.extract_tb(found, _FRAMES_AT_MOST):
        yield f"{_module(PurePath(frame.filename).parts)}:{frame.lineno} {frame.name}"


def _module(parts: Sequence[str]) -> str:
    """The path below our packages; of others' code the file's name alone, for folders may say whose host it is."""
    for package in _PACKAGES:
        if package in parts[:-1]:
            last = len(parts) - 1 - parts[::-1].index(package)
            return "/".join(parts[last:])
    return parts[-1] if parts else "?"
