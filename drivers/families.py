"""Linux distributions by family: adding one is a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """Distributions that are configured alike; ``ids`` are os-release's ``ID`` values."""

    name: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A file that tells a distribution from before os-release; ``words`` -> id, the first that its text contains."""

    path: str
    words: tuple[tuple[str, str], ...]
    otherwise: str


FAMILIES: tuple[Family, ...] = (
    Family("debian", ("debian", "ubuntu", "linuxmint", "kali", "raspbian", "devuan", "pop", "neon", "deepin")),
    Family(
        "redhat",
        (
            "rhel", "centos", "fedora", "rocky", "almalinux", "ol", "scientific", "amzn", "circle", "kylin", "anolis",
            "openeuler", "opencloudos", "tencentos", "virtuozzo", "eurolinux", "miraclelinux", "cloudlinux",
            "xenenterprise",
        ),
    ),
    Family(
        "suse",
        ("sles", "sle-micro", "sles_sap", "sled", "opensuse", "opensuse-leap", "opensuse-tumbleweed", "suse"),
    ),
    Family("alt", ("altlinux", "alt")),
    Family("arch", ("arch", "archarm", "manjaro", "endeavouros")),
    Family("alpine", ("alpine", "postmarketos")),
    Family("gentoo", ("gentoo", "funtoo", "flatcar", "coreos")),
    Family("mageia", ("mageia", "mandriva", "openmandriva", "rosa")),
    Family("photon", ("photon",)),
    Family("void", ("void",)),
    Family("nixos", ("nixos",)),
)  # fmt: skip

UNKNOWN_FAMILY = "unknown"

# Systems that have an os-release and programs where Linux has them, and are none.
NOT_LINUX = frozenset({
    "freebsd", "openbsd", "netbsd", "dragonfly", "midnightbsd", "ghostbsd", "hardenedbsd", "solaris", "illumos",
    "openindiana", "omnios", "smartos", "tribblix", "haiku", "minix", "redox", "hurd",
})  # fmt: skip

RELEASE_FILES: tuple[ReleaseFile, ...] = (
    ReleaseFile(
        "/etc/redhat-release",
        (
            ("CentOS", "centos"), ("Fedora", "fedora"), ("Scientific", "scientific"), ("Oracle", "ol"),
            ("Rocky", "rocky"), ("AlmaLinux", "almalinux"), ("XenServer", "xenenterprise"),
        ),
        "rhel",
    ),
    ReleaseFile("/etc/SuSE-release", (("openSUSE", "opensuse"),), "sles"),
    ReleaseFile("/etc/alpine-release", (), "alpine"),
    ReleaseFile("/etc/arch-release", (), "arch"),
    ReleaseFile("/etc/gentoo-release", (), "gentoo"),
    ReleaseFile("/etc/debian_version", (), "debian"),
)  # fmt: skip


def family_of(id_: str, id_like: Sequence[str] = ()) -> str:
    """The family's name by ``ID``, else by the first known word of ``ID_LIKE``; ``unknown`` else."""
    for word in (id_, *id_like):
        for family in FAMILIES:
            if word.lower() in family.ids:
                return family.name
    return UNKNOWN_FAMILY
