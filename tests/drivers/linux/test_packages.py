"""Installed packages by every manager's own files: real rpm databases and Berkeley DB files, the others in their form."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.linux import rpm_database
from drivers.linux.packages import installed_packages
from drivers.linux.rpm_database import installed_names, name_in_header
from tests.drivers.linux.rpm_files import NAMES, header, ndb
from tests.drivers.memory_tree import Folder, InMemoryTree, Link, Node


def found(nodes: dict[str, Node]) -> frozenset[str]:
    return installed_packages(InMemoryTree(nodes))


def stand_in(data: bytes, names: Iterable[str]) -> bool:
    """Whether every name is in the bytes: of what is damaged nothing is made up."""
    text = data.decode("ascii", "replace")
    return all(name in text for name in names)


# --- rpm: SQLite -----------------------------------------------------------------------------------------------------


def sqlite_database(
    folder: Path, names: tuple[str, ...] = NAMES, *, page_bytes: int = 4096, journal: str = "wal"
) -> dict[str, Node]:
    """A database with rpm's tables (its lib/backend/sqlite.c), in the journal mode that rpm sets; still open: with its log."""
    path = folder / "rpmdb.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA page_size = {page_bytes}")
    connection.execute(f"PRAGMA journal_mode = {journal}")
    connection.execute("CREATE TABLE IF NOT EXISTS 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
    connection.execute("CREATE TABLE IF NOT EXISTS 'Name' (key 'TEXT' NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL)")
    for number, name in enumerate(names, 1):
        connection.execute("INSERT INTO Packages (blob) VALUES (?)", (header(name) + bytes(20_000),))
        connection.execute("INSERT INTO Name VALUES (?, ?, 0)", (name, number))
    connection.commit()
    files = {each.name: each.read_bytes() for each in folder.iterdir()}
    connection.close()
    return {f"/var/lib/rpm/{name}": data for name, data in files.items()}


@pytest.mark.parametrize("page_bytes", [512, 4096, 65536])
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_names_are_read_from_sqlite_with_what_its_log_has(tmp_path: Path, page_bytes: int, journal: str) -> None:
    nodes = sqlite_database(tmp_path, page_bytes=page_bytes, journal=journal)
    assert ("/var/lib/rpm/rpmdb.sqlite-wal" in nodes) == (journal == "wal")
    assert found(nodes) == frozenset(NAMES)


def test_a_table_of_many_pages_is_read_to_its_end(tmp_path: Path) -> None:
    names = tuple(f"package-{number}-with-a-long-name" for number in range(3000))
    assert found(sqlite_database(tmp_path, names, page_bytes=1024)) == frozenset(names)


def test_of_a_log_only_what_was_committed_counts(tmp_path: Path) -> None:
    nodes = sqlite_database(tmp_path)
    log = nodes["/var/lib/rpm/rpmdb.sqlite-wal"]
    assert isinstance(log, bytes)
    # the last frame says that the transaction is complete
    nodes["/var/lib/rpm/rpmdb.sqlite-wal"] = log[: -(4096 + 24)]
    assert "open-vm-tools" not in found(nodes)


def test_frames_of_an_older_round_of_the_log_do_not_count(tmp_path: Path) -> None:
    nodes = sqlite_database(tmp_path)
    log = nodes["/var/lib/rpm/rpmdb.sqlite-wal"]
    assert isinstance(log, bytes)
    nodes["/var/lib/rpm/rpmdb.sqlite-wal"] = log[:16] + b"othersal" + log[24:]
    assert "open-vm-tools" not in found(nodes)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_sqlite_file_ends_in_names_or_none(data: st.DataObject) -> None:
    base = _SQLITE
    at = data.draw(st.integers(0, len(base) - 1))
    junk = data.draw(st.binary(min_size=1, max_size=64))
    damaged = base[:at] + junk + base[at + len(junk) :]
    assert stand_in(damaged, found({"/var/lib/rpm/rpmdb.sqlite": damaged}))
    assert found({"/var/lib/rpm/rpmdb.sqlite": base[:at]}) <= found({"/var/lib/rpm/rpmdb.sqlite": base})


def _small_database() -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE 'Name' (key 'TEXT' NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL)")
    connection.executemany("INSERT INTO Name VALUES (?, 1, 0)", [(f"p{number}",) for number in range(400)])
    connection.commit()
    return connection.serialize()


_SQLITE = _small_database()


def test_pages_that_lead_round_in_a_circle_come_to_an_end() -> None:
    looped = bytearray(_SQLITE)
    root = struct.unpack_from(">I", looped, 4096 + 8)[0]
    assert root
    looped[4096 + 8 : 4096 + 12] = (2).to_bytes(4, "big")
    assert len(found({"/var/lib/rpm/rpmdb.sqlite": bytes(looped)})) <= 400


# --- rpm: ndb --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [3, 400])
def test_names_are_read_from_ndb(before: int) -> None:
    """With few entries before the name's, and with more than the first piece holds."""
    assert found({"/usr/lib/sysimage/rpm/Packages.db": ndb(before=before)}) == frozenset(NAMES)


def test_a_deleted_slot_of_ndb_is_no_package() -> None:
    data = ndb()
    assert found({"/var/lib/rpm/Packages.db": data[:36] + bytes(4) + data[40:]}) == frozenset(NAMES[1:])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_ndb_ends_in_names_or_none(data: st.DataObject) -> None:
    base = ndb()
    at = data.draw(st.integers(0, len(base) - 1))
    junk = data.draw(st.binary(min_size=1, max_size=64))
    damaged = base[:at] + junk + base[at + len(junk) :]
    assert stand_in(damaged, found({"/var/lib/rpm/Packages.db": damaged}))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_header_have_no_name_or_one(data: bytes) -> None:
    for raw in (data, b"\0\0\0\1" + data):
        name = name_in_header(raw)
        assert name is None or name in raw


# --- rpm: Berkeley DB ------------------------------------------------------------------------------------------------


def berkeley(folder: Path, kind: str, names: tuple[str, ...], order: str) -> bytes:
    """A real file by Berkeley DB's own loader, with keys and values as rpm's index of names has them."""
    loader = shutil.which("db5.3_load") or shutil.which("db_load")
    if loader is None:
        pytest.skip("db_load is missing (package db-util)")
    text = "".join(f"{name}\n\\00\\00\\00\\01\\00\\00\\00\\00\n" for name in names)
    path = folder / "Name"
    words = [loader, "-T", "-t", kind, "-c", f"db_lorder={order}", str(path)]
    subprocess.run(words, input=text, text=True, check=True)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["hash", "btree"])
