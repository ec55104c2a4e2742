"""What machines of a batch do to each other once they are converted: told before anything is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.audit.document import Signs
from p2v.audit.fleet import twice
from p2v.batch.clashes import against_each_other
from p2v.batch.jobs import Batch, MachineJob
from p2v.batch.planned import BatchPlan, MachinePlan, Planned
from p2v.batch.planning import plan_batch
from p2v.batch.preflight import preflight
from p2v.cli.planned_jobs import planner
from p2v.core.block_devices import Ground
from p2v.targets.front_ends import FrontEnd
from p2v.targets.libvirt_host import Delivery, LibvirtHost, Pool
from p2v.targets.storage import Storage
from tests.audit.small_machines import described
from tests.batch.manifests import read
from tests.batch.test_planning import HEAD, by_name, codes, small_disk

MAC = "00:50:56:00:00:01"


class Host(LibvirtHost):
    """One that has no such machine."""

    def check(self, name: str, uuid: str, networks: Sequence[str], pools: Sequence[str]) -> dict[str, Pool]:
        return {name: Pool(name, "dir", True) for name in pools}


def machine(name: str, line: int = 1, **more: object) -> MachinePlan:
    return replace(MachinePlan(name, line, 0, Path("/srv"), outputs=(f"{name}.qcow2",)), **more)  # type: ignore[arg-type]


def together(*plans: MachinePlan) -> dict[str, MachinePlan]:
    return {each.name: each for each in against_each_other(plans)}


def warned(plan: MachinePlan) -> dict[str, str]:
    return {each.code: each.message for each in plan.warnings}


def fleet(folder: Path, text: str) -> BatchPlan:
    for name in ("a", "b"):
        (folder / name).mkdir(exist_ok=True)
        small_disk(folder / name / "d.img")
        described(folder / name / f"{name}.vmx", name, "d.img", MAC)
    return plan_batch(read(folder, HEAD + text), planner(), at_once=2)


def test_equal_addresses_of_cards_are_told_of_both_machines_with_their_lines(tmp_path: Path) -> None:
    found = by_name(fleet(tmp_path, "- {name: a, source: a/a.vmx}\n- {name: b, source: b/b.vmx}\n"))
    for name in "ab":
        assert warned(found[name])["fleet.mac-twice"] == f"2 machines have the MAC address {MAC}: a (line 4), b (line 5)"
    (trouble,) = [each for each in found["a"].warnings if each.code == "fleet.mac-twice"]
    # what is to be done is said in the words of a manifest
    assert "`mac: OLD=NEW`" in trouble.hint
    assert not found["a"].is_blocked


def test_what_the_manifest_gives_counts_not_what_the_description_says(tmp_path: Path) -> None:
    other = "00:50:56:00:00:02"
    apart = fleet(tmp_path, f"- {{name: a, source: a/a.vmx}}\n- {{name: b, source: b/b.vmx, mac: '{MAC}={other}'}}\n")
    assert not any("fleet.mac-twice" in warned(each) for each in apart.machines)
    text = f"- {{name: a, source: a/d.img, mac: '{other.upper()}'}}\n- {{name: b, source: b/d.img, mac: '{other}'}}\n"
    given = fleet(tmp_path, text)
    assert all("fleet.mac-twice" in warned(each) for each in given.machines)


def test_equal_uuids_are_told_of_and_a_copy_with_an_identity_of_its_own_has_none(tmp_path: Path) -> None:
    plans = [
        machine("a", signs=Signs(uuid="1-2")),
        machine("b", signs=Signs(uuid="1-2")),
        machine("c", signs=Signs(uuid="3")),
    ]
    found = together(*plans)
    assert ["fleet.uuid-twice" in warned(found[name]) for name in "abc"] == [True, True, False]
    small_disk(tmp_path / "d.img")
    text = "- {name: a, source: d.img}\n- {name: b, source: d.img, new-identity: true}\n"
    real = by_name(plan_batch(read(tmp_path, HEAD + text), planner(), at_once=1))
    assert real["a"].signs.uuid
    assert "fleet.uuid-twice" not in warned(real["a"])


def test_every_sign_of_the_audits_is_one_here() -> None:
    signs = Signs("u", "m", "h", ("x",), ("d",), ("10.0.0.1",))
    found = together(machine("a", signs=signs), machine("b", signs=signs))
    expected = {each.rule for each in twice([("a", signs), ("b", signs)])}
    assert expected == set(warned(found["a"]))
    assert len(expected) == 6


def test_a_machine_that_is_left_alone_clashes_with_nobody() -> None:
    signs = Signs(macs=(MAC,))
    found = together(machine("a", signs=signs), machine("b", signs=signs, left_alone="converted already"))
    assert not found["a"].warnings


def test_a_thousand_clashes_do_not_fill_a_plan() -> None:
    signs = Signs(addresses=tuple(f"10.0.{n // 250}.{n % 250}" for n in range(1000)))
    found = together(*(machine(f"m{n}", signs=signs) for n in range(20)))
    assert all(0 < len(each.warnings) <= 20 for each in found.values())
    assert all(len(trouble.message) < 200 for each in found.values() for trouble in each.warnings)


def test_one_disk_is_one_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "d.img").write_bytes(b"x")
    os.link(tmp_path / "d.img", tmp_path / "e.img")
    (tmp_path / "link").symlink_to(tmp_path)
    names = ("d.img", "e.img", "link/d.img")
    found = together(
        *(machine(name[:1] + str(n), n + 1, sources=(str(tmp_path / name),)) for n, name in enumerate(names))
    )
    assert [list(warned(each)) for each in found.values()] == [[], ["same-source"], ["same-source"]]
    assert "d0 (line 1)" in warned(found["e1"])["same-source"]


def test_a_result_must_not_stand_where_a_source_is_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "a.qcow2").write_bytes(b"x")
    os.link(tmp_path / "a.qcow2", tmp_path / "other.img")
    plans = (machine("a", folder=tmp_path), machine("b", 2, folder=tmp_path, sources=(str(tmp_path / "other.img"),)))
    assert codes(together(*plans)["a"]) == {"output-is-source"}


def test_a_partition_and_its_disk_are_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    grounds = {
        "/dev/x": Ground(frozenset({"8:0"}), number="8:0"),
        "/dev/x1": Ground(frozenset({"8:1", "8:0"}), number="8:1"),
        "/dev/x2": Ground(frozenset({"8:2", "8:0"}), number="8:2"),
        "/srv/on-x2.img": Ground(frozenset({"8:2", "8:0"}), frozenset({(8, 5)}), (8, 5)),
    }
    monkeypatch.setattr("p2v.batch.clashes.ground_of", lambda path: grounds.get(str(path), Ground(frozenset())))
    whole, part = machine("a", devices=("/dev/x",)), machine("b", 2, devices=("/dev/x1",))
    assert codes(together(whole, part)["b"]) == {"same-device"}
    assert "a (line 1)" in together(whole, part)["b"].blockers[0].message
    # two partitions of one disk are two
    assert not codes(together(part, machine("c", devices=("/dev/x2",)))["c"])
    source = machine("s", sources=("/srv/on-x2.img",))
    assert codes(together(machine("c", devices=("/dev/x2",)), source)["c"]) == {"output-is-source"}
    assert not codes(together(part, source)["b"])


def test_what_is_defined_under_a_name_that_only_one_can_have_blocks_the_second(tmp_path: Path) -> None:
    small_disk(tmp_path / "d.img")
    (job,) = read(tmp_path, HEAD + "- {name: a, source: d.img}\n").machines

    def claims(name: str, **more: object) -> tuple[str, ...]:
        def plan(each: MachineJob) -> Planned:
            found = planner()(each)
            hardware = replace(found.document.hardware, name=name)
            return Planned(replace(found.document, hardware=hardware), replace(found.request, **more))  # type: ignore[arg-type]

        return preflight(job, plan).claims

    assert claims("Web_1") == ()
    assert claims("Web_1", front_end=FrontEnd.KUBEVIRT) == claims("web-1", front_end=FrontEnd.KUBEVIRT) != ()
    delivery = Delivery(Host("test:///x", None), Storage("images"))  # type: ignore[arg-type]
    found = claims("a", delivery=delivery, front_end=FrontEnd.LIBVIRT)
    assert any("UUID" in each for each in found)
    assert "the volume a.qcow2 of the pool images in libvirt (test:///x)" in found
    second = together(machine("a", claims=found), machine("b", 2, claims=found))["b"]
    assert codes(second) == {"same-claim"}
    assert "a (line 1) has the" in second.blockers[0].message


def test_a_batch_of_one_disk_twice_blocks_nothing(tmp_path: Path) -> None:
    small_disk(tmp_path / "d.img")
    shutil.copy(tmp_path / "d.img", tmp_path / "e.img")
    batch = read(tmp_path, HEAD + "- {name: a, source: d.img}\n- {name: b, source: e.img}\n")
    assert isinstance(batch, Batch)
    assert plan_batch(batch, planner(), at_once=2).is_clear


def test_what_a_machine_makes_anew_or_is_given_is_no_sign_of_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Signs(machine_id="m", hostname="h", addresses=("10.0.0.1",), disk_ids=("d",))
    monkeypatch.setattr("p2v.batch.preflight.signs_of", lambda document: found)
    small_disk(tmp_path / "d.img")

    def signs(more: str) -> Signs:
        (job,) = read(tmp_path, HEAD + f"- {{name: a, source: d.img{more}}}\n").machines
        return preflight(job, planner()).signs

    assert (signs("").machine_id, signs("").addresses) == ("m", ("10.0.0.1",))
    assert signs(", new-identity: true").machine_id == ""
    assert signs(", ip: '1:10.0.0.9/24,10.0.0.254'").addresses == ("10.0.0.9",)
    assert signs(", ip: '1:dhcp'").addresses == ()
    # a card may be named by its address, which has colons too
    assert signs(f", mac: '{MAC}', ip: '{MAC}:10.0.0.9/24'").addresses == ("10.0.0.9",)
