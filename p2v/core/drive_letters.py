"""The letters in the names of disks, as Linux, Xen and libvirt count with them: a ... z, aa, ab, ..."""

from __future__ import annotations


def drive_letters(index: int) -> str:
    """The letters of the disk ``index``, which counts from 0."""
    letters = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return letters


def drive_index(letters: str) -> int:
    """Which disk small letters stand for; the first is 0."""
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("a") + 1
    return number - 1
