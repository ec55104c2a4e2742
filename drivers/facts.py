"""What is inside a guest's disks, as frozen values that survive JSON.

Facts are only read, never judged: planning and auditing decide what they mean. Every number of bytes
says so; device names are the guest's own (``/dev/sda1``), as it would have seen them at the source.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from drivers.bitlocker import BitLocker
from drivers.ldm import DynamicDisk
from drivers.start_files import StartFile
from drivers.windows.facts import WindowsFacts
from p2v.core.units import SECTOR_BYTES


class ReadBy(enum.Enum):
    """How the contents were read."""

    HOST = "host"
    """By the file system readers on this host, in the confined child."""
    APPLIANCE = "appliance"
    """By a read-only libguestfs appliance over a throw-away overlay."""


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A file system (or swap area, LVM volume, ...) found at a place.

    ``kind``: ``ext4``, ``xfs``, ``swap``, ``vfat``, ``ntfs``, ``lvm2``, ``luks``, ... or ``unknown``.
    ``why_not_host`` says why the host-side readers may not read it (dirty journal, unknown feature); empty when they may.
    ``dirty``: it was in use when its disk was copied (a journal to replay, no clean unmount).
    ``free_bytes`` and ``free_inodes`` are None where they are not known.
    """

    kind: str
    uuid: str | None = None
    label: str | None = None
    size_bytes: int | None = None
    free_bytes: int | None = None
    free_inodes: int | None = None
    why_not_host: str = ""
    dirty: bool = False
    bitlocker: BitLocker | None = None
    """How it is locked; of volumes of BitLocker alone."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition; ``number`` 0 stands for a whole disk without partition table."""

    disk: int
    number: int
    offset: int
    length: int
    type_id: str
    """``83`` for an MBR partition, the type GUID in lower case for GPT, empty for a whole disk."""
    bootable: bool = False
    partuuid: str | None = None
    """As Linux spells it: ``11223344-01`` for MBR, the partition GUID in lower case for GPT."""
    partlabel: str | None = None
    filesystem: FileSystem | None = None
    boot_code: str = ""
    """What stands in the first sector of an active partition, in ``Disk.boot_code``'s words."""


@dataclass(frozen=True, slots=True)
class Segment:
    """``length`` bytes of a volume from ``offset`` on, which stand in one piece on a disk."""

    offset: int
    length: int
    disk: int
    disk_offset: int


@dataclass(frozen=True, slots=True)
class Volume:
    """A block device made of partitions: a logical volume, a RAID, an opened encrypted container.

    ``device``: the guest's name for it, which does not depend on the machine (``/dev/mapper/vg0-root``, ``/dev/md0``,
    ``/dev/mapper/luks-<uuid>``); ``aliases``: further ones. ``uuid``: of the volume itself, as its own tools write it.
    ``carriers``: (disk, partition) of every partition it stands on. ``segments``: where its bytes stand, in order; empty
    where only the appliance can tell. ``inside``: the device that an encrypted container fills, in the appliance's words.
    """

    device: str
    kind: str
    """``lvm``, ``md``, ``luks``, or ``other`` for what only the appliance knows."""
    uuid: str
    size_bytes: int
    aliases: tuple[str, ...] = ()
    carriers: tuple[tuple[int, int], ...] = ()
    segments: tuple[Segment, ...] = ()
    filesystem: FileSystem | None = None
    inside: str = ""


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk as the guest sees it."""

    index: int
    size_bytes: int
    table: str
    """``mbr``, ``gpt``, or ``none``."""
    disk_id: str | None = None
    boot_code: str = ""
    """What stands in the first sector: ``grub2``, ``grub1``, ``lilo``, ``zipl``, ``syslinux``, ``windows``, ``unknown``;
    empty when there is none."""
    sector_bytes: int = SECTOR_BYTES
    """What its table counts in: 4096 on a disk with large sectors (4Kn), which only such a disk's guest can read."""
    dynamic: DynamicDisk | None = None
    """What Windows' logical disk manager keeps of it; None for a basic disk."""
    next_stage: str = ""
    """What stands where GRUB's code in the first sector goes on: ``there``, ``zeroes``, or ``outside`` of the disk; empty
    for code that does not tell."""


@dataclass(frozen=True, slots=True)
class OperatingSystem:
    """Who the guest is, in os-release's words where it has them."""

    kind: str
    """``linux``, ``windows`` or ``unknown``."""
    id: str
    version: str
    name: str
    arch: str
    """``x86_64``, ``i386``, ``aarch64``, ... ; empty when nothing tells."""
    family: str
    """``debian``, ``redhat``, ``suse``, ... ; ``unknown`` when the parts are known but the name is not."""
    hostname: str | None = None
    init: str = ""
    """``systemd``, ``sysv``, ``upstart``, ``openrc``, ...; empty when nothing tells."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system that belongs into the guest's tree: what stands where.

    ``volume``: the device of the volume it is on; ``disk`` and ``partition`` are then of the first partition that carries it.
    ``folder``: where only a folder of the file system is mounted (a bind mount, an ostree deployment), its path there.
    """

    mountpoint: str
    disk: int
    partition: int
    options: str = ""
    volume: str = ""
    folder: str = ""


