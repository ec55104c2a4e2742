"""Every key of a manifest: what it is, what it may be, and which option of ``p2v convert`` it becomes. A table, nothing more.

The reader, the published schema and the beginnings that ``p2v batch init`` writes all go by it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from converters.formats import FORMATS
from converters.references import SizeBy
from converters.target_formats import Preallocation, TargetFormat
from p2v.batch.jobs import Verify
from p2v.batch.names import NAME
from p2v.core.disk import Codec
from p2v.core.units import KIB, MIB
from p2v.machine import Firmware
from p2v.targets.front_ends import FrontEnd

NETWORK = r"user|(network|bridge):[^=]+|[^:=]+"
"""What a machine's card hangs on here."""
HOUR = r"([01]?[0-9]|2[0-3]):[0-5][0-9]"


class Kind(enum.Enum):
    """What a value is."""

    TEXT = "text"
    TEXTS = "texts"
    """A text, or a list of them."""
    PATH = "path"
    """A file or folder; below the manifest's folder where it is relative."""
    PATHS = "paths"
    FLAG = "flag"
    COUNT = "count"
    SECONDS = "seconds"
    SIZE = "size"
    """Bytes, as 2G or 512M."""
    CHOICE = "choice"
    FLAG_OR_CHOICE = "flag or choice"
    MAP = "map"
    """Names and what they become."""
    SECRETS = "secrets"
    """Where keys are found; never the keys."""
    WINDOW = "window"
    HOOK = "hook"
    """A command with its arguments."""
    STORAGES = "storages"
    """Paths, and what may go to and from the storage that each is on."""
    HOSTS = "hosts"
    """Servers by their names, and the same of each."""


@dataclass(frozen=True, slots=True)
class ManifestKey:
    """One key. ``text``: a sentence on it; ``form``: what a text must look like, ``example`` how it is to look.

    ``own``: it makes no sense in ``defaults``, since no two machines have the same.
    """

    name: str
    kind: Kind
    text: str
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None
    form: str = ""
    example: str = ""
    own: bool = False


MACHINE_KEYS: tuple[ManifestKey, ...] = (
    ManifestKey(
        "name", Kind.TEXT, "What the machine is called, in the batch and on KVM; its files are named after it.", form=NAME,
        example="web1", own=True,
    ),
    ManifestKey(
        "source", Kind.PATHS, "Its description (.vmx, OVF, ...), a folder or archive with one in it, or its disks in boot order.",
        own=True,
    ),
    ManifestKey("target", Kind.PATH, "The folder that its results go to."),
    ManifestKey("format", Kind.CHOICE, "Of the disks made; qcow2 otherwise.", tuple(each.value for each in TargetFormat)),
    ManifestKey(
        "verify", Kind.CHOICE, "How a result is proven before it gets its name; none otherwise.",
        tuple(each.value for each in Verify),
    ),
    ManifestKey("wave", Kind.COUNT, "All machines of a wave have ended before the next wave begins; 0 otherwise.", most=100_000),
    ManifestKey("priority", Kind.COUNT, "Within a wave, the larger goes first.", least=-1_000_000, most=1_000_000),
    ManifestKey(
        "window", Kind.WINDOW, "The local time of day in which it may begin, over midnight too; what has begun goes on.",
        form=rf"{HOUR}\s*-\s*{HOUR}", example="22:00-05:00",
    ),
    ManifestKey("before", Kind.HOOK, "A command to run before it; if that fails, the machine is parked."),
    ManifestKey("after", Kind.HOOK, "A command to run when it has ended, however that was."),
    ManifestKey("attempts", Kind.COUNT, "How often it is tried where trying again may help; 3 otherwise.", least=1, most=100),
    ManifestKey(
        "host", Kind.TEXT, "The host that alone can reach its disks; any can where nothing is said.",
        form=r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?", example="esx-export1",
    ),
    ManifestKey(
        "keys", Kind.SECRETS, "Where the passphrases of its encrypted disks are: [SELECTOR:]file:PATH or [SELECTOR:]env:NAME.",
        example="all:file:secret.txt",
    ),
)  # fmt: skip
"""What the batch itself goes by."""

