"""A hive as the loader sees it: whole and clean, or a reason to stop. Read by libregf."""

from __future__ import annotations

import functools
import io
import struct
from dataclasses import dataclass, field

import pyregf

from tests.windows_startup.verdict import Reason, Stopped

_BASE_BYTES = 4096
_CHECKED_BYTES = 508


@dataclass
class Key:
    """A key: its values and what is below it, both by lower-case name."""

    name: str
    values: dict[str, bytes] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)

    def at(self, path: str) -> Key | None:
        """The key at a path from this one, whatever its case."""
        found: Key | None = self
        for part in path.split("\\"):
            found = found.keys.get(part.lower()) if found else None
        return found

    def text(self, name: str) -> str | None:
        """A string value, without what follows its end."""
        data = self.values.get(name.lower())
        return None if data is None else data.decode("utf-16-le", "replace").split("\0")[0]

    def texts(self, name: str) -> tuple[str, ...]:
        """The strings of a list; none when there is no such value."""
        data = self.values.get(name.lower(), b"")
        return tuple(text for text in data.decode("utf-16-le", "replace").split("\0") if text)

    def number(self, name: str) -> int | None:
        """A DWORD."""
        data = self.values.get(name.lower(), b"")
        return int(struct.unpack_from("<I", data)[0]) if len(data) >= 4 else None


@functools.lru_cache(maxsize=32)
def opened(data: bytes, what: str) -> Key:
    """The root of a hive file's bytes, which nobody changes; ``Stopped`` when Windows would not take it as it is.

    A loader takes a hive whose base block's checksum is right and whose two sequence numbers agree; if they do not, it was
    being written, and the loader changes it by the log first (M. Suhanov, "Windows registry file format specification",
    "Dirty state of a hive"). That is not modelled: what was written into such a hive may be undone, so it counts as a stop.
    """
    _check_base(data, what)
    file = pyregf.file()
    try:
        file.open_file_object(io.BytesIO(data))
        return _key(file.get_root_key())
    except OSError as error:
        raise Stopped(Reason.HIVE_DAMAGED, f"{what}: {str(error).splitlines()[0]}") from error


def _check_base(data: bytes, what: str) -> None:
    if len(data) < 2 * _BASE_BYTES or data[:4] != b"regf":
        raise Stopped(Reason.HIVE_DAMAGED, f"{what} is no hive")
    total = 0
    for (word,) in struct.iter_unpack("<I", data[:_CHECKED_BYTES]):
        total ^= word
    total = {0: 1, 0xFFFFFFFF: 0xFFFFFFFE}.get(total, total)
    if total != struct.unpack_from("<I", data, _CHECKED_BYTES)[0]:
        raise Stopped(Reason.HIVE_DAMAGED, f"{what}: its base block's checksum is wrong")
    first, second = struct.unpack_from("<II", data, 4)
    if first != second:
        raise Stopped(Reason.HIVE_NOT_CLEAN, f"{what}: sequence numbers {first} and {second}")
    bins = struct.unpack_from("<I", data, 40)[0]
    if _BASE_BYTES + bins > len(data):
        raise Stopped(Reason.HIVE_DAMAGED, f"{what} has {len(data)} bytes of {_BASE_BYTES + bins}")
    at = _BASE_BYTES
    while at < _BASE_BYTES + bins:
        signature, offset, size = struct.unpack_from("<4sII", data, at)
        if signature != b"hbin" or offset != at - _BASE_BYTES or not size or size % _BASE_BYTES:
            raise Stopped(Reason.HIVE_DAMAGED, f"{what}: no bin at byte {at}")
        at += size


def _key(key: pyregf.key) -> Key:
    found = Key(key.name or "")
    for value in key.values:
        found.values[(value.name or "").lower()] = value.data or b""
    for child in key.sub_keys:
        below = _key(child)
        found.keys[below.name.lower()] = below
    return found
