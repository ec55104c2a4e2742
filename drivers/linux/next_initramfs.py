"""What makes the guest's own next initramfs keep virtio, for every builder but Debian's.

dracut.conf(5), mkinitcpio.conf(5), SUSE's /etc/sysconfig/kernel, mkinitfs.conf of Alpine, make-initrd's initrd.mk.
virtio_net is not asked for: loaded there, the network card would be renamed before the guest's own .link files count,
and the running system loads it in any case.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from drivers.changes import Change, EditFile, WriteFile
from drivers.facts import GuestFacts, TextFile
from drivers.linux.contribution import Contribution
from drivers.linux.devices import DeviceNames
from drivers.linux.initramfs_tools import COMMENT, WHY
from drivers.linux.kernel_arguments import WHY as WHY_NAMES
from drivers.linux.kernel_arguments import CommandLine, device_splices
from drivers.linux.splice import Splice, spliced
from drivers.plan import Finding

DRACUT_FOLDERS = ("/usr/lib/dracut", "/usr/share/dracut", "/lib/dracut")
DRACUT_MAIN = "/etc/dracut.conf"
DRACUT_DROP_INS = "/etc/dracut.conf.d"
DRACUT_OURS = f"{DRACUT_DROP_INS}/p2v-virtio.conf"
MKINITCPIO = "/etc/mkinitcpio.conf"
MKINITCPIO_DROP_INS = "/etc/mkinitcpio.conf.d"
SUSE_KERNEL = "/etc/sysconfig/kernel"
MKINITFS = "/etc/mkinitfs/mkinitfs.conf"
MAKE_INITRD = "/etc/initrd.mk"
TEXTS = (
    DRACUT_MAIN, f"{DRACUT_DROP_INS}/*.conf", MKINITCPIO, f"{MKINITCPIO_DROP_INS}/*.conf", SUSE_KERNEL, MKINITFS, MAKE_INITRD,
)  # fmt: skip

NEEDED = ("virtio_blk", "virtio_scsi", "virtio_pci")
WHY_OMITTED = (
    "what is left out here would be missing from the guest's next initramfs, which has to find its disks on KVM"
)

_LATER = "The guest's next kernel would not start: edit it there."
_OMITTED = re.compile(r"^[ \t]*omit_drivers\+?=(?P<value>[^\r\n]*)", re.MULTILINE)
_BUILT_IN = re.compile(r"^[ \t]*kernel_cmdline\+?=(?P<value>[^\r\n]*)", re.MULTILINE)
_SET_ANEW = re.compile(r"^[ \t]*add_drivers=", re.MULTILINE)
_VIRTIO = re.compile(r"(?<![\w/-])virtio(?:[_-](?:blk|scsi|pci|ring|net|pci[_-]\w{1,40}))?(?:\.ko)?(?![\w-])[ \t]*")
_ARRAY = re.compile(
    r"^[ \t]*MODULES(?P<plus>\+?)=(?P<open>[(\"'])(?P<value>[^)\"']{0,2000})(?P<close>[)\"'])", re.MULTILINE
)
_ARRAY_BEGINS = re.compile(r"^[ \t]*MODULES\+?=(?P<open>[(\"'])", re.MULTILINE)
_CLOSING = {"(": ")", '"': '"', "'": "'"}
_SUSE = re.compile(r"^[ \t]*INITRD_MODULES=(?P<quote>[\"'])(?P<value>[^\"'\n]*)(?P=quote)", re.MULTILINE)
_FEATURES = re.compile(r"^[ \t]*features=(?P<quote>[\"'])(?P<value>[^\"']{0,2000})(?P=quote)", re.MULTILINE)
_ADDED = re.compile(r"^[ \t]*MODULES_ADD[ \t]*[+:?]?=(?P<value>[^\r\n]*)", re.MULTILINE)


def contribute(facts: GuestFacts, names: DeviceNames) -> Contribution:
    """The settings of whichever builders the guest has; ``names`` for the kernel arguments that dracut builds in."""
    wanted = wanted_modules(facts)
    if not wanted:
        return Contribution(changes=tuple(_dracut_edits(facts, names)))
    return Contribution(
        changes=(
            *_dracut_edits(facts, names),
            *_dracut(facts, wanted),
            *_mkinitcpio(facts, wanted),
            *_suse(facts, wanted),
            *_mkinitfs(facts),
            *_make_initrd(facts, wanted),
        ),
        warnings=tuple(_findings(facts)),
    )


def wanted_modules(facts: GuestFacts) -> tuple[str, ...]:
    """The modules to ask for: builders complain about, or stop at, those that no kernel has."""
    if not facts.kernels:
        return NEEDED
    as_module = {name for kernel in facts.kernels for name in kernel.modules}
    return tuple(name for name in NEEDED if name in as_module)


def _dracut_edits(facts: GuestFacts, names: DeviceNames) -> Iterator[Change]:
    """One edit of a file for all that is wrong in it."""
    for file in _dracut_files(facts):
        omitted = [
            Splice(name.start(), name.end(), "")
            for setting in _OMITTED.finditer(file.text)
            for name in _VIRTIO.finditer(file.text, setting.start("value"), setting.end("value"))
        ]
        named = [
            splice
            for line in _BUILT_IN.finditer(file.text)
            for splice in device_splices(file.text, CommandLine(*line.span("value")), names)
        ]
        if omitted or named:
            why = "; ".join([*([WHY_OMITTED] if omitted else []), *([WHY_NAMES] if named else [])])
            yield EditFile(file.resolved, file.text, spliced(file.text, [*omitted, *named]), why)


def _dracut(facts: GuestFacts, wanted: tuple[str, ...]) -> Iterator[Change]:
    if any(folder in facts.folders for folder in DRACUT_FOLDERS) and DRACUT_OURS not in facts.texts:
        # the blanks at both ends belong to the value: settings are put together without any
        yield WriteFile(DRACUT_OURS, f'{COMMENT}\nadd_drivers+=" {" ".join(wanted)} "\n', 0o644, WHY)


def _dracut_files(facts: GuestFacts) -> list[TextFile]:
    inside = sorted(path for path in facts.texts if posixpath.dirname(path) == DRACUT_DROP_INS)
    return [facts.texts[path] for path in (DRACUT_MAIN, *inside) if path in facts.texts and path != DRACUT_OURS]


def _findings(facts: GuestFacts) -> Iterator[Finding]:
    ours = posixpath.basename(DRACUT_OURS)
    for file in _dracut_files(facts):
        folder, name = posixpath.split(file.path)
        if folder == DRACUT_DROP_INS and name > ours and _SET_ANEW.search(file.text):
            message = f"{file.path} sets add_drivers anew, so that the drivers {DRACUT_OURS} adds do not count"
            yield Finding("linux.dracut.overridden", message, _LATER)


def _mkinitcpio(facts: GuestFacts, wanted: tuple[str, ...]) -> Iterator[Change]:
    """Into the setting that counts: the last one, drop-ins read after the main file."""
    inside = sorted(path for path in facts.texts if posixpath.dirname(path) == MKINITCPIO_DROP_INS)
    files = [facts.texts[path] for path in (MKINITCPIO, *inside) if path in facts.texts]
    if not files:
        return
    if any(_has_open_array(file.text) for file in files):
        return  # what is written behind it would be a part of it; no shell reads such a file
    set_here = [(file, setting) for file in files for setting in _ARRAY.finditer(file.text)]
    given = " ".join(setting["value"] for _, setting in set_here)
    missing = [name for name in wanted if name not in given.replace("-", "_").split()]
    if not missing:
        return
    if not set_here:
        yield _appended(files[0], f"MODULES=({' '.join(missing)})")
        return
    file, setting = set_here[-1]
    gap = " " if setting["value"].strip() else ""
    end = setting.start("value") + len(setting["value"].rstrip())
    after = spliced(file.text, [Splice(end, end, gap + " ".join(missing))])
    yield EditFile(file.resolved, file.text, after, WHY)


def _has_open_array(text: str) -> bool:
    """Whether a setting begins and does not end; the last of each kind tells of all of them."""
    last = {begin["open"]: begin.end() for begin in _ARRAY_BEGINS.finditer(text)}
    return any(text.find(_CLOSING[kind], end) < 0 for kind, end in last.items())


def _suse(facts: GuestFacts, wanted: tuple[str, ...]) -> Iterator[Change]:
    file = facts.texts.get(SUSE_KERNEL)
    setting = _SUSE.search(file.text) if file is not None else None
    if file is None or setting is None:
        return
    yield from _extended(file, setting, [name for name in wanted if name not in setting["value"].split()])


def _mkinitfs(facts: GuestFacts) -> Iterator[Change]:
    file = facts.texts.get(MKINITFS)
    setting = _FEATURES.search(file.text) if file is not None else None
    if file is not None and setting is not None:
        yield from _extended(file, setting, [] if "virtio" in setting["value"].split() else ["virtio"])


def _make_initrd(facts: GuestFacts, wanted: tuple[str, ...]) -> Iterator[Change]:
    file = facts.texts.get(MAKE_INITRD)
    if file is None:
        return
    given = {word.replace("-", "_") for setting in _ADDED.finditer(file.text) for word in setting["value"].split()}
    missing = [name for name in wanted if name not in given]
    if missing:
        yield _appended(file, f"MODULES_ADD += {' '.join(missing)}")


def _extended(file: TextFile, setting: re.Match[str], missing: list[str]) -> Iterator[Change]:
    if missing:
        end = setting.end("value")
        gap = "" if setting["value"][-1:] in ("", " ") else " "
        yield EditFile(file.resolved, file.text, spliced(file.text, [Splice(end, end, gap + " ".join(missing))]), WHY)


def _appended(file: TextFile, line: str) -> EditFile:
    gap = "" if not file.text or file.text.endswith("\n") else "\n"
    return EditFile(file.resolved, file.text, f"{file.text}{gap}{COMMENT}\n{line}\n", WHY)