OPTION_KEYS: tuple[ManifestKey, ...] = (
    ManifestKey("input-format", Kind.CHOICE, "Take its disks for this format.", tuple(each.id for each in FORMATS)),
    ManifestKey("system", Kind.TEXT, "Which machine of a package that describes several.", own=True),
    ManifestKey("parent", Kind.PATHS, "The parent of its first disk, where it is not beside it; then that one's.", own=True),
    ManifestKey("extent-dir", Kind.PATHS, "Further folders to look in for files that its images name."),
    ManifestKey("allow", Kind.PATHS, "Folders that its images may name files in."),
    ManifestKey("size-by", Kind.CHOICE, "What tells the size of a VHD.", tuple(each.value for each in SizeBy)),
    ManifestKey("to", Kind.CHOICE, "Whom to tell of the machine.", tuple(each.value for each in FrontEnd)),
    ManifestKey("connect", Kind.TEXT, "The libvirt to define it in, with `to: libvirt`.", example="qemu:///system"),
    ManifestKey("start", Kind.FLAG, "Start the machine there when it is defined."),
    ManifestKey("pool", Kind.TEXTS, "The storage pool to copy its disks into, with `connect`."),
    ManifestKey("storage", Kind.TEXTS, "The storage of its disks, with `to: proxmox`."),
    ManifestKey("storage-class", Kind.TEXTS, "The storage class of its disks, with `to: kubevirt`."),
    ManifestKey("volume-type", Kind.TEXTS, "The type of its volumes, with `to: openstack`."),
    ManifestKey("checksum", Kind.FLAG, "Content digests of source and result in the record."),
    ManifestKey("record-host-name", Kind.FLAG, "Tell the host's name in the record."),
    ManifestKey("threads", Kind.COUNT, "Threads that copy.", least=1, most=64),
    ManifestKey("all-blocks", Kind.FLAG, "Copy also what its file systems call free."),
    ManifestKey("skip-hibernation", Kind.FLAG, "Leave out what is in hiberfil.sys of a Windows that is not asleep."),
    ManifestKey(
        "compress", Kind.FLAG_OR_CHOICE, "Compress its disks (qcow2): true, or with which codec.",
        (Codec.ZSTD.value, Codec.DEFLATE.value),
    ),
    ManifestKey("cluster-size", Kind.SIZE, "Bytes in a cluster (qcow2).", least=64 * KIB, most=2 * MIB),
    ManifestKey("preallocation", Kind.CHOICE, "Space to reserve.", tuple(each.value for each in Preallocation)),
    ManifestKey("no-reflink", Kind.FLAG, "Write every byte anew also where the file system could share the source's blocks."),
    ManifestKey("limit", Kind.SIZE, "Bytes a second that its copy takes at most.", least=64 * KIB),
    ManifestKey(
        "ionice", Kind.TEXT, "The I/O class of the threads that copy.", form=r"idle|best-effort(:[0-7])?", example="best-effort:7"
    ),
    ManifestKey("skip-bad-sectors", Kind.FLAG, "Zeroes in place of what cannot be read."),
    ManifestKey("live", Kind.FLAG, "Copy block devices although they are in use."),
    ManifestKey("freeze-limit", Kind.SECONDS, "Thaw its file systems after so many seconds.", most=24 * 3600),
    ManifestKey("to-device", Kind.TEXTS, "Block devices to write its disks to: [DISK=]DEVICE.", own=True),
    ManifestKey("overwrite-device", Kind.FLAG, "What is on these devices may be lost."),
    ManifestKey("discard", Kind.FLAG, "Tell the devices first that nothing on them is needed."),
    ManifestKey("cpus", Kind.COUNT, "Virtual CPUs.", least=1, most=512),
    ManifestKey("memory", Kind.SIZE, "Memory.", least=16 * MIB),
    ManifestKey("mac", Kind.TEXTS, "MAC addresses of its cards, OLD=NEW for those of a description.", own=True),
    ManifestKey("network", Kind.TEXTS, "What its cards hang on: [CARD:]NETWORK."),
    ManifestKey(
        "map", Kind.MAP, "What the networks of its description are here: network:NAME, bridge:NAME or user; "
        "those of `defaults` count beside a machine's own.",
    ),
    ManifestKey("map-file", Kind.PATH, "A file with such mappings, a line each; each must be of a network that the machine has."),
    ManifestKey("with-media", Kind.FLAG, "Images of discs and floppies in its drives come along."),
    ManifestKey("firmware", Kind.CHOICE, "Its firmware.", tuple(each.value for each in Firmware)),
    ManifestKey("ip", Kind.TEXTS, "Addresses in the guest: CARD:ADDRESS/PREFIX[,GATEWAY[,DNS...]] or CARD:dhcp.", own=True),
    ManifestKey("new-identity", Kind.FLAG, "A copy to run beside its source: new machine id and SSH host keys."),
    ManifestKey("install-agent", Kind.FLAG, "The guest installs the QEMU guest agent at its first boot."),
    ManifestKey("agent-package", Kind.PATHS, "The same from these .deb or .rpm files."),
    ManifestKey("virtio-win", Kind.PATH, "A Windows guest's drivers: virtio-win.iso, or a folder."),
    ManifestKey("purge-tools", Kind.FLAG, "The guest removes other hypervisors' tools at its first boot."),
    ManifestKey("rebuild-initramfs", Kind.FLAG, "Run the guest's own program that builds an initramfs, in the appliance."),
    ManifestKey("discard-hibernation", Kind.FLAG, "A Windows that is hibernated loses that session and starts anew."),
    ManifestKey("compatible", Kind.FLAG, "Run on hardware it has drivers for where it cannot be made ready for virtio."),
    ManifestKey("reader", Kind.CHOICE, "Which way its files are read.", ("auto", "host", "appliance")),
    ManifestKey("accel", Kind.CHOICE, "What guests are run with.", ("auto", "kvm", "tcg")),
)  # fmt: skip
"""Options of ``p2v convert`` by their names there."""

