"""Text from images, guests and file names, made safe for a terminal."""

from __future__ import annotations


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