@pytest.mark.parametrize("order", ["1234", "4321"])
@pytest.mark.parametrize("count", [3, 2000])
def test_names_are_read_from_the_index_of_berkeley_db(tmp_path: Path, kind: str, order: str, count: int) -> None:
    names = tuple(f"package-{number}" for number in range(count))
    assert found({"/var/lib/rpm/Name": berkeley(tmp_path, kind, names, order)}) == frozenset(names)


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=72, max_size=2000), st.sampled_from([0x061561, 0x053162]), st.sampled_from("<>"))
def test_a_damaged_berkeley_db_ends_in_names_or_none(junk: bytes, magic: int, order: str) -> None:
    meta = bytearray(512)
    struct.pack_into(f"{order}I", meta, 12, magic)
    struct.pack_into(f"{order}I", meta, 20, 512)
    struct.pack_into(f"{order}I", meta, 32, 0xFFFFFFFF)
    damaged = bytes(meta) + junk * 3
    assert stand_in(damaged, found({"/var/lib/rpm/Name": damaged}))


# --- rpm by the real tool --------------------------------------------------------------------------------------------


def test_a_database_of_the_real_rpm_is_read(tmp_path: Path) -> None:
    if shutil.which("rpmbuild") is None:
        pytest.skip("rpmbuild is missing (package rpm)")
    for name in NAMES:
        spec = tmp_path / f"{name}.spec"
        spec.write_text(
            f"Name: {name}\nVersion: 1.0\nRelease: 2\nSummary: x\nLicense: none\nBuildArch: noarch\n%description\nx\n%files\n"
        )
        subprocess.run(["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {tmp_path}", str(spec)], check=True)
    packages = sorted((tmp_path / "RPMS/noarch").iterdir())
    database = tmp_path / "db"
    words = ["rpm", "--dbpath", str(database), "--force-debian", "--nodeps", "--justdb", "-i", *map(str, packages)]
    subprocess.run(words, check=True)
    nodes: dict[str, Node] = {f"/var/lib/rpm/{path.name}": path.read_bytes() for path in database.iterdir() if path.is_file()}
    assert "/var/lib/rpm/rpmdb.sqlite" in nodes
    assert found(nodes) == frozenset(NAMES)


