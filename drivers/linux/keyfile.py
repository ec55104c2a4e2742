"""Files of ``[Section]`` and ``Key=Value`` lines: systemd's units and networks, NetworkManager's connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


def with_values(text: str, section: str, key: str, wanted: Sequence[str], replaced: Callable[[str], bool] | None = None) -> str:
    """The text in which a section sets a key to these values, one line each; whatever else is in it stays.

    ``replaced``: the keys whose lines go (only ``key`` itself without it). New lines stand where the first of the old ones
    stood, else at the section's end; a section that is not there is added when it is needed.
    """
    new = [f"{key}={value}\n" for value in wanted]
    kept: list[str] = []
    at = last = None
    current = ""
    for line in _logical(text):
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            current = stripped[1:-1]
        name, equals, _ = stripped.partition("=")
        is_setting = bool(equals) and not stripped.startswith(("#", ";"))
        if current == section and is_setting and (replaced(name.strip()) if replaced else name.strip() == key):
            at = len(kept) if at is None else at
            continue
        kept.append(line)
        if current == section and stripped:
            last = len(kept)
    if not new:
        return "".join(kept)
    place = at if at is not None else last
    if place is None:
        body = "".join(kept)
        return f"{body}{'' if not body or body.endswith(chr(10)) else chr(10)}\n[{section}]\n{''.join(new)}"
    if place and not kept[place - 1].endswith("\n"):
        kept[place - 1] += "\n"
    return "".join([*kept[:place], *new, *kept[place:]])


def without_sections(text: str, is_dropped: Callable[[tuple[Setting, ...]], bool]) -> str:
    """The text without the sections (each with its header, up to the next one) whose settings say so."""
    blocks: list[list[str]] = [[]]
    for line in _logical(text):
        if line.strip().startswith("[") and line.strip().endswith("]"):
            blocks.append([])
        blocks[-1].append(line)
    return "".join("".join(block) for block in blocks if not (block and is_dropped(parse("".join(block)))))


def _logical(text: str) -> Iterator[str]:
    """Lines with their end, those that are continued as one."""
    open_line = ""
    pieces = text.split("\n")
    for line in (*(f"{piece}\n" for piece in pieces[:-1]), pieces[-1]):
        open_line += line
        if open_line and not line.endswith("\\\n"):
            yield open_line
            open_line = ""
    if open_line:
        yield open_line
