"""The syntax of VMware's .vmx and .vmsd: ``key = "value"`` lines in any mix of cases, comments, codes for odd characters."""

from __future__ import annotations

import re
from dataclasses import dataclass

from converters.vmdk_descriptor import decoded
from p2v.sources.description import Description

_LINES_AT_MOST = 20_000
_KEY = re.compile(r"[a-z.][\w.:\-]*")
# A quote and a bar in a value are written as their codes.
_CODE = re.compile(r"\|([0-9A-Fa-f]{2})")
_ON = frozenset({"true", "yes", "on", "1", "t", "y"})


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of a .vmx by their keys in small letters; ``twice`` are keys that stand there with two values."""

    values: dict[str, str]
    twice: tuple[str, ...] = ()

    def text(self, key: str) -> str:
        """The value, empty where there is none."""
        return self.values.get(key, "")

    def word(self, key: str) -> str:
        """The value without space around it, in small letters."""
        return self.text(key).strip().lower()

    def is_on(self, key: str, *, default: bool = False) -> bool:
        """A yes-or-no value."""
        return self.word(key) in _ON if self.word(key) else default

    def is_off(self, key: str) -> bool:
        """Whether it says no; nothing said is not no."""
        return bool(self.word(key)) and not self.is_on(key)


def settings(description: Description, data: bytes) -> Settings:
    """The settings in a file of the machine; of a key that comes twice the last one. Raises BadDescription for far too many."""
    text, _ = decoded(data)
    lines = re.split(r"[\r\n]+", text)
    if len(lines) > _LINES_AT_MOST:
        raise description.error(f"has more than {_LINES_AT_MOST} lines")
    values: dict[str, str] = {}
    twice: list[str] = []
    for line in lines:
        key, equals, value = line.partition("=")
        key = key.strip().lower()
        if not equals or _KEY.fullmatch(key) is None:
            continue
        value = _plain(value.strip())
        if values.get(key, value) != value:
            twice.append(key)
        values[key] = value
    return Settings(values, tuple(dict.fromkeys(twice)))


def _plain(value: str) -> str:
    # backslashes are no escapes: they stand in the paths of Windows hosts
    if value.startswith('"'):
        end = value.find('"', 1)
        value = value[1:end] if end > 0 else value[1:]
    return _CODE.sub(lambda code: chr(int(code[1], 16)), value)