@pytest.mark.parametrize("node", [Folder(), Link("rpmdb.sqlite"), b"", b"SQLite format 3\0", b"x" * 5000])
@pytest.mark.parametrize("name", ["rpmdb.sqlite", "Packages.db", "Name"])
def test_what_is_no_database_is_none(name: str, node: Node) -> None:
    assert installed_names(InMemoryTree({f"/var/lib/rpm/{name}": node})) == frozenset()


def test_no_more_packages_are_remembered_than_a_system_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpm_database, "PACKAGES_AT_MOST", 100)
    assert len(found({"/var/lib/rpm/rpmdb.sqlite": _SQLITE})) == 100


# --- the others ------------------------------------------------------------------------------------------------------


def test_packages_of_alpine() -> None:
    text = "C:Q1abc=\nP:open-vm-tools\nV:12.3.5-r0\nA:x86_64\nF:usr\n\nC:Q1def=\nP:musl\nV:1.2.4-r2\n"
    assert found({"/lib/apk/db/installed": text}) == {"open-vm-tools", "musl"}
    assert found({"/usr/lib/apk/db/installed": text}) == {"open-vm-tools", "musl"}


def test_packages_of_arch() -> None:
    nodes: dict[str, Node] = {
        "/var/lib/pacman/local/ALPM_DB_VERSION": "9\n",
        "/var/lib/pacman/local/open-vm-tools-6:12.4.0-1/desc": "%NAME%\nopen-vm-tools\n",
        "/var/lib/pacman/local/virtualbox-guest-utils-nox-7.0.18-1/desc": "%NAME%\nvirtualbox-guest-utils-nox\n",
        "/var/lib/pacman/local/half-gone-1-1": Folder(),
    }
    assert found(nodes) == {"open-vm-tools", "virtualbox-guest-utils-nox"}


def test_packages_of_gentoo() -> None:
    nodes: dict[str, Node] = {
        "/var/db/pkg/app-emulation/open-vm-tools-12.4.0-r1/PF": "",
        "/var/db/pkg/app-emulation/qemu-guest-agent-8.2.0/PF": "",
        "/var/db/pkg/dev-libs/libfoo-2-1.0_rc3/PF": "",
    }
    assert found(nodes) == {"open-vm-tools", "qemu-guest-agent", "libfoo-2"}


def test_packages_of_void() -> None:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<plist version="1.0">\n<dict>\n\t<key>open-vm-tools</key>\n\t<dict>\n'
        "\t\t<key>pkgver</key>\n\t\t<string>open-vm-tools-12.3.5_1</string>\n\t</dict>\n</dict>\n</plist>\n"
    )
    assert found({"/var/db/xbps/pkgdb-0.38.plist": text}) == {"open-vm-tools"}


def test_packages_of_slackware() -> None:
    assert found({"/var/lib/pkgtools/packages/open-vm-tools-12.4.0-x86_64-1_SBo": ""}) == {"open-vm-tools"}


def test_of_debian_only_what_is_installed_counts() -> None:
    text = "Package: a\nStatus: install ok installed\n\nPackage: b\nStatus: deinstall ok config-files\n"
    assert found({"/var/lib/dpkg/status": text}) == {"a"}
