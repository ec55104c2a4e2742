"""Passphrases for a guest's encrypted containers: never in facts, plans, records or on a command line of a program we start."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from p2v.core.errors import Usage
from p2v.core.units import MIB

EVERY = "all"
_LARGEST_FILE = 1 * MIB


@dataclass(frozen=True, slots=True)
class Key:
    """A secret, and which containers it is tried on: ``all``, a UUID, or a device name of the source (``/dev/sda2``)."""

    selector: str
    secret: str = field(repr=False)


def parse_key(text: str) -> Key:
    """``SELECTOR:file:PATH``, ``SELECTOR:env:NAME`` or ``SELECTOR:key:PASSPHRASE``; without selector, of every container.

    A file's last newline is no part of the passphrase. Raises Usage.
    """
    parts = text.split(":", 2)
    if len(parts) == 2 and parts[0] in ("file", "env", "key"):
        parts = [EVERY, *parts]
    if len(parts) != 3 or not parts[0] or parts[1] not in ("file", "env", "key"):
        raise Usage("--key takes SELECTOR:file:PATH, SELECTOR:env:NAME or SELECTOR:key:PASSPHRASE, as in all:file:secret.txt")
    selector, kind, value = parts
    return Key(selector, _secret(kind, value))


def _secret(kind: str, value: str) -> str:
    if kind == "key":
        return value
    if kind == "env":
        if value not in os.environ:
            raise Usage(f"--key: the environment has no {value}")
        return os.environ[value]
    try:
        with Path(value).open("rb") as file:
            raw = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise Usage(f"--key: {value} cannot be read: {error.strerror}") from error
    if len(raw) > _LARGEST_FILE:
        raise Usage(f"--key: {value} is larger than a passphrase ({_LARGEST_FILE} bytes)")
    try:
        return raw.removesuffix(b"\n").decode("utf-8")
    except UnicodeDecodeError as error:
        raise Usage(f"--key: {value} holds no text; binary key files are not taken yet") from error


def fitting(keys: Iterable[Key], names: Iterable[str]) -> Iterator[Key]:
    """The keys to try on a container that has these names (its device, its UUID), those that name it first."""
    known = {name.lower() for name in names}
    given = tuple(keys)
    yield from (key for key in given if key.selector.lower() in known)
    yield from (key for key in given if key.selector == EVERY)
