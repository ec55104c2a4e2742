"""What other hypervisors and makers left: disabled, out of the lists they stand in, and what the guest is to uninstall."""

from __future__ import annotations

import pytest

from drivers.windows.contribution import WindowsContribution, joined
from drivers.windows.facts import SOFTWARE, ControlSets
from drivers.windows.firstboot.steps import STEPS_AT_MOST
from drivers.windows.leftover_catalogue import ALWAYS, PRODUCTS, Uninstaller
from drivers.windows.leftovers import contribute
from drivers.windows.uninstalling import UNINSTALLS_AT_MOST
from tests.drivers.windows.guest_facts import facts, service, told
from tests.fixtures.hives import Data, Tree, dword, expand_sz, multi_sz, sz

SET = "ControlSet001"
SERVICES, CLASS = f"{SET}\\Services", f"{SET}\\Control\\Class"
MOUSE, DISK = f"{CLASS}\\{{4D36E96F-E325-11CE-BFC1-08002BE10318}}", f"{CLASS}\\{{4D36E967-E325-11CE-BFC1-08002BE10318}}"
NATIVE = "Microsoft\\Windows\\CurrentVersion\\Uninstall"
OTHER = f"Wow6432Node\\{NATIVE}"
CODE = "{0F4E5B50-1C6E-4C5B-8D5B-5E0E0F1A0001}"


def services(**starts: int) -> Tree:
    return {f"{SERVICES}\\{name}": service(start) for name, start in starts.items()}


def program(title: str, uninstall: str = "", **more: Data) -> dict[str, Data]:
    return {"DisplayName": sz(title), **({"UninstallString": expand_sz(uninstall)} if uninstall else {}), **more}


def purged(listed: Tree) -> WindowsContribution:
    """What is planned for a guest with this list of programs, whose user wants them gone."""
    return contribute(facts({}, listed), purge=True)


def commands(planned: WindowsContribution) -> list[str]:
    return [each.command for each in planned.first_boot]


@pytest.mark.parametrize("name", [name for product in PRODUCTS if product.before == ALWAYS for name in product.services])
def test_every_service_of_the_catalogue_is_disabled_in_any_case_of_its_name(name: str) -> None:
    for spelt in (name.lower(), name.upper()):
        for start in (0, 1, 2, 3):
            assert told(contribute(facts(services(**{spelt: start})))) == {f"{SERVICES}\\{spelt}\\Start": 4}


def test_names_stand_in_the_catalogue_once() -> None:
    every = [name.lower() for product in PRODUCTS for name in product.services]
    assert len(every) == len(set(every))


def test_what_does_not_start_or_is_nobodys_stays() -> None:
    tree = {**services(vmci=4, spooler=2, viostor=0, netkvm=3, LSI_SAS=0), f"{SERVICES}\\VMTools": {"Type": dword(16)}}
    assert told(contribute(facts(tree))) == {}


def test_each_edit_names_whose_it_is() -> None:
    planned = contribute(facts(services(prl_strg=0)))
    assert [edit.why for edit in planned.edits["SYSTEM"]] == ["prl_strg is of Parallels Tools: of no use on KVM"]


def test_sets_that_can_be_started_are_cleaned_each_by_itself() -> None:
    sets = ControlSets(current=1, default=1, failed=2, last_known_good=3, present=(1, 2, 3))
    tree: Tree = {f"ControlSet00{n}\\Services\\xenbus": service(start) for n, start in ((1, 0), (2, 0), (3, 4))}
    assert told(contribute(facts(tree, sets=sets))) == {"ControlSet001\\Services\\xenbus\\Start": 4}


def test_hyper_v_is_left_to_windows_where_windows_brings_it() -> None:
    tree = services(vmbus=0, storflt=0, vmicheartbeat=2)
    for version in ((6, 1), (10, 0)):
        assert told(contribute(facts(tree, version=version))) == {}
    assert len(told(contribute(facts(tree, version=(5, 2))))) == 3


def test_what_vmware_workstation_has_too_stays_with_it() -> None:
    host = services(VMAuthdService=2, vmci=0, vsock=0, VMTools=2)
    assert told(contribute(facts(host))) == {f"{SERVICES}\\VMTools\\Start": 4}


