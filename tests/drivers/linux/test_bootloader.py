"""GRUB 2: which configuration is read, what its entries start, and what an edit of it may touch."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.changes import DeleteFile, EditFile
from drivers.facts import BootLoader, FileSystem, GuestFacts, Partition
from drivers.linux import grub_edits, grub_script
from drivers.linux.bootloader import default_title, read_boot_loader
from drivers.linux.devices import DeviceNames
from drivers.linux.grub_edits import plan_defaults, plan_device_map, plan_menu
from tests.drivers.linux.guest import OLDER, ROOT, SWAP, VERSION, facts_of, files, text_file
from tests.drivers.memory_tree import InMemoryTree, Link, Node
from tests.fixtures import etc
from tests.fixtures.layout import ROOT_UUID, SWAP_UUID

NAMES = DeviceNames(1, (ROOT, SWAP), ROOT)
CONFIG = "/boot/grub/grub.cfg"
DEVICE_MENU = etc.grub_cfg("/dev/sda1", [VERSION, OLDER])


def loader(nodes: dict[str, Node]) -> BootLoader:
    """The boot loader read from these files."""
    return read_boot_loader(InMemoryTree(nodes))


def menu(text: str, names: DeviceNames = NAMES, resume: str | None = None) -> str:
    """The menu after planning; the same text where nothing is planned."""
    edit = plan_menu(text_file(text, CONFIG), grub_script.parse(text), names, resume)
    return edit.after if edit else text


def defaults(text: str, names: DeviceNames = NAMES) -> str:
    """/etc/default/grub after planning."""
    edit = plan_defaults(text_file(text, "/etc/default/grub"), names)
    return edit.after if edit else text


# -- reading -----------------------------------------------------------------------------------------------------------


def test_every_entry_of_debians_menu_is_read_submenus_included() -> None:
    found = loader(files((VERSION, OLDER)))
    assert (found.kind, found.config) == ("grub2", CONFIG)
    above = "Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux "
    assert [entry.title for entry in found.entries] == [
        "Debian GNU/Linux", f"{above}{VERSION}", f"{above}{VERSION} (recovery mode)",
        f"{above}{OLDER}", f"{above}{OLDER} (recovery mode)",
    ]  # fmt: skip
    first, recovery = found.entries[0], found.entries[4]
    assert (first.kernel, first.initramfs) == (f"/boot/vmlinuz-{VERSION}", (f"/boot/initrd.img-{VERSION}",))
    assert first.arguments == "root=/dev/sda1 ro quiet"
    assert (recovery.kernel, recovery.arguments) == (f"/boot/vmlinuz-{OLDER}", "root=/dev/sda1 ro single")


def test_paths_on_a_boot_partition_of_its_own_are_paths_of_the_guest() -> None:
    text = "menuentry 'x' {\n linux ($root)/vmlinuz-1 root=/dev/sda2\n initrd /ucode.img /initrd-1\n}\n"
    entry = loader({CONFIG: text, "/boot/vmlinuz-1": b"", "/boot/initrd-1": b"", "/boot/ucode.img": b""}).entries[0]
    assert (entry.kernel, entry.initramfs) == ("/boot/vmlinuz-1", ("/boot/ucode.img", "/boot/initrd-1"))


def test_a_kernel_named_by_a_link_is_the_file_behind_it() -> None:
    text = "menuentry x {\n linux /vmlinuz root=/dev/sda1\n}\n"
    found = loader({CONFIG: text, "/vmlinuz": Link("boot/vmlinuz-1"), "/boot/vmlinuz-1": b""})
    assert found.entries[0].kernel == "/boot/vmlinuz-1"


def test_a_kernel_that_is_not_there_keeps_the_path_of_the_menu() -> None:
    assert loader({CONFIG: "menuentry x {\n linux (hd0,msdos1)/gone a b\n}\n"}).entries[0].kernel == "/gone"


@pytest.mark.parametrize(
    ("setting", "environment", "title"),
    [
        ('set default="0"', "", "A"),
        ('set default="1>1"', "", "Sub>C"),
        ('set default="Sub>C"', "", "Sub>C"),
        ('set default="idsub>idb"', "", "Sub>B"),
        ('set default="9"', "", "A"),
        ('set default="gone"', "", "A"),
        ('set default="1"', "", "Sub>B"),
        ('set default="${saved_entry}"', "saved_entry=D>>E\n", "D>>E"),
        ('set default="${saved_entry}"', "", "A"),
        (
            'if [ "${next_entry}" ] ; then\n set default="${next_entry}"\nelse\n set default="0"\nfi',
            "next_entry=2\n",
            "D>>E",
        ),
        ('if [ "${next_entry}" ] ; then\n set default="${next_entry}"\nelse\n set default="0"\nfi', "", "A"),
    ],
)
def test_the_default_is_the_entry_that_grub_would_start(setting: str, environment: str, title: str) -> None:
    text = (
        f"{setting}\nmenuentry A {{\n linux /a\n}}\n"
        "submenu Sub --id idsub {\n menuentry B $menuentry_id_option idb {\n  linux /b\n }\n"
        " menuentry C {\n  linux /c\n }\n}\nmenuentry 'D>E' {\n linux /d\n}\n"
    )
    found = loader({CONFIG: text, "/boot/grub/grubenv": f"# GRUB Environment Block\n{environment}###"})
    assert found.default == title
    assert title in [entry.title for entry in found.entries]


def test_a_stub_on_the_efi_partition_leads_to_the_real_configuration() -> None:
    stub = "search.fs_uuid 1-2-3 root hd0,gpt2\nset prefix=($root)'/grub2'\nconfigfile $prefix/grub.cfg\n"
    entry = "menuentry x {\n linuxefi /vmlinuz-1 root=/dev/sda1\n initrdefi /initrd-1\n}\n"
    nodes: dict[str, Node] = {
        "/boot/efi/EFI/fedora/grub.cfg": stub,
        "/boot/grub2/grub.cfg": entry,
        "/boot/initrd-1": b"",
    }
    found = loader(nodes)
    assert found.config == "/boot/grub2/grub.cfg"
    assert found.entries[0].initramfs == ("/boot/initrd-1",)


def test_stubs_that_lead_to_each_other_end_somewhere() -> None:
    nodes: dict[str, Node] = {
        CONFIG: "configfile /boot/grub2/grub.cfg\n",
        "/boot/grub2/grub.cfg": "configfile /boot/grub/grub.cfg\n",
    }
    assert loader(nodes).entries == ()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/boot/grub/menu.lst", "grub1"),
        ("/boot/extlinux/extlinux.conf", "extlinux"),
        ("/etc/lilo.conf", "lilo"),
        ("/etc/x", "none"),
    ],
)
def test_other_boot_loaders_are_told_apart(path: str, kind: str) -> None:
    assert loader({path: "x"}).kind == kind


def test_debconfs_answer_says_where_grub_is_installed() -> None:
    answers = "Name: grub-pc/install_devices_empty\nValue: false\n\nName: grub-pc/install_devices\nValue: /dev/sda, /dev/sdb\n"
    nodes = {**files(), "/var/cache/debconf/config.dat": answers}
    assert loader(nodes).install_devices == ("/dev/sda", "/dev/sdb")
    found = grub_edits.contribute(facts_of(nodes), NAMES)
    assert [finding.id for finding in found.warnings] == ["linux.grub.install-devices"]


def test_words_know_their_place_and_lose_their_quotes() -> None:
    text = 'linux /a \'b c\' "d\\"e${x}" f\\ g x#y \\\n z # not this\n'
    words = next(iter(grub_script.commands(text))).words
    assert [word.text for word in words] == ["linux", "/a", "b c", 'd"e${x}', "f g", "x#y", "z"]
    assert text[words[2].start : words[2].end] == "'b c'"


@settings(deadline=None)
@given(st.text(st.sampled_from("{}'\"\\$;# \n\tmenuentrylix/0"), max_size=60))
def test_any_text_can_be_parsed(text: str) -> None:
    for command in grub_script.commands(text):
        for word in command.words:
            assert 0 <= word.start < word.end <= len(text)
    default_title(grub_script.parse(text).items, "0")


def test_very_deep_menus_are_no_danger() -> None:
    depth = 3000
    (outermost,) = grub_script.parse("submenu a {\n" * depth + "}\n" * depth).items
    assert (outermost.title, outermost.submenu) == ("a", True)


# -- the menu ----------------------------------------------------------------------------------------------------------


def test_debians_menu_gets_its_root_by_uuid_in_every_entry_and_nothing_else() -> None:
    after = menu(DEVICE_MENU)
    assert after == etc.grub_cfg(f"UUID={ROOT_UUID}", [VERSION, OLDER])
    assert after.count(f"root=UUID={ROOT_UUID}") == 5
    assert "set root='hd0,msdos1'" in after
    assert menu(after) == after


@pytest.mark.parametrize("argument", ["resume=/dev/sda2", '"resume=/dev/sda2"', "resume='/dev/sda2'"])
def test_resume_is_named_by_uuid_however_it_is_quoted(argument: str) -> None:
    before = etc.grub_cfg("/dev/sda1", [VERSION], arguments=argument)
    expected = etc.grub_cfg(
        f"UUID={ROOT_UUID}", [VERSION], arguments=argument.replace("/dev/sda2", f"UUID={SWAP_UUID}")
    )
    assert menu(before) == expected


def test_a_resume_device_that_the_initramfs_knows_is_overridden_in_every_entry_that_says_none() -> None:
    text = "menuentry a {\n linux /k root=/dev/sda1 noresume\n initrd /i\n}\n"
    text += "menuentry b {\n linux /k root=LABEL=x ro \n initrd /i\n}\n"
    after = menu(text, resume="UUID=s")
    assert f"root=UUID={ROOT_UUID} noresume\n" in after
    assert "root=LABEL=x ro resume=UUID=s \n" in after


def test_a_kernel_without_initramfs_gets_the_partitions_uuid() -> None:
    assert "root=PARTUUID=c0ffee12-01 ro" in menu("menuentry a {\n linux /k root=/dev/sda1 ro\n}\n")


def test_a_kernel_under_xen_is_edited_too() -> None:
    text = "menuentry a {\n multiboot2 /xen.gz dom0_mem=1G\n module2 /k x root=/dev/sda1\n module2 /i\n}\n"
    assert menu(text) == text.replace("/dev/sda1", f"UUID={ROOT_UUID}")


@pytest.mark.parametrize(
    "root", [f"UUID={ROOT_UUID}", "LABEL=/", "/dev/mapper/vg-root", "/dev/vg/root", "${x}", "PARTUUID=c0ffee12-01"]
)
def test_lasting_names_stay(root: str) -> None:
    text = etc.grub_cfg(root, [VERSION])
    assert menu(text) == text


def test_other_arguments_that_name_a_device_stay_and_are_warned_of() -> None:
    nodes = {**files(), CONFIG: etc.grub_cfg("/dev/sda1", [VERSION], arguments="journal=/dev/sda2")}
    found = grub_edits.contribute(facts_of(nodes), NAMES)
    assert [finding.id for finding in found.warnings] == ["linux.boot-loader.argument-names-device"]
    edit = found.changes[0]
    assert isinstance(edit, EditFile)
    assert "journal=/dev/sda2" in edit.after


def findings(nodes: dict[str, Node], names: DeviceNames = NAMES) -> tuple[list[str], list[str]]:
    """Ids of the warnings and of the blockers."""
    found = grub_edits.contribute(facts_of(nodes), names)
    return [finding.id for finding in found.warnings], [finding.id for finding in found.blockers]


def test_a_default_entry_whose_root_is_not_there_blocks_and_says_so_once() -> None:
    assert findings({**files(), CONFIG: etc.grub_cfg("/dev/sdc1", [VERSION])}) == (
        [],
        ["linux.boot-loader.root-unresolved"],
    )


def test_a_default_entry_whose_root_is_elsewhere_blocks() -> None:
    other = Partition(0, 3, 0, 1, "83", filesystem=FileSystem("ext4", "other"))
    names = DeviceNames(1, (ROOT, SWAP, other), ROOT)
    assert findings({**files(), CONFIG: etc.grub_cfg("/dev/sda3", [VERSION])}, names)[1] == [
        "linux.boot-loader.root-unresolved"
    ]


def test_another_systems_entry_with_an_unknown_root_is_only_a_warning() -> None:
    other = "menuentry 'Other' {\n linux /k root=/dev/sdb1\n initrd /i\n}\n"
    nodes = {**files(), CONFIG: DEVICE_MENU + other}
    assert findings(nodes) == (["linux.boot-loader.argument-names-device"], [])


def test_a_root_by_a_uuid_that_no_file_system_has_is_warned_of() -> None:
    assert findings({**files(), CONFIG: etc.grub_cfg("UUID=dead-beef", [VERSION])})[0] == [
        "linux.boot-loader.root-absent"
    ]


ARGUMENT = st.sampled_from(
    [
        "root=/dev/sda1",
        "root=/dev/sdb1",
        '"root=/dev/sda1"',
        "resume=/dev/sda2",
        "quiet",
        "a=/dev/sda1",
        "$x",
        "'b c'",
        "\udcff",
    ]
)


@settings(deadline=None)
@given(st.lists(st.lists(ARGUMENT, max_size=4), max_size=4), st.sampled_from(["linux", "linux16", "echo"]))
def test_only_device_names_change_and_planning_again_changes_nothing(entries: list[list[str]], command: str) -> None:
    text = "".join(f"menuentry x {{\n\t{command}\t/k {'  '.join(words)} \n\tinitrd /i\n}}\n" for words in entries)
    after = menu(text)
    assert menu(after) == after
    back = after.replace(f"UUID={ROOT_UUID}", "/dev/sda1").replace(f"UUID={SWAP_UUID}", "/dev/sda2")
    assert back == text
    assert (after == text) == (command == "echo" or not re.search(r"(root=/dev/sda1|resume=)", text))


# -- settings and device map -------------------------------------------------------------------------------------------


def test_the_switch_that_asks_for_device_names_is_turned_off() -> None:
    before = etc.default_grub(etc.Naming.DEVICE)
    assert defaults(before) == before.replace("GRUB_DISABLE_LINUX_UUID=true", "GRUB_DISABLE_LINUX_UUID=false")


@pytest.mark.parametrize("text", [etc.default_grub(etc.Naming.UUID), "GRUB_DISABLE_LINUX_UUID=false\n", ""])
def test_settings_that_need_no_change_stay(text: str) -> None:
    assert defaults(text) == text


def test_device_names_in_kernel_arguments_are_replaced_and_other_settings_stay() -> None:
    before = (
        "export GRUB_CMDLINE_LINUX_DEFAULT='quiet resume=/dev/sda2 x=/dev/sda1'\nGRUB_CMDLINE_LINUX=root=/dev/sda1\n"
        "#GRUB_CMDLINE_LINUX=root=/dev/sda1\nGRUB_DEVICE=/dev/sda1\n"
    )
    after = before.replace("resume=/dev/sda2", f"resume=UUID={SWAP_UUID}")
    after = after.replace("\nGRUB_CMDLINE_LINUX=root=/dev/sda1", f"\nGRUB_CMDLINE_LINUX=root=UUID={ROOT_UUID}")
    assert defaults(before) == after
    assert defaults(after) == after


def test_settings_in_pieces_are_edited_and_what_stays_is_warned_of() -> None:
    nodes = {**files(), "/etc/default/grub.d/50-x.cfg": 'GRUB_CMDLINE_LINUX="root=/dev/sda1 x=/dev/sda2"\n'}
    found = grub_edits.contribute(facts_of(nodes), NAMES)
    assert "/etc/default/grub.d/50-x.cfg" in [change.path for change in found.changes]
    assert [finding.id for finding in found.warnings] == ["linux.default-grub.names-device"]


def test_uuids_are_not_asked_for_where_the_root_has_none_of_its_own() -> None:
    root = dataclasses.replace(ROOT, filesystem=FileSystem("ext4"))
    names = DeviceNames(1, (root, SWAP), root)
    text = "GRUB_DISABLE_LINUX_UUID=true\n"
    assert defaults(text, names) == text
    assert "linux.default-grub.no-uuids" in findings({**files(), "/etc/default/grub": text}, names)[0]


@pytest.mark.parametrize(
    ("line", "deleted"),
    [("(hd0) /dev/sda", True), ("(hd0)\t/dev/disk/by-id/ata-VBOX_HARDDISK_1", True), ("(fd0) /dev/fd0", False)],
)
def test_a_device_map_of_the_old_machine_is_deleted(line: str, deleted: bool) -> None:
    change = plan_device_map(text_file(f"{line}\n", "/boot/grub/device.map"), NAMES)
    assert isinstance(change, DeleteFile) is deleted
    assert plan_device_map(None, NAMES) is None


def test_other_boot_loaders_are_not_this_modules_business() -> None:
    facts: GuestFacts = dataclasses.replace(facts_of(files()), boot_loader=BootLoader("lilo", "/etc/lilo.conf"))
    assert grub_edits.contribute(facts, NAMES).changes == ()
