"""What was noted while a guest was read, as findings of its plan. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from drivers.plan import Finding

STAYS = "which stays as it is"
"""The end of a note about another system on the disks, or what ends with it."""
_SECOND_HINT = "Only one system of a machine is prepared for KVM. Convert a copy of its own for the other, made its default there."


def of_notes(notes: Iterable[str]) -> Iterator[Finding]:
    """What could not be read; and systems besides the one that is converted, which were read very well."""
    for note in notes:
        is_second = " holds " in note and STAYS in note
        yield Finding("guest.second-system", note, _SECOND_HINT) if is_second else Finding("guest.reading", note)
