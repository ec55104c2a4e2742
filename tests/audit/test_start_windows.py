"""The chain of a Windows guest's start: each rule with a guest that triggers it and one that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from drivers.changes import EditHive
from drivers.facts import GuestFacts
from drivers.start_files import StartFile, StartRole
from drivers.windows.edits import SetValue, ValueData
from drivers.windows.facts import SYSTEM, RegistryValue, WindowsFacts
from p2v.audit.chain import LinkState
from p2v.audit.examined import Examined
from p2v.audit.findings import EvidenceKind, Severity
from p2v.audit.rules.start import chain
from p2v.machine import Firmware
from tests.audit.start_guests import examined, findings, fired, link, state
from tests.drivers.windows.samples import facts_of_sample
from tests.fixtures.windows import VERSIONS, WindowsGuest
from tests.fixtures.windows.pe import Arch
from tests.fixtures.windows.rows import rows

BLOCKER, UNKNOWN, WARNING = Severity.BLOCKER, Severity.UNKNOWN, Severity.WARNING
LINKS = (
    "firmware and boot manager", "boot entry", "loader", "kernel", "registry", "boot-start drivers", "disk driver",
)  # fmt: skip
# the stand-in for Windows' boot code in the sample guests says what it is, in words that no boot code has
STAND_IN = {"start.windows.boot-code-not-known": Severity.INFORMATION}


def windows_of(facts: GuestFacts) -> WindowsFacts:
    assert facts.windows is not None
    return facts.windows


def worse(seen: Examined) -> dict[str, Severity]:
    """What fired, but for what is said of every sample guest with a BIOS."""
    return {rule: severity for rule, severity in fired(seen).items() if rule not in STAND_IN}


def with_files(facts: GuestFacts, role: StartRole, change: Callable[[StartFile], StartFile | None]) -> GuestFacts:
    """The facts with other files of a role."""
    files = ((change(file) if file.role is role else file) for file in facts.start_files)
    return replace(facts, start_files=tuple(file for file in files if file is not None))


def gone(file: StartFile) -> StartFile:
    return replace(file, found="", size=0)


def empty(file: StartFile) -> StartFile:
    return replace(file, size=0)


# --- guests that start ------------------------------------------------------------------------------------


@pytest.mark.parametrize("guest", rows(VERSIONS))
def test_sample_guests_have_every_link_proven(guest: WindowsGuest) -> None:
    seen = examined(facts_of_sample(guest.name))
    assert worse(seen) == {}
    # KVM's machine for ARM64 has virtio's disks only, and no medium is named here
    broken = ["disk driver"] if guest.arch is Arch.ARM64 else []
    assert [each.name for each in chain(seen)] == list(LINKS)
    assert [each.name for each in chain(seen) if each.state is not LinkState.PROVEN] == broken
    assert all(each.message for each in chain(seen))


# --- boot manager -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "files"), [("win7", 1), ("xp", 2)])
@pytest.mark.parametrize("change", [gone, empty])
def test_boot_manager_that_is_missing(name: str, files: int, change: Callable[[StartFile], StartFile]) -> None:
    seen = examined(with_files(facts_of_sample(name), StartRole.MANAGER, change))
    told = [each for each in findings(seen) if each.rule == "start.windows.no-manager-file"]
    assert [each.severity for each in told] == [BLOCKER] * files
    assert state(seen, "firmware and boot manager") is LinkState.BROKEN


def test_boot_manager_that_was_not_looked_for() -> None:
    seen = examined(with_files(facts_of_sample("win7"), StartRole.MANAGER, lambda _: None))
    assert worse(seen) == {"start.windows.manager-unseen": UNKNOWN}


def test_other_systems_boot_loader_was_not_followed() -> None:
    facts = facts_of_sample("win7")
    grub = replace(facts, disks=(replace(facts.disks[0], boot_code="grub2"), *facts.disks[1:]))
    assert worse(examined(grub)) == {"start.windows.other-loader": UNKNOWN}


def test_boot_code_of_windows_own_is_not_remarked_on() -> None:
    facts = facts_of_sample("win7")
    own = replace(facts, disks=(replace(facts.disks[0], boot_code="windows"), *facts.disks[1:]))
    assert (fired(examined(own)), fired(examined(facts))) == ({}, STAND_IN)


def test_boot_sector_that_asks_for_nothing_known() -> None:
    facts = facts_of_sample("win7")
    boot = windows_of(facts).boot
    assert boot is not None
    assert boot.sector is not None
    strange = replace(boot, sector=replace(boot.sector, loader=""))
    seen = examined(replace(facts, windows=replace(windows_of(facts), boot=strange)))
    assert worse(seen) == {"start.windows.boot-sector-unseen": UNKNOWN}


@pytest.mark.parametrize(("name", "firmware"), [("win7", Firmware.UEFI), ("win10", Firmware.BIOS)])
def test_windows_of_another_firmware_than_the_machines(name: str, firmware: Firmware) -> None:
    assert worse(examined(facts_of_sample(name), firmware=firmware)) == {"start.windows.other-firmware": BLOCKER}


# --- loader and kernel ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["win7", "win10"])
@pytest.mark.parametrize("change", [gone, empty])
def test_loader_that_is_missing(name: str, change: Callable[[StartFile], StartFile]) -> None:
    seen = examined(with_files(facts_of_sample(name), StartRole.LOADER, change))
    assert worse(seen) == {"start.windows.no-loader-file": BLOCKER}
    assert state(seen, "loader") is LinkState.BROKEN


def test_loader_that_was_not_looked_for() -> None:
    seen = examined(with_files(facts_of_sample("win7"), StartRole.LOADER, lambda _: None))
    assert worse(seen) == {"start.windows.loader-unseen": UNKNOWN}


@pytest.mark.parametrize(
    ("name", "path"), [("win7", "\\Windows\\system32\\winload.efi"), ("win10", "\\Windows\\system32\\winload.exe")]
)
def test_loader_for_the_other_firmware(name: str, path: str) -> None:
    facts = facts_of_sample(name)
    boot = windows_of(facts).boot
    assert boot is not None
    assert boot.store is not None
    objects = tuple(replace(each, path=path) if each.is_windows else each for each in boot.store.objects)
    other = replace(boot, store=replace(boot.store, objects=objects))
    seen = examined(replace(facts, windows=replace(windows_of(facts), boot=other)))
    assert worse(seen) == {"start.windows.loader-for-other-firmware": BLOCKER}


@pytest.mark.parametrize("name", ["win7", "xp"])
def test_kernel_that_is_missing(name: str) -> None:
    seen = examined(with_files(facts_of_sample(name), StartRole.KERNEL, gone))
    assert worse(seen) == {"start.windows.no-kernel-file": BLOCKER}
    unseen = examined(with_files(facts_of_sample(name), StartRole.KERNEL, lambda _: None))
    assert worse(unseen) == {"start.windows.kernel-unseen": UNKNOWN}


# --- registry and drivers ---------------------------------------------------------------------------------


def test_next_start_takes_a_control_set_that_is_not_there() -> None:
    facts = facts_of_sample("win7")
    sets = replace(windows_of(facts).control_sets, default=9)
    seen = examined(replace(facts, windows=replace(windows_of(facts), control_sets=sets)))
    assert worse(seen) == {"start.windows.no-default-set": BLOCKER}
    (evidence,) = link(seen, "registry").evidence
    assert (evidence.kind, evidence.where, evidence.text) == (EvidenceKind.REGISTRY, "SYSTEM\\Select\\Default", "9")


def test_sample_with_a_boot_driver_whose_file_is_gone() -> None:
    seen = examined(facts_of_sample("missing-driver"))
    assert worse(seen) == {"start.windows.no-driver-file": BLOCKER}
    assert state(seen, "boot-start drivers") is LinkState.BROKEN


def with_service(facts: GuestFacts, name: str, image: str, error_control: int = 1) -> GuestFacts:
    """The facts with a boot-start driver more in the control set that starts."""

    def number(name: str, value: int) -> RegistryValue:
        return RegistryValue(name, 4, value.to_bytes(4, "little").hex())

    windows = windows_of(facts)
    key = f"ControlSet{windows.control_sets.default:03d}\\Services\\{name}"
    values = (
        number("Start", 0),
        number("Type", 1),
        number("ErrorControl", error_control),
        RegistryValue("ImagePath", 2, (image + "\0").encode("utf-16-le").hex()),
    )
    system = windows.registry[SYSTEM]
    registry = {**windows.registry, SYSTEM: replace(system, keys={**system.keys, key: values})}
    return replace(facts, windows=replace(windows, registry=registry))


@pytest.mark.parametrize(
    ("image", "error_control", "found", "expected"),
    [
        ("system32\\drivers\\gone.sys", 1, None, {"start.windows.no-driver-file": BLOCKER}),
        ("system32\\drivers\\gone.sys", 0, None, {"start.windows.no-driver-file": WARNING}),
        ("system32\\drivers\\disk.sys", 1, None, {}),
        ("\\SystemRoot\\own\\x.sys", 1, "", {"start.windows.no-driver-file": BLOCKER}),
        ("\\SystemRoot\\own\\x.sys", 1, "/Windows/own/x.sys", {}),
        ("\\SystemRoot\\own\\x.sys", 1, None, {"start.windows.driver-unseen": UNKNOWN}),
        ("\\Device\\Other\\x.sys", 1, None, {"start.windows.driver-unseen": UNKNOWN}),
    ],
)
def test_boot_start_driver_and_its_file(
    image: str, error_control: int, found: str | None, expected: dict[str, Severity]
) -> None:
    facts = with_service(facts_of_sample("win7"), "own", image, error_control)
    if found is not None:
        file = StartFile(StartRole.DRIVER, "/Windows/own/x.sys", found, 1)
        facts = replace(facts, start_files=(*facts.start_files, file))
    assert worse(examined(facts)) == expected


def test_driver_that_the_conversion_turns_off_is_not_in_the_way() -> None:
    seen = examined(with_service(facts_of_sample("win7"), "gone", "system32\\drivers\\gone.sys"))
    windows = windows_of(seen.document.facts)
    hive, key = windows.registry[SYSTEM], f"ControlSet{windows.control_sets.default:03d}\\Services\\gone"
    edit = SetValue(key, "Start", 4, "04000000", ValueData(4, "00000000"), "test")
    plan = seen.document.plan
    changed = replace(plan, changes=(*plan.changes, EditHive(hive.path, hive.size, hive.sha256, (edit,), "test")))
    after = replace(seen, document=replace(seen.document, plan=changed))
    (told,) = [each for each in findings(after) if each.rule not in STAND_IN]
    assert (told.rule, told.fixed_by_conversion) == ("start.windows.driver-turned-off", True)
    assert state(after, "boot-start drivers") is LinkState.PROVEN


def test_folder_of_drivers_that_was_not_read() -> None:
    facts = facts_of_sample("win7")
    seen = examined(replace(facts, windows=replace(windows_of(facts), driver_files=())))
    assert worse(seen) == {"start.windows.drivers-unseen": UNKNOWN}


def test_driver_of_the_file_system_is_needed_whatever_its_start_is() -> None:
    facts = facts_of_sample("win7")
    files = tuple(name for name in windows_of(facts).driver_files if name != "ntfs.sys")
    seen = examined(replace(facts, windows=replace(windows_of(facts), driver_files=files)))
    assert worse(seen)["start.windows.no-driver-file"] is BLOCKER


# --- what the plan tells ----------------------------------------------------------------------------------


def test_what_the_plan_blocks_breaks_the_link_and_is_not_told_twice() -> None:
    facts = facts_of_sample("win7")
    seen = examined(replace(facts, windows=replace(windows_of(facts), boot=None), start_files=_of_windows(facts)))
    assert "windows.no-boot-store" in {each.id for each in seen.document.plan.blockers}
    assert state(seen, "firmware and boot manager") is LinkState.BROKEN
    assert state(seen, "loader") is LinkState.UNSEEN
    assert worse(seen) == {}


def _of_windows(facts: GuestFacts) -> tuple[StartFile, ...]:
    return tuple(file for file in facts.start_files if file.role in (StartRole.KERNEL, StartRole.DRIVER))


def test_registry_that_cannot_be_read_is_the_plans_to_tell() -> None:
    facts = facts_of_sample("win7")
    windows = windows_of(facts)
    system = replace(windows.registry[SYSTEM], state="unreadable", problem="test", keys={})
    seen = examined(replace(facts, windows=replace(windows, registry={**windows.registry, SYSTEM: system})))
    assert "windows.hive-unreadable" in {each.id for each in seen.document.plan.blockers}
    assert state(seen, "boot-start drivers") is LinkState.BROKEN
    assert worse(seen) == {}