def test_a_filter_leaves_its_list_with_its_service_and_others_keep_their_order() -> None:
    tree: Tree = {**services(vmmouse=3, mouclass=1, other=3), MOUSE: {"UpperFilters": multi_sz("other", "VMMouse", "mouclass")}}
    assert told(contribute(facts(tree, files=()))) == {
        f"{SERVICES}\\vmmouse\\Start": 4,
        f"{MOUSE}\\UpperFilters": ("other", "mouclass"),
    }


def test_a_list_that_would_be_empty_goes() -> None:
    tree: Tree = {**services(prl_strg=0, disk=0), DISK: {"LowerFilters": multi_sz("prl_strg"), "Class": sz("DiskDrive")}}
    assert told(contribute(facts(tree, files=()))) == {f"{SERVICES}\\prl_strg\\Start": 4, f"{DISK}\\LowerFilters": None}


@pytest.mark.parametrize(
    "there, files, why",
    [
        ({}, ("partmgr.sys",), "no service"),
        ({f"{SERVICES}\\gone": service(4)}, ("partmgr.sys", "gone.sys"), "disabled"),
        ({f"{SERVICES}\\gone": service(0)}, ("partmgr.sys",), "no driver (gone.sys)"),
        ({f"{SERVICES}\\gone": service(0, "\\SystemRoot\\System32\\Drivers\\G.sys")}, ("partmgr.sys",), "no driver (g.sys)"),
    ],
)
def test_a_filter_whose_driver_does_not_start_is_taken_out_whoever_it_was(there: Tree, files: tuple[str, ...], why: str) -> None:
    tree = {**services(partmgr=0), **there, DISK: {"UpperFilters": multi_sz("partmgr", "gone")}}
    planned = contribute(facts(tree, files=files))
    assert told(planned) == {f"{DISK}\\UpperFilters": ("partmgr",)}
    assert why in planned.edits["SYSTEM"][0].why


@pytest.mark.parametrize(
    "there, files",
    [
        (service(0), ("partmgr.sys", "mine.sys")),
        # where no file is known, none is missed; and one that lies elsewhere was not looked for
        (service(0), ()),
        (service(0, "\\??\\C:\\Vendor\\mine.sys"), ("partmgr.sys",)),
    ],
)
def test_a_filter_that_starts_stays(there: dict[str, Data], files: tuple[str, ...]) -> None:
    tree: Tree = {**services(partmgr=0), f"{SERVICES}\\mine": there, DISK: {"UpperFilters": multi_sz("partmgr", "mine")}}
    assert told(contribute(facts(tree, files=files))) == {}


def test_filters_of_a_keyboard_or_mouse_leave_its_own_list() -> None:
    mouse = f"{SET}\\Enum\\ACPI\\PNP0F13\\4&22f5829e&0"
    tree: Tree = {**services(vmmouse=3), mouse: {"UpperFilters": multi_sz("vmmouse"), "Service": sz("i8042prt")}}
    assert told(contribute(facts(tree, files=())))[f"{mouse}\\UpperFilters"] is None


def test_filters_are_read_of_lists_only() -> None:
    tree: Tree = {DISK: {"UpperFilters": sz("gone"), "LowerFilters": Data(7, b"")}}
    assert told(contribute(facts(tree))) == {}


def test_network_providers_leave_the_order() -> None:
    order = f"{SET}\\Control\\NetworkProvider\\Order"
    tree = {**services(VBoxSF=1, vmhgfs=1), order: {"ProviderOrder": sz("RDPNP,VBoxSF,LanmanWorkstation,vmhgfs")}}
    assert told(contribute(facts(tree)))[f"{order}\\ProviderOrder"] == "RDPNP,LanmanWorkstation"
    stays: Tree = {order: {"ProviderOrder": sz("RDPNP,LanmanWorkstation")}}
    assert told(contribute(facts(stays))) == {}


def test_what_starts_at_log_on_is_taken_out_of_both_views() -> None:
    run = "Microsoft\\Windows\\CurrentVersion\\Run"
    values = {"VBoxTray": sz("VBoxTray.exe"), "Mine": sz("mine.exe")}
    planned = contribute(facts({}, {run: values, f"Wow6432Node\\{run}": values}))
    assert told(planned, SOFTWARE) == {f"{run}\\VBoxTray": None, f"Wow6432Node\\{run}\\VBoxTray": None}


