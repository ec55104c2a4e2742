"""What was seen on a disk, as frozen values that survive JSON. Nothing is judged here; all offsets are bytes of the disk."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from p2v.core.units import SECTOR_BYTES


class Protection(enum.Enum):
    """What the MBR in front of a GPT says."""

    PROTECTIVE = "protective"
    """One entry that covers the disk, as it should be."""
    HYBRID = "hybrid"
    """Further partitions beside it, which older systems go by."""
    NONE = "none"
    """Nothing of a GPT: whoever goes by the MBR does not see it."""


@dataclass(frozen=True, slots=True)
class GptCopy:
    """One of a GPT's two headers with its entries. ``problem``: why nobody should believe it; empty for a sound one."""

    offset: int
    problem: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether its checksums hold."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class GptSight:
    """A GPT, or what is left of one.

    ``backup``: what is in the last sector, where it belongs. ``stated``: the copy in the place that the primary header gives, where
    that is another one. ``differ``: both copies are sound, and their partitions are not the same.
    """

    sector_bytes: int
    protection: Protection
    primary: GptCopy
    backup: GptCopy
    stated: GptCopy | None = None
    differ: bool = False


@dataclass(frozen=True, slots=True)
class RaidMark:
    """Metadata of an array that firmware or a controller put together: whose it is, where, and what it says of itself."""

    maker: str
    offset: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a file system, a swap area or a container says of itself where it begins.

    ``stated_bytes``: how long it says that it is, by the number at ``stated_at``. ``unit_bytes``: the smallest piece that it reads
    and writes. ``hidden_sectors``: how many sectors it says are before it on the disk. ``free_bytes``: what is left in it. None
    where it says nothing of the kind.
    """

    kind: str
    offset: int
    stated_bytes: int | None = None
    stated_at: int = 0
    unit_bytes: int | None = None
    hidden_sectors: int | None = None
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LuksToken:
    """What opens a container of LUKS2 besides a passphrase that is typed in.

    ``kind``: ``systemd-tpm2``, ``systemd-fido2``, ``clevis``, ...; ``pin``: what clevis asks (``tpm2``, ``tang``, ``sss``).
    ``keyslots``: those that it opens.
    """

    kind: str
    pin: str = ""
    keyslots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LuksSight:
    """The header of an encrypted container.

    ``keyslots`` and ``tokens`` are of version 2 alone; ``problem``: why they are not known.
    """

    version: int
    keyslots: tuple[str, ...] = ()
    tokens: tuple[LuksToken, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PlaceSight:
    """A partition as its table states it, or the whole disk (number 0), and what is there."""

    number: int
    offset: int
    length: int
    type_id: str = ""
    bootable: bool = False
    signatures: tuple[Signature, ...] = ()
    luks: LuksSight | None = None

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class DiskSight:
    """One disk. ``index`` counts from 0; ``table`` and ``boot_code`` as ``drivers.facts.Disk`` has them.

    ``whole``: what is signed on the disk itself: beside a partition table it is left over, or belongs to an array of whole disks.
    ``not_looked_into``: how many of its partitions were too many to be looked into.
    """

    index: int
    size_bytes: int
    table: str
    sector_bytes: int = SECTOR_BYTES
    boot_code: str = ""
    gpt: GptSight | None = None
    partitions: tuple[PlaceSight, ...] = ()
    whole: PlaceSight = PlaceSight(0, 0, 0)
    raids: tuple[RaidMark, ...] = ()
    not_looked_into: int = 0

    @property
    def places(self) -> tuple[PlaceSight, ...]:
        """Partitions, or the whole disk where there are none."""
        return self.partitions or (self.whole,)
