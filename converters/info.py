"""What is known about an image beside its bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image's own headers say; known as soon as it is open."""

    format: str
    variant: str
    logical_sector_size: int = 512
    physical_sector_size: int = 512
    creator: str = ""
    creator_version: str = ""
    identifiers: tuple[tuple[str, str], ...] = ()
    """(name, value) pairs: VHD UUID, VHDX GUIDs, VMDK CID."""
    dirty: tuple[str, ...] = ()
    """Signs that a writer did not finish, in words."""
    notes: tuple[str, ...] = ()
    """What a person should know about how the image is read, in sentences."""
    parent: ImageFacts | None = None
    """Of a child disk: the image it holds changes to."""
    tells_sectors: bool = False
    """The sizes of sectors are what the format or the device says, and not what is usual."""

    @property
    def chain(self) -> tuple[ImageFacts, ...]:
        """This image, its parent, and so on."""
        return (self,) if self.parent is None else (self, *self.parent.chain)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image described for people and records; sizes in bytes."""

    format: str
    variant: str
    virtual_size: int
    allocated_size: int
    """Stored bytes of data, compressed ones as they stand."""
    file_size: int
    """All the image's files together."""
    files: tuple[str, ...]
    logical_sector_size: int
    physical_sector_size: int
    creator: str
    creator_version: str
    identifiers: tuple[tuple[str, str], ...]
    dirty: tuple[str, ...]
    notes: tuple[str, ...]
    parents: tuple[str, ...] = ()
    """Of a child disk: format and variant of each image below it, the nearest first."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """One file of a source as it was when it was opened."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """What tells whether a source is still the one that was planned; cheap, no proof of every byte."""

    files: tuple[FileIdentity, ...]
    format: str
    variant: str
    virtual_size: int
    metadata_sha256: str
    sample_sha256: str