@dataclass(frozen=True, slots=True)
class BootEntry:
    """One entry of the boot menu, as its configuration has it."""

    title: str
    kernel: str
    """Path in the guest's tree (``/boot/vmlinuz-6.1.0-9-amd64``)."""
    initramfs: tuple[str, ...]
    arguments: str
    source: str = ""
    """The file that defines it, where that is not the boot loader's configuration: a snippet, or a unified kernel image."""


@dataclass(frozen=True, slots=True)
class BootLoader:
    """The boot loader and its configuration."""

    kind: str
    """``grub2``, ``grub1``, ``systemd-boot``, ``extlinux``, ``lilo``, ``zipl``; ``none`` when no configuration was found."""
    config: str = ""
    """Path of the configuration that is really read at boot."""
    entries: tuple[BootEntry, ...] = ()
    default: str = ""
    """Title of the entry that starts when nobody chooses (``Submenu>Entry`` inside submenus)."""
    install_devices: tuple[str, ...] = ()
    """Disks that the boot loader's package installs itself to when it is upgraded (Debian's grub-pc)."""

    @property
    def default_entry(self) -> BootEntry | None:
        """The entry that starts when nobody chooses; None where that starts no kernel (a firmware menu, say)."""
        return next((entry for entry in self.entries if entry.title == self.default), None)

    @property
    def starting(self) -> tuple[BootEntry, ...]:
        """The entry that starts when nobody chooses; all of them where that starts no kernel."""
        return (self.default_entry,) if self.default_entry else self.entries

    def starts_with(self, argument: str) -> bool:
        """Whether what starts when nobody chooses has an argument."""
        return any(argument in entry.arguments.split() for entry in self.starting)


@dataclass(frozen=True, slots=True)
class EfiProgram:
    """A program on the EFI system partition, by its path in the guest's tree.

    ``kind``: ``shim``, ``grub``, ``systemd-boot``, ``mok-manager``, ``fallback`` (shim's, which makes boot entries),
    ``windows``, or ``unknown``. ``size`` in bytes.
    """

    path: str
    size: int
    sha256: str
    kind: str


@dataclass(frozen=True, slots=True)
class Initramfs:
    """What an initramfs holds, as far as booting from virtio is concerned.

    ``members``: compression of each concatenated archive in order (``none`` for the early microcode cpio,
    ``gzip``, ``zstd``, ``xz``, ``lz4``, ...). ``builder``: ``initramfs-tools``, ``dracut``, ``mkinitrd``, ``unknown``.
    ``modules``: base names of modules without suffix, dashes as underscores. ``module_prefix``: where they are kept inside,
    links of the archive resolved. ``squashed``: modules hidden in a squash image. ``problem``: why it could not be read.
    ``texts``: configuration in it that names devices, by path (``drivers.linux.initramfs_copies``).
    """

    path: str
    size: int
    sha256: str
    members: tuple[str, ...] = ()
    builder: str = "unknown"
    modules: tuple[str, ...] = ()
    module_prefix: str = ""
    squashed: bool = False
    problem: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    unified: bool = False
    """It is a section of a unified kernel image, so nothing can be appended; ``path`` names the image."""

    @property
    def is_opaque(self) -> bool:
        """Whether there may be more in it than could be seen."""
        return bool(self.problem or self.squashed)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A bootable kernel: its image, its initramfs, its modules and what is built in.

    ``modules``: paths below ``modules_folder`` of the modules that a virtio machine wants, by name
    (``virtio_blk`` -> ``kernel/drivers/block/virtio_blk.ko``); ``builtin``: those that the kernel has built in.
    ``dependencies``: for those modules, the paths they need loaded first, from modules.dep. ``transport``: the module
    through which virtio devices are found on the guest's architecture. ``root_builtin``: what it has built in of what mounts a
    root (file systems, device mapper, arrays); None where nothing tells.
    """

    version: str
    image: str
    modules_folder: str
    initramfs: Initramfs | None = None
    modules: Mapping[str, str] = field(default_factory=dict)
    builtin: tuple[str, ...] = ()
    dependencies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    transport: str = "virtio_pci"
    root_builtin: tuple[str, ...] | None = None

    def finds_virtio_root(self) -> bool:
        """Whether this kernel, with its initramfs as it is, can see a disk on virtio-blk."""
        have = set(self.builtin) | set(self.initramfs.modules if self.initramfs else ())
        return {self.transport, "virtio_blk"} <= have


@dataclass(frozen=True, slots=True)
class TextFile:
    """A configuration file's text as it was found (decoded with surrogateescape), with its owner and mode.

    ``resolved``: the path with every symbolic link followed.
    """

    path: str
    resolved: str
    text: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Tool:
    """Software that belongs to a hypervisor or cloud: what, how it was recognised, which units it runs."""

    name: str
    vendor: str
    evidence: str
    units: tuple[str, ...] = ()
    """Names of systemd units (``open-vm-tools.service``) that exist in the guest and are not masked."""
    services: tuple[str, ...] = ()
    """Names of services that another init (SysV, Upstart, OpenRC, runit) starts."""


@dataclass(frozen=True, slots=True)
class InterfaceConfig:
    """A network interface that the guest's configuration names."""

    name: str
    source: str
    """The file that names it."""
    method: str
    """``dhcp``, ``static``, ``manual``, ``auto``; ``unread`` where the file could not be read."""
    addresses: tuple[str, ...] = ()
    mac: str | None = None
    hardware: str = ""
    """Drivers or places on a bus that a card must have for this; another machine's card has others."""


