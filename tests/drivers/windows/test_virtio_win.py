"""Catalogues of driver media in the vendor's layouts, and of folders that are none."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.windows.inf_targets import Architecture
from drivers.windows.media import HostFolder, find_media, locate, read_media
from drivers.windows.signature import SignatureKind
from drivers.windows.virtio_win import DriverCatalogue, DriverPackage, read_catalogue
from p2v.core import jsonio
from p2v.core.errors import BadImage, NoSource, ReaderCrashed
from tests.drivers.memory_tree import InMemoryTree
from tests.fixtures.virtio_win import DRIVERS, Driver, Medium, as_package, medium, write_folder, write_iso

VIOSTOR, VIOSCSI, NETKVM = DRIVERS[:3]
FEW = (VIOSTOR, NETKVM)


def of(files: dict[str, bytes]) -> DriverCatalogue:
    return read_catalogue(InMemoryTree(files), "/medium", "folder")


def package(found: DriverCatalogue, inf: str) -> DriverPackage:
    return next(each for each in found.packages if each.inf == inf)


@pytest.fixture(scope="module")
def few() -> Medium:
    return medium(FEW, releases=("w7", "2k22"))


@pytest.fixture(scope="module")
def folder(few: Medium, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(few.files, tmp_path_factory.mktemp("cd"))


def test_a_cd_and_the_folder_that_it_was_made_of_have_the_same_catalogue(folder: Path, tmp_path: Path) -> None:
    plain, image = read_media(folder), read_media(write_iso(folder, tmp_path / "virtio-win.iso"))
    assert (plain.kind, image.kind, image.label) == ("folder", "iso", "virtio-win-0.1.240")
    assert plain.packages == image.packages
    assert not plain.problems


def test_what_stands_by_driver_and_by_system_is_one_package(few: Medium, tmp_path: Path) -> None:
    found = read_media(write_folder(as_package(few.files), tmp_path))
    assert [(each.inf, each.release, each.arch) for each in found.packages if each.name == "netkvm"] == [
        ("/drivers/by-driver/NetKVM/2k22/amd64/netkvm.inf", "2k22", Architecture.X64),
        ("/drivers/by-driver/NetKVM/w7/amd64/netkvm.inf", "w7", Architecture.X64),
        ("/drivers/by-driver/NetKVM/w7/x86/netkvm.inf", "w7", Architecture.X86),
    ]


def test_a_package_tells_what_its_files_say(few: Medium) -> None:
    found = package(of(few.files), "/viostor/2k22/amd64/viostor.inf")
    assert (found.name, found.release, found.arch) == ("viostor", "2k22", Architecture.X64)
    assert found.sha256 == hashlib.sha256(few.files[found.inf]).hexdigest()
    assert [file.path for file in found.files] == ["/viostor/2k22/amd64/viostor.sys"]
    install = found.installed("viostor_inst", Architecture.X64)
    assert install is not None
    assert install.service is not None
    assert (install.service.start, install.service.group) == (0, "SCSI miniport")
    assert [(each.key, each.name, each.data) for each in install.service.registry] == [
        (r"Parameters\PnpInterface", "5", "01000000"),
        ("Parameters", "BusType", "01000000"),
    ]
    catalog, program = found.catalog(Architecture.X64), found.program("VIOSTOR.SYS")
    assert catalog is not None
    assert catalog.signature is not None
    assert catalog.signature.kind is SignatureKind.WHQL
    assert program is not None
    assert program.machine == "amd64"
    assert program.signature is not None


def test_a_catalogue_goes_through_json_and_back(few: Medium) -> None:
    found = of(few.files)
    assert jsonio.decode(jsonio.converter(), jsonio.encode(jsonio.converter(), found), DriverCatalogue) == found


def test_files_that_are_missing_are_told(few: Medium) -> None:
    files = {path: data for path, data in few.files.items() if not path.startswith("/NetKVM/w7/x86/netkvm.s")}
    del files["/NetKVM/w7/x86/netkvm.cat"]
    found = package(of(files), "/NetKVM/w7/x86/netkvm.inf")
    assert [(file.source, file.path) for file in found.files] == [("netkvm.sys", None)]
    catalog = found.catalog(Architecture.X86)
    assert catalog is not None
    assert (catalog.file.path, catalog.signature) == (None, None)


def test_names_are_found_without_case(few: Medium) -> None:
    files = {path.replace("netkvm", "NETKVM"): data for path, data in few.files.items()}
    found = package(of(files), "/NetKVM/2k22/amd64/NETKVM.inf")
    assert [file.path for file in found.files] == ["/NetKVM/2k22/amd64/NETKVM.sys"]


def test_folders_with_drivers_that_fight_are_left_out(few: Medium) -> None:
    files = {path.replace("/NetKVM/", "/sriov/"): data for path, data in few.files.items()}
    assert {each.name for each in of(files).packages} == {"viostor"}


def test_an_inf_file_that_is_none_is_a_problem_and_the_others_are_read(few: Medium) -> None:
    found = of({**few.files, "/autorun.inf": b"[autorun]\nopen=setup.exe\n", "/x/w7/bad.inf": b"\0"})
    assert [(each.path, "signature" in each.text or "sections" in each.text) for each in found.problems] == [
        ("/autorun.inf", True),
        ("/x/w7/bad.inf", True),
    ]
    assert found.packages == of(few.files).packages


def test_names_of_inf_files_that_would_be_more_than_names_are_problems(few: Medium) -> None:
    data = few.files["/viostor/2k22/amd64/viostor.inf"]
    found = of({"/a\\b.inf": data, "/c\n.inf": data, "/d\".inf": data})
    assert [problem.path for problem in found.problems] == ['/a\\b.inf', "/c\n.inf", '/d".inf']
    assert not found.packages


@pytest.mark.parametrize("answer", [[], {"source": "/"}, {"packages": 1}, None, "text"])
def test_a_reader_that_was_taken_over_is_not_believed(
    answer: object, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = read_media(folder)
    monkeypatch.setattr("drivers.windows.media.confined_over_tree", lambda *_, **__: answer)
    with pytest.raises(ReaderCrashed):
        read_media(folder)
    with pytest.raises(ReaderCrashed):
        locate(known, ["/viostor/2k22/amd64/viostor.sys"])


@pytest.mark.parametrize(
    "path, release, arch",
    [
        ("/WIN7/AMD64/viostor.inf", "w7", Architecture.X64),
        ("/drivers/amd64/Win2022/viostor.inf", "2k22", Architecture.X64),
        ("/XP/x86/viostor.inf", "xp", Architecture.X86),
        ("/viostor/w8.1/x86/viostor.inf", "w8.1", Architecture.X86),
        ("/drivers/by-os/arm64/w11/viostor.inf", "w11", Architecture.ARM64),
        ("/2k3/backup/2k19/viostor.inf", "2k19", None),
        ("/viostor.inf", None, None),
    ],
)
def test_what_folders_are_named_for(path: str, release: str | None, arch: Architecture | None) -> None:
    made = Medium()
    made.add_at(os.path.dirname(path).rstrip("/"), VIOSTOR, "w7", "amd64")
    (found,) = of(made.files).packages
    assert (found.inf, found.release, found.arch) == (path, release, arch)


def test_where_files_stand_and_their_digests(folder: Path, few: Medium, tmp_path: Path) -> None:
    path = "/viostor/2k22/amd64/viostor.sys"
    image = write_iso(folder, tmp_path / "virtio-win.iso")
    (in_image,) = locate(read_media(image), [path])
    assert (in_image.source, in_image.member) == (str(image), path)
    assert in_image.offset is not None
    assert image.read_bytes()[in_image.offset : in_image.offset + in_image.size] == few.files[path]
    (plain,) = locate(read_media(folder), [path])
    assert (plain.source, plain.offset, plain.sha256) == (str(folder) + path, None, in_image.sha256)
    assert plain.sha256 == hashlib.sha256(few.files[path]).hexdigest()


def test_a_file_that_is_gone_meanwhile_is_an_error(few: Medium, tmp_path: Path) -> None:
    found = read_media(write_folder(few.files, tmp_path))
    (tmp_path / "viostor/2k22/amd64/viostor.sys").unlink()
    with pytest.raises(NoSource, match=r"viostor\.sys"):
        locate(found, ["/viostor/2k22/amd64/viostor.sys"])


def test_a_folder_with_an_image_and_no_drivers_means_the_image(folder: Path, tmp_path: Path) -> None:
    write_iso(folder, tmp_path / "virtio-win-0.1.229.iso", label="old")
    write_iso(folder, tmp_path / "virtio-win-0.1.240.iso", label="new")
    assert read_media(tmp_path).label == "new"


@pytest.mark.parametrize("what", ["nothing", "empty", "fifo", "autorun"])
def test_what_holds_no_drivers_is_said(what: str, tmp_path: Path) -> None:
    path = tmp_path / what
    if what == "fifo":
        os.mkfifo(path)
    elif what != "nothing":
        path.mkdir()
    if what == "autorun":
        (path / "autorun.inf").write_text("[autorun]\n")
    with pytest.raises(NoSource) as caught:
        read_media(path)
    assert str(path) in caught.value.sentence()
    assert "virtio-win.iso" in caught.value.hint()


def test_a_file_that_is_no_cd_is_a_bad_image(tmp_path: Path) -> None:
    path = tmp_path / "virtio-win.iso"
    path.write_bytes(b"<html>not found</html>" * 5000)
    with pytest.raises(BadImage, match="no image of a CD"):
        read_media(path)


def test_links_are_followed_within_the_folder_and_not_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    inside = tmp_path / "medium"
    (inside / "real").mkdir(parents=True)
    (inside / "real" / "file").write_text("driver")
    (inside / "link").symlink_to("real")
    (inside / "out").symlink_to("../secret")
    (inside / "loop").symlink_to("loop")
    tree = HostFolder(inside)
    assert tree.read("/link/file") == b"driver"
    for path in ("/out", "/../secret", "/loop", "/real", "/gone", "/real/\0"):
        with pytest.raises(FileNotFoundError):
            tree.read(path)
    assert not tree.exists("/out")


def test_a_folder_that_holds_itself_ends(tmp_path: Path, few: Medium) -> None:
    write_folder(few.files, tmp_path / "medium")
    (tmp_path / "medium" / "viostor" / "again").symlink_to("..")
    assert {each.name for each in read_media(tmp_path / "medium").packages} == {"viostor", "netkvm"}


def test_the_usual_places_are_looked_at_in_order(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("gone", "empty", "full", "later")]
    for place in places[1:]:
        place.mkdir()
    for place in places[2:]:
        (place / "x").write_text("")
    assert find_media([str(place) for place in places]) == places[2]
    assert find_media([str(place) for place in places[:2]]) is None


def test_a_driver_without_a_service_has_a_package_without_files() -> None:
    null = replace(VIOSTOR, name="null", service=None)
    made = Medium()
    made.add(null, "w7", "x86")
    (found,) = of(made.files).packages
    install = found.installed("null_inst", Architecture.X86)
    assert install is not None
    assert (install.service, found.files) == (None, ())


def test_every_driver_of_the_fixture_is_read() -> None:
    found = of(medium().files)
    assert not found.problems
    assert {each.name for each in found.packages} == {driver.name for driver in DRIVERS}
    assert isinstance(DRIVERS[0], Driver)
