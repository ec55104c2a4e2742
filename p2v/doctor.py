"""What this host can do, and what to install for the rest.

Everything is looked at, nothing is changed. Libraries are imported in a child process, so that one that crashes
is a finding.
"""

from __future__ import annotations

import enum
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.windows.media import DEFAULT_MEDIA, find_media, read_media
from drivers.windows.support import summary, supported
from p2v.acceleration import acceleration
from p2v.core.acceleration import Acceleration
from p2v.core.errors import P2vError, ProgramFailed, ToolMissing
from p2v.core.firmware import FIRMWARE_PACKAGES, installed_firmware
from p2v.core.qemu import EMULATORS, find_qemu
from p2v.core.run import PACKAGES, Runner, SystemRunner, find_program
from p2v.core.units import GIB, MIB, format_bytes
from p2v.core.workspace import cache_folder, existing_parent, free_bytes
from p2v.quick_appliance import look

_SECONDS = 30.0
_LOW_SPACE = 10 * GIB
_NO_SPACE = 1 * GIB
NEEDED_LIBRARIES = ("pyfsext", "pyfsxfs", "pyfsfat", "pyfsntfs", "pyvhdi", "pyvmdk")
FURTHER_LIBRARIES = ("pyvsgpt", "pyvslvm", "pyluksde", "pybde", "pyregf")

_IMPORT = """
import importlib, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
        found[name] = str(getattr(module, "get_version", lambda: "")())
    except Exception as error:
        found[name] = None
print(json.dumps(found))
"""
_GUESTFS = """
import guestfs
v = guestfs.GuestFS(python_return_dict=True).version()
print("%d.%d.%d" % (v["major"], v["minor"], v["release"]))
"""


