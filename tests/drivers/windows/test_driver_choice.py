"""Which drivers each Windows gets from media as they are, and from media with holes and traps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from drivers.plan import Finding
from drivers.windows.driver_choice import DriverChoice, Fit, choose_drivers
from drivers.windows.inf_targets import Architecture, Product, WindowsTarget
from drivers.windows.releases import RELEASES, release_of
from drivers.windows.signing import Trust
from drivers.windows.virtio_win import DriverCatalogue, read_catalogue
from p2v.core import jsonio
from tests.drivers.memory_tree import InMemoryTree
from tests.fixtures.virtio_win import (
    ATTESTED,
    DRIVERS,
    MAKER,
    OLD_MAKER,
    WHQL,
    X64_RELEASES,
    Driver,
    Medium,
    Signing,
    medium,
    signature,
)

BY_NAME = {driver.name: driver for driver in DRIVERS}
VIOSTOR, VIOSCSI, NETKVM = DRIVERS[:3]
X86, X64, ARM64 = Architecture.X86, Architecture.X64, Architecture.ARM64
SERVER_2022 = WindowsTarget(10, 0, 20348, X64, Product.SERVER)
SERVER_2019 = WindowsTarget(10, 0, 17763, X64, Product.SERVER)
WINDOWS_10 = WindowsTarget(10, 0, 19045, X64, Product.WORKSTATION)
WINDOWS_7 = WindowsTarget(6, 1, 7601, X64, Product.WORKSTATION)


def of(made: Medium) -> DriverCatalogue:
    return read_catalogue(InMemoryTree(made.files), "/medium", "folder")


def chosen(made: Medium, target: WindowsTarget, trust: Trust | None = None) -> DriverChoice:
    return choose_drivers(of(made), target, trust)


def block(made: Medium, target: WindowsTarget) -> tuple[str, Fit] | None:
    found = chosen(made, target).driver("block")
    return (found.inf, found.fit) if found else None


def viostor(*places: tuple[str, str | None]) -> Medium:
    """The storage driver in folders (release and processor), each with a decoration."""
    made = Medium()
    for folder, decoration in places:
        release, _, arch = folder.rpartition("/")
        made.add(VIOSTOR, release, arch, decoration)
    return made


def ids(findings: Sequence[Finding]) -> list[str]:
    return [finding.id for finding in findings]


@pytest.fixture(scope="module")
def whole() -> DriverCatalogue:
    return of(medium())


TARGETS = [
    (WindowsTarget(5, 1, 2600, X86, Product.WORKSTATION), "xp/x86", "Windows XP"),
    (WindowsTarget(5, 2, 3790, X86, Product.SERVER), "2k3/x86", "Windows Server 2003"),
    (WindowsTarget(5, 2, 3790, X64, Product.WORKSTATION), "2k3/amd64", "Windows Server 2003"),
    (WindowsTarget(6, 0, 6000, X86, Product.WORKSTATION), "2k8/x86", "Windows Vista"),
    (WindowsTarget(6, 0, 6002, X64, Product.SERVER), "2k8/amd64", "Windows Server 2008"),
    (WINDOWS_7, "w7/amd64", "Windows 7"),
    (WindowsTarget(6, 1, 7601, X64, Product.SERVER), "2k8R2/amd64", "Windows Server 2008 R2"),
    (WindowsTarget(6, 2, 9200, X86, Product.WORKSTATION), "w8/x86", "Windows 8"),
    (WindowsTarget(6, 2, 9200, X64, Product.SERVER), "2k12/amd64", "Windows Server 2012"),
    (WindowsTarget(6, 3, 9600, X64, Product.WORKSTATION), "w8.1/amd64", "Windows 8.1"),
    (WindowsTarget(6, 3, 9600, X64, Product.DOMAIN_CONTROLLER), "2k12R2/amd64", "Windows Server 2012 R2"),
    (WindowsTarget(10, 0, 10240, X86, Product.WORKSTATION), "w10/x86", "Windows 10"),
    (WINDOWS_10, "w10/amd64", "Windows 10"),
    (WindowsTarget(10, 0, 14393, X64, Product.SERVER), "2k16/amd64", "Windows Server 2016"),
    (SERVER_2019, "2k19/amd64", "Windows Server 2019"),
    (SERVER_2022, "2k22/amd64", "Windows Server 2022"),
    (WindowsTarget(10, 0, 22631, X64, Product.WORKSTATION), "w11/amd64", "Windows 11"),
    (WindowsTarget(10, 0, 26100, X64, Product.SERVER), "2k25/amd64", "Windows Server 2025"),
    (WindowsTarget(10, 0, 19045, ARM64, Product.WORKSTATION), "w10/arm64", "Windows 10"),
    (WindowsTarget(10, 0, 26100, ARM64, Product.WORKSTATION), "w11/arm64", "Windows 11"),
]  # fmt: skip


@pytest.mark.parametrize("target, folder, name", TARGETS)
def test_every_windows_gets_the_network_driver_of_its_release(
    target: WindowsTarget, folder: str, name: str, whole: DriverCatalogue
) -> None:
    choice = choose_drivers(whole, target)
    found = choice.driver("network")
    assert found is not None
    assert (found.inf, found.fit, found.service) == (f"/NetKVM/{folder}/netkvm.inf", Fit.EXACT, "netkvm")
    assert choice.release == name
    assert found.modern


@pytest.mark.parametrize("target, folder, name", TARGETS)
def test_every_windows_gets_a_driver_for_its_disks_from_its_release(
    target: WindowsTarget, folder: str, name: str, whole: DriverCatalogue
) -> None:
    found = choose_drivers(whole, target).driver("block")
    assert found is not None
    release, _, arch = folder.partition("/")
    # they stand twice on the CD
    assert found.inf in (f"/viostor/{folder}/viostor.inf", f"/{'i386' if arch == 'x86' else arch}/{release}/viostor.inf")
    assert found.release == release


def test_a_windows_of_which_the_product_is_not_known_gets_its_kernels_drivers(whole: DriverCatalogue) -> None:
    found = choose_drivers(whole, replace(WINDOWS_7, product=None)).driver("network")
    assert found is not None
    assert found.inf == "/NetKVM/w7/amd64/netkvm.inf"


def test_devices_without_a_driver_for_a_windows_are_told_with_the_reason(whole: DriverCatalogue) -> None:
    choice = choose_drivers(whole, WINDOWS_7)
    assert {each.device: each.why for each in choice.missing}["gpu"] == "the oldest there is for Windows 8, which is newer"


def test_windows_nt_4_gets_nothing(whole: DriverCatalogue) -> None:
    choice = choose_drivers(whole, WindowsTarget(4, 0, 1381, X86))
    assert not choice.drivers
    assert ids(choice.findings) == ["driver.missing-block", "driver.missing-network"]
    assert choice.release == "Windows 4.0.1381"


# --- the nearest older one ---------------------------------------------------------------------------------


def test_without_its_own_release_the_nearest_older_one_is_taken_and_both_are_named() -> None:
    choice = chosen(medium(DRIVERS[:3], releases=("2k16", "2k19", "2k25")), SERVER_2022)
    found = choice.driver("network")
    assert found is not None
    assert (found.inf, found.fit) == ("/NetKVM/2k19/amd64/netkvm.inf", Fit.OLDER)
    (finding,) = choice.findings
    assert finding.id == "driver.older"
    for name in ("Windows Server 2022", "Windows Server 2019", "virtio disks", "virtio network cards"):
        assert name in finding.message


def test_a_newer_one_is_never_taken_for_its_folder_alone() -> None:
    choice = chosen(viostor(("2k25/amd64", None)), SERVER_2022)
    assert choice.driver("block") is None
    assert ids(choice.findings) == ["driver.missing-block", "driver.missing-network"]
    assert "Windows Server 2025, which is newer" in choice.findings[0].message


def test_a_newer_one_is_taken_where_its_inf_file_says_that_it_fits() -> None:
    assert block(viostor(("2k25/amd64", "NTamd64.10.0...17763")), SERVER_2022) == ("/viostor/2k25/amd64/viostor.inf", Fit.SAID)
    assert block(viostor(("2k25/amd64", "NTamd64.10.0...20349")), SERVER_2022) is None


def test_drivers_of_windows_5_are_not_for_windows_6_and_later() -> None:
    assert block(viostor(("2k3/amd64", None)), WindowsTarget(6, 0, 6002, X64)) is None


@pytest.mark.parametrize(
    "places, target, folder",
    [
        # what INF files say goes first, then the folder
        ([("2k22/amd64", "NTamd64.10.0"), ("w10/amd64", "NTamd64.10.0")], SERVER_2022, "2k22"),
        ([("2k19/amd64", None), ("w11/amd64", "NTamd64.10.0...20348")], SERVER_2022, "w11"),
        ([("2k22/amd64", None), ("w8/amd64", "NTamd64.6.2")], SERVER_2022, "2k22"),
        ([("w10/amd64", "NTamd64.10.0...14393"), ("2k19/amd64", "NTamd64.10.0...17763")], SERVER_2019, "2k19"),
        ([("2k22/amd64", None), ("2k19/amd64", "NTamd64.10.0...20348")], SERVER_2022, "2k19"),
        ([("w11/amd64", "NTamd64.10.0"), ("2k19/amd64", "NTamd64.10.0")], SERVER_2022, "2k19"),
        # the client's and the server's folder of one kernel
        ([("w7/amd64", None), ("2k8R2/amd64", None)], WINDOWS_7, "w7"),
        ([("w7/amd64", None), ("2k8/amd64", None)], replace(WINDOWS_7, product=Product.SERVER), "w7"),
        ([("w10/amd64", None), ("2k19/amd64", None)], WINDOWS_10, "w10"),
        # another processor's INF file in the right folder, and the right one in another's
        ([("2k22/amd64", "NTx86"), ("2k19/amd64", None)], SERVER_2022, "2k19"),
        ([("2k22/amd64", "NT.10.0"), ("2k19/amd64", None)], SERVER_2022, "2k19"),
    ],
)
def test_of_several_that_fit_the_best_is_taken(
    places: list[tuple[str, str | None]], target: WindowsTarget, folder: str
) -> None:
    found = block(viostor(*places), target)
    assert found is not None
    assert found[0] == f"/viostor/{folder}/amd64/viostor.inf"


def test_the_newer_version_of_two_alike_is_taken() -> None:
    made = viostor(("w10/amd64", None))
    newer = made.files["/viostor/w10/amd64/viostor.inf"].decode("utf-16").replace("100.93", "100.101")
    made.files |= {path.replace("/viostor/", "/a-copy/"): data for path, data in made.files.items()}
    made.files["/viostor/w10/amd64/viostor.inf"] = newer.encode("utf-16")
    assert block(made, WINDOWS_10) == ("/viostor/w10/amd64/viostor.inf", Fit.EXACT)


def test_an_inf_file_that_says_nothing_in_a_folder_that_says_nothing_is_taken_last_and_said() -> None:
    made = Medium()
    made.add_at("/mine", VIOSTOR, "w10", "amd64")
    choice = chosen(made, WINDOWS_10)
    found = choice.driver("block")
    assert found is not None
    assert (found.inf, found.fit) == ("/mine/viostor.inf", Fit.UNSAID)
    assert "driver.unsaid" in ids(choice.findings)
    made.add(VIOSTOR, "w8", "amd64")
    assert block(made, WINDOWS_10) == ("/viostor/w8/amd64/viostor.inf", Fit.OLDER)


def test_an_inf_file_for_an_older_version_is_older_though_it_fits() -> None:
    made = viostor(("w7/amd64", "NTamd64.6.1"))
    assert block(made, WINDOWS_10) == ("/viostor/w7/amd64/viostor.inf", Fit.OLDER)
    assert "driver.older" in ids(chosen(made, WINDOWS_10).findings)


# --- traps -------------------------------------------------------------------------------------------------


def test_a_package_without_its_program_is_not_taken() -> None:
    made = viostor(("2k22/amd64", None), ("2k19/amd64", None))
    del made.files["/viostor/2k22/amd64/viostor.sys"]
    assert block(made, SERVER_2022) == ("/viostor/2k19/amd64/viostor.inf", Fit.OLDER)
    for path in list(made.files):
        if "2k19" in path:
            del made.files[path]
    choice = chosen(made, SERVER_2022)
    assert "/viostor/2k22/amd64/viostor.inf lacks its viostor.sys" in choice.missing[0].why


def test_a_package_without_its_catalogue_is_taken_only_when_there_is_no_other() -> None:
    made = viostor(("2k22/amd64", None), ("2k19/amd64", None))
    del made.files["/viostor/2k22/amd64/viostor.cat"]
    assert block(made, SERVER_2022) == ("/viostor/2k19/amd64/viostor.inf", Fit.OLDER)
    del made.files["/viostor/2k19/amd64/viostor.inf"]
    choice = chosen(made, SERVER_2022)
    assert block(made, SERVER_2022) == ("/viostor/2k22/amd64/viostor.inf", Fit.EXACT)
    assert "driver.unsigned" in ids(choice.findings)


def test_a_program_for_another_processor_is_not_taken() -> None:
    made = viostor(("2k22/amd64", None))
    made.files["/viostor/2k22/amd64/viostor.sys"] = made.files["/viostor/2k22/amd64/viostor.sys"].replace(b"\x64\x86", b"\x4c\x01")
    choice = chosen(made, SERVER_2022)
    assert choice.driver("block") is None
    assert "program for x86" in choice.missing[0].why


def test_of_two_packages_that_claim_a_device_the_one_that_drives_it_is_taken_and_the_other_told() -> None:
    made = Medium()
    # neither the order of names nor of folders decides
    made.add(BY_NAME["fwcfg"], "2k22", "amd64")
    made.add(BY_NAME["qemufwcfg"], "2k22", "amd64")
    made.add(replace(BY_NAME["qemufwcfg"], name="afwcfg", folder="afwcfg"), "2k22", "amd64")
    found = chosen(made, SERVER_2022).driver("firmware")
    assert found is not None
    assert (found.service, found.instead_of) == ("FwCfg", ("afwcfg", "qemufwcfg"))


def test_an_older_package_that_only_names_a_device_is_not_taken() -> None:
    made = viostor(("2k22/amd64", None))
    made.add(NETKVM, "2k22", "amd64")
    folder = made.add(BY_NAME["smbus"], "2k8", "amd64")
    choice = chosen(made, SERVER_2022)
    assert (choice.driver("smbus"), choice.findings) == (None, ())
    assert "only gives it a name, and is for Windows Server 2008" in choice.missing[0].why
    assert chosen(made, WindowsTarget(6, 0, 6002, X64, Product.SERVER)).driver("smbus") is not None
    # what it needs of Windows' own INF files may drive it
    path = f"{folder}/smbus.inf"
    made.files[path] = made.files[path].replace(b"[smbus_inst]", b"[smbus_inst]\r\nInclude=machine.inf\r\nNeeds=NO_DRV")
    smbus = chosen(made, SERVER_2022).driver("smbus")
    assert smbus is not None
    assert smbus.fit is Fit.OLDER


def test_the_two_ways_to_report_crashes_have_a_driver_each() -> None:
    made = Medium()
    for name, id_ in (("pvpanic", r"ACPI\QEMU0001"), ("pvpanic-pci", r"PCI\VEN_1B36&DEV_0011")):
        made.add(replace(BY_NAME["pvpanic"], name=name, ids=(id_,)), "2k22", "amd64")
    choice = chosen(made, SERVER_2022)
    assert [(each.device, each.inf) for each in choice.drivers] == [
        ("panic", "/pvpanic/2k22/amd64/pvpanic.inf"),
        ("panic-pci", "/pvpanic/2k22/amd64/pvpanic-pci.inf"),
    ]


def test_ids_are_this_devices_only_where_they_are_whole() -> None:
    made = Medium()
    made.add(replace(VIOSTOR, ids=(r"PCI\VEN_1AF4&DEV_10011", r"PCI\VEN_1AF4&DEV_1001X&REV_00")), "2k22", "amd64")
    assert block(made, SERVER_2022) is None


def test_a_driver_for_transitional_devices_alone_is_told_from_one_for_modern_ones() -> None:
    made = Medium()
    made.add(replace(VIOSTOR, ids=VIOSTOR.ids[:1]), "2k22", "amd64")
    found = chosen(made, SERVER_2022).driver("block")
    assert found is not None
    assert not found.modern


def test_an_excluded_windows_is_excluded() -> None:
    made = Medium()
    folder = made.add(VIOSTOR, "2k22", "amd64", "NTamd64")
    text = made.files[f"{folder}/viostor.inf"].decode("utf-16")
    made.files[f"{folder}/viostor.inf"] = text.replace("devices,NTamd64", "devices,NTamd64,NTamd64.10.0...20000").encode("utf-16")
    assert block(made, SERVER_2019) is None  # its folder is newer
    assert block(made, SERVER_2022) is None  # its section is empty


def test_a_choice_is_the_same_every_time_and_goes_through_json(whole: DriverCatalogue) -> None:
    first = choose_drivers(whole, SERVER_2022)
    backwards = replace(whole, packages=tuple(whole.packages))
    assert choose_drivers(backwards, SERVER_2022) == first
    assert jsonio.decode(jsonio.converter(), jsonio.encode(jsonio.converter(), first), DriverChoice) == first


# --- signatures --------------------------------------------------------------------------------------------


def signed(signing: Signing, release: str, driver: Driver = VIOSTOR, arch: str = "amd64") -> Medium:
    made = Medium()
    for each in (driver, NETKVM):
        made.add(each, release, arch, signing=signing)
    return made


def test_sha_2_alone_on_windows_7_is_said_once_for_all() -> None:
    findings = chosen(signed(WHQL, "w7"), WINDOWS_7).findings
    assert ids(findings) == ["driver.sha2"]
    for word in ("KB3033929", "KB4474419", "/viostor/w7/amd64/viostor.inf", "viostor.sys", "/NetKVM/w7/amd64/netkvm.inf"):
        assert word in findings[0].message
    assert "not known" in findings[0].hint


def test_sha_2_is_no_matter_with_the_update_nor_on_windows_8_nor_on_x86() -> None:
    assert not chosen(signed(WHQL, "w7"), WINDOWS_7, Trust(sha2=True)).findings
    assert not chosen(signed(WHQL, "w8"), WindowsTarget(6, 2, 9200, X64)).findings
    assert not chosen(signed(WHQL, "w7", arch="x86"), replace(WINDOWS_7, arch=X86)).findings
    assert not chosen(signed(replace(WHQL, digests=("1.3.14.3.2.26",)), "w7"), WINDOWS_7).findings


def test_sha_2_on_windows_7_that_is_known_to_lack_the_update() -> None:
    (finding,) = chosen(signed(WHQL, "w7"), WINDOWS_7, Trust(sha2=False)).findings
    assert "not known" not in finding.hint


@pytest.mark.parametrize(
    "signing, target, trust, expected",
    [
        (MAKER, WINDOWS_10, Trust(), ["driver.cross-signed", "driver.publisher"]),
        (MAKER, WINDOWS_10, Trust(secure_boot=True), ["driver.cross-signed", "driver.publisher"]),
        (MAKER, WINDOWS_10, Trust(secure_boot=False), ["driver.publisher"]),
        (MAKER, replace(WINDOWS_10, build=10586), Trust(secure_boot=True), ["driver.publisher"]),
        (OLD_MAKER, WINDOWS_10, Trust(secure_boot=True), ["driver.publisher"]),
        (ATTESTED, WINDOWS_10, Trust(secure_boot=True), []),
        (ATTESTED, SERVER_2022, Trust(secure_boot=True), ["driver.attested"]),
        (ATTESTED, SERVER_2022, Trust(secure_boot=False), []),
        (WHQL, SERVER_2022, Trust(secure_boot=True), []),
    ],
)
def test_signatures_against_secure_boot(signing: Signing, target: WindowsTarget, trust: Trust, expected: list[str]) -> None:
    release = release_of(target)
    assert release is not None
    assert ids(chosen(signed(signing, release.id), target, trust).findings) == expected


def test_attestation_is_not_for_windows_before_10() -> None:
    findings = chosen(signed(ATTESTED, "w8.1"), WindowsTarget(6, 3, 9600, X64)).findings
    assert ids(findings) == ["driver.attested"]


def test_a_boot_driver_needs_a_signature_of_its_own() -> None:
    made = signed(WHQL, "2k22")
    path = "/viostor/2k22/amd64/viostor.sys"
    made.files[path] = made.files[path][:300]
    findings = chosen(made, SERVER_2022).findings
    assert ids(findings) == ["driver.boot-unsigned"]
    assert "viostor.sys" in findings[0].message


def test_a_catalogue_that_cannot_be_read_counts_as_unsigned() -> None:
    made = signed(WHQL, "2k22")
    made.files["/NetKVM/2k22/amd64/netkvm.cat"] = signature(WHQL)[:-10]
    assert ids(chosen(made, SERVER_2022).findings) == ["driver.unsigned"]


BY_MICROSOFT_IN_SHA1 = replace(WHQL, digests=("1.3.14.3.2.26",))


@pytest.mark.parametrize(
    "signing, expected", [(BY_MICROSOFT_IN_SHA1, []), (WHQL, ["driver.asks"]), (OLD_MAKER, ["driver.asks"])]
)
def test_nothing_is_enforced_before_vista_but_questions_are_asked(signing: Signing, expected: list[str]) -> None:
    found = chosen(signed(signing, "2k3"), WindowsTarget(5, 2, 3790, X64, Product.SERVER)).findings
    assert ids(found) == expected
    assert all("/viostor/2k3/amd64/viostor.inf, /NetKVM/2k3/amd64/netkvm.inf" in finding.message for finding in found)


def test_who_signed_is_named_where_windows_asks_about_them() -> None:
    (finding,) = chosen(signed(MAKER, "w7", arch="x86"), replace(WINDOWS_7, arch=X86)).findings
    assert finding.id == "driver.publisher"
    assert "Example Drivers, Inc." in finding.message


def test_x86_asks_where_others_refuse() -> None:
    made = signed(WHQL, "w7", arch="x86")
    made.files["/NetKVM/w7/x86/netkvm.cat"] = b""
    (finding,) = chosen(made, replace(WINDOWS_7, arch=X86)).findings
    assert finding.id == "driver.asks"
    assert finding.message.startswith("/NetKVM/w7/x86/netkvm.inf:")


def test_every_release_of_the_fixture_is_one_that_is_known() -> None:
    assert set(X64_RELEASES) <= {release.id for release in RELEASES}


def test_a_package_that_names_no_class_of_devices_is_not_taken() -> None:
    made = viostor(("2k22/amd64", None))
    path = "/viostor/2k22/amd64/viostor.inf"
    text = made.files[path].decode("utf-16").replace("ClassGUID={4d36e97b", "ClassGUID={none")
    made.files[path] = text.encode("utf-16")
    choice = chosen(made, SERVER_2022)
    assert choice.driver("block") is None
    assert f"{path} names no class of devices" in choice.missing[0].why
