"""Removing a configuration file that planning has read."""

from __future__ import annotations

import hashlib

from drivers.changes import DeleteFile
from drivers.expectations import encoded
from drivers.facts import TextFile


def deletion(file: TextFile, why: str) -> DeleteFile:
    """The removal of a text as it was read."""
    return DeleteFile(file.resolved, hashlib.sha256(encoded(file.text)).hexdigest(), why)
