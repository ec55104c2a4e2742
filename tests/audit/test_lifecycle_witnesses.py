"""The dates held against two witnesses of the distribution's: distro-info-data (Debian, Ubuntu) and osinfo-db (all others).

A difference is no fault by itself: osinfo-db has dates of its own making for some. Those that were looked into are listed here with
what was found; any other fails the test with its two dates.
"""

from __future__ import annotations

import csv
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest

from p2v.audit.document import SystemAudit
from p2v.audit.lifecycle import product_of, releases_of
from p2v.audit.lifecycle_data import Release, lifecycle

OSINFO = Path("/usr/share/osinfo/os")
DISTRO_INFO = Path("/usr/share/distro-info")
# makers that publish a month are given a day by each witness
SAME = timedelta(days=31)


def release_of(id_: str, version: str, name: str = "") -> Release | None:
    system = SystemAudit("", id_, version, name or id_, "")
    product = product_of(lifecycle(), system)
    found = releases_of(product, system) if product is not None else ()
    return found[0] if len(found) == 1 else None


def same(own: date | None, other: date | None) -> bool:
    return (own is None) == (other is None) and (own is None or other is None or abs(own - other) <= SAME)


def rows(name: str) -> list[dict[str, str]]:
    path = DISTRO_INFO / name
    assert path.is_file(), "distro-info-data is not installed (it is among the Makefile's APT_TEST)"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


@pytest.mark.parametrize(
    ("id_", "columns", "oldest"),
    [
        ("debian", (("eol",), ("eol-lts",), ("eol-elts",)), 3.0),
        ("ubuntu", (("eol-server", "eol"), ("eol-esm",), ("eol-legacy",)), 4.0),
    ],
)
def test_distro_info_has_the_same_dates(id_: str, columns: tuple[tuple[str, ...], ...], oldest: float) -> None:
    product = product_of(lifecycle(), SystemAudit("", id_, "", id_, ""))
    assert product is not None
    known_until = product.as_of
    differences, compared = [], 0
    for row in rows(f"{id_}.csv"):
        version = (row["version"] or "").partition(" ")[0]
        # what is in development has no end; what came out after our data is not in it, which findings say
        if not row.get("eol") or float(version) < oldest or (day(row.get("release")) or known_until) > known_until:
            continue
        release = release_of(id_, version)
        assert release is not None, f"{id_} {version} is not in the data"
        theirs = [next((day(row.get(name)) for name in names if row.get(name)), None) for names in columns]
        ours = [release.standard, release.extended, release.further]
        compared += 1
        differences += [(version, o, t) for o, t in zip(ours, theirs, strict=True) if not same(o, t)]
    assert compared >= 12
    assert differences == []


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A system of osinfo-db's that has an end, by our id."""

    id: str
    version: str
    name: str
    end: date


_FOLDERS = {
    "redhat.com": "rhel", "centos.org": "centos", "fedoraproject.org": "fedora", "suse.com": "sles", "oracle.com": "ol",
    "opensuse.org": "opensuse-leap", "freebsd.org": "freebsd", "openbsd.org": "openbsd", "alpinelinux.org": "alpine",
    "mageia.org": "mageia", "almalinux.org": "almalinux", "rockylinux.org": "rocky", "scientificlinux.org": "scientific",
}  # fmt: skip
_LEFT_ASIDE = re.compile(r"stream|atomic|silverblue|coreos|eln|caasp|slem|unknown|rawhide|solaris")


def osinfo() -> Iterator[Witnessed]:
    assert OSINFO.is_dir(), "osinfo-db is not installed (it is among the Makefile's APT_TEST)"
    for path in sorted(OSINFO.glob("*/*.xml")):
        os = ET.parse(path).getroot().find("os")
        end = os.findtext("eol-date") if os is not None else None
        short, version = (os.findtext("short-id") or "", os.findtext("version") or "") if os is not None else ("", "")
        name = os.findtext("name") or "" if os is not None else ""
        if not end or _LEFT_ASIDE.search(short):
            continue
        if path.parent.name == "microsoft.com":
            yield Witnessed(_MICROSOFT.get(short, short), "", name, date.fromisoformat(end))
        elif path.parent.name in _FOLDERS:
            id_ = "sled" if short.startswith("sled") else _FOLDERS[path.parent.name]
            # its family of before RHEL has the same vendor
            told = "Red Hat Linux release" if short.startswith("rhl") else "Enterprise"
            yield Witnessed(
                id_, version, told if path.parent.name in ("redhat.com", "suse.com") else name, date.fromisoformat(end)
            )


_MICROSOFT = {
    "winnt3.51": "nt3",
    "winnt3.5": "nt3",
    "win95": "win9x",
    "win98": "win9x",
    "winme": "win9x",
    "msdos6.22": "dos",
}

# What osinfo-db 20221130 says otherwise than the maker, by our id and release.
LOOKED_INTO = {
    ("mageia", "8"): "planned end; Mageia 9 came later, and three months are added to that",
    ("ol", "5"): "extended support was lengthened to November 2020",
    ("ol", "6"): "extended support was lengthened to December 2024",
    ("rhel", "4"): "Extended Life Cycle Support was lengthened to March 2017",
    ("rhel", "5"): "Extended Life Cycle Support was lengthened to November 2020",
    ("sles", "11"): "of the release without a service pack; ours is taken to have the last one",
    ("win2k8r2", ""): "a slip: 14 January 2013 for 2020",
    ("win7", ""): "a slip: 14 January 2029 for 2020",
}


def by_release() -> dict[tuple[str, str], tuple[set[date], date]]:
    """Of every release that both have: our dates, and the witness's latest (of minor releases, the last one's counts)."""
    both: dict[tuple[str, str], tuple[set[date], date]] = {}
    for each in osinfo():
        system = SystemAudit("", each.id, each.version, each.name, "")
        product = product_of(lifecycle(), system)
        for release in releases_of(product, system) if product is not None else ():
            # a Windows is known without its build, so any of its releases may be meant
            key = (each.id, release.version if each.version else "")
            dates, latest = both.get(key, (set(), date.min))
            own = {d for d in (release.standard, release.extended, release.further) if d is not None}
            both[key] = (dates | own, max(latest, each.end))
    return both


def test_osinfo_has_the_same_dates_but_for_those_that_were_looked_into() -> None:
    both = by_release()
    differences = {
        key: (sorted(ours), theirs)
        for key, (ours, theirs) in both.items()
        if ours and not any(same(own, theirs) for own in ours)
    }
    assert {key: value for key, value in differences.items() if key not in LOOKED_INTO} == {}
    assert len(both) - len(differences) > 150
