"""Text from images, guests and file names, made safe for a terminal, and for names of files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# letters whose marks Unicode does not take for marks
_PLAIN = str.maketrans({"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"})


def printable(text: str, keep: str = "\n\t") -> str:
    """The text with everything that does not print as an escape, but for the letters of ``keep``.

    Lone surrogates (bytes that were no UTF-8) come out as the bytes they were.
    """
    if text.isprintable():
        return text  # nearly every text, and many a letter
    return "".join(letter if letter in keep or letter.isprintable() else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8
        code -= 0xDC00
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def listed(words: Iterable[str], at_most: int = 6) -> str:
    """Words with commas, and how many more there are."""
    every = list(words)
    more = f" and {len(every) - at_most} more" if len(every) > at_most else ""
    return ", ".join(every[:at_most]) + more


def plain_name(text: str, letters: int) -> str:
    """What of a text can be the name of a machine and of its files, ``letters`` long at most; empty where nothing of it can.

    Latin letters lose their marks, what is neither letter, digit nor one of ``._+-`` becomes a hyphen, several of them one.
    """
    bare = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", bare.translate(_PLAIN)).strip(".-_+")[:letters].rstrip(".-_+")
