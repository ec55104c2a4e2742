"""The dated files: every entry is whole, sourced and can be reached; every system that readers name has one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import date

import pytest

from drivers.families import FAMILIES, NOT_LINUX, RELEASE_FILES
from drivers.linux.image_based import _WHOLE
from drivers.other.profiles import PROFILES
from drivers.windows.facts import WindowsVersion
from drivers.windows.versions import _NAMES, _SERVERS_10, short_id
from p2v.audit.document import SystemAudit
from p2v.audit.lifecycle import UNKNOWN, numbers, releases_of, support_of
from p2v.audit.lifecycle_data import Product, Release, Virtio, files, lifecycle
from p2v.targets.system_names import _WINDOWS
from tests.fixtures.windows import versions

DATA = lifecycle()
ADDRESS = re.compile(r"https://[\w.-]+/\S*")
ENTRIES = [(product, release) for product in DATA.products for release in product.releases]
# an edition of the registry's for each class of editions
EDITIONS = {
    "": "Professional", "home": "Core", "enterprise": "Enterprise", "ltsc": "EnterpriseS", "iot-ltsc": "IoTEnterpriseS",
    "server": "ServerStandard", "channel": "ServerDatacenterACor",
}  # fmt: skip
# a name that fits the product, where several share an id
NAMES = {
    "^Red Hat Linux release": "Red Hat Linux release 9 (Shrike)", "\\bStream\\b": "CentOS Stream 9",
    "Rawhide|Prerelease": "Fedora Linux 45 (Rawhide Prerelease)", "^SUSE L(inux|INUX) \\d": "SUSE LINUX 10.1 (i586)",
    "Desktop": "SUSE Linux Enterprise Desktop 11", "LMDE": "LMDE 6 (faye)", "\\bedge\\b": "Alpine Linux edge",
}  # fmt: skip


def named(product: Product, release: Release) -> str:
    return f"{product.ids[0]} {release.version} {release.edition}".strip()


def system(product: Product, version: str = "", edition: str = "") -> SystemAudit:
    return SystemAudit("", product.ids[0], version, NAMES.get(product.named, product.name), "", edition=edition)


def test_every_file_has_a_date_and_products() -> None:
    assert len(files()) >= 6
    assert {product.file for product in DATA.products} == set(files())
    assert all(date(2025, 1, 1) < product.as_of < date(2100, 1, 1) for product in DATA.products)


def test_dates_follow_each_other() -> None:
    for product, release in ENTRIES:
        dates = [day for day in (release.standard, release.extended, release.further) if day is not None]
        assert dates == sorted(set(dates)), named(product, release)
        assert all(date(1995, 1, 1) < day < date(2045, 1, 1) for day in dates), named(product, release)
        assert not (release.extended_unknown and release.extended), named(product, release)


def test_every_date_has_a_published_source_and_its_phase_a_name() -> None:
    for product, release in ENTRIES:
        sources = [
            (release.standard, release.source or product.source, product.standard_name),
            (release.extended, release.source or product.extended_source or product.source, product.extended_name),
            (release.further, product.further_source, product.further_name),
        ]
        for day, source, phase in sources:
            assert day is None or (ADDRESS.fullmatch(source) and phase), named(product, release)


def test_sources_are_addresses() -> None:
    def addresses() -> Iterator[str]:
        for product in DATA.products:
            yield from (product.source, product.extended_source, product.further_source, product.virtio_source)
            yield from (each for release in product.releases for each in (release.source, release.virtio_source))
        yield from (certifier.source for certifier in DATA.certifiers)

    assert [each for each in addresses() if each and not ADDRESS.fullmatch(each)] == []


def test_no_release_is_there_twice() -> None:
    keys = Counter(
        (id_, product.named, release.version, release.edition) for product, release in ENTRIES for id_ in product.ids
    )
    assert [key for key, count in keys.items() if count > 1] == []


def test_products_that_share_an_id_can_all_be_reached() -> None:
    for id_, products in DATA.by_id.items():
        assert all(product.named for product in products[:-1]), f"{id_}: a product before the last takes all names"
    shared = {product.named for product in DATA.products if product.named}
    assert shared == set(NAMES)


def test_every_release_is_found_by_its_own_version() -> None:
    for product, release in ENTRIES:
        assert len(numbers(release.version)) >= (1 if product.parts else 0), named(product, release)
        found = releases_of(product, system(product, release.version, EDITIONS[release.edition]))
        assert found == (release,), named(product, release)


def test_a_product_has_releases_or_says_why_it_has_none() -> None:
    for product in DATA.products:
        assert sum((bool(product.releases), product.rolling, bool(product.why))) == 1, product.ids
        assert product.name or product.why
        assert product.rolling <= bool(product.source)
        has_extended = any(release.extended or release.extended_unknown for release in product.releases)
        assert bool(product.extended_name) == has_extended, product.ids
        assert bool(product.further_name) == any(release.further for release in product.releases), product.ids


def test_late_drivers_say_since_when() -> None:
    for product, release in ENTRIES:
        assert (release.virtio is Virtio.LATE) == bool(release.virtio_note), named(product, release)
    assert all(product.virtio is not Virtio.LATE for product in DATA.products)


def test_every_id_of_a_linux_reader_has_an_entry() -> None:
    ids = {id_ for family in FAMILIES for id_ in family.ids} | NOT_LINUX | set(_WHOLE) | {"linux"}
    ids |= {id_ for file in RELEASE_FILES for id_ in (file.otherwise, *(id_ for _, id_ in file.words))}
    assert sorted(ids - set(DATA.by_id)) == []


def test_every_id_of_a_windows_reader_has_an_entry() -> None:
    ids = {id_ for pair in _NAMES.values() for id_ in pair} | {name for _, name in _SERVERS_10} | set(_WINDOWS)
    ids |= {"winnt4.0", "win2k", "winxp", "win2k3", "win2k3r2", "win10", "win11", "windows"}
    assert sorted(ids - set(DATA.by_id)) == []


def test_every_id_of_other_systems_has_an_entry() -> None:
    assert sorted(set(PROFILES) - set(DATA.by_id)) == []


def test_every_id_gets_an_answer() -> None:
    """Also without a version, as an inventory has it."""
    for id_ in DATA.by_id:
        for version in ("", "1", "99999.1", "trixie/sid"):
            assert support_of(SystemAudit("", id_, version, id_, ""), date(2026, 11, 26)).state


WINDOWS = {name: value for name, value in vars(versions).items() if isinstance(value, versions.Version)}


@pytest.mark.parametrize("name", sorted(WINDOWS))
def test_every_windows_of_the_tests_has_dates(name: str) -> None:
    made = WINDOWS[name]
    facts = WindowsVersion(*made.nt, made.build, product_name=made.product, product_type=made.product_type)
    version = f"{made.nt[0]}.{made.nt[1]}.{made.build}"
    audit = SystemAudit("windows", short_id(facts), version, made.product, "", edition=made.edition)
    support = support_of(audit, date(2026, 11, 26))
    assert support.state != UNKNOWN
    assert support.standard_end


def test_certified_guests_are_releases_that_there_are() -> None:
    known = {f"{id_} {release.version}" for product, release in ENTRIES for id_ in product.ids} | set(DATA.by_id)
    for certifier in DATA.certifiers:
        assert [guest for guest in certifier.guests if guest not in known] == []
        assert len(set(certifier.guests)) == len(certifier.guests)
