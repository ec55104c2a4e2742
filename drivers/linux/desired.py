"""Changes after which a file or a link is as it should be, or gone; none where it is so already."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from drivers.changes import Change, DeleteFile, EditFile, MakeSymlink, WriteFile
from drivers.expectations import encoded
from drivers.facts import GuestFacts, TextFile


def written(facts: GuestFacts, path: str, text: str, mode: int, why: str) -> Iterator[Change]:
    """The change after which a file holds a text; nothing when it does."""
    file = facts.texts.get(path)
    if file is None:
        yield WriteFile(path, text, mode, why)
    elif file.text != text:
        yield EditFile(file.resolved, file.text, text, why)


def linked(facts: GuestFacts, path: str, target: str, why: str) -> Iterator[Change]:
    """The change after which a link leads to a target; nothing when it does."""
    if facts.links.get(path) != target:
        yield MakeSymlink(path, target, facts.links.get(path), why)


def deletion(file: TextFile, why: str) -> DeleteFile:
    """The removal of a text as it was read."""
    return DeleteFile(file.resolved, hashlib.sha256(encoded(file.text)).hexdigest(), why)