class Status(enum.Enum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    """It works, with something to know."""
    MISSING = "missing"
    BAD = "bad"
    """It is there and does not work."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``essential``: converting a disk does not work without it."""

    name: str
    status: Status
    found: str
    needed_for: str
    install: str = ""
    essential: bool = False


def examine(
    runner: Runner | None = None, *, answer: Acceleration | None = None, boot: Path = Path("/boot")
) -> tuple[Check, ...]:
    """Look at everything, in the order of importance; ``answer``: the accelerator where it is known already."""
    runner = runner or SystemRunner()
    answer = answer or acceleration(runner, fresh=True)
    return (
        _program(
            runner, "qemu-img", "overlays and checking of images", _both("qemu-utils", "qemu-img"), essential=True
        ),
        _qemu(runner),
        _accelerator(answer),
        _nbdkit(runner),
        _program(
            runner, "qemu-nbd", "reading qcow 1, QED and Parallels disks", _both("qemu-utils", "qemu-img"), essential=False
        ),
        _program(runner, "setpriv", "ending QEMU when p2v is killed", "util-linux", essential=False),
        _guestfs(runner),
        _supermin(runner),
        kernel_check(boot),
        _quick_appliance(runner, answer),
        _program(runner, "depmod", "initramfs supplements", _both("kmod", "kmod"), essential=True),
        _libraries(runner, NEEDED_LIBRARIES, "reading guests and images on the host", essential=True),
        _libraries(runner, FURTHER_LIBRARIES, "reading NTFS, LVM, LUKS and registries on the host"),
        _program(
            runner, "e2fsck", "checking ext file systems", _both("e2fsprogs", "e2fsprogs"), flag="-V", essential=False
        ),
        _program(runner, "virt-xml-validate", "checking definitions", _both("libvirt-clients", "libvirt-client")),
        _firmware(),
        *(_emulator(runner, arch) for arch in EMULATORS if arch != "x86_64"),
        _program(runner, "swtpm", "machines with a TPM", _both("swtpm", "swtpm")),
        _program(runner, "ssh-keygen", "signing records", _both("openssh-client", "openssh")),
        _program(runner, "lvcreate", "logical volumes in use (--live)", _both("lvm2", "lvm2")),
        virtio_win_check(),
        space_check("space for scratch files", Path(tempfile.gettempdir()), essential=True),
        space_check("space for the appliance", appliance_folder(os.environ), essential=True),
        space_check("space for the cache", cache_folder()),
    )


def appliance_folder(environment: Mapping[str, str]) -> Path:
    """Where libguestfs keeps the appliance that it has built (guestfs(3), ``guestfs_set_cachedir``)."""
    return Path(environment.get("LIBGUESTFS_CACHEDIR") or environment.get("TMPDIR") or "/var/tmp")


def able(checks: Sequence[Check]) -> bool:
    """Whether the main job, converting a disk, can run here."""
    return all(c.status in (Status.OK, Status.WARN) for c in checks if c.essential)


def render(checks: Sequence[Check]) -> str:
    """The checks as text for people, what to install below each that needs it, the answer last."""
    width = max((len(c.name) for c in checks), default=0)
    lines = []
    for check in checks:
        lines.append(f"{check.status.value:<8} {check.name:<{width}}  {check.found}")
        if check.status is not Status.OK:
            indent = " " * (width + 11)
            lines.append(f"{indent}for: {check.needed_for}" + ("" if check.essential else " (optional)"))
            if check.install:
                lines.append(f"{indent}{check.install}")
    lines += ["", _answer(checks)]
    return "\n".join(lines)


def _answer(checks: Sequence[Check]) -> str:
    if able(checks):
        return "This host can convert disks."
    wrong = [c.name for c in checks if c.essential and c.status in (Status.MISSING, Status.BAD)]
    return f"This host cannot convert disks yet: {', '.join(wrong)}."


def _both(apt: str, dnf: str) -> str:
    return f"apt install {apt}   or   dnf install {dnf}"


def _said(runner: Runner, argv: Sequence[str]) -> str:
    ended = runner.run(argv, timeout=_SECONDS)
    # e2fsck and others tell their version on stderr
    lines = [line.strip() for line in (ended.stdout or ended.stderr).splitlines() if line.strip()]
    return lines[0] if lines else ""


def _program(
    runner: Runner, name: str, needed_for: str, install: str, *, flag: str = "--version", essential: bool = False
) -> Check:
    try:
        text = _said(runner, [name, flag])
    except ToolMissing:
        return Check(name, Status.MISSING, "not installed", needed_for, install, essential)
    except ProgramFailed as error:
        # a program that knows no such option is there all the same
        if find_program(name) is None:
            return Check(name, Status.BAD, error.sentence(), needed_for, install, essential)
        text = f"found at {find_program(name)}"
    except P2vError as error:
        return Check(name, Status.BAD, error.sentence(), needed_for, install, essential)
    return Check(name, Status.OK, text, needed_for, install, essential)


def _qemu(runner: Runner) -> Check:
    needed_for, install = "the appliance and the boot check", _both("qemu-system-x86", "qemu-kvm")
    program = find_qemu()
    if program is None:
        return Check("qemu-system", Status.MISSING, "not installed", needed_for, install, essential=True)
    return _renamed(_program(runner, program, needed_for, install, essential=True), "qemu-system")


def _renamed(check: Check, name: str) -> Check:
    return Check(name, check.status, check.found, check.needed_for, check.install, check.essential)


def _accelerator(answer: Acceleration) -> Check:
    if answer.kvm:
        return Check("accelerator", Status.OK, f"KVM: {answer.evidence}", "speed", essential=True)
    status = Status.WARN if answer.qemu_works else Status.BAD
    advice = "Everything works without KVM, several times slower." if answer.qemu_works else ""
    return Check("accelerator", status, f"emulation: {answer.evidence}", "speed", advice, essential=True)


def _nbdkit(runner: Runner) -> Check:
    install = _both("nbdkit nbdkit-plugin-python", "nbdkit nbdkit-python-plugin")
    needed_for = "reading every format through one parser"
    check = _program(runner, "nbdkit", needed_for, install, essential=True)
    if check.status is not Status.OK:
        return check
    try:
        dump = runner.run(["nbdkit", "python", "--dump-plugin"], timeout=_SECONDS).stdout
    except P2vError:
        found = f"{check.found}, without its Python plugin"
        return Check("nbdkit", Status.MISSING, found, needed_for, install, essential=True)
    match = re.search(r"^python_version=(\d+)\.(\d+)", dump, re.MULTILINE)
    theirs, ours = (match[1], match[2]) if match else ("?", "?"), tuple(map(str, sys.version_info[:2]))
    found = f"{check.found}, Python plugin for {'.'.join(theirs)}"
    if theirs != ours:
        advice = f"Run p2v with the Python that nbdkit was built for; this one is {'.'.join(ours)}."
        return Check("nbdkit", Status.BAD, found, needed_for, advice, essential=True)
    return Check("nbdkit", Status.OK, found, needed_for, install, essential=True)


def _guestfs(runner: Runner) -> Check:
    needed_for = "changing guests"
    try:
        version = _said(runner, [sys.executable, "-c", _GUESTFS])
    except P2vError:
        advice = _both("python3-guestfs", "python3-libguestfs")
        advice += "; the virtual environment must see system packages (make setup)"
        return Check("libguestfs", Status.MISSING, "its Python module cannot be imported", needed_for, advice, True)
    return Check("libguestfs", Status.OK, version, needed_for, essential=True)


def _supermin(runner: Runner) -> Check:
    # an appliance that was built elsewhere needs none
    if os.environ.get("LIBGUESTFS_PATH"):
        return Check(
            "supermin", Status.OK, f"LIBGUESTFS_PATH={os.environ['LIBGUESTFS_PATH']}", "building the appliance"
        )
    install = _both("supermin", "supermin")
    return _program(runner, "supermin", "building the appliance", install, essential=True)


def _quick_appliance(runner: Runner, answer: Acceleration) -> Check:
    there = look(runner, answer)
    status = Status.OK if there.used else Status.WARN
    advice = "Everything works without it. `p2v doctor --build-appliance` tries again."
    return Check("quick appliance", status, there.what, "starting the appliance in half the time", advice)


def kernel_check(boot: Path = Path("/boot"), modules: Path = Path("/lib/modules")) -> Check:
    """Whether the appliance can be built: a kernel that this user may read, and its modules."""
    name, needed_for = "kernel for the appliance", "building the appliance"
    kernels = {path.name.removeprefix("vmlinuz-"): path for path in sorted(boot.glob("vmlinuz-*"))}
    kernels |= {path.parent.name: path for path in sorted(modules.glob("*/vmlinuz"))}
    with_modules = {version: path for version, path in kernels.items() if (modules / version).is_dir()}
    readable = [path for path in with_modules.values() if os.access(path, os.R_OK)]
    if readable:
        return Check(name, Status.OK, str(readable[-1]), needed_for, essential=True)
    install = _both("linux-image-amd64", "kernel-core")
    if not with_modules:
        what = f"{len(kernels)} kernels without modules" if kernels else f"no kernel in {boot}"
        return Check(name, Status.MISSING, what, needed_for, install, essential=True)
    path = list(with_modules.values())[-1]
    return Check(
        name, Status.BAD, f"{path} is not readable for this user", needed_for, f"chmod 0644 {path} (as root)", True
    )


def _libraries(runner: Runner, names: Sequence[str], needed_for: str, *, essential: bool = False) -> Check:
    name = "libyal, needed" if essential else "libyal, further"
    try:
        found = json.loads(runner.run([sys.executable, "-c", _IMPORT, *names], timeout=_SECONDS).stdout)
    except (P2vError, ValueError) as error:
        return Check(name, Status.BAD, f"importing them failed: {error}", needed_for, essential=essential)
    absent = [n for n in names if found.get(n) is None]
    if absent:
        packages = " ".join(f"lib{n.removeprefix('py')}-python" for n in absent)
        text = f"cannot be imported: {', '.join(absent)}"
        return Check(name, Status.MISSING, text, needed_for, f"pip install {packages}", essential)
    return Check(name, Status.OK, ", ".join(f"{n} {found[n]}" for n in names), needed_for, essential=essential)


def _firmware() -> Check:
    pair = installed_firmware()
    install = _both("ovmf", "edk2-ovmf")
    if pair is None:
        return Check("UEFI firmware", Status.MISSING, "not installed", "machines with UEFI", install)
    return Check("UEFI firmware", Status.OK, str(pair.code), "machines with UEFI")


def _emulator(runner: Runner, arch: str) -> Check:
    """QEMU for guests of another architecture, and what starts them."""
    name, needed_for = f"qemu for {arch}", f"the boot check of guests for {arch}"
    program = EMULATORS[arch].program
    check = _renamed(_program(runner, program, needed_for, f"apt install {PACKAGES[program]}"), name)
    if check.status is not Status.OK or arch not in FIRMWARE_PACKAGES:
        return check
    pair = installed_firmware(arch=arch)
    if pair is None:
        return Check(name, Status.MISSING, f"{check.found}, without UEFI firmware", needed_for, FIRMWARE_PACKAGES[arch])
    return Check(name, Status.OK, f"{check.found}, {pair.code}", needed_for)


def virtio_win_check(places: Sequence[str] = DEFAULT_MEDIA) -> Check:
    """Which medium of Windows drivers there is, and which Windows it has drivers of disks and network for."""
    name, needed_for = "virtio-win", "drivers for Windows guests"
    advice = f"dnf install virtio-win, or put virtio-win.iso from Fedora's virtio-win project into {places[0]}"
    folder = find_media(places)
    if folder is None:
        return Check(name, Status.MISSING, "not found", needed_for, advice)
    try:
        catalogue = read_media(folder)
    except P2vError as error:
        return Check(name, Status.BAD, error.sentence(), needed_for, advice)
    what = f"{catalogue.source} ({catalogue.label})" if catalogue.label else catalogue.source
    ready = summary(supported(catalogue))
    if not ready:
        return Check(name, Status.BAD, f"{what}: no Windows has its drivers of disks and network there", needed_for, advice)
    return Check(name, Status.OK, f"{what}, disks and network for {ready}", needed_for)


def space_check(name: str, folder: Path, *, essential: bool = False) -> Check:
    """Whether there is room in a folder (or where it would be made), and this user may write there."""
    try:
        place = existing_parent(folder)
        free = free_bytes(folder)
    except OSError as error:
        return Check(name, Status.BAD, f"{folder}: {error.strerror}", "working files", essential=essential)
    if not os.access(place, os.W_OK | os.X_OK):
        # without the cache each conversion builds its appliance and tries KVM for itself, which works
        refused = f"{folder}: this user may not write to {place}"
        wanted = "a home folder for this user, or TMPDIR or XDG_CACHE_HOME where it may write"
        return Check(name, Status.BAD if essential else Status.WARN, refused, "working files", wanted, essential)
    status = Status.OK if free >= _LOW_SPACE else Status.WARN if free >= _NO_SPACE else Status.BAD
    found = f"{folder}: {format_bytes(free)} free ({free} bytes)"
    advice = f"at least {_NO_SPACE // MIB} MiB; set TMPDIR or XDG_CACHE_HOME to a larger file system"
    return Check(name, status, found, "working files", advice, essential)