def test_an_installers_package_is_uninstalled_without_a_question_or_a_restart() -> None:
    listed: Tree = {f"{NATIVE}\\{CODE}": program("Parallels Tools", f"MsiExec.exe /I{CODE}")}
    planned = purged(listed)
    (command,) = commands(planned)
    assert command.startswith(f'"%SystemRoot%\\System32\\msiexec.exe" /x {CODE} /qn /norestart REBOOT=ReallySuppress')
    assert "PREVENT_REBOOT=Yes" in command
    assert planned.first_boot[0].view == "native"


def test_both_views_of_the_list_are_looked_at() -> None:
    listed: Tree = {
        f"{NATIVE}\\{CODE}": program("Dell OpenManage Server Administrator", WindowsInstaller=dword(1)),
        f"{OTHER}\\{CODE.replace('0F', '1F')}": program("Dell Lifecycle Controller Utilities", WindowsInstaller=dword(1)),
    }
    assert [each.view for each in purged(listed).first_boot] == ["native", "32-bit"]


def test_what_stands_in_both_views_is_uninstalled_once() -> None:
    entry = program("Parallels Tools", WindowsInstaller=dword(1))
    assert len(commands(purged({f"{NATIVE}\\{CODE}": entry, f"{OTHER}\\{CODE}": entry}))) == 1


def test_an_uninstaller_of_another_kind_is_told_to_be_silent_or_left_to_a_person() -> None:
    def one(title: str, uninstall: str, **more: Data) -> list[str]:
        return commands(purged({f"{NATIVE}\\x": program(title, uninstall, **more)}))

    box, hp = "Oracle VM VirtualBox Guest Additions 7.0.8", "HP System Management Homepage"
    assert one(box, "C:\\Program Files\\Oracle\\uninst.exe") == ['"C:\\Program Files\\Oracle\\uninst.exe" /S']
    assert one(box, '"C:\\Program Files (x86)\\Oracle\\uninst.exe"') == ['"C:\\Program Files (x86)\\Oracle\\uninst.exe" /S']
    assert one(hp, "C:\\hp\\uninstall.exe") == []
    assert one(hp, "C:\\hp\\uninstall.exe", QuietUninstallString=sz("C:\\hp\\uninstall.exe -q")) == ["C:\\hp\\uninstall.exe -q"]


@pytest.mark.parametrize(
    "uninstall",
    [
        "uninst.exe", "C:\\a.exe & format", 'C:\\a" & calc.exe', "C:\\%X%.exe", "\\\\host\\a.exe", "C:\\a\n.exe",
        "C:\\" + "a" * 300 + ".exe",
    ],
)  # fmt: skip
def test_what_is_no_plain_path_is_never_made_a_command(uninstall: str) -> None:
    listed: Tree = {f"{NATIVE}\\x": program("Oracle VM VirtualBox Guest Additions", uninstall)}
    planned = purged(listed)
    assert commands(planned) == []
    assert [finding.id for finding in planned.warnings] == ["windows.leftover"]


def test_a_quiet_command_with_letters_of_an_interpreter_or_without_end_is_none() -> None:
    for quiet in ("a.exe\r\nformat c:", "a.exe & b.exe", "%X%", "a^b", "a>b", "\u202e.exe", "a" * 2000):
        listed: Tree = {f"{NATIVE}\\x": program("HP System Management Homepage", "a", QuietUninstallString=sz(quiet))}
        assert commands(purged(listed)) == []


@pytest.mark.parametrize("title", ["VMware Tools", "Virtual Machine Additions", "RHEV-Tools"])
def test_what_refuses_or_takes_drivers_along_is_not_uninstalled_and_is_told_of(title: str) -> None:
    product = next(each for each in PRODUCTS if any(title == name.rstrip("*") for name in each.listed))
    assert product.uninstaller is not Uninstaller.WORKS
    planned = purged({f"{NATIVE}\\{CODE}": program(title, WindowsInstaller=dword(1))})
    assert (commands(planned), [finding.id for finding in planned.warnings]) == ([], ["windows.leftover"])
    assert title in planned.warnings[0].message


def told_of(planned: WindowsContribution) -> list[tuple[str, str]]:
    assert {finding.id for finding in planned.warnings} <= {"windows.leftover"}
    return [(finding.message, finding.hint) for finding in planned.warnings]


