"""Boot Loader Specification with GRUB: what is read of entries, and what an edit of them may touch."""

from __future__ import annotations

import dataclasses
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.changes import EditFile
from drivers.linux import boot_entries, grub_script, grubenv
from drivers.linux.grubenv import plan_environment
from drivers.planning import PlanOptions, plan_guest
from tests.drivers.linux.boot_guests import (
    BLS,
    NAMES,
    NEW,
    OLD,
    PLAIN,
    RESCUE,
    ROOT_ARGUMENT,
    SWAP_ARGUMENT,
    after,
    block,
    facts,
    loader,
    plan,
    red_hat,
    snippet,
)
from tests.drivers.linux.guest import applied, extended, facts_of, text_file
from tests.drivers.linux.guest import kernel as debian_kernel
from tests.drivers.memory_tree import Folder, Link, Node
from tests.fixtures.layout import SWAP_UUID

# -- Boot Loader Specification with GRUB -------------------------------------------------------------------------------


def test_snippets_stand_in_grubs_menu_newest_first_and_take_their_arguments_from_the_environment() -> None:
    found = loader(red_hat())
    assert (found.kind, found.config) == ("grub2", "/boot/grub2/grub.cfg")
    assert [entry.kernel for entry in found.entries] == [f"/boot/vmlinuz-{v}" for v in (NEW, OLD, RESCUE)]
    assert found.entries[0].initramfs == (f"/boot/initramfs-{NEW}.img",)
    assert {entry.arguments for entry in found.entries} == {"root=/dev/sda1 ro quiet"}
    assert found.entries[1].source == f"{BLS}/abc-{OLD}.conf"
    assert found.default == f"Red Hat Enterprise Linux ({OLD}) 9.5 (Plow)"


def test_without_a_saved_entry_the_newest_starts_and_the_menus_own_arguments_are_taken() -> None:
    found = loader(red_hat(environment=block()))
    assert found.default == f"Red Hat Enterprise Linux ({NEW}) 9.5 (Plow)"
    assert found.entries[0].arguments == "root=/dev/sda1 ro resume=/dev/sda2"


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("a-4.18.0-80.el8", "a-4.18.0-305.el8"), ("a-5.9.1-1", "a-5.10.0-1"), ("a-0-rescue", "a-2.6.1-1"),
        ("a-6.1.0~rc1-1", "a-6.1.0-1"), ("a-6.1-1", "a-6.1.1-1"), ("a-6.1-1.x", "a-6.1-1.0"), ("a-6.01-1", "a-6.2-1"),
    ],
)  # fmt: skip
def test_versions_are_compared_as_rpm_does(lower: str, higher: str) -> None:
    nodes: dict[str, Node] = {"/boot/grub2/grub.cfg": "blscfg\n"}
    nodes |= {f"{BLS}/{name}.conf": f"linux /k\ntitle {name}\n" for name in (higher, lower)}
    assert [entry.title for entry in loader(nodes).entries] == [higher, lower]


def test_entries_of_one_title_are_told_apart() -> None:
    nodes: dict[str, Node] = {"/boot/grub2/grub.cfg": 'set default="b"\nblscfg\n'}
    nodes |= {f"{BLS}/{name}.conf": "title Linux\nlinux /k\n" for name in "ab"}
    found = loader(nodes)
    assert sorted(entry.title for entry in found.entries) == ["Linux (a)", "Linux (b)"]
    assert found.default == "Linux (b)"


def test_a_stub_on_the_efi_partition_leads_to_a_menu_of_snippets() -> None:
    nodes = {**red_hat(), "/boot/efi/EFI/redhat/grub.cfg": "set prefix=($dev)/grub2\nconfigfile $prefix/grub.cfg\n"}
    assert loader(nodes).config == "/boot/grub2/grub.cfg"
    assert len(loader(nodes).entries) == 3


def test_arguments_in_snippets_are_named_by_uuid_and_every_other_byte_stays() -> None:
    nodes = red_hat("root=/dev/sda1 ro  resume=/dev/sda2 rd.lvm.lv=rhel/root console=hvc0,115200\tquiet")
    found = after(nodes)
    for name in (NEW, OLD, "0-rescue"):
        path = f"{BLS}/abc-{name}.conf"
        expected = str(nodes[path]).replace("root=/dev/sda1", ROOT_ARGUMENT).replace("resume=/dev/sda2", SWAP_ARGUMENT)
        assert found[path] == expected.replace("console=hvc0,", "console=ttyS0,")


