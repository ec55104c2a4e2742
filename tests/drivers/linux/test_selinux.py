"""New files get the label that the guest's own policy gives them, whatever stands in it."""

from __future__ import annotations

import dataclasses
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from drivers.changes import Change, CopyFile, EditFile, MakeSymlink, WriteFile
from drivers.facts import GuestFacts, LabelPolicy, LabelRule, ReadBy
from drivers.inspection import facts_from_tree
from drivers.layout import Layout
from drivers.linux.selinux import CREATED_BELOW, FILE, FOLDER, LINK, LabelLookup, labels_of, read_label_policy
from drivers.plan_text import render
from drivers.planning import PlanOptions, plan_guest
from p2v.core import jsonio
from p2v.core.run import find_program
from tests.drivers.linux.guest import facts_of, files
from tests.drivers.memory_tree import InMemoryTree, Node

CONFIG = "# comment\nSELINUX=enforcing\nSELINUXTYPE=demo\n"
FILES = "/etc/selinux/demo/contexts/files"
MAIN = """\
# a comment, and rules with blanks and tabs between their words

/.*\tsystem_u:object_r:default_t:s0
/etc(/.*)?  system_u:object_r:etc_t:s0
/etc/p2v-exact\\.conf -- system_u:object_r:exact_t:s0
/etc/p2v-.*\tsystem_u:object_r:later_t:s0
/etc/systemd/system/tools.*\\.service -- system_u:object_r:tools_unit_t:s0
/etc/systemd/network(/.*)? system_u:object_r:net_t:s0
/etc/systemd/network/[0-9]{2}-.*\\.link -- system_u:object_r:link_t:s0
/usr/lib/systemd/system(/.*)? system_u:object_r:unit_t:s0
/usr/lib/systemd/system/ssh.* -- system_u:object_r:sshd_unit_t:s0
/usr/lib/systemd/system/nothing\\.service <<none>>
/etc/rc\\.d/init\\.d/.* -- system_u:object_r:initrc_t:s0
/boot(/.*)? system_u:object_r:boot_t:s0
/boot/grub2?(/.*)? -d system_u:object_r:grub_t:s0
/boot/loader/(a|b)+ -- system_u:object_r:ab_t:s0-s0:c0.c1023
/boot/x|/etc/udev/y -- system_u:object_r:bar_t:s0
/var/lib/elsewhere(/.*)? system_u:object_r:elsewhere_t:s0
/home/[^/]+/.* system_u:object_r:user_t:s0
"""
LOCAL = "/etc/udev/rules\\.d/.* -- system_u:object_r:local_t:s0\n/etc/p2v-x -- system_u:object_r:mine_t:s0\n"
HOME = "/home/[^/]+/\\.ssh(/.*)? user_u:object_r:ssh_home_t:s0\n/boot/homedirs system_u:object_r:home_t:s0\n"
SHIPPED = "# alias, name\n/etc/systemd/system /usr/lib/systemd/system\n/etc/init.d /etc/rc.d/init.d\n/etc /elsewhere\n"
SUBS = "/etc/wicked /etc/systemd/network\n/etc/local.d /etc/systemd/system\n"
POLICY: Mapping[str, Node] = {
    "/etc/selinux/config": CONFIG,
    f"{FILES}/file_contexts": MAIN,
    f"{FILES}/file_contexts.local": LOCAL,
    f"{FILES}/file_contexts.homedirs": HOME,
    f"{FILES}/file_contexts.subs_dist": SHIPPED.replace("/etc /elsewhere\n", ""),
    f"{FILES}/file_contexts.subs": SUBS,
}
ASKED: Sequence[tuple[str, str]] = [
    (path, type_)
    for path in (
        "/etc/p2v-exact.conf", "/etc/p2v-other", "/etc/p2v-x", "/etc/systemd/system/tools-a.service",
        "/etc/systemd/system/nothing.service", "/etc/systemd/system/ssh.service", "/etc/systemd/system", "/etc/systemd",
        "/etc/systemd/network/70-nic.link", "/etc/systemd/network/7-nic.link", "/etc/init.d/p2v-first", "/boot/grub2",
        "/boot/grub/x", "/boot/loader/abab", "/boot/loader/abc", "/boot/x", "/boot/xtra", "/q/etc/udev/y", "/etc/udev/y",
        "/boot/homedirs", "/etc/udev/rules.d/70-x.rules", "/etc/wicked/70-nic.link", "/etc/local.d/ssh.start",
        "/etc/network/\N{LATIN SMALL LETTER E WITH ACUTE}", "/etc/kernel/a b",
    )
    for type_ in (FILE, FOLDER, LINK)
]  # fmt: skip


def policy_of(files: Mapping[str, Node] = POLICY) -> LabelPolicy:
    policy, notes = read_label_policy(InMemoryTree(files))
    assert policy is not None
    assert notes == ()
    return policy


