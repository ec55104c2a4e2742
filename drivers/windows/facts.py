"""What is read from a Windows guest, as frozen values that survive JSON. Facts are only read, never judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from drivers.windows import c_regf as c
from drivers.windows.boot_facts import WindowsBoot
from drivers.windows.network_facts import NetworkAdapter
from drivers.windows.regf import Value

SYSTEM, SOFTWARE, BCD = "SYSTEM", "SOFTWARE", "BCD"


@dataclass(frozen=True, slots=True)
class RegistryValue:
    """A value of the registry; ``data`` in lower-case hexadecimal, with zeroes for a product key in it.

    ``cut``: it is larger than what is kept, or nothing but a product key, and ``data`` empty.
    """

    name: str
    type: int
    data: str
    cut: bool = False

    def value(self) -> Value:
        """The value with its texts and numbers; without data where that is no hexadecimal (facts come from a hostile guest)."""
        try:
            return Value(self.name, self.type, bytes.fromhex(self.data))
        except ValueError:
            return Value(self.name, self.type, b"")


@dataclass(frozen=True, slots=True)
class HiveLog:
    """A transaction log that a dirty hive has to be read with."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class HiveFile:
    """A hive: its file, how it stands to its logs, and the keys of it that planning looks at.

    ``size`` in bytes and ``sha256`` of the file as it is. ``state``: ``clean``; ``replayed``, where it was read with what
    ``logs`` hold (all that are there); ``unreadable``, and ``problem`` says why. ``minor``: of the version of its format.
    ``keys``: values by the path of their key, as the hive spells it; a key without values is there as well.
    """

    path: str
    size: int
    sha256: str
    state: str
    minor: int = 0
    logs: tuple[HiveLog, ...] = ()
    problem: str = ""
    remarks: tuple[str, ...] = ()
    keys: Mapping[str, tuple[RegistryValue, ...]] = field(default_factory=dict)

    def key(self, path: str) -> str | None:
        """The path of a key as the hive spells it, from one in any case; None when it is not among what was read."""
        if path in self.keys:
            return path
        wanted = c.upper(path)
        return next((key for key in self.keys if c.upper(key) == wanted), None)

    def value(self, path: str, name: str) -> Value | None:
        """A value by its key's path and its name, both in any case; None when it was not read."""
        key = self.key(path)
        found = (value for value in self.keys[key] if c.upper(value.name) == c.upper(name)) if key is not None else iter(())
        return next((value.value() for value in found if not value.cut), None)

    def text(self, path: str, name: str) -> str:
        """The text of a value; empty when there is none."""
        value = self.value(path, name)
        return (value.text() or "") if value is not None else ""

    def number(self, path: str, name: str) -> int | None:
        """The number of a value; None when there is none."""
        value = self.value(path, name)
        return value.number() if value is not None else None

    def below(self, path: str) -> Iterator[str]:
        """The paths of the keys one step below a path that were read."""
        start = c.upper(path) + "\\"
        for key in self.keys:
            if c.upper(key).startswith(start) and "\\" not in key[len(start) :]:
                yield key


@dataclass(frozen=True, slots=True)
class ControlSets:
    """The numbers of SYSTEM's Select key, None where it has none, and which sets there are."""

    current: int | None = None
    default: int | None = None
    failed: int | None = None
    last_known_good: int | None = None
    present: tuple[int, ...] = ()

    @property
    def bootable(self) -> tuple[int, ...]:
        """Those that can be started: the default, and the last known good one; all when neither is there."""
        named = dict.fromkeys(number for number in (self.default, self.current, self.last_known_good) if number in self.present)
        return tuple(number for number in named if number is not None) or self.present


@dataclass(frozen=True, slots=True)
class WindowsVersion:
    """Which Windows; texts as the registry has them, empty where it has none."""

    major: int
    minor: int
    build: int
    update: int = 0
    """UBR: what monthly updates count up."""
    product_name: str = ""
    edition_id: str = ""
    installation_type: str = ""
    """``Client``, ``Server``, ``Server Core``, ...; empty before Vista."""
    service_pack: str = ""
    product_type: str = ""
    """``WinNT``, ``ServerNT``, or ``LanmanNT`` for a domain controller."""

    @property
    def number(self) -> tuple[int, int]:
        """(6, 1) for Windows 7 and Server 2008 R2."""
        return self.major, self.minor

    @property
    def is_server(self) -> bool:
        """Whether it is a server; a workstation where nothing tells."""
        if self.product_type:
            return self.product_type.lower() != "winnt"
        return self.installation_type.startswith("Server")

    @property
    def is_domain_controller(self) -> bool:
        """Whether it keeps the accounts of a domain."""
        return self.product_type.lower() == "lanmannt"


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A file where conversions put theirs; ``path`` in the tree as spelt there, ``size`` in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class WindowsFacts:
    """Everything about Windows in a guest.

    ``system_root``: its folder in the tree, as spelt there (``/Windows``). ``arch``: as ``OperatingSystem.arch``, by the
    kernel's own file; ``registry_arch``: what the registry says (``AMD64``). ``hibernation``: ``none``, ``hibernated``,
    ``resuming``. ``pending``: what Windows wants to finish at its next start, in words.
    ``registry``: hives by name (``SYSTEM``, ``SOFTWARE``; ``BCD`` where a store of boot entries was found).
    """

    system_root: str
    version: WindowsVersion
    arch: str
    control_sets: ControlSets = ControlSets()
    registry: Mapping[str, HiveFile] = field(default_factory=dict)
    registry_arch: str = ""
    utc_clock: bool = False
    hibernation: str = "none"
    hibernation_file: str = ""
    """The path of its hiberfil.sys, as spelt there; empty where it has none."""
    hibernation_bytes: int = 0
    """The size of that file."""
    fast_startup: bool = False
    """Windows may be shut down into a hibernation file (it says so, or is one that does so unless told otherwise)."""
    pending: tuple[str, ...] = ()
    compressed: bool = False
    """Its kernel is kept compressed (CompactOS), which an appliance cannot read."""
    driver_files: tuple[str, ...] = ()
    """Names in its system32\\drivers that end in .sys, in lower case; none where the folder could not be read."""
    placed: tuple[PlacedFile, ...] = ()
    """What an earlier conversion may have put into it."""
    dirty: str = ""
    """Why its file system is not as Windows would see it: changes in a log, or a flag; empty when it is in order."""
    compressed_files: tuple[str, ...] = ()
    """Names of files that a start needs and that Windows' overlay filter keeps compressed, in lower case."""
    encrypted_files: tuple[str, ...] = ()
    """The same of those that NTFS keeps encrypted."""
    missing_files: tuple[str, ...] = ()
    """The same of those that are reparse points and kept elsewhere."""
    signs: tuple[str, ...] = ()
    """Files and folders that tell of a state by being there: ``windows.old``, ``sipolicy.p7b``."""
    deduplicated: tuple[str, ...] = ()
    """The partitions with deduplicated files, as findings name them."""
    integrity_version: tuple[int, ...] = ()
    """The version of its ci.dll, which checks signatures; empty where it was not read (only on 6.0 and 6.1 it matters)."""
    boot: WindowsBoot | None = None
    """What starts it; None where nothing on these disks was found to."""
    network: tuple[NetworkAdapter, ...] = ()
    """Its network adapters, those that are gone too, as the control set in use knows them."""
