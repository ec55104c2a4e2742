"""Which Linux a tree holds: os-release and its forerunners, architecture, host name, init, SELinux."""

from __future__ import annotations

import enum
import re

from drivers.deployments import is_physical_root
from drivers.facts import OperatingSystem
from drivers.families import NOT_LINUX, RELEASE_FILES, family_of
from drivers.tree import GuestTree, text_of

_SMALL = 256 * 1024
_TEXT_AT_MOST = 256

_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
_MARKERS = (*_OS_RELEASE, *(file.path for file in RELEASE_FILES), "/etc/lsb-release")
# where no /sbin/init says it; NixOS' boot entries name one in its store
_SYSTEMD = (
    "/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/nix/var/nix/profiles/system/systemd/lib/systemd/systemd",
)  # fmt: skip
_ASSIGNMENT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_VERSION = re.compile(r"\d+(?:\.\d+)*")
# os-release came with the third service pack of 11
_SUSE_WITH_PACKS = ("10", "11")

# any of these is built for what the guest runs
_PROGRAMS = ("/bin/sh", "/usr/bin/sh", "/bin/bash", "/bin/busybox", "/sbin/init", "/usr/bin/env", "/bin/ls")
# e_machine (ELF gABI, with the Linux names): (little-endian, big-endian)
_MACHINES = {
    3: ("i386", ""),
    8: ("mipsel", "mips"),
    20: ("", "ppc"),
    21: ("ppc64le", "ppc64"),
    22: ("", "s390x"),
    40: ("arm", "armeb"),
    62: ("x86_64", ""),
    183: ("aarch64", "aarch64_be"),
    243: ("riscv64", ""),
    258: ("loongarch64", ""),
}


class Likeness(enum.IntEnum):
    """How much a file system by itself (nothing mounted into it) looks like a system's root."""

    NONE = 0
    NAMED = 1
    """It says what it is, but has no programs where Linux has them."""
    DEPLOYMENTS = 2
    """ostree's: the system is in one of its folders."""
    LINUX = 3


def root_likeness(tree: GuestTree) -> Likeness:
    """Whether a file system could be a system's root."""
    if is_physical_root(tree):
        return Likeness.DEPLOYMENTS
    if not _is_there(tree, "/etc") or not any(_is_there(tree, path) for path in _MARKERS):
        return Likeness.NONE
    return Likeness.LINUX if _has_programs(tree) else Likeness.NAMED


def _has_programs(tree: GuestTree) -> bool:
    return _is_there(tree, "/bin") or _is_there(tree, "/usr")


def read_system(tree: GuestTree) -> OperatingSystem | None:
    """Who the guest is; None when the tree does not say. ``kind`` is ``unknown`` where nothing looks like Linux."""
    release = os_release(tree) or _old_release(tree)
    if release is None:
        return None
    id_ = release.get("ID") or "linux"
    version = release.get("VERSION_ID") or (_first_line(tree, "/etc/debian_version") if id_ == "debian" else "")
    name = release.get("PRETTY_NAME") or f"{release.get('NAME') or id_} {version}".strip()
    return OperatingSystem(
        "linux" if _has_programs(tree) and id_.lower() not in NOT_LINUX else "unknown",
        id_[:_TEXT_AT_MOST],
        version[:_TEXT_AT_MOST],
        name[:_TEXT_AT_MOST],
        read_architecture(tree),
        family_of(id_, release.get("ID_LIKE", "").split()),
        hostname=_hostname(tree),
        init=_init(tree),
    )


def read_selinux(tree: GuestTree) -> str:
    """The state that /etc/selinux/config asks for (``GuestFacts.selinux``)."""
    text = text_of(tree, "/etc/selinux/config", _SMALL)
    if text is None:
        return "absent"
    state = parse_assignments(text).get("SELINUX", "").strip().lower()
    # what the kernel takes for granted when the line is missing or says something else
    return state if state in ("disabled", "permissive", "enforcing") else "permissive"