def test_crlf_comments_and_names_that_last_stay_in_a_snippet() -> None:
    text = f"# root=/dev/sda1\r\ntitle x\r\nlinux /vmlinuz-{NEW}\r\ninitrd /i\r\n"
    text += f"options root=/dev/sda1 \r\noptions {SWAP_ARGUMENT}\r\n"
    nodes = {**red_hat(), f"{BLS}/abc-{NEW}.conf": text}
    assert after(nodes)[f"{BLS}/abc-{NEW}.conf"] == text.replace("options root=/dev/sda1", f"options {ROOT_ARGUMENT}")


def test_the_environment_block_and_the_menus_fallback_are_named_by_uuid_and_the_block_keeps_its_size() -> None:
    found = after(red_hat())
    text = str(found["/boot/grub2/grubenv"])
    assert len(text) == 1024
    assert text.startswith(f"{grubenv.SIGNATURE}saved_entry=abc-{OLD}\nkernelopts={ROOT_ARGUMENT} ro quiet\n##")
    assert text.rstrip("#").endswith("quiet\n")
    assert f'set kernelopts="{ROOT_ARGUMENT} ro {SWAP_ARGUMENT} "' in str(found["/boot/grub2/grub.cfg"])


def test_a_block_that_is_a_link_to_the_efi_partition_is_edited_where_it_is() -> None:
    nodes = red_hat()
    nodes["/boot/efi/EFI/redhat/grubenv"] = nodes["/boot/grub2/grubenv"]
    nodes["/boot/grub2/grubenv"] = Link("../efi/EFI/redhat/grubenv")
    assert ROOT_ARGUMENT in str(after(nodes)["/boot/efi/EFI/redhat/grubenv"])


def test_a_longer_name_takes_the_fillings_bytes_and_a_block_that_is_full_stays_with_a_warning() -> None:
    line = "kernelopts=root=/dev/sda1 ro"
    full = grubenv.SIGNATURE + f"{line}\n" + "#" * 10
    assert plan_environment(text_file(full), NAMES) is None
    edit = plan_environment(text_file(full + "#" * 90), NAMES)
    assert edit is not None
    assert len(edit.after) == len(full) + 90
    nodes = red_hat(environment=grubenv.SIGNATURE + f"{line} x={'y' * 950}\n" + "#" * 10)
    assert "linux.grubenv.names-device" in [finding.id for finding in plan(nodes).warnings]


def test_a_block_counts_bytes_not_characters() -> None:
    text = grubenv.SIGNATURE + "kernelopts=root=/dev/sda1 ü\udcff\n" + "#" * 900
    edit = plan_environment(text_file(text), NAMES)
    assert edit is not None
    assert len(edit.after.encode("utf-8", "surrogateescape")) == len(text.encode("utf-8", "surrogateescape"))


def test_a_default_snippet_whose_root_is_not_there_blocks() -> None:
    nodes = red_hat("root=/dev/sdc1 ro")
    assert [finding.id for finding in plan(nodes).blockers] == ["linux.boot-loader.root-unresolved"]
    nodes = red_hat(environment=block("kernelopts=root=/dev/sdc1 ro"))
    assert [finding.id for finding in plan(nodes).blockers] == ["linux.boot-loader.root-unresolved"]
    nodes = {**red_hat("root=/dev/sda1"), f"{BLS}/abc-{NEW}.conf": snippet(NEW, "root=/dev/sdc1")}
    found = plan(nodes)
    assert found.blockers == ()
    assert "linux.boot-loader.argument-names-device" in [finding.id for finding in found.warnings]


def test_a_default_snippet_with_a_uuid_that_nothing_has_is_warned_of() -> None:
    assert "linux.boot-loader.root-absent" in [f.id for f in plan(red_hat("root=UUID=dead-beef")).warnings]


@pytest.mark.parametrize("path", ["/etc/kernel/cmdline", "/etc/cmdline.d/root.conf"])
def test_what_the_next_kernels_entry_is_made_from_is_named_by_uuid(path: str) -> None:
    nodes = {**red_hat(), path: "# root=/dev/sda1\nroot=/dev/sda1 ro console=xvc0\n"}
    assert after(nodes)[path] == f"# root=/dev/sda1\n{ROOT_ARGUMENT} ro console=ttyS0\n"


