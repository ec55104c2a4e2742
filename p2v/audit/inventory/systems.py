"""Which system a machine runs, from VMware's names for guests and from what VMware Tools tells in detail. Pure.

Two kinds of names: those of VMware's list of guests ("Red Hat Enterprise Linux 7 (64-bit)", "Other 3.x or later Linux"), which
serves for what somebody chose when the machine was made and for what Tools found; and since vSphere 7 the system's own ("Ubuntu
22.04.4 LTS"), with its details ("distroName='CentOS Stream' distroVersion='8' bitness='64'"). A name that stands for several
releases ("CentOS 4/5/6/7", "Windows Server 2016 or later") gives no version: nobody is told a date that may be another's.
Ids are those that reading a disk gives: os-release's for Linux, libosinfo's for Windows, ``drivers.other``'s for others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from drivers.families import family_of
from p2v.audit.document import SystemAudit

LINUX, WINDOWS, OTHER, UNKNOWN = "linux", "windows", "other", "unknown"

_DETAIL = re.compile(r"(\w{1,40})='([^']{0,200})'")
_BITS = re.compile(r"\(?(32|64)[- ]bit\)?")
_VERSION = re.compile(r"\d{1,4}(?:\.\d{1,5}){0,2}")
_FIRST_SUSE_BY_PACK = 12
_SERVICE_PACK = re.compile(r"\bSP\s?(\d)\b", re.IGNORECASE)
# "4/5/6", "8.x", "3.x or later", "Pre-11 versions"
_SEVERAL = re.compile(r"\d\s*/\s*\d|\bor later\b|\bpre-\d|\d\.x\b", re.IGNORECASE)


class _Name(NamedTuple):
    """A word of names, and what it means. ``versioned``: the number behind it is the release."""

    word: re.Pattern[str]
    kind: str
    id: str
    versioned: bool = True


def _name(pattern: str, kind: str, id_: str, *, versioned: bool = True) -> _Name:
    return _Name(re.compile(pattern, re.IGNORECASE), kind, id_, versioned)


def _windows(pattern: str, id_: str) -> _Name:
    return _Name(re.compile(rf"\bwindows(?: server)? {pattern}(?![\w.])", re.IGNORECASE), WINDOWS, id_, versioned=False)


# the first that is found; longer names before those that they begin with
_NAMES = (
    _name(r"windows server \d{4}(?: r2)?[^(]*\bor later\b", WINDOWS, "windows", versioned=False),
    _windows("2025", "win2k25"), _windows("2022", "win2k22"), _windows("2019", "win2k19"), _windows("2016", "win2k16"),
    _windows("2012 r2", "win2k12r2"), _windows("2012", "win2k12"), _windows("2008 r2", "win2k8r2"), _windows("2008", "win2k8"),
    _windows("2003 r2", "win2k3r2"), _windows("2003", "win2k3"),
    _name(r"small business server 2003", WINDOWS, "win2k3", versioned=False),
    _windows("2000", "win2k"), _windows("11", "win11"), _windows("10", "win10"), _windows(r"8\.1", "win8.1"),
    _name(r"windows 8\.x", WINDOWS, "windows", versioned=False), _windows("8", "win8"), _windows("7", "win7"),
    _windows("vista", "winvista"), _windows("xp", "winxp"), _windows(r"nt(?: 4(?:\.0)?)?", "winnt4.0"),
    _windows("(?:95|98|me|millennium)", "win9x"), _name(r"windows 3\.1", OTHER, "dos", versioned=False),
    _name(r"\bwindows\b", WINDOWS, "windows", versioned=False),
    _name(r"ms-dos", OTHER, "dos", versioned=False),
    _name(r"coreos linux|linux coreos|fedora coreos", LINUX, "linux", versioned=False),
    _name(r"red hat fedora|\bfedora\b", LINUX, "fedora"),
    _name(r"red hat enterprise linux|\brhel\b", LINUX, "rhel"),
    _name(r"centos stream", LINUX, "centos"), _name(r"centos", LINUX, "centos"),
    _name(r"oracle linux", LINUX, "ol"), _name(r"rocky linux", LINUX, "rocky"), _name(r"almalinux", LINUX, "almalinux"),
    _name(r"scientific linux", LINUX, "scientific"), _name(r"amazon linux", LINUX, "amzn"),
    _name(r"miracle ?linux", LINUX, "miraclelinux"), _name(r"asianux", LINUX, "asianux"),
    _name(r"opensuse leap", LINUX, "opensuse-leap"), _name(r"opensuse tumbleweed", LINUX, "opensuse-tumbleweed", versioned=False),
    _name(r"opensuse", LINUX, "opensuse"),
    _name(r"suse linux enterprise desktop", LINUX, "sled"), _name(r"suse linux enterprise", LINUX, "sles"),
    _name(r"open enterprise server", LINUX, "oes"),
    _name(r"debian", LINUX, "debian"), _name(r"ubuntu", LINUX, "ubuntu"), _name(r"linux mint", LINUX, "linuxmint"),
    _name(r"photon", LINUX, "photon"), _name(r"flatcar", LINUX, "flatcar"),
    _name(r"alpine", LINUX, "alpine"), _name(r"\barch linux", LINUX, "arch", versioned=False),
    _name(r"mandriva|mandrake", LINUX, "mandriva"), _name(r"\bcrx\b", LINUX, "photon", versioned=False),
    _name(r"freebsd", OTHER, "freebsd"), _name(r"openbsd", OTHER, "openbsd"), _name(r"netbsd", OTHER, "netbsd"),
    _name(r"solaris", OTHER, "solaris"), _name(r"mac ?os(?: x)?|darwin", OTHER, "macos"),
    _name(r"\bos/2\b|ecomstation", OTHER, "os2", versioned=False), _name(r"netware", OTHER, "netware"),
    _name(r"openserver|unixware", OTHER, "unix", versioned=False), _name(r"\besxi?\b", OTHER, "esxi"),
    _name(r"linux", LINUX, "linux", versioned=False),
)  # fmt: skip

_EDITIONS = (
    ("datacenter", "Datacenter"), ("standard", "Standard"), ("web edition", "Web"), ("enterprise", "Enterprise"),
    ("professional", "Professional"), ("small business", "Small Business"), ("home", "Home"), ("pro", "Professional"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """What one name says. ``release``: it is one release's, not several's."""

    system: SystemAudit
    release: bool


def system_of(configured: str, tools: str, detail: str, hostname: str) -> Named | None:
    """The system of a machine: by Tools' details, else by the name that Tools found, else by the one that was chosen.

    One that says the release goes before one that does not. None where no name says anything.
    """
    found = [named for named in (by_detail(detail), by_name(tools), by_name(configured)) if named is not None]
    best = next((named for named in found if named.release), found[0] if found else None)
    if best is None:
        return None
    system = best.system
    arch = system.arch or next((named.system.arch for named in found if named.system.arch), "")
    return Named(
        SystemAudit(system.kind, system.id, system.version, system.name, arch, system.family, system.edition, hostname),
        best.release,
    )


def by_name(name: str) -> Named | None:
    """What a name says; None for an empty one, and for "Other"."""
    known = next(((each, match) for each in _NAMES if (match := each.word.search(name)) is not None), None)
    if known is None:
        return None
    meant, match = known
    version = _version(meant, name, match.end())
    windows = meant.kind == WINDOWS
    release = meant.id != "windows" if windows else bool(version) and meant.id != "linux"
    bits = _BITS.search(name)
    arch = {"64": "x86_64", "32": "i386"}.get(bits[1], "") if bits else ""
    family = WINDOWS if windows else OTHER if meant.kind == OTHER else family_of(meant.id)
    kind = OTHER if meant.id == "win9x" else meant.kind
    return Named(
        SystemAudit(kind, meant.id, version, name, arch, OTHER if kind == OTHER else family, _edition(name, windows)),
        release,
    )


def by_detail(detail: str) -> Named | None:
    """What Tools tell in detail (``architecture='X86' bitness='64' prettyName='...' ...``); None where they do not."""
    told = dict(_DETAIL.findall(detail))
    named = by_name(told.get("prettyName", "")) or by_name(told.get("distroName", ""))
    if named is None:
        return None
    system = named.system
    arch = {"64": "x86_64", "32": "i386"}.get(told.get("bitness", ""), system.arch)
    version = _plain_version(told.get("distroVersion", ""))
    if system.kind == WINDOWS:
        build = _plain_version(told.get("kernelVersion", "")) or _plain_version(told.get("buildNumber", ""))
        version = f"{version}.{build}" if version and build else ""
    elif not version or (system.version and system.version.startswith(version)):
        version = system.version
    arch = "aarch64" if told.get("architecture", "").casefold() == "arm" and arch == "x86_64" else arch
    release = named.release or (bool(version) and system.kind != WINDOWS and system.id != "linux")
    return Named(
        SystemAudit(system.kind, system.id, version, system.name, arch, system.family, system.edition), release
    )


def differ(one: Named | None, other: Named | None) -> bool:
    """Whether two names cannot be of one system: another kind or id, or two releases of one."""
    if one is None or other is None:
        return False
    a, b = one.system, other.system
    if a.kind == b.kind and {a.id, b.id} & {"linux", "windows"}:
        return False
    # the names of 2012 and 2012 R2 are one in VMware's list
    if {a.id, b.id} == {"win2k12", "win2k12r2"} or {a.id, b.id} == {"win2k3", "win2k3r2"}:
        return False
    if a.id != b.id:
        return True
    return bool(a.version and b.version) and a.kind != WINDOWS and a.version.split(".")[0] != b.version.split(".")[0]


def _version(meant: _Name, name: str, end: int) -> str:
    if not meant.versioned or _SEVERAL.search(_BITS.sub("", name)):
        return ""
    found = _VERSION.search(_BITS.sub("", name[end : end + 60]))
    if found is None:
        return ""
    version = found[0]
    if meant.id in ("centos", "debian"):  # their os-release has no more
        return version.split(".")[0]
    if meant.id in ("ubuntu", "alpine"):
        return ".".join(version.split(".")[:2])
    return _with_pack(version, name) if meant.id in ("sles", "sled") else version


def _with_pack(version: str, name: str) -> str:
    """A SUSE's version in os-release's words. From 12 on service packs have dates of their own, and VMware's names have none."""
    pack = _SERVICE_PACK.search(name)
    if pack is not None and "." not in version:
        return f"{version}.{pack[1]}"
    return "" if "." not in version and int(version) >= _FIRST_SUSE_BY_PACK else version


def _plain_version(text: str) -> str:
    found = re.match(r"\d{1,6}(?:\.\d{1,6}){0,3}", text)
    return found[0] if found else ""


def _edition(name: str, windows: bool) -> str:
    if not windows:
        return ""
    words = name.casefold()
    return next((edition for word, edition in _EDITIONS if re.search(rf"\b{word}\b", words)), "")
