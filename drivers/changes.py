"""Everything a plan can do to a guest: a closed union of values, each with its reason and its expectation.

A change says what it expects to find. Found so: it is made. Already as it should be: it is skipped.
Anything else there: ``PlanStale``. So applying twice is safe, and applying to another guest is refused.
Texts are UTF-8 with ``surrogateescape``, so that any bytes survive.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.windows.edits import AddKey, DeleteKey, HiveEdit
from drivers.windows.facts import HiveLog
from p2v.core.units import MIB

HIBERNATED = (b"hibr", b"rstr")
"""How hiberfil.sys begins, in any case, where it holds a session; ``wake`` once that was resumed."""
COPY_BYTES_AT_MOST = 16 * MIB
CARRIED_BYTES_AT_MOST = 64 * MIB


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Create a file that is not there yet (owner root:root; SELinux label as in the plan, where the guest has them)."""

    path: str
    content: str
    mode: int
    why: str


@dataclass(frozen=True, slots=True)
class EditFile:
    """Replace a text file's contents in place; owner, mode, inode and SELinux label stay.

    The time of change is new, so that the guest's own backups notice. ``path`` is resolved: no component is a
    symbolic link.
    """

    path: str
    before: str
    after: str
    why: str


@dataclass(frozen=True, slots=True)
class CopyFile:
    """Copy one of the guest's files, of ``size`` bytes and this SHA-256, to where nothing is yet (owner root:root).

    Both paths are resolved. The source stays; at most ``COPY_BYTES_AT_MOST`` are copied.
    """

    source: str
    size: int
    sha256: str
    target: str
    mode: int
    why: str

    @property
    def path(self) -> str:
        """Where something is changed."""
        return self.target


@dataclass(frozen=True, slots=True)
class Member:
    """A file within a file of this host, as on a CD image: what it is called there, and where its bytes begin."""

    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class CarryFile:
    """Put a file of this host, of ``size`` bytes and this SHA-256, to where nothing is yet (owner root:root).

    At most ``CARRIED_BYTES_AT_MOST`` are carried. ``member``: the file is not all of ``source`` but stands in it, in one piece.
    """

    source: str
    """An absolute path of the host."""
    size: int
    sha256: str
    path: str
    mode: int
    why: str
    member: Member | None = None


@dataclass(frozen=True, slots=True)
class DeleteFile:
    """Remove a regular file whose contents have the given SHA-256."""

    path: str
    sha256: str
    why: str


@dataclass(frozen=True, slots=True)
class MakeSymlink:
    """Make ``path`` a symbolic link to ``target``.

    ``replaces`` is the target of the link that stands there now; None: nothing stands there.
    """

    path: str
    target: str
    replaces: str | None
    why: str


@dataclass(frozen=True, slots=True)
class DeleteSymlink:
    """Remove a symbolic link that points to ``target``."""

    path: str
    target: str
    why: str


@dataclass(frozen=True, slots=True)
class InitramfsFile:
    """A text inside an initramfs as it is, and as the one appended says; ``path`` as the archive has it, links resolved."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ExtendInitramfs:
    """Append a supplementary archive to an initramfs.

    ``path``: the resolved image file; ``size`` and ``sha256`` of it as planned. ``kernel_version`` names the
    module tree ``modules_folder`` (``/usr/lib/modules/6.1.0-9-amd64``). ``modules``: files to add, as paths in the guest below that
    folder, in load order; ``archive_prefix``: where the archive keeps modules (``usr/lib/modules/...``
    resolved through the archive's own links). ``codec``: how the supplement is compressed
    (``none``, ``lz4``): the kernel's unpacker wants lz4 after lz4. ``files``: configuration that takes the place
    of what the archive has.
    """

    path: str
    size: int
    sha256: str
    kernel_version: str
    modules_folder: str
    modules: tuple[str, ...]
    archive_prefix: str
    codec: str
    why: str
    files: tuple[InitramfsFile, ...] = ()


@dataclass(frozen=True, slots=True)
class EditHive:
    """Change keys and values of a registry hive, whose file keeps its place, owner and access list.

    ``size`` in bytes and ``sha256`` of the file as planned. ``logs``: of a hive that was not written to its end, all its
    transaction logs: what they hold is put into it before the edits, and it is clean and beyond them afterwards, so that Windows
    does not look at them again. No two edits have the same target.
    """

    path: str
    size: int
    sha256: str
    edits: tuple[HiveEdit, ...]
    why: str
    logs: tuple[HiveLog, ...] = ()


@dataclass(frozen=True, slots=True)
class BootGeometry:
    """How a volume's boot code finds its sectors: the heads that it counts with, and the sectors of the disk before it."""

    heads: int
    hidden_sectors: int


@dataclass(frozen=True, slots=True)
class EditBootSector:
    """Tell the boot code of an NTFS volume another geometry, in the volume's first sector. All else of it stays.

    ``path``: of the file that NTFS itself has for that sector (``/$Boot``), which is in no list and only read through.
    """

    path: str
    before: BootGeometry
    after: BootGeometry
    why: str


@dataclass(frozen=True, slots=True)
class DiscardHibernation:
    """Remove the file of ``size`` bytes in which a Windows that is asleep keeps its session, so that it starts anew.

    The file begins as one of a session that is kept (``HIBERNATED``), or with nothing but zeroes where it was not copied.
    While it is there, its file system cannot be written to; so this is done before any other change.
    """

    path: str
    size: int
    why: str


NewFile = WriteFile | CopyFile | CarryFile
"""After these a file is where nothing was."""
NewName = NewFile | MakeSymlink
Change = NewName | EditFile | DeleteFile | DeleteSymlink | ExtendInitramfs | EditHive | EditBootSector | DiscardHibernation


def summary(change: Change) -> str:
    """One line that names what is done to what."""
    match change:
        case WriteFile():
            return f"create {change.path}"
        case EditFile():
            return f"edit {change.path}"
        case CopyFile():
            return f"copy {change.source} to {change.target}"
        case CarryFile():
            what = f"{change.member.name} of {change.source}" if change.member is not None else f"{change.source} of this host"
            return f"put {what} to {change.path}"
        case DeleteFile():
            return f"delete {change.path}"
        case MakeSymlink():
            return f"link {change.path} -> {change.target}"
        case DeleteSymlink():
            return f"remove the link {change.path}"
        case ExtendInitramfs():
            what = _counted((len(change.modules), "module"), (len(change.files), "configuration file"))
            return f"add {what} to {change.path}"
        case EditHive():
            keys = sum(isinstance(edit, AddKey | DeleteKey) for edit in change.edits)
            what = _counted((keys, "key"), (len(change.edits) - keys, "value"))
            return f"change {what} of the registry in {change.path}"
        case EditBootSector():
            return f"change the geometry in the boot sector {change.path}"
        case DiscardHibernation():
            return f"discard the session in {change.path}"


def _counted(*counts: tuple[int, str]) -> str:
    return " and ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts if count) or "nothing"