BUDGET_KEYS: tuple[ManifestKey, ...] = (
    ManifestKey("copies", Kind.COUNT, "Machines that copy at the same time; 2 otherwise.", least=1, most=10_000),
    ManifestKey("appliances", Kind.COUNT, "Appliances at the same time; 1 otherwise.", least=1, most=10_000),
    ManifestKey(
        "boots", Kind.COUNT, "Guests that are booted to prove them at the same time; 1 otherwise.", least=1, most=10_000
    ),
    ManifestKey(
        "jobs", Kind.COUNT, "Machines under way at the same time, whatever they do; 8 otherwise.", least=1, most=10_000
    ),
    ManifestKey(
        "bytes-per-second",
        Kind.SIZE,
        "What all copies to one storage, or from one, take together at most.",
        least=64 * KIB,
    ),
    ManifestKey(
        "copies-per-storage", Kind.COUNT, "Machines that copy to one storage, or from one.", least=1, most=10_000
    ),
    ManifestKey("memory", Kind.SIZE, "Memory for all machines under way together.", least=16 * MIB),
    ManifestKey(
        "storages", Kind.STORAGES, "What counts instead for the storage that a path is on.",
        example="{/mnt/nfs1: {copies: 1, bytes-per-second: 100M}}",
    ),
    ManifestKey(
        "hosts", Kind.HOSTS, "What all copies from or to a server take, over all of its mounts; its name is as it was mounted.",
        form=r"[A-Za-z0-9_:]([A-Za-z0-9_.:%-]{0,252}[A-Za-z0-9_])?", example="{filer1.example: {bytes-per-second: 100M}}",
    ),
)  # fmt: skip
"""What may run at the same time."""

BATCH_HOOK_KEYS: tuple[ManifestKey, ...] = (
    ManifestKey("end", Kind.HOOK, "A command to run when a run of the batch has ended, however that was."),
)
"""Commands about the batch itself."""
SHARE_KEYS: tuple[ManifestKey, ...] = (
    ManifestKey("copies", Kind.COUNT, "Machines that copy over it at the same time.", least=1, most=10_000),
    ManifestKey("bytes-per-second", Kind.SIZE, "What their copies take together at most.", least=64 * KIB),
)
"""Of a storage, or of a server."""

HOOK_KEYS = ("command", "seconds")
TOP_KEYS = ("schema", "store", "budget", "hooks", "defaults", "machines")


def by_name(*tables: Iterable[ManifestKey]) -> dict[str, ManifestKey]:
    """Keys by their names."""
    return {key.name: key for table in tables for key in table}
