"""The libguestfs appliance: a small Linux under QEMU that mounts a guest's file systems for us.

The calls that may take long run in a thread beside ours, so that they have a limit in time and an interrupt is acted on at once:
QEMU is killed, and the call fails. (Asking libguestfs for QEMU's process id from another thread would wait for the very call that
hangs, and hold the GIL meanwhile: QEMU is found by a name that we give it.)
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from drivers.appliance_folders import bind_script, release_script
from drivers.appliance_library import Caller, Outcome, library, processes_with_argument, silence
from drivers.appliance_sockets import noted_sockets
from drivers.appliance_values import (
    APPLIANCE,
    ApplianceDisk,
    ApplianceFailed,
    ApplianceNotStarted,
    ApplianceStopped,
    FileSystemCheck,
    FoundFileSystem,
)
from drivers.facts import Mount, Volume
from drivers.keys import Key, fitting
from drivers.layout import device_name
from p2v.core.acceleration import Acceleration
from p2v.core.errors import ProgramTimedOut
from p2v.core.units import SECTOR_BYTES

# An emulated CPU has no speculation that the kernel would have to guard against at each of its indirect calls.
_APPEND_TCG = "mitigations=off"
_CALL_SECONDS = 600.0
_CHECK_SECONDS = 3600.0
_KILLED_SECONDS = 20.0
# How long a call goes on, at most, after somebody asked for the end.
_STOP_POLL_SECONDS = 0.25
_CONSOLE_LINES = 40
_CHECK_OUTPUT_BYTES = 64 * 1024

# Checkers by kind of file system, as they only look; each says 0 for "clean".
_CHECKERS: Mapping[str, str] = {
    "ext2": "e2fsck -f -n",
    "ext3": "e2fsck -f -n",
    "ext4": "e2fsck -f -n",
    "xfs": "xfs_repair -n",
    "vfat": "fsck.fat -n",
    "btrfs": "btrfs check --readonly",
    # every record of its table against the bitmap; a dirty volume is refused, one with bad sectors is not
    "ntfs": "ntfsresize --info --bad-sectors --no-progress-bar",
}
# What a checker ends with besides 0 when it found nothing wrong: that a volume has no room to be shrunk is told after all of its
# clusters were counted.
_NO_DAMAGE = {"ntfs": "ERROR: Volume is full."}
# ntfs-3g gives new files an access list that lets everybody write, unless it is told to heed owners and modes. Then
# root:root is written as the administrators, who with the system may do all, and others what the mode says.
NTFS_OWNERS = "permissions"
NTFS_WITHOUT_SESSION = "remove_hiberfile"
_DEVICE = re.compile(r"/dev/[A-Za-z0-9/_.-]+")
_PARTITION = re.compile(r"/dev/sd([a-z]+)(\d*)")


def place_of(device: str) -> tuple[int, int] | None:
    """Disk and partition of a device of the appliance; None for anything but disks and partitions."""
    match = _PARTITION.fullmatch(device)
    if match is None:
        return None
    disk = 0
    for letter in match[1]:
        disk = disk * 26 + ord(letter) - ord("a") + 1
    return disk - 1, int(match[2] or 0)


@dataclass
class Appliance:
    """A running appliance; made by ``appliance_launch.open_appliance``."""

    name: str = field(default_factory=lambda: f"p2v-appliance-{uuid.uuid4().hex}")
    _handle: Any = None
    _console: deque[str] = field(default_factory=lambda: deque(maxlen=_CONSOLE_LINES))
    _caller: Caller = field(default_factory=Caller)
    _stuck: bool = False
    _volumes: dict[str, str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _has_folders: bool = False
    mountpoints: set[str] = field(default_factory=set)
    """Where in the guest's tree something is mounted."""

    def configure(
        self,
        disks: Sequence[ApplianceDisk],
        acceleration: Acceleration,
        memory_mib: int,
        cpus: int,
        scratch: Path | None,
        folder: Path | None,
    ) -> None:
        """Set everything that is set before the launch, also what libguestfs would take from the environment.

        ``folder``: of an appliance that is built already, None for the one that libguestfs builds.
        """
        guestfs = library()
        # the handle is closed by us; at exit libguestfs would wait for a QEMU that hangs
        handle = guestfs.GuestFS(python_return_dict=True, close_on_exit=False)
        self._handle = handle
        self._bounded(lambda: silence(handle), _KILLED_SECONDS)
        try:
            handle.set_backend("direct")
            handle.set_backend_settings(["force_kvm" if acceleration.kvm else "force_tcg"])
            handle.set_memsize(memory_mib)
            handle.set_smp(cpus)
            handle.set_network(False)
            handle.set_autosync(True)
            # an interrupt from the terminal reaches us alone, and we end QEMU
            handle.set_pgroup(True)
            if folder is not None:
                handle.set_path(str(folder))
            if not acceleration.kvm:
                handle.set_append(" ".join(filter(None, (handle.get_append(), _APPEND_TCG))))
            if scratch is not None:
                handle.set_tmpdir(str(scratch))
            handle.config("-name", self.name)
            handle.set_event_callback(self._keep_console, guestfs.EVENT_APPLIANCE)
            for disk in disks:
                _add(handle, disk)
        except RuntimeError as error:
            raise ApplianceNotStarted("start", str(error)) from error

    def launch(self, seconds: float) -> None:
        """Boot it. Raises ApplianceNotStarted, ProgramTimedOut."""
        try:
            with noted_sockets():
                self.call("launch", seconds=seconds)
        except ApplianceStopped:
            raise
        except ApplianceFailed as error:
            said = [line for line in "".join(self._console).splitlines() if line.strip()]
            last_words = f" Its last words: {said[-1].strip()}" if said else ""
            raise ApplianceNotStarted("start", error.message.splitlines()[0] + last_words) from error

    def call(self, operation: str, *arguments: Any, seconds: float = _CALL_SECONDS, **options: Any) -> Any:
        """One call of the library by its name there.

        Raises ApplianceFailed in libguestfs' words, ProgramTimedOut when it took longer than ``seconds`` (QEMU is
        killed then, and every further call fails).
        """
        if self._stop.is_set():
            raise ApplianceStopped(operation, "it was to end")
        function = getattr(self._handle, operation)
        try:
            return self._bounded(lambda: function(*arguments, **options), seconds)
        except (RuntimeError, UnicodeError) as error:
            raise ApplianceFailed(operation, str(error)) from error

    def _bounded(self, function: Callable[[], Any], seconds: float) -> Any:
        outcome = self._caller.start(function)
        deadline = time.monotonic() + seconds
        try:
            while not outcome.done.wait(min(_STOP_POLL_SECONDS, max(0.0, deadline - time.monotonic()))):
                if self._stop.is_set():
                    raise ApplianceStopped("go on", "it was to end")
                if time.monotonic() >= deadline:
                    raise ProgramTimedOut(APPLIANCE, seconds)
        except BaseException:
            self._end(outcome)
            raise
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def _end(self, outcome: Outcome) -> None:
        self.kill()
        # Stuck before there was a QEMU (building the appliance, say): the handle is locked for good and must not be
        # touched again. The thread is a daemon and keeps it alive.
        self._stuck = not outcome.done.wait(_KILLED_SECONDS)

    def kill(self) -> None:
        """Kill this appliance's QEMU, if there is one. Never raises, may be called at any time from any thread."""
        for process in processes_with_argument(self.name.encode()):
            with suppress(OSError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
            os.close(process)

    def shutdown(self) -> None:
        """Unmount, write everything out and end QEMU. Raises ApplianceFailed when something did not reach the disks."""
        self._umount_all()
        self.call("shutdown")

    def close(self) -> None:
        """Give the handle back; QEMU is gone afterwards. Never raises."""
        if self._handle is not None and not self._stuck:
            self._stop = threading.Event()  # closing the handle of a killed appliance is quick, and must happen
            with suppress(RuntimeError, ProgramTimedOut):
                self._bounded(self._handle.close, _KILLED_SECONDS)
        self._caller.end()

    def _keep_console(self, event: int, handle: int, text: str, numbers: Sequence[int]) -> None:
        self._console.append(text)

    # --- file systems -------------------------------------------------------------------------------------------------

    def versions(self) -> Mapping[str, str]:
        """Versions of libguestfs and of the kernel that runs in the appliance."""
        library, kernel = self.call("version"), self.call("utsname")
        return {
            "libguestfs": "{major}.{minor}.{release}".format_map(library),
            "appliance kernel": str(kernel["uts_release"]),
        }

    def explore(self) -> tuple[FoundFileSystem, ...]:
        """Every file system (and swap area) in the disks, ordered by device."""
        try:
            found = self.call("list_filesystems")
        except ApplianceFailed:
            # One volume that lacks a disk is enough for that to fail. Opened containers are not asked for: we opened them.
            devices = [*self.call("list_partitions"), *self.call("list_md_devices"), *self.call("lvs")]
            found = {device: self.kind_of(device) for device in devices}
        return tuple(self._found(device, kind) for device, kind in sorted(found.items()))

    def _found(self, device: str, kind: str) -> FoundFileSystem:
        disk, partition = place_of(device) or (None, 0)
        return FoundFileSystem(
            device,
            disk,
            partition,
            kind or "unknown",
            self._text_or_none("vfs_uuid", device),
            self._text_or_none("vfs_label", device),
            self._size_of(device),
        )

    def _size_of(self, device: str) -> int:
        # btrfs subvolumes are listed as "btrfsvol:/dev/sda1/name", which is no block device; a volume that lacks a disk is
        # listed and not there
        if device.startswith("/dev/"):
            with suppress(ApplianceFailed):
                return int(self.call("blockdev_getsize64", device))
        return 0

    def _text_or_none(self, operation: str, device: str) -> str | None:
        try:
            return self.call(operation, device) or None
        except ApplianceFailed:
            return None  # blkid knows no identifier of such a file system

    def kind_of(self, device: str) -> str:
        """``ext4``, ``xfs``, ...; ``unknown`` when the appliance does not recognise it."""
        return self._text_or_none("vfs_type", device) or "unknown"

    def uuid_of(self, device: str) -> str | None:
        """The UUID of what stands on a device; None where blkid knows none."""
        return self._text_or_none("vfs_uuid", device)

    def activate(self, volumes: Sequence[Volume], keys: Sequence[Key] = ()) -> None:
        """Make volumes usable, what carries others first: containers are opened, arrays found under the name they have here.

        Raises ApplianceFailed when a container stays closed, or an array is not there.
        """
        if any(volume.kind == "lvm" and not volume.segments for volume in volumes):
            # groups that lack a disk are left alone at the start; what does not stand on that disk can be had
            with suppress(ApplianceFailed):
                self.call("vg_activate_all", True)
        for volume in volumes:
            match volume.kind:
                case "luks":
                    self._volumes[volume.device] = self._opened(volume, keys)
                case "md":
                    self._volumes[volume.device] = self._array(volume)
                case "lvm" if volume.aliases:
                    # the name that libguestfs gives it in its own lists
                    self._volumes[volume.device] = volume.aliases[0]
                case _:
                    self._volumes[volume.device] = volume.device

    def device_of_volume(self, device: str) -> str:
        """The appliance's device of an activated volume."""
        return self._volumes[device]

    def device_of(self, mount: Mount) -> str:
        """The appliance's device of what is to be mounted."""
        return self._volumes[mount.volume] if mount.volume else device_name(mount.disk, mount.partition)

    def beginning_of(self, mount: Mount, length: int) -> bytes:
        """The first bytes of what is to be mounted, at most ``length``. Raises ApplianceFailed."""
        return bytes(self.call("pread_device", self.device_of(mount), length, 0))

    def array_uuid(self, device: str) -> str:
        """An array's UUID in mdadm's form."""
        return str(self.call("md_detail", device).get("uuid", ""))

    def _array(self, volume: Volume) -> str:
        for device in self.call("list_md_devices"):
            if self.array_uuid(device) == volume.uuid:
                return str(device)
        raise ApplianceFailed(f"find the array {volume.device}", f"no array has the UUID {volume.uuid}")

    def _opened(self, volume: Volume, keys: Sequence[Key]) -> str:
        inside = self._volumes[volume.inside] if volume.inside else device_name(*volume.carriers[0])
        names = (volume.uuid, inside, volume.inside, *volume.aliases)
        tries = list(fitting(keys, names))
        if not tries:
            raise ApplianceFailed(f"open {volume.uuid}", "no key was given for it (--key)")
        name = volume.device.rpartition("/")[2]
        for key in tries:
            with suppress(ApplianceFailed):
                self.call("cryptsetup_open", inside, key.secret, name)
                # volume groups inside are found only when they are asked for
                self.call("lvm_scan", True)
                return volume.device
        raise ApplianceFailed(f"open {volume.uuid}", "none of the given keys fits")

    def mount(self, mounts: Sequence[Mount], *, read_only: bool, discarding: bool = False) -> None:
        """Mount partitions where they belong in the guest's tree, parents first. Journals are replayed, also read-only.

        ``discarding``: a hibernated Windows' session is removed from NTFS, which is mounted for reading only otherwise.
        Access times are left alone. Of the mounts' options only those that say *what* is mounted are used. Raises
        ApplianceFailed, also when a folder that is to be mounted is none or is reached through a link.
        """
        for mount in sorted(mounts, key=lambda m: (len(m.mountpoint.rstrip("/").split("/")), m.mountpoint)):
            options = ["noatime", *(["ro"] if read_only else [])]
            options += [o for o in mount.options.split(",") if o.startswith(("subvol=", "subvolid="))]
            device = self.device_of(mount)
            if not read_only and self.call("vfs_type", device) == "ntfs":
                options += [NTFS_OWNERS, *([NTFS_WITHOUT_SESSION] if discarding else [])]
            if mount.folder:
                self._bind(mount, device, ",".join(options))
            else:
                self.call("mount_options", ",".join(options), device, mount.mountpoint)
            self.mountpoints.add(mount.mountpoint)

    def _bind(self, mount: Mount, device: str, options: str) -> None:
        """Mount a folder of a file system."""
        self._has_folders = True
        said = str(self.call("debug", "sh", [bind_script(_kernel_path(device), mount, options)])).rstrip()
        words, _, status = said.rpartition("\n")
        if status != "0":
            raise ApplianceFailed(f"mount {mount.folder} at {mount.mountpoint}", words.strip() or "it did not say why")

    def umount(self) -> None:
        """Unmount everything; what was written is in the disks then."""
        self.call("sync")
        self._umount_all()

    def _umount_all(self) -> None:
        self.call("umount_all")
        if self._has_folders:
            self.call("debug", "sh", [release_script()])
        self._has_folders = False
        self.mountpoints.clear()

    def check_filesystem(self, device: str, kind: str) -> FileSystemCheck:
        """Check an unmounted file system without changing it.

        A journal that is not replayed looks like damage: mount and unmount first.
        """
        checker = _CHECKERS.get(kind)
        if checker is None:
            return FileSystemCheck(device, kind, False, False, f"there is no checker for {kind} that only looks")
        # libguestfs' own e2fsck call always repairs, and its xfs_repair tells nothing but yes or no.
        program = checker.split()[0]
        script = (
            f"device=$(readlink -f {_kernel_path(device)} | sort -u); "  # several links may name one disk
            '[ -b "$device" ] || { echo nowhere; exit 0; }; '
            f"command -v {program} >/dev/null || {{ echo missing; exit 0; }}; "
            f'{checker} "$device" >/tmp/p2v-check 2>&1; status=$?; '
            f"head -c {_CHECK_OUTPUT_BYTES} /tmp/p2v-check; rm -f /tmp/p2v-check; echo; echo $status"
        )
        try:
            said = str(self.call("debug", "sh", [script], seconds=_CHECK_SECONDS))
        except ApplianceFailed as error:
            return FileSystemCheck(device, kind, False, False, f"{APPLIANCE} cannot run {program}: {error.message}")
        problem = {"missing": f"{APPLIANCE} has no {program}", "nowhere": f"{device} is not to be found"}.get(
            said.strip()
        )
        if problem is not None:
            return FileSystemCheck(device, kind, False, False, problem)
        words, _, status = said.rstrip().rpartition("\n")
        clean = status == "0" or (kind in _NO_DAMAGE and words.rstrip().rpartition("\n")[2].startswith(_NO_DAMAGE[kind]))
        return FileSystemCheck(device, kind, True, clean, words.strip())


def _kernel_path(device: str) -> str:
    """A path (a shell pattern) of a device that the appliance's kernel knows.

    libguestfs translates its own names, in which disks are in the order they were given; the kernel hands out names in the
    order in which it finds the disks, which is any. QEMU gives each disk the next SCSI target.
    """
    place = place_of(device)
    if place is not None:
        disk, partition = place
        return f"/dev/disk/by-path/*-scsi-0:0:{disk}:0" + (f"-part{partition}" if partition else "")
    if _DEVICE.fullmatch(device) is None:
        raise ValueError(f"{device!r} is no device")
    return device


def _add(handle: Any, disk: ApplianceDisk) -> None:
    options: dict[str, Any] = {"format": disk.format, "readonly": disk.read_only}
    if not disk.read_only:
        # A host that crashes takes the overlay with it in any case: it is made anew. Left properly, QEMU writes all.
        options["cachemode"] = "unsafe"
    if disk.sector_bytes != SECTOR_BYTES:
        options["blocksize"] = disk.sector_bytes
    address = str(disk.path_or_uri)
    if not address.startswith("nbd"):
        handle.add_drive_opts(str(Path(address).absolute()), **options)
        return
    parts = urlsplit(address)
    sockets = parse_qs(parts.query).get("socket", [])
    if parts.scheme != "nbd+unix" or len(sockets) != 1:
        raise ValueError(f"{address!r} is not nbd+unix:///?socket=...")
    handle.add_drive_opts(parts.path.lstrip("/"), protocol="nbd", server=[f"unix:{sockets[0]}"], **options)
