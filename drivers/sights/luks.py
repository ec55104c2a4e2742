"""The header of an encrypted container: which keys it has, and which of them hang on the old machine.

Source: "LUKS2 On-Disk Format Specification" (a binary header of 4096 bytes, then JSON up to its ``hdr_size``); systemd's and
clevis' names for their tokens; clevis keeps in its token a JWE whose protected header (RFC 7516, base64url) names its pin.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Mapping
from typing import Any

from drivers.sights.edges import Edges
from drivers.sights.values import LuksSight, LuksToken
from p2v.core.text import printable
from p2v.core.units import KIB

_BINARY_BYTES = 4 * KIB
# of the sizes that the format allows the smallest is what cryptsetup makes; larger ones are mostly padding
_JSON_AT_MOST = 256 * KIB
_SIZES = frozenset(KIB << bit for bit in range(4, 13))
_SLOTS_AT_MOST, _WORD_AT_MOST = 32, 40
_HEADER_TEXT_AT_MOST = 16 * KIB


def look_at_luks(disk: Edges, offset: int) -> LuksSight:
    """The header that begins at a place where LUKS is signed."""
    head = disk.exactly(16, offset)
    version, size = struct.unpack(">HQ", head[6:16])
    if version != 2:
        return LuksSight(version)
    if size not in _SIZES:
        return LuksSight(version, problem=f"its header says that it has {size} bytes")
    raw = disk.pread(min(size - _BINARY_BYTES, _JSON_AT_MOST), offset + _BINARY_BYTES)
    try:
        tree = json.loads(raw.split(b"\0")[0])
    except (ValueError, RecursionError):
        return LuksSight(version, problem="its header holds no JSON")
    keyslots, tokens = _mapping(tree, "keyslots"), _mapping(tree, "tokens")
    return LuksSight(version, _words(keyslots), tuple(_token(each) for each in list(tokens.values())[:_SLOTS_AT_MOST]))


def _token(data: object) -> LuksToken:
    fields = data if isinstance(data, dict) else {}
    slots = fields.get("keyslots")
    return LuksToken(_word(fields.get("type")), _pin(fields), _words(slots if isinstance(slots, list) else ()))


def _pin(token: Mapping[str, Any]) -> str:
    """What clevis asks for a key; empty where it is no token of clevis', or cannot be told."""
    jwe = token.get("jwe")
    protected = jwe.get("protected") if isinstance(jwe, dict) else None
    if not isinstance(protected, str) or len(protected) > _HEADER_TEXT_AT_MOST:
        return ""
    try:
        header = json.loads(base64.urlsafe_b64decode(protected + "=" * (-len(protected) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        return ""
    return _word(_mapping(header, "clevis").get("pin"))


def _mapping(tree: object, name: str) -> Mapping[str, Any]:
    value = tree.get(name) if isinstance(tree, dict) else None
    return value if isinstance(value, dict) else {}


def _words(values: object) -> tuple[str, ...]:
    return (
        tuple(_word(each) for each in list(values)[:_SLOTS_AT_MOST]) if isinstance(values, (dict, list, tuple)) else ()
    )


def _word(value: object) -> str:
    return printable(value[:_WORD_AT_MOST], keep="") if isinstance(value, str) else ""