@dataclass(frozen=True, slots=True)
class Network:
    """How the guest configures its network; ``stack`` names of what reads the files, in the order found."""

    stacks: tuple[str, ...] = ()
    interfaces: tuple[InterfaceConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelRule:
    """A line of file_contexts(5): an expression for whole paths, a type of file, and the label of what fits."""

    pattern: str
    type: str
    """``--`` for regular files, ``-d``, ``-l``, ...; empty for files of any type."""
    label: str
    """Empty for ``<<none>>``: such files keep what label they have."""


@dataclass(frozen=True, slots=True)
class LabelPolicy:
    """How the guest's SELinux policy labels what plans may create: rules in the order of its files.

    ``aliases``: beginnings of paths, and what they are looked up as; ``shipped_aliases`` are applied after them.
    """

    name: str
    """``targeted``, ``default``, ..."""
    rules: tuple[LabelRule, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    shipped_aliases: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ImageSystem:
    """A system that is put together from images: what of it is its owner's to change, and what the next image replaces.

    ``kind``: ``ostree``, ``transactional``, ``nix``, ``guix``, ``flatcar``, ``ubuntu-core``, ``bottlerocket``, ``talos``,
    ``chromeos``, or ``verity`` for any other whose root or /usr is checked against a hash tree. ``deployment``: what is
    booted of several, in the image tool's own words. ``sealed``: folders in which nothing may be changed (``/`` for all),
    except below ``open``.
    """

    kind: str
    deployment: str = ""
    sealed: tuple[str, ...] = ()
    open: tuple[str, ...] = ()

    def seals(self, path: str) -> bool:
        """Whether what stands at a path belongs to the image."""
        closest = max((f for f in (*self.sealed, *self.open) if _is_within(path, f)), key=len, default="")
        return closest in self.sealed


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """Everything known about a guest. ``texts`` holds the configuration files that planning may edit, by path.

    ``links``: symbolic links that planning looks at (path -> target). ``folders``: directories whose existence matters.
    ``notes``: what the readers could not see, and why.
    """

    read_by: ReadBy
    disks: tuple[Disk, ...]
    partitions: tuple[Partition, ...]
    os: OperatingSystem | None = None
    root: Mount | None = None
    mounts: tuple[Mount, ...] = ()
    firmware: str = "bios"
    boot_loader: BootLoader = BootLoader("none")
    efi_programs: tuple[EfiProgram, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    network: Network = Network()
    tools: tuple[Tool, ...] = ()
    selinux: str = "absent"
    """``absent``, ``disabled``, ``permissive``, ``enforcing``."""
    label_policy: LabelPolicy | None = None
    """None where the guest labels nothing, or its rules could not be read (a note says so)."""
    texts: Mapping[str, TextFile] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 (hex) of files that hold secrets, which planning may delete but nobody needs to know."""
    notes: tuple[str, ...] = ()
    volumes: tuple[Volume, ...] = ()
    programs: tuple[str, ...] = ()
    """Programs that build an initramfs, by the first path that they were found at."""
    image: ImageSystem | None = None
    """None for a system that packages are installed into, as most are."""
    windows: WindowsFacts | None = None
    start_files: tuple[StartFile, ...] = ()
    """The files that what starts when nobody chooses needs, whether they are there or not; none where they were not looked for."""

    def sector_bytes(self, disk: int, otherwise: int = SECTOR_BYTES) -> int:
        """What a disk's table counts in; ``otherwise`` for a disk that nothing is known of."""
        return next((each.sector_bytes for each in self.disks if each.index == disk), otherwise)

    def filesystem_of(self, mount: Mount) -> FileSystem | None:
        """What is mounted there, as it was found."""
        if mount.volume:
            return next((v.filesystem for v in self.volumes if v.device == mount.volume), None)
        place = (mount.disk, mount.partition)
        return next((p.filesystem for p in self.partitions if (p.disk, p.number) == place), None)


def nearest_mount(mounts: Iterable[Mount], path: str) -> Mount | None:
    """The mount that a path of the guest's tree lies below."""
    below = (mount for mount in mounts if _is_within(path, mount.mountpoint.rstrip("/") or "/"))
    return max(below, key=lambda mount: len(mount.mountpoint), default=None)


def _is_within(path: str, folder: str) -> bool:
    return folder == "/" or path == folder or path.startswith(folder + "/")
