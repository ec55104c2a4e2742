"""Product keys are left out of facts: plans and records are handed on, and nothing that is decided needs them.

Sources: Microsoft, knowledge base article 936607 (DigitalProductId holds the encoded product key); the layout of its versions 3
and 4 as several programs that show keys agree on it: the encoded key at byte 52, respectively at byte 808 with two digests behind.
"""

from __future__ import annotations

from drivers.windows import c_regf as c
from drivers.windows.regf import Value

_ENCODED = {"DIGITALPRODUCTID": (52, 67), "DIGITALPRODUCTID4": (808, 888)}
_IN_CLEAR = frozenset({"BACKUPPRODUCTKEYDEFAULT"})


def without_key(value: Value) -> bytes | None:
    """A value's data with zeroes in the place of a product key; None where it is nothing else."""
    name = c.upper(value.name)
    if name in _IN_CLEAR:
        return None
    if name not in _ENCODED:
        return value.data
    first, end = _ENCODED[name]
    return value.data[:first] + bytes(len(value.data[first:end])) + value.data[end:]