def test_settings_that_are_a_link_are_edited_once() -> None:
    nodes = {
        **red_hat(),
        "/etc/default/grub": 'GRUB_CMDLINE_LINUX="resume=/dev/sda2 console=hvc0 x"\n',
        "/etc/sysconfig/grub": Link("/etc/default/grub"),
    }
    assert after(nodes)["/etc/default/grub"] == f'GRUB_CMDLINE_LINUX="{SWAP_ARGUMENT} console=ttyS0 x"\n'


def test_hvc0_stays_where_every_machine_has_it() -> None:
    found = facts(red_hat("root=UUID=x console=hvc0"))
    assert found.os is not None
    power = dataclasses.replace(found, os=dataclasses.replace(found.os, arch="ppc64le"))
    edits = [change for change in boot_entries.contribute(power, NAMES).changes if isinstance(change, EditFile)]
    assert not any("ttyS0" in edit.after for edit in edits)


def test_a_cryptdevice_ends_at_its_colon() -> None:
    nodes = red_hat("cryptdevice=/dev/sda2:root root=/dev/mapper/root")
    assert f"cryptdevice=UUID={SWAP_UUID}:root root=/dev/mapper/root" in str(after(nodes)[f"{BLS}/abc-{NEW}.conf"])


TEXT = st.text(st.sampled_from("linux options root=/dev/sda1\n\r\t#$=\udcff\x0b "), max_size=80)


@settings(deadline=None, max_examples=60)
@given(TEXT)
def test_any_text_can_be_an_entry_a_label_or_a_menu(text: str) -> None:
    for nodes in (
        {"/boot/grub2/grub.cfg": "blscfg", f"{BLS}/a.conf": text},
        {"/efi/loader/loader.conf": text, "/efi/loader/entries/a.conf": text},
        {"/boot/extlinux.conf": f"label x\n{text}"},
        {"/boot/grub/menu.lst": f"title x\n{text}"},
        {"/etc/lilo.conf": f"image=/x\n{text}"},
    ):
        given: dict[str, Node] = {"/etc/fstab": "", **nodes}
        kernels = (debian_kernel(),)
        changes = plan_guest(facts_of(given, kernels), PlanOptions()).changes
        rewritten = facts_of(applied(given, changes), extended(kernels, changes))
        assert plan_guest(rewritten, PlanOptions()).changes == ()


MEGABYTES = {
    "blanks": " " * 900000,
    "letters": "a" * 900000,
    "key and blanks": "options" + " " * 900000,
    "kernel and blanks": "kernel" + " " * 900000,
    "argument and blanks": "label x\nappend a" + " " * 900000 + "\x0b",
    "roots": "options root=/dev/sda1" * 40000,
    "titles": "title x\nkernel /k root=/dev/sda1\n" * 20000,
    "labels": "label x\nlinux /k\n" * 40000,
    "images": "image=/x\nroot=" * 60000,
    "omitted": 'omit_drivers+="' + "virtio " * 100000,
    "open lists": "MODULES=(\n" * 90000,
    "devices": "/dev/sda1=" * 90000,
}


@pytest.mark.parametrize("kind", MEGABYTES)
def test_megabytes_of_anything_are_read_and_planned_in_seconds(kind: str) -> None:
    started = time.process_time()
    for path in (
        f"{BLS}/a.conf", "/efi/loader/loader.conf", "/boot/extlinux.conf", "/boot/grub/menu.lst", "/etc/lilo.conf",
        "/etc/dracut.conf", "/etc/mkinitcpio.conf", "/etc/kernel/cmdline", "/boot/grub2/grubenv", "/etc/inittab",
    ):  # fmt: skip
        nodes: dict[str, Node] = {"/etc/fstab": "", path: MEGABYTES[kind], "/usr/lib/dracut": Folder()}
        if path in (f"{BLS}/a.conf", "/boot/grub2/grubenv"):
            nodes["/boot/grub2/grub.cfg"] = "blscfg\n"
        plan_guest(facts_of(nodes), PLAIN)
    assert time.process_time() - started < 30


def test_blscfg_inside_an_entry_is_none_of_the_menu() -> None:
    assert grub_script.parse("menuentry a {\n blscfg\n}\n").bls_at is None