def test_programs_stay_as_long_as_nobody_wants_them_gone_and_the_plan_says_how_they_go() -> None:
    listed: Tree = {f"{NATIVE}\\{CODE}": program("Parallels Tools", WindowsInstaller=dword(1))}
    planned = contribute(facts({}, listed))
    assert commands(planned) == []
    ((message, hint),) = told_of(planned)
    assert "left installed" in message
    assert "--purge-tools" in hint
    ((message, hint),) = told_of(purged(listed))
    assert "uninstalled by the guest itself" in message
    assert "--purge-tools" not in hint


@pytest.mark.parametrize("version, arch", [((4, 0), "i386"), ((6, 1), "alpha")])
def test_a_guest_that_has_no_first_start_is_not_said_to_uninstall(version: tuple[int, int], arch: str) -> None:
    listed: Tree = {f"{NATIVE}\\{CODE}": program("Parallels Tools", WindowsInstaller=dword(1))}
    for purge in (False, True):
        planned = contribute(facts({}, listed, version=version, arch=arch), purge=purge)
        ((message, hint),) = told_of(planned)
        assert commands(planned) == []
        assert "left installed" in message
        assert "by hand" in hint


def test_programs_of_a_product_that_fare_alike_are_told_of_together() -> None:
    titles = ("HP ProLiant A", "HP ProLiant B", "HP ProLiant C", "HP ProLiant D", "HP ProLiant E")
    listed: Tree = {
        **{f"{NATIVE}\\{CODE[:-2]}{n}}}": program(title, WindowsInstaller=dword(1)) for n, title in enumerate(titles)},
        f"{OTHER}\\{CODE[:-2]}0}}": program(titles[0], WindowsInstaller=dword(1)),
        f"{NATIVE}\\x": program("HP System Management Homepage", "C:\\a.exe"),
    }
    planned = purged(listed)
    assert len(commands(planned)) == 5
    together, alone = (message for message, _ in told_of(planned))
    assert together.startswith("HP ProLiant A, HP ProLiant B, HP ProLiant C and 2 more: ")
    assert alone.startswith("HP System Management Homepage: ")
    two = purged({f"{view}\\{CODE}": program("VMware Tools", WindowsInstaller=dword(1)) for view in (NATIVE, OTHER)})
    assert len(told_of(two)) == 1


def test_a_list_without_end_is_uninstalled_in_part_and_the_rest_is_told() -> None:
    listed: Tree = {
        f"{NATIVE}\\{CODE[:-4]}{n:03d}}}": program(f"HP ProLiant {n}", WindowsInstaller=dword(1)) for n in range(60)
    }
    planned = purged(listed)
    assert len(commands(planned)) == UNINSTALLS_AT_MOST
    assert [("and 21 more" in message, "by hand" in hint) for message, hint in told_of(planned)] == [(True, False), (False, True)]
    # all of them fit into the list of steps beside the others
    assert UNINSTALLS_AT_MOST + 3 <= STEPS_AT_MOST


def test_others_programs_and_virtios_drivers_stay() -> None:
    titles = ("Nutanix VirtIO", "QEMU guest agent", "VMware Tools Documents", "VMware Workstation", "Oracle VM VirtualBox 7", "")
    listed: Tree = {f"{NATIVE}\\{n}": program(title, "C:\\a.exe") for n, title in enumerate(titles)}
    planned = purged(listed)
    assert (commands(planned), planned.warnings) == ([], ())


def test_a_title_cannot_reach_a_terminal_as_it_is() -> None:
    listed: Tree = {f"{NATIVE}\\x": program("Parallels Tools \x1b[31m\u202e" + "x" * 500, "a")}
    (finding,) = purged(listed).warnings
    assert not {"\x1b", "\u202e"} & set(finding.message)
    assert len(finding.message) < 300


def test_names_that_a_damaged_hive_has_twice_are_planned_for_once() -> None:
    tree: Tree = {
        f"{SERVICES}\\vmci": service(0), f"{SERVICES}\\VMCI": service(1),
        DISK: {"UpperFilters": multi_sz("gone")}, DISK.lower(): {"upperfilters": multi_sz("gone", "other")},
    }  # fmt: skip
    assert len(joined([contribute(facts(tree))]).edits["SYSTEM"]) == 2


def test_without_a_software_hive_the_rest_is_planned() -> None:
    windows = facts(services(vmci=0))
    hives = {"SYSTEM": windows.registry["SYSTEM"]}
    planned = contribute(type(windows)(windows.system_root, windows.version, windows.arch, windows.control_sets, hives))
    assert told(planned) == {f"{SERVICES}\\vmci\\Start": 4}
