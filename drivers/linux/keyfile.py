"""Files of ``[Section]`` and ``Key=Value`` lines: systemd's units and networks, NetworkManager's connections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """One assignment; ``section`` and ``key`` as they are written, the value without blanks around it."""

    section: str
    key: str
    value: str


def parse(text: str) -> tuple[Setting, ...]:
    """All assignments in their order; sections and keys may come more than once."""
    settings = []
    section = ""
    for line in text.replace("\\\n", " ").split("\n"):
        line = line.strip()
        if line.startswith(("#", ";")):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, equals, value = line.partition("=")
        if equals:
            settings.append(Setting(section, key.strip(), value.strip()))
    return tuple(settings)


def values(settings: tuple[Setting, ...], section: str, key: str) -> tuple[str, ...]:
    """What a key is set to, words apart."""
    return tuple(word for s in settings if s.section == section and s.key == key for word in s.value.split())


def first(settings: tuple[Setting, ...], section: str, *keys: str) -> str:
    """The whole value of the first of the keys that is there; empty when there is none."""
    return next((s.value for key in keys for s in settings if s.section == section and s.key == key), "")
