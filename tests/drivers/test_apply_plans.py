"""Whole plans, as planning makes them: applied once they are done, twice they do nothing, too late they are refused."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import get_args

import pytest

from drivers.apply import apply_changes
from drivers.changes import Change, ExtendInitramfs
from drivers.facts import GuestFacts, LabelPolicy, LabelRule
from drivers.plan import GuestPlan
from drivers.planning import PlanOptions, plan_guest
from drivers.tree import FileType
from p2v.core.errors import PlanStale
from tests.drivers import test_apply
from tests.drivers.linux.guest import VERSION, applied, extended, facts_of, files, kernel
from tests.drivers.memory_guest import MemoryGuest, Node, file, folder, link
from tests.drivers.memory_tree import Folder, Link
from tests.drivers.memory_tree import Node as TreeNode

IMAGE = b"initramfs of some bytes" * 100
SUPPLEMENT = b"070701 and so on"
LABEL = b"u:r:old_t:s0\0"
POLICY = LabelPolicy("demo", (LabelRule("/etc/.*", "", "u:r:new_t:s0"),))
OPTIONS = PlanOptions(("00:0c:29:01:02:03",))


def tree() -> dict[str, TreeNode]:
    return {**files(), f"/boot/initrd.img-{VERSION}": IMAGE, "/etc/systemd/system": Folder()}


def facts() -> GuestFacts:
    plain = kernel()
    assert plain.initramfs is not None
    image = dataclasses.replace(plain.initramfs, size=len(IMAGE), sha256=hashlib.sha256(IMAGE).hexdigest())
    known = dataclasses.replace(plain, initramfs=image)
    return dataclasses.replace(facts_of(tree(), [known]), label_policy=POLICY)


def node(of: TreeNode) -> Node:
    match of:
        case Link():
            return link(of.target)
        case Folder():
            return folder(LABEL)
        case _:
            return file(of, label=LABEL)


def guest() -> MemoryGuest:
    found = MemoryGuest({path: node(of) for path, of in tree().items()})
    for each in found.nodes.values():
        each.label = LABEL
    return found


def plan() -> GuestPlan:
    made = plan_guest(facts(), OPTIONS)
    assert not made.blockers
    return made


def supplements(changes: Sequence[Change]) -> Mapping[str, bytes]:
    return {change.path: SUPPLEMENT for change in changes if isinstance(change, ExtendInitramfs)}


CHANGES = plan().changes


def apply(to: MemoryGuest, made: GuestPlan) -> list[bool]:
    done = apply_changes(to, made.changes, supplements(made.changes), labels=made.labels)
    return [each.skipped for each in done]


def test_every_kind_of_change_is_tried_for_both() -> None:
    kinds = {type(case.change) for case in test_apply.CASES.values()}
    assert kinds == set(get_args(Change))
    assert {type(test_apply.CASES[name].change) for name, _ in test_apply.STALE} == kinds


def test_a_plan_applied_twice_changes_nothing_the_second_time() -> None:
    target = guest()
    assert not any(apply(target, plan()))
    nodes, written = copy.deepcopy(target.nodes), len(target.writes)
    assert all(apply(target, plan()))
    assert target.nodes == nodes
    assert len(target.writes) == written


def test_a_plan_that_was_interrupted_is_carried_on() -> None:
    for done in range(len(CHANGES)):
        target = guest()
        apply_changes(target, CHANGES[:done], supplements(CHANGES))
        assert apply(target, plan()) == [True] * done + [False] * (len(CHANGES) - done)


def test_planning_what_was_applied_changes_nothing() -> None:
    made = plan()
    after = facts_of(applied(tree(), made.changes), extended(facts().kernels, made.changes))
    assert plan_guest(after, OPTIONS).changes == ()


def test_what_is_edited_keeps_its_label_and_what_is_new_has_the_policys() -> None:
    target, before = guest(), guest()
    apply(target, plan())
    for change in CHANGES:
        label = target.nodes[change.path].label
        is_kept = before.nodes.get(change.path, folder()).type is FileType.FILE
        assert label == (LABEL if is_kept else b"u:r:new_t:s0\0"), change.path


@pytest.mark.parametrize("index", range(len(CHANGES)), ids=lambda i: type(CHANGES[i]).__name__)
@pytest.mark.parametrize("now", [file("written by the guest meanwhile"), link("/elsewhere"), folder(), None])
def test_a_plan_made_before_the_guest_changed_is_refused(index: int, now: Node | None) -> None:
    target = guest()
    path = CHANGES[index].path
    if now is None and path not in target.nodes:
        now = file("")
    if now is None:
        del target.nodes[path]
    else:
        target.nodes[path] = copy.copy(now)
    with pytest.raises(PlanStale) as caught:
        apply(target, plan())
    assert caught.value.where == path
    assert target.writes == []
