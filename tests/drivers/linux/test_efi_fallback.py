"""UEFI guests with an empty NVRAM: what lies at the removable path, and what is copied there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from drivers.changes import CopyFile, WriteFile
from drivers.facts import GuestFacts
from drivers.linux import efi_fallback, efi_programs
from drivers.linux.efi_programs import read_efi_programs
from drivers.planning import PlanOptions, plan_guest
from tests.drivers.linux import images
from tests.drivers.linux.guest import applied, facts_of, files
from tests.drivers.memory_tree import InMemoryTree, Link, Node

ESP = "/boot/efi/EFI"
SHIM = images.pe({".text": b"shim"})
GRUB = images.pe({".text": b"grub"})
MOK = images.pe({".text": b"mok"})
BOOTED = images.pe({".text": b"boot", ".sdmagic": b"#### LoaderInfo: systemd-boot 254 ####\0"})
DEBIAN: dict[str, Node] = {
    "debian/shimx64.efi": SHIM,
    "debian/grubx64.efi": GRUB,
    "debian/mmx64.efi": MOK,
    "debian/fbx64.efi": b"MZ fb",
}


def facts(
    programs: Mapping[str, Node], id_: str = "debian", arch: str = "x86_64", family: str = "debian"
) -> GuestFacts:
    """A UEFI guest with these files below EFI."""
    nodes = {**files(), **{f"{ESP}/{path}": node for path, node in programs.items()}}
    found = facts_of(nodes)
    assert found.os is not None
    system = dataclasses.replace(found.os, id=id_, arch=arch, family=family)
    return dataclasses.replace(found, os=system, firmware="uefi")


def copies(found: GuestFacts) -> dict[str, str]:
    """What is copied: target -> source, below EFI."""
    changes = efi_fallback.contribute(found).changes
    assert all(isinstance(change, CopyFile) for change in changes)
    pairs = [(c.target, c.source) for c in changes if isinstance(c, CopyFile)]
    return {target.removeprefix(f"{ESP}/"): source.removeprefix(f"{ESP}/") for target, source in pairs}


def warned(found: GuestFacts) -> bool:
    """Whether the guest may not start."""
    return [finding.id for finding in efi_fallback.contribute(found).warnings] == ["linux.firmware.uefi"]


def test_shim_goes_to_the_removable_path_with_grub_and_mokmanager_beside_it() -> None:
    assert copies(facts(DEBIAN)) == {
        "BOOT/BOOTX64.EFI": "debian/shimx64.efi",
        "BOOT/grubx64.efi": "debian/grubx64.efi",
        "BOOT/mmx64.efi": "debian/mmx64.efi",
    }


def test_once_copied_there_is_nothing_left_to_do_and_nobodys_loader_is_gone() -> None:
    nodes = {**files(), **{f"{ESP}/{path}": node for path, node in DEBIAN.items()}}
    first = plan_guest(facts(DEBIAN), PlanOptions())
    after = applied(nodes, first.changes)
    assert {path: after[path] for path in nodes if path.startswith(ESP)} == {f"{ESP}/{k}": v for k, v in DEBIAN.items()}
    again = dataclasses.replace(facts_of(after), firmware="uefi")
    assert not any(isinstance(change, CopyFile | WriteFile) for change in efi_fallback.contribute(again).changes)
    assert not warned(again)


@pytest.mark.parametrize(
    ("arch", "name", "loader"),
    [("i386", "BOOTIA32.EFI", "grubia32.efi"), ("aarch64", "BOOTAA64.EFI", "grubaa64.efi")],
)
def test_the_name_is_that_of_the_architecture_and_so_is_the_loader(arch: str, name: str, loader: str) -> None:
    programs = {f"debian/{loader}": GRUB, "debian/shimx64.efi": SHIM, "debian/grubx64.efi": GRUB + b"x"}
    assert copies(facts(programs, arch=arch)) == {f"BOOT/{name}": f"debian/{loader}"}


def test_grub_alone_and_systemd_boot_alone_are_copied_alone() -> None:
    assert copies(facts({"arch/grubx64.efi": GRUB}, "arch")) == {"BOOT/BOOTX64.EFI": "arch/grubx64.efi"}
    found = copies(facts({"systemd/systemd-bootx64.efi": BOOTED}, "arch"))
    assert found == {"BOOT/BOOTX64.EFI": "systemd/systemd-bootx64.efi"}


def test_shim_without_a_grub_to_load_is_no_loader() -> None:
    assert warned(facts({"debian/shimx64.efi": SHIM}))


@pytest.mark.parametrize("name", ["BOOT/BOOTX64.EFI", "boot/bootx64.efi", "Boot/BootX64.efi"])
def test_what_is_at_the_removable_path_stays_however_its_name_is_written(name: str) -> None:
    found = facts({**DEBIAN, name: b"MZ somebody's"})
    assert (copies(found), warned(found)) == ({}, False)


def test_a_folder_that_is_there_is_used_as_it_is_written() -> None:
    assert "Boot/BOOTX64.EFI" in copies(facts({**DEBIAN, "Boot/other.efi": b"MZ"}))


def test_shim_at_the_removable_path_without_anything_to_load_gets_grub() -> None:
    found = facts({**DEBIAN, "BOOT/BOOTX64.EFI": SHIM})
    assert copies(found) == {"BOOT/grubx64.efi": "debian/grubx64.efi", "BOOT/mmx64.efi": "debian/mmx64.efi"}
    assert copies(facts({**DEBIAN, "BOOT/BOOTX64.EFI": SHIM, "BOOT/fbx64.efi": b"MZ"})) == {}


def test_of_several_systems_loaders_the_guests_own_is_taken() -> None:
    programs = {
        **DEBIAN,
        "fedora/shimx64.efi": SHIM + b"f",
        "fedora/grubx64.efi": GRUB + b"f",
        "Microsoft/bootmgfw.efi": b"MZ",
    }
    assert copies(facts(programs))["BOOT/BOOTX64.EFI"] == "debian/shimx64.efi"
    assert copies(facts(programs, "fedora"))["BOOT/BOOTX64.EFI"] == "fedora/shimx64.efi"
    assert warned(facts(programs, "arch"))
    rhel: dict[str, Node] = {
        "redhat/shimx64.efi": SHIM,
        "redhat/shimx64-redhat.efi": SHIM + b"r",
        "redhat/grubx64.efi": GRUB,
        **DEBIAN,
    }
    assert copies(facts(rhel, "rhel"))["BOOT/BOOTX64.EFI"] == "redhat/shimx64.efi"


def test_suses_loader_finds_its_configuration_beside_itself() -> None:
    stub = 'search --fs-uuid --set=root abc\nset prefix=(${root})/boot/grub2\nsource "${prefix}/grub.cfg"\n'
    programs: dict[str, Node] = {
        "sles/shim.efi": SHIM,
        "sles/grub.efi": GRUB,
        "sles/MokManager.efi": MOK,
        "sles/grub.cfg": stub,
    }
    found = copies(facts(programs, "sles", family="suse"))
    assert found["BOOT/BOOTX64.EFI"] == "sles/shim.efi"
    assert {"BOOT/grub.efi", "BOOT/MokManager.efi", "BOOT/grub.cfg"} < set(found)


@pytest.mark.parametrize(
    "programs", [{}, {"Microsoft/bootmgfw.efi": b"MZ"}, {"debian/shimx64.efi": Link("/etc/fstab")}]
)
def test_without_a_loader_the_guest_is_warned_of(programs: dict[str, Node]) -> None:
    assert warned(facts(programs))


def test_bios_guests_get_nothing() -> None:
    assert efi_fallback.contribute(dataclasses.replace(facts(DEBIAN), firmware="bios")).changes == ()


def test_an_unknown_program_is_known_by_what_it_says_or_by_its_double() -> None:
    sbat = images.pe({".sbat": b"sbat,1,SBAT Version,sbat,1,url\nshim,4,UEFI shim,shim,1,url\n"})
    nodes: dict[str, Node] = {
        f"{ESP}/BOOT/BOOTX64.EFI": BOOTED, f"{ESP}/BOOT/BOOTAA64.EFI": sbat, f"{ESP}/BOOT/BOOTIA32.EFI": GRUB,
        f"{ESP}/x/grubx64.efi": GRUB,
    }  # fmt: skip
    kinds = {program.path.rpartition("/")[2]: program.kind for program in read_efi_programs(InMemoryTree(nodes))}
    assert (kinds["BOOTX64.EFI"], kinds["BOOTAA64.EFI"], kinds["BOOTIA32.EFI"]) == ("systemd-boot", "shim", "grub")


def test_programs_too_large_or_too_many_are_left_out() -> None:
    large = {f"{ESP}/a/grubx64.efi": b"MZ" + bytes(efi_programs.PROGRAM_BYTES_AT_MOST)}
    assert read_efi_programs(InMemoryTree(large)) == ()
    many: dict[str, Node] = {f"{ESP}/a/grub{n}.efi": b"MZ" for n in range(100)}
    assert len(read_efi_programs(InMemoryTree(many))) == efi_programs.PROGRAMS_AT_MOST
