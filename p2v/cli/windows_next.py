"""What the user of a converted Windows does next, as ``p2v report`` and the end of a conversion say it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from drivers.changes import WriteFile
from p2v.record import ConversionRecord

_LIST, _FOLDER = "steps.txt", "firstboot-"


def rows(record: ConversionRecord) -> Iterator[str]:
    """Nothing for other guests."""
    document = record.document
    if document.facts.windows is None:
        return
    yield "that it comes up was not proven here: what was changed was read back and checked, its first start is still to be seen"
    lists = [change for change in document.plan.changes if isinstance(change, WriteFile) and _is_list(change.path)]
    for each in lists:
        steps = ", ".join(line.split()[0] for line in each.content.splitlines()[1:] if line.strip() and not line.startswith("#"))
        folder = posixpath.dirname(each.path).replace("/", "\\")
        yield f"at that start it does by itself: {steps} (minutes, and one restart at most)"
        yield f"then {folder}\\result.txt ends with `finished 0`; another number counts the steps that failed, log.txt has why"
    yield "keep the source until you have logged on, seen its network and its other disks (docs/windows.md)"


def _is_list(path: str) -> bool:
    folder, name = posixpath.split(path)
    return name == _LIST and posixpath.basename(folder).startswith(_FOLDER)
