"""Values of a manifest as options of ``p2v convert``, each one word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from p2v.batch.manifest_keys import OPTION_KEYS, Kind, ManifestKey


def option_words(own: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[str, ...]:
    """The options that keys give, in the order of the table; what a machine says itself goes before the defaults.

    ``None`` among its own: not even what the defaults say.
    """
    words: list[str] = []
    for key in OPTION_KEYS:
        if key.kind is Kind.MAP:
            words += _mappings(own, defaults, key)
        else:
            words += _words(key, own[key.name] if key.name in own else defaults.get(key.name))
    return tuple(words)


def _mappings(own: Mapping[str, Any], defaults: Mapping[str, Any], key: ManifestKey) -> Iterator[str]:
    said: Mapping[str, str] = own.get(key.name) or {}
    for name, target in said.items():
        yield f"--{key.name}={name}={target}"
    if key.name in own and own[key.name] is None:
        return
    named = {name.lower() for name in said}
    # a fleet's networks are not each machine's: what it has no card on is passed over
    for name, target in (defaults.get(key.name) or {}).items():
        if name.lower() not in named:
            yield f"--{key.name}-if={name}={target}"


def _words(key: ManifestKey, value: Any) -> Iterator[str]:
    match value:
        case None | False:
            return
        case True:
            yield f"--{key.name}"
        case tuple():
            for each in value:
                yield f"--{key.name}={each}"
        case _:
            yield f"--{key.name}={value:g}" if isinstance(value, float) else f"--{key.name}={value}"