def parse_assignments(text: str) -> dict[str, str]:
    """``NAME=value`` lines as shells and os-release(5) have them: quotes and backslashes undone, last one wins."""
    found = {}
    for line in text.splitlines():
        match = _ASSIGNMENT.match(line)
        if match:
            found[match[1]] = _unquoted(match[2].strip())
    return found


def _unquoted(value: str) -> str:
    if value[:1] == "'" and value.find("'", 1) > 0:
        return value[1 : value.find("'", 1)]
    quote = value[:1] == '"'
    out, escaped = [], False
    for char in value[1:] if quote else value:
        if escaped:
            out.append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif (quote and char == '"') or (not quote and char in " \t#"):
            break
        else:
            out.append(char)
    return "".join(out)


def _is_there(tree: GuestTree, path: str) -> bool:
    """A link counts though it leads into a file system that is not mounted yet."""
    try:
        tree.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _first_line(tree: GuestTree, path: str) -> str:
    for line in (text_of(tree, path, _SMALL) or "").splitlines():
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            return stripped
    return ""


def os_release(tree: GuestTree) -> dict[str, str] | None:
    """What os-release(5) says; None where there is none."""
    for path in _OS_RELEASE:
        text = text_of(tree, path, _SMALL)
        if text is not None:
            return parse_assignments(text)
    return None


def _old_release(tree: GuestTree) -> dict[str, str] | None:
    for file in RELEASE_FILES:
        line = _first_line(tree, file.path)
        if line:
            id_ = next((id_ for word, id_ in file.words if word in line), file.otherwise)
            version = _VERSION.search(line)
            is_sentence = " " in line
            return {
                "ID": id_,
                "VERSION_ID": _with_pack(tree, file.path, version[0]) if version else "" if is_sentence else line,
                "PRETTY_NAME": line if is_sentence else "",
            }
    return None


def _with_pack(tree: GuestTree, path: str, version: str) -> str:
    """SUSE's service pack, which has dates of its own from 10 on, stands on a line of its own: 0 where there is none."""
    lines = re.sub(r"[ \t]*=[ \t]*", "=", text_of(tree, path, _SMALL) or "")
    pack = parse_assignments(lines).get("PATCHLEVEL", "")
    return f"{version}.{pack}" if version in _SUSE_WITH_PACKS and re.fullmatch(r"[0-9]{1,2}", pack) else version


def read_architecture(tree: GuestTree) -> str:
    """What the guest's programs are built for (``OperatingSystem.arch``); empty when nothing tells."""
    for path in _PROGRAMS:
        try:
            header = tree.read_range(path, 20, 0)
        except FileNotFoundError:
            continue
        if len(header) == 20 and header[:4] == b"\x7fELF" and header[5] in (1, 2):
            is_big = header[5] == 2
            machine = int.from_bytes(header[18:20], "big" if is_big else "little")
            return _MACHINES.get(machine, ("", ""))[is_big]
    return ""


def _hostname(tree: GuestTree) -> str | None:
    name = _first_line(tree, "/etc/hostname") or _first_line(tree, "/etc/HOSTNAME")
    if not name:
        name = parse_assignments(text_of(tree, "/etc/sysconfig/network", _SMALL) or "").get("HOSTNAME", "")
    return name[:_TEXT_AT_MOST] or None


def _init(tree: GuestTree) -> str:
    try:
        target = tree.readlink("/sbin/init")
    except FileNotFoundError:
        target = ""
    for name in ("systemd", "openrc", "runit", "upstart", "busybox", "dinit", "s6"):
        if name in target:
            # Alpine's init is busybox's, which runs OpenRC
            return "openrc" if name == "busybox" and tree.exists("/sbin/openrc") else name
    if not tree.exists("/sbin/init"):
        return "systemd" if any(tree.exists(path) for path in _SYSTEMD) else ""
    if tree.exists("/sbin/openrc"):
        return "openrc"
    if tree.exists("/sbin/initctl") and tree.exists("/etc/init"):
        return "upstart"
    return "sysv" if tree.exists("/etc/inittab") else ""
