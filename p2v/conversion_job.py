"""One conversion: what is wished, and what all its steps need."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from converters.care import Care
from converters.copy import CopyResult
from converters.qemu_img import QemuImg
from converters.target_formats import PLAIN, TargetOptions
from drivers.keys import Key
from drivers.rewrite import RewriteResult
from p2v.consistency import LiveRecord, LiveWish
from p2v.core.acceleration import Acceleration
from p2v.core.block_devices import BlockDevice
from p2v.core.events import PhaseTimes
from p2v.core.fence import fenced
from p2v.core.jsontext import digest as json_digest
from p2v.core.workspace import Outputs
from p2v.delivery import DeliveryNote
from p2v.device_targets import DeviceWish
from p2v.documents import PlanDocument, to_data
from p2v.left_out import Selection, Wanted
from p2v.live_sources import unrepeatable
from p2v.media import MediumCopy
from p2v.record import ChangedRange, UnreadableRecord
from p2v.source_care import SourceWish
from p2v.targets.front_ends import DefinitionFile, FrontEnd
from p2v.targets.hardware import TargetHardware
from p2v.targets.libvirt_host import Delivery
from p2v.targets.storage import DEFAULT, Storage


@dataclass(frozen=True, slots=True)
class Request:
    """How a plan is to be carried out, and where the results go."""

    folder: Path
    disk_format: str = "qcow2"
    layout: TargetOptions = PLAIN
    """Of the files that disks become; block devices have none."""
    checksum: bool = False
    threads: int = 2
    boot_check: bool = False
    fresh: bool = False
    keys: tuple[Key, ...] = ()
    front_end: FrontEnd = FrontEnd.QEMU
    storage: Storage = DEFAULT
    """Where the front end's files say that the disks go."""
    delivery: Delivery | None = None
    """Into which libvirt the machine goes when its files are there."""
    left_out: Wanted = field(default_factory=Wanted)
    """What is not to be copied."""
    devices: DeviceWish = field(default_factory=DeviceWish)
    """Block devices that disks are written to in place of files."""
    host_name: bool = False
    """The record tells the name of this host."""
    reading: SourceWish = field(default_factory=SourceWish)
    """How gently the source is read, and what becomes of what cannot be read."""
    live: LiveWish = field(default_factory=LiveWish)
    """Whether disks in use may be copied."""
    fence: int | None = None
    """The number of a batch's lease: names are given only while no higher one has come to the folder (``p2v.core.fence``)."""


@dataclass
class Job:
    """One conversion under way: what all its steps need."""

    document: PlanDocument
    request: Request
    acceleration: Acceleration
    report: PhaseTimes
    hardware: TargetHardware
    definitions: tuple[DefinitionFile, ...]
    media: tuple[MediumCopy, ...]
    outputs: Outputs
    work: Path
    qemu_img: QemuImg
    devices: Mapping[int, BlockDevice] = field(default_factory=dict)
    """Those among the disks, by their place."""
    selection: Selection = field(default_factory=lambda: Selection(()))
    """What is not copied; known once the sources are open."""
    care: Care = field(default_factory=Care)
    unreadable: tuple[tuple[UnreadableRecord, ...], ...] = ()
    """Of each disk; known once all are copied."""
    started: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    cancelled: threading.Event = field(default_factory=threading.Event)
    run: str = field(default_factory=unrepeatable)
    live: tuple[LiveRecord, ...] = ()
    """What was done about disks in use, once they are copied."""

    @property
    def shares(self) -> bool:
        """Whether targets may share blocks with the source; what cannot be read has to be found out, which sharing does not."""
        return self.request.layout.shares and not self.request.reading.skip_bad_sectors

    @property
    def disk_files(self) -> tuple[str, ...]:
        """Names of the disks among the outputs."""
        return tuple(str(disk.path) for disk in self.hardware.disks)

    def overlay(self, index: int) -> Path:
        """The overlay a disk is rewritten on."""
        return self.work / f"overlay{index}.qcow2"

    @property
    def overlays(self) -> tuple[Path, ...]:
        """One for each source."""
        return tuple(self.overlay(index) for index in range(len(self.document.sources)))

    def partial_disk(self, index: int) -> Path:
        """The target of a disk while it is written; a device has one name all along."""
        disk = self.hardware.disks[index]
        return disk.path if disk.is_device else self.outputs.partial(str(disk.path))

    def naming(self) -> AbstractContextManager[None]:
        """What to be in while names are given. Raises LeaseLost on entering when another has the machine now."""
        number = self.request.fence
        return nullcontext() if number is None else fenced(self.request.folder, self.document.machine.name, number)

    @property
    def undelivered(self) -> DeliveryNote:
        """What stands beside the results while libvirt is still to be told of the machine."""
        return DeliveryNote.of(self.request.folder, self.document.machine.name)

    def target_key(self, index: int) -> str:
        """What goes to a disk's target: for another text, it is begun anew."""
        left_out = self.selection.disks[index].digest()
        identity = to_data(self.document.sources[index].identity) if not self.document.live else self.run
        return json_digest({"source": identity, "disk": index, "left_out": left_out})


@dataclass(frozen=True, slots=True)
class Moved:
    """What copying, rewriting and committing left for the record."""

    copies: tuple[CopyResult, ...]
    rewriting: RewriteResult
    changed: tuple[tuple[ChangedRange, ...], ...]