def short(label: str | None) -> str | None:
    return label and label.split(":")[2]


@pytest.mark.parametrize(
    ("path", "type_", "label"),
    [
        ("/etc/p2v-exact.conf", FILE, "exact_t"),  # a plain name after all expressions, wherever it stands
        ("/etc/p2v-exact.conf", LINK, "later_t"),
        ("/etc/p2v-other", FILE, "later_t"),
        ("/etc/p2v-x", FILE, "mine_t"),
        ("/etc/systemd/system/tools.service", FILE, "unit_t"),  # looked up under its other name only
        ("/etc/systemd/system/ssh.service", FILE, "sshd_unit_t"),
        ("/etc/systemd/system/ssh.service", LINK, "unit_t"),
        ("/etc/systemd/system/nothing.service", FILE, None),
        ("/etc/systemd/systemx", FILE, "etc_t"),
        ("/etc/systemd/network/70-a.link", FILE, "link_t"),
        ("/etc/systemd/network/7-a.link", FILE, "net_t"),
        ("/etc/wicked/70-a.link", FILE, "link_t"),
        ("/etc/local.d/ssh.start", FILE, "sshd_unit_t"),  # through both files of aliases
        ("/etc/init.d/p2v", FILE, "initrc_t"),
        ("/boot/grub", FOLDER, "grub_t"),
        ("/boot/grub", FILE, "boot_t"),
        ("/boot/loader/abba", FILE, "ab_t"),
        ("/boot/homedirs", FILE, "home_t"),
    ],
)
def test_the_last_rule_that_fits_labels(path: str, type_: str, label: str | None) -> None:
    assert short(LabelLookup(policy_of()).label(path, type_)) == label


def test_labels_are_those_that_libselinux_gives(tmp_path: Path) -> None:
    program = find_program("matchpathcon")
    if program is None:
        pytest.skip("matchpathcon is not there (Debian: selinux-utils)")
    for name, text in POLICY.items():
        if name.startswith(FILES):
            (tmp_path / name.rpartition("/")[2]).write_text(str(text))
    lookup = LabelLookup(policy_of())
    modes = {FILE: "file", FOLDER: "dir", LINK: "lnk_file"}
    for type_, mode in modes.items():
        paths = [path for path, other in ASKED if other == type_]
        argv = [str(program), "-f", str(tmp_path / "file_contexts"), "-m", mode, *paths]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        said = dict(line.split("\t") for line in done.stdout.splitlines())
        assert {path: lookup.label(path, type_) or "<<none>>" for path in paths} == said


def test_only_rules_that_may_fit_new_names_are_facts() -> None:
    patterns = [rule.pattern for rule in policy_of().rules]
    assert "/.*" in patterns
    assert "/usr/lib/systemd/system(/.*)?" in patterns
    assert "/var/lib/elsewhere(/.*)?" not in patterns
    assert not any(pattern.startswith("/home") for pattern in patterns)


def test_every_label_is_as_if_all_rules_were_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    few = LabelLookup(policy_of())
    monkeypatch.setattr("drivers.linux.selinux.CREATED_BELOW", ("/",))
    every = LabelLookup(policy_of())
    covered = [(path, type_) for path, type_ in ASKED if path.startswith(CREATED_BELOW)]
    assert [few.label(*name) for name in covered] == [every.label(*name) for name in covered]


def test_what_changes_make_is_labelled_with_the_folders_above_it() -> None:
    changes: list[Change] = [
        WriteFile("/etc/systemd/network/10-a.link", "", 0o644, ""),
        MakeSymlink("/etc/systemd/system/a.target.wants/ssh.service", "/dev/null", None, ""),
        EditFile("/etc/default/grub", "a", "b", ""),
        CopyFile("/boot/x", 1, "ab", "/boot/homedirs", 0o644, ""),
        WriteFile("/opt/unheard/of", "", 0o644, ""),
    ]
    labels, problems = labels_of(policy_of(), changes)
    assert {path: short(label) for path, label in labels.items()} == {
        "/etc/systemd/network/10-a.link": "link_t",
        "/etc/systemd/network": "net_t",
        "/etc/systemd": "etc_t",
        "/etc/systemd/system/a.target.wants/ssh.service": "unit_t",
        "/etc/systemd/system/a.target.wants": "unit_t",
        "/etc/systemd/system": "unit_t",
        "/boot": "boot_t",
        "/boot/homedirs": "home_t",
    }
    assert problems == ()


@pytest.mark.parametrize("config", ["SELINUX=disabled\nSELINUXTYPE=demo\n", "SELINUX=enforcing\n", None])
def test_a_guest_that_labels_nothing_has_no_policy(config: str | None) -> None:
    files = {path: node for path, node in POLICY.items() if path != "/etc/selinux/config"}
    tree = InMemoryTree(files if config is None else {**files, "/etc/selinux/config": config})
    assert read_label_policy(tree) == (None, ())
    assert labels_of(None, [WriteFile("/etc/p2v", "", 0o644, "")]) == ({}, ())


