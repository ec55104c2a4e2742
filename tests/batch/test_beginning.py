"""Manifests to begin with: they can be read, and what an audit blocks stands in them as a comment, with its reason."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml

from p2v.audit.document import AuditDocument, DiskAudit, LeftAside, MachineAudit, Origin, Verdict
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.formats.json_document import audit_json
from p2v.batch.beginning import beginning, entries, init_text, quoted
from p2v.batch.jobs import Batch
from p2v.core.errors import BadManifest, Usage
from tests.audit.documents import AS_OF, fleet, hostile, sample
from tests.audit.small_machines import described, linux_disk
from tests.batch.manifests import read
from tests.batch.schema import batch_schema
from tests.drivers.making import MIB, make_disk, patch


def machine(name: str, *paths: str, **more: object) -> MachineAudit:
    disks = (DiskAudit(paths[-1] if paths else "", "raw", MIB, MIB),)
    made = MachineAudit(name, Origin.DISKS, "", paths, Verdict.READY, (), disks=disks)
    return replace(made, **more)  # type: ignore[arg-type]


def finding(severity: Severity, message: str = "it does not start", **more: object) -> AuditFinding:
    return replace(AuditFinding("some.rule", severity, message, "mend it"), **more)  # type: ignore[arg-type]


def begun(folder: Path, *machines: MachineAudit, aside: tuple[LeftAside, ...] = ()) -> Batch:
    return read(folder, beginning(machines, aside))


def test_a_folder_becomes_a_manifest_that_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linux_disk(tmp_path / "web.img")
    described(tmp_path / "web.vmx", "Web 1", "web.img")
    # boot code, as far as anybody can tell
    patch(make_disk(tmp_path / "other.img", 4 * MIB, "label: dos\nstart=2048, type=eb, bootable\n"), 0, b"\xfa\x33\xc0")
    patch(tmp_path / "other.img", MIB, b"\xfa\x33\xc0")
    (tmp_path / "broken.vmdk").write_bytes(b"KDMV" + bytes(600))
    monkeypatch.chdir(tmp_path)
    text = init_text([Path(".")], at_once=2)
    assert all(
        part in text
        for part in ("# Web-1: Debian GNU/Linux 12", "# - name: Web-1", "# - name: broken", "#     what to do: ")
    )
    batch = read(tmp_path, text)
    (found,) = batch.machines
    assert (found.name, found.sources) == ("other", (tmp_path / "other.img",))
    assert found.folder == tmp_path / "converted"
    # nothing was written but the manifest
    assert not (tmp_path / "converted").exists()
    # what is commented out can be taken in again
    again = read(tmp_path, text.replace("\n# - name: Web-1\n#   source", "\n- name: Web-1\n  source"))
    assert {each.name for each in again.machines} == {"Web-1", "other"}


def test_an_audit_that_was_kept_becomes_the_same(tmp_path: Path) -> None:
    document = AuditDocument(
        AS_OF, (machine("a", "/srv/a.img"), machine("b", "/srv/b.vmx", "/srv/b.vmdk", described_by="VMX"))
    )
    (tmp_path / "audit.json").write_text(audit_json(document))
    text = init_text([tmp_path / "audit.json"])
    assert text == beginning(document.machines)
    batch = read(tmp_path, text)
    assert [(each.name, each.sources) for each in batch.machines] == [
        ("a", (Path("/srv/a.img"),)),
        ("b", (Path("/srv/b.vmx"),)),
    ]


@pytest.mark.parametrize("text", ["{}", '{"schema": 2}', '{"schema": 1, "machines": 3}', "{" * 100_000, '{"a":'])
def test_what_is_no_audit_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(Usage):
        init_text([tmp_path / "audit.json"])


def test_what_is_blocked_is_a_comment_with_its_reason(tmp_path: Path) -> None:
    blocked = machine("a", "/a.img", verdict=Verdict.BLOCKED, findings=(finding(Severity.BLOCKER),))
    text = beginning([blocked, machine("b", "/b.img")])
    assert "#   some.rule: it does not start\n#     what to do: mend it\n# - name: a\n#   source: /a.img\n" in text
    assert [each.name for each in read(tmp_path, text).machines] == ["b"]


def test_what_is_only_to_know_blocks_nothing(tmp_path: Path) -> None:
    findings = (
        finding(Severity.WARNING, "first"),
        finding(Severity.WARNING, "second", suppressed="known"),
        finding(Severity.WARNING, "third", fixed_by_conversion=True),
        finding(Severity.UNKNOWN, "fourth"),
        finding(Severity.INFORMATION, "fifth"),
    )
    text = beginning([machine("a", "/a.img", verdict=Verdict.UNKNOWN, findings=findings)])
    assert [word for word in ("first", "second", "third", "fourth", "fifth") if f": {word}\n" in text] == [
        "first",
        "fourth",
    ]
    assert len(read(tmp_path, text).machines) == 1


def test_what_cannot_be_a_source_is_a_comment(tmp_path: Path) -> None:
    lost = "/srv/" + os.fsdecode(b"\xff") + ".img"
    none = (
        machine("row", origin=Origin.INVENTORY),
        machine("unread", "/u.img", disks=(), findings=(finding(Severity.UNKNOWN, "nobody could"),)),
        machine("bytes", lost),
        machine("lines", "/srv/a\nmachines: []\n.img"),
        machine("nothing"),
    )
    text = beginning([*none, machine("z", "/z.img")])
    assert text.isprintable() or all(line.isprintable() for line in text.splitlines())
    assert [each.name for each in read(tmp_path, text).machines] == ["z"]
    assert text.count("left out") == 5


def test_names_are_made_usable_and_unlike_each_other(tmp_path: Path) -> None:
    names = ("Web 1", "web-1", "..", "WEB-1", "x" * 200, "x" * 199)
    batch = begun(tmp_path, *(machine(name, f"/{n}.img") for n, name in enumerate(names)))
    found = [each.name for each in batch.machines]
    assert found[:4] == ["Web-1", "web-1-2", "machine", "WEB-1-3"]
    assert len({name.lower() for name in found}) == 6


def test_several_machines_of_one_package_say_which(tmp_path: Path) -> None:
    pair = [machine(name, "/p.ova", "/p.ova/d.vmdk", described_by="OVF") for name in ("one", "two")]
    alone = machine("three", "/q.ova", "/q.ova/d.vmdk", described_by="OVF")
    batch = begun(tmp_path, *pair, alone)
    assert [each.options for each in batch.machines] == [("--system=one",), ("--system=two",), ()]


def test_disks_of_one_machine_stay_in_their_order(tmp_path: Path) -> None:
    (found,) = begun(tmp_path, machine("a", "/srv/b.img", "/srv/a b: #c.img")).machines
    assert found.sources == (Path("/srv/b.img"), Path("/srv/a b: #c.img"))


TEXTS = (
    "a",
    "no",
    "1e3",
    "a: b",
    "#x",
    "- x",
    "'",
    '"\\',
    "ü",
    "\u2028",
    "\U0001f600",
    "2026-11-26",
    "~",
    "a b",
    "{x}",
    "*a",
    "!x",
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back_from_any_reader(text: str) -> None:
    assert yaml.safe_load(f"x: {quoted(text)}\n") == {"x": text}


@pytest.mark.parametrize("document", [sample(), hostile(), fleet(50)], ids=["sample", "hostile", "fleet"])
def test_whatever_an_audit_says_the_beginning_is_a_manifest(document: AuditDocument, tmp_path: Path) -> None:
    text = beginning(document.machines, document.left_aside)
    assert all(line.isprintable() for line in text.split("\n"))
    data = yaml.safe_load(text)
    if data["machines"] is None:
        with pytest.raises(BadManifest):
            read(tmp_path, text)
        return
    jsonschema.Draft202012Validator(batch_schema()).validate(json.loads(json.dumps(data)))
    assert len(read(tmp_path, text).machines) == len(data["machines"])


@pytest.mark.parametrize("at_once", [0, -1])
def test_no_machine_at_a_time_is_refused(tmp_path: Path, at_once: int) -> None:
    (tmp_path / "a.img").write_bytes(bytes(1 << 20))
    with pytest.raises(Usage):
        init_text([tmp_path], at_once=at_once)


def test_nothing_found_is_said(tmp_path: Path) -> None:
    (tmp_path / "note.iso").write_bytes(b"x")
    text = init_text([tmp_path])
    assert "# No machine was found." in text
    assert "# Looked at, and no machine:" in beginning([], [LeftAside("/x\ny", "why\x1b")])


def test_who_is_called_otherwise_is_told_and_all_are_counted() -> None:
    blocked = machine("old", "/o.img", findings=(finding(Severity.BLOCKER),), verdict=Verdict.BLOCKED)
    text = beginning([machine("web", "/a.img"), machine("web", "/b.img"), machine("we b", "/c.img"), blocked])
    assert "#   called web-2 here: another machine has its name" in text
    assert "#   called we-b here" in text
    assert text.count("called") == 2
    assert entries(text) == (3, 1)


def test_every_example_in_it_counts_when_its_mark_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / "passphrase.txt").write_text("secret")
    text = beginning([machine("a", "/a.img")])
    examples = re.findall(r"^ *# ( *(?:[\w./-]+|VM Network):(?: .*)?)$", text.partition("\nmachines:\n")[0], re.MULTILINE)
    for line in examples:
        text = text.replace(f"# {line}\n", f"{line}\n")
    keys = [line.split(":")[0].strip() for line in examples]
    assert {"bytes-per-second", "storages", "hosts", "hooks", "end", "window", "map", "keys", "before", "after"} <= {*keys}
    batch = read(tmp_path, text)
    assert (batch.budget.bytes_per_second, batch.end is not None, len(batch.budget.storages)) == (200 * MIB, True, 1)
    (found,) = batch.machines
    assert (found.before is not None, found.after is not None, found.window is not None) == (True, True, True)
    assert found.keys
    assert any(option.startswith("--map") for option in found.options)


def test_a_machine_that_is_locked_needs_but_its_marks_taken_away(tmp_path: Path) -> None:
    (tmp_path / "passphrase.txt").write_text("secret")
    locked = replace(finding(Severity.BLOCKER), rule="guest.encrypted")
    text = beginning([machine("safe", "/safe.img", verdict=Verdict.BLOCKED, findings=(locked,)), machine("b", "/b.img")])
    taken_in = re.sub(r"^# (- name: safe|  source: /safe.img|  keys: .*)$", r"\1", text, flags=re.MULTILINE)
    assert [(each.name, bool(each.keys)) for each in read(tmp_path, taken_in).machines] == [("safe", True), ("b", False)]


def test_names_keep_their_letters_without_marks(tmp_path: Path) -> None:
    names = ("Büro-Süd", "Mu\u0308ller & Söhne", "Łódź straße", "日本", "a  b")
    batch = begun(tmp_path, *(machine(name, f"/{n}.img") for n, name in enumerate(names)))
    assert [each.name for each in batch.machines] == ["Buro-Sud", "Muller-Sohne", "Lodz-strasse", "machine", "a-b"]
