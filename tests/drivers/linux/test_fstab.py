"""fstab: what is read from it, and that an edit touches nothing but the device names it resolves."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.facts import FileSystem, Partition
from drivers.linux.devices import DeviceNames
from drivers.linux.fstab import contribute, parse_fstab, plan_fstab
from tests.drivers.linux.guest import ROOT, SWAP, facts_of, files, text_file
from tests.fixtures import etc
from tests.fixtures.layout import ROOT_UUID, SWAP_UUID

NAMES = DeviceNames(1, (ROOT, SWAP), ROOT)


def planned(text: str, names: DeviceNames = NAMES) -> str:
    """The table after planning; the same text where nothing is planned."""
    edit = plan_fstab(text_file(text), names)
    return edit.after if edit else text


def test_fields_are_read_whatever_blanks_stand_between_them() -> None:
    entry = parse_fstab("\t /dev/sda1 \t / ext4  defaults,noatime\t1 2 \n")[0]
    assert (entry.spec, entry.mountpoint, entry.fstype, entry.options) == ("/dev/sda1", "/", "ext4", "defaults,noatime")
    assert (entry.dump, entry.passno, entry.line_number) == (1, 2, 1)


def test_missing_fields_have_their_defaults() -> None:
    entry = parse_fstab("\n# x\n/dev/sda1 / ext4")[0]
    assert (entry.options, entry.dump, entry.passno, entry.line_number) == ("defaults", 0, 0, 3)


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# /dev/sda1 / ext4 defaults 0 1\n", "  #/dev/sda1 / ext4\n", "/dev/sda1 /\n"]
)
def test_comments_blank_and_incomplete_lines_are_no_entries(text: str) -> None:
    assert parse_fstab(text) == ()
    assert planned(text) == text


def test_octal_escapes_are_undone_even_for_bytes_that_are_no_ascii() -> None:
    entry = parse_fstab(r"LABEL=a\040b /mnt/\303\244\134x auto" + "\n")[0]
    assert (entry.spec, entry.mountpoint) == ("LABEL=a b", "/mnt/ä\\x")


def test_root_and_swap_of_the_debian_guest_are_named_by_uuid_and_the_cd_drive_stays() -> None:
    before = etc.fstab(etc.Naming.DEVICE)
    after = before.replace("/dev/sda1", f"UUID={ROOT_UUID}").replace("/dev/sda2", f"UUID={SWAP_UUID}")
    assert planned(before) == after
    assert after == etc.fstab(etc.Naming.UUID)
    assert planned(after) == after


def test_the_edit_names_the_file_that_is_really_there() -> None:
    file = text_file("/dev/sda1 / ext4 defaults 0 1\n")
    edit = plan_fstab(type(file)("/etc/fstab", "/config/fstab", file.text), NAMES)
    assert edit is not None
    assert edit.path == "/config/fstab"


@pytest.mark.parametrize(
    "line",
    [
        f"UUID={ROOT_UUID} / ext4 defaults 0 1", "LABEL=root / ext4 defaults 0 1", "/dev/mapper/vg-root / ext4 defaults 0 1",
        "/dev/vg0/root / ext4 defaults 0 1", "/dev/md0 / ext4 defaults 0 1", "tmpfs /tmp tmpfs size=1G 0 0",
        "server:/export /srv nfs4 defaults 0 0", "/dev/fd0 /media/floppy auto noauto 0 0", "/dev/hdc /cdrom iso9660 ro 0 0",
        "/dev/disk/by-uuid/x / ext4 defaults 0 1", "/srv/a /srv/b none bind 0 0",
    ],
)  # fmt: skip
def test_lines_that_do_not_depend_on_the_machine_stay_and_are_not_remarked_on(line: str) -> None:
    assert planned(line + "\n") == line + "\n"
    facts = facts_of({**files(), "/etc/fstab": line + "\n"})
    found = contribute(facts, NAMES)
    assert (found.changes, found.warnings, found.blockers) == ((), (), ())


def test_a_disk_that_was_not_given_is_a_warning_and_its_line_stays() -> None:
    facts = facts_of({**files(), "/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n/dev/sdb1 /data xfs defaults 0 2\n"})
    found = contribute(facts, NAMES)
    assert [finding.id for finding in found.warnings] == ["linux.fstab.unresolved"]
    assert "/dev/sdb1" in found.warnings[0].message
    assert "/dev/sdb1 /data xfs" in planned(facts.texts["/etc/fstab"].text)


def test_a_root_that_cannot_be_resolved_blocks() -> None:
    facts = facts_of({**files(), "/etc/fstab": "/dev/sdc1 / ext4 defaults 0 1\n"})
    names = DeviceNames(1, (ROOT, SWAP))
    assert [finding.id for finding in contribute(facts, names).blockers] == ["linux.fstab.root-unresolved"]


def test_a_root_line_that_leads_elsewhere_than_the_root_that_was_found_blocks_and_stays() -> None:
    other = Partition(0, 3, 0, 1, "83", filesystem=FileSystem("ext4", "11111111-2222"))
    names = DeviceNames(1, (ROOT, SWAP, other), ROOT)
    text = "/dev/sda3 / ext4 defaults 0 1\n"
    assert planned(text, names) == text
    found = contribute(facts_of({**files(), "/etc/fstab": text}), names)
    assert [finding.id for finding in found.blockers] == ["linux.fstab.root-unresolved"]


def test_a_type_that_does_not_fit_what_stands_there_is_not_renamed() -> None:
    text = "/dev/sda2 /data ext4 defaults 0 2\n"
    assert planned(text) == text
    found = contribute(facts_of({**files(), "/etc/fstab": text}), NAMES)
    assert "swap was found" in found.warnings[0].message


def test_an_option_that_names_a_device_is_a_warning() -> None:
    facts = facts_of({**files(), "/etc/fstab": "LABEL=a /data xfs defaults,logdev=/dev/sda9 0 2\n"})
    assert [f.id for f in contribute(facts, NAMES).warnings] == ["linux.fstab.option-names-device"]


def test_a_guest_without_fstab_is_remarked_on() -> None:
    nodes = files()
    del nodes["/etc/fstab"]
    assert [f.id for f in contribute(facts_of(nodes), NAMES).warnings] == ["linux.fstab.missing"]


BLANK = st.text(" \t", min_size=1, max_size=4)
FIELD = st.text(string.ascii_letters + string.digits + "/=,.-_\udc80ä\u2028\x0b", min_size=1, max_size=8)
LINE = st.one_of(
    st.builds(lambda text: "#" + text, st.text(st.characters(exclude_characters="\n"), max_size=20)),
    st.text(" \t\r", max_size=3),
    st.builds(
        lambda spec, fields, gaps, tail: spec + "".join(g + f for g, f in zip(gaps, fields, strict=False)) + tail,
        st.sampled_from(["/dev/sda1", "/dev/sda2", "/dev/sdb1", "UUID=x", "tmpfs"]),
        st.lists(FIELD, max_size=6),
        st.lists(BLANK, min_size=6, max_size=6),
        st.text(" \t\r", max_size=2),
    ),
)


@settings(deadline=None)
@given(st.lists(LINE, max_size=6), st.booleans())
def test_only_first_fields_change_and_planning_again_changes_nothing(lines: list[str], newline: bool) -> None:
    text = "\n".join(lines) + ("\n" if newline else "")
    after = planned(text)
    assert planned(after) == after
    assert len(after.split("\n")) == len(text.split("\n"))
    for old, new in zip(text.split("\n"), after.split("\n"), strict=True):
        if old != new:
            old_spec, new_spec = old.split()[0], new.split()[0]
            assert new_spec.startswith("UUID=")
            assert new.replace(new_spec, old_spec, 1) == old


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("downloads /mnt/s vboxsf uid=1000,gid=1000 0 0", "downloads /mnt/s vboxsf uid=1000,gid=1000,noauto 0 0"),
        (".host:/ /mnt/hgfs fuse.vmhgfs-fuse nofail 0 0", ".host:/ /mnt/hgfs fuse.vmhgfs-fuse nofail,noauto 0 0"),
        ("vmhgfs-fuse\t/mnt/hgfs\tfuse\tdefaults\t0\t0\r", "vmhgfs-fuse\t/mnt/hgfs\tfuse\tdefaults,noauto\t0\t0\r"),
        ("none /proc/xen xenfs", "none /proc/xen xenfs noauto"),
    ],
)  # fmt: skip
def test_what_the_old_hypervisor_shared_is_not_mounted_at_the_start(before: str, after: str) -> None:
    assert planned(f"{before}\n") == f"{after}\n"
    assert planned(f"{after}\n") == f"{after}\n"


@pytest.mark.parametrize(
    "line",
    [
        "share /mnt vboxsf noauto 0 0", "share /mnt vboxsf rw,noauto,x-systemd.automount 0 0", "share /mnt 9p trans=virtio 0 0",
        "sshfs#me@host: /mnt fuse defaults 0 0", "vboxsf /mnt nfs4 defaults 0 0",
    ],
)  # fmt: skip
def test_shares_that_do_not_stop_the_start_stay(line: str) -> None:
    assert planned(f"{line}\n") == f"{line}\n"