@pytest.mark.parametrize("name", ["../../../etc", "..", "/etc", "a b/c", "\udce9", "x" * 65])
def test_a_policy_is_looked_for_in_its_folder_only(name: str) -> None:
    policy, notes = read_label_policy(InMemoryTree({**POLICY, "/etc/selinux/config": f'SELINUXTYPE="{name}"\n'}))
    assert policy is None
    assert len(notes) == 1


def test_a_policy_without_texts_is_a_note() -> None:
    policy, notes = read_label_policy(InMemoryTree({"/etc/selinux/config": CONFIG}))
    assert policy is None
    assert FILES in notes[0]


@pytest.mark.parametrize(
    "line",
    [
        "/etc/p2v", "/etc/p2v -- ", "/etc/p2v -z system_u:object_r:x_t", "/etc/p2v -- a b system_u:object_r:x_t",
        "/etc/p2v no-label", "/etc/p2v system_u:object_r:\x1b[31m", "/etc/p2v system_u:object_r:\udce9",
        "/etc/" + "a" * 600 + " system_u:object_r:x_t", "/etc/p2v system_u:object_r:" + "x" * 300, "\0\0\0",
    ],
)  # fmt: skip
def test_lines_that_are_none_label_nothing(line: str) -> None:
    assert (
        policy_of({**POLICY, f"{FILES}/file_contexts": f"{line}\n/etc/p2v -- u:r:t_t\r\n"}).rules[0].label == "u:r:t_t"
    )


@pytest.mark.parametrize(
    "pattern", ["/etc/p2v(", "/etc/(?=p)p2v", "/etc/(p2v)\\1", "/etc/p2v[", "/etc/p2v**", "/etc/x{9999}"]
)
def test_a_rule_that_is_not_understood_is_named_and_the_others_hold(pattern: str) -> None:
    policy = LabelPolicy("demo", (LabelRule("/etc/p.*", "", "u:r:kept_t"), LabelRule(pattern, "", "u:r:lost_t")))
    labels, problems = labels_of(policy, [WriteFile("/etc/p2v", "", 0o644, "")])
    assert labels["/etc/p2v"] == "u:r:kept_t"
    assert problems in ((pattern,), ())


@pytest.mark.parametrize("pattern", ["/etc/p2v(a+)+", "/etc/p2v(a|a)*b", "/etc/p2v(.*)*(.*)*(.*)*x", "(((/.*)*)*)*!"])
def test_no_expression_takes_long(pattern: str) -> None:
    rules = tuple(LabelRule(pattern + "c" * (i % 3), "", "u:r:x_t") for i in range(300))
    started = time.process_time()
    labels, _ = labels_of(LabelPolicy("demo", rules), [WriteFile("/etc/p2v" + "a" * 240 + "!", "", 0o644, "")])
    assert time.process_time() - started < 2.0
    assert "/etc/p2v" + "a" * 240 + "!" not in labels or pattern.startswith("(((")


def test_a_policy_of_millions_of_rules_is_bounded() -> None:
    text = "/etc/p2v.* u:r:x_t\n" * 250_000
    policy, notes = read_label_policy(InMemoryTree({**POLICY, f"{FILES}/file_contexts": text}))
    assert policy is not None
    assert policy.rules == ()
    assert len(notes) == 1


def test_a_plan_says_the_label_of_everything_it_makes() -> None:
    facts = facts_of({**files(), **POLICY})
    plan = plan_guest(dataclasses.replace(facts, label_policy=policy_of()), PlanOptions(("00:0c:29:01:02:03",)))
    made = [change for change in plan.changes if isinstance(change, WriteFile | MakeSymlink)]
    assert made
    assert {change.path for change in made} <= plan.labels.keys()
    assert render(plan).count("SELinux label: system_u:object_r:") == len(made)


def test_rules_that_are_not_understood_are_a_warning_of_the_plan() -> None:
    policy = LabelPolicy("demo", (LabelRule("/etc/systemd/system/(?=v).*", "", "u:r:x_t"),))
    plan = plan_guest(dataclasses.replace(facts_of(files()), label_policy=policy), PlanOptions())
    assert [finding.id for finding in plan.warnings if "selinux" in finding.id] == ["linux.selinux.rule"]


def test_the_policy_is_among_the_facts() -> None:
    facts = facts_from_tree(Layout((), ()), InMemoryTree(POLICY), ReadBy.APPLIANCE, root=None, mounts=())
    assert facts.label_policy == policy_of()
    assert jsonio.decode(jsonio.converter(), jsonio.encode(jsonio.converter(), facts), GuestFacts) == facts
