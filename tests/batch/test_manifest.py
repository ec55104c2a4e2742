"""Manifests: what they say comes out as it was meant, and what makes no sense is told all at once, with its line."""

from __future__ import annotations

import os
import pickle
import random
from datetime import time
from pathlib import Path

import pytest

from p2v.batch.arguments import convert_arguments
from p2v.batch.jobs import Batch, Budget, Hook, Share, Verify, Window
from p2v.batch.manifest import read_batch
from p2v.core.errors import BadManifest, Mistake, NoSource, ReadFailed, Usage
from p2v.core.units import GIB, MIB
from tests.batch.manifests import FULL, mistakes, read, written

SMALL = "schema: 1\ndefaults: {target: out}\nmachines:\n- name: a\n  source: a.img\n"


def test_defaults_count_where_a_machine_says_nothing(tmp_path: Path) -> None:
    web, _ = read(tmp_path, FULL).machines
    assert (web.name, web.sources, web.folder) == ("web1", (tmp_path / "exports/web1.vmx",), tmp_path / "converted")
    assert (web.verify, web.window, web.attempts) == (Verify.BOOT, Window(time(22), time(5, 30)), 5)
    assert (web.disk_format, web.wave, web.priority, web.host, web.line) == ("qcow2", 0, 0, "", 28)
    assert web.keys == ("all:env:FLEET_KEY",)
    assert web.options == ("--checksum", "--map-if=VM Network=bridge:br0", "--map-if=dmz=lan")


def test_what_a_machine_says_goes_before_the_defaults(tmp_path: Path) -> None:
    _, db = read(tmp_path, FULL).machines
    assert db.sources == (tmp_path / "exports/db1-root.vmdk", Path("/srv/db1-data.vmdk"))
    assert (db.folder, db.disk_format, db.wave, db.priority) == (Path("/srv/kvm"), "raw", 2, -3)
    # null: not even the default
    assert db.window is None
    assert db.before == Hook((str(tmp_path / "stop-service"), "db1"))
    assert db.after == Hook(("notify",), 30.0)
    assert (db.verify, db.attempts, db.host) == (Verify.NONE, 1, "export1")
    assert db.keys == (f"/dev/sda2:file:{tmp_path}/secret.txt", "all:env:DB1")
    assert db.options == (
        "--compress=zstd",
        "--cpus=4",
        f"--memory={4 * GIB}",
        "--network=1:user",
        "--network=2:bridge:br1",
        "--map=DMZ=user",
        "--map-if=VM Network=bridge:br0",
    )


def test_budget_and_store(tmp_path: Path) -> None:
    batch = read(tmp_path, FULL)
    storages = {Path("/mnt/nfs1"): Share(1, 100 * MIB), tmp_path / "exports": Share(copies=2)}
    hosts = {"filer1.example": Share(bytes_per_second=50 * MIB)}
    assert batch.budget == Budget(3, 2, 2, 12, 200 * MIB, 1, 8 * GIB, storages, hosts)
    assert (batch.store, batch.manifest) == (tmp_path / "state/jobs.sqlite", tmp_path / "jobs.yaml")


def test_every_mistake_about_storages_and_servers_has_its_line(tmp_path: Path) -> None:
    text = SMALL + """\
budget:
  storages:
    /mnt/a: {copies: 0}
    /mnt/b: {speed: 1M, bytes-per-second: 10}
    /mnt/c: 100M
    ~/d: {copies: 1}
    /mnt/e: {copies: 1}
    /mnt/e: {copies: 2}
    /mnt/f: ~
  hosts:
    "a b": {copies: 1}
    filer: {copies: [1]}
    FILER: {}
"""
    first = SMALL.count("\n") + 1
    found = [(each.line - first, each.where) for each in mistakes(tmp_path, text)]
    assert found == [
        (2, "budget.storages./mnt/a.copies"),
        (3, "budget.storages./mnt/b.speed"),
        (3, "budget.storages./mnt/b.bytes-per-second"),
        (4, "budget.storages./mnt/c"),
        (5, "budget.storages"),
        (7, "budget.storages"),
        (8, "budget.storages./mnt/f"),
        (10, "budget.hosts"),
        (11, "budget.hosts.filer.copies"),
        (12, "budget.hosts"),
    ]
    for wrong in ("budget: {storages: [a]}\n", "budget: {hosts: filer}\n"):
        assert len(mistakes(tmp_path, SMALL + wrong)) == 1
    assert read(tmp_path, SMALL + "budget: {storages: ~, hosts: {}}\n").budget == Budget()


def test_the_store_stands_beside_the_results_unless_they_have_several_places(tmp_path: Path) -> None:
    assert read(tmp_path, SMALL).store == tmp_path / "out/jobs.batch.sqlite"
    scattered = "schema: 1\nmachines:\n- {name: a, source: a.img, target: x}\n- {name: b, source: b.img, target: y}\n"
    assert read(tmp_path, scattered).store == tmp_path / "jobs.batch.sqlite"


def test_a_machine_may_be_called_what_yaml_takes_for_something_else(tmp_path: Path) -> None:
    names = ("no", "1e3", "0x10", "2026-11-26", "true")
    text = "schema: 1\ndefaults: {target: out}\nmachines:\n"
    batch = read(tmp_path, text + "".join(f"- {{name: {name}, source: {name}.img}}\n" for name in names))
    assert tuple(each.name for each in batch.machines) == names


def test_a_line_of_the_command_is_made_of_each(tmp_path: Path) -> None:
    _, db = read(tmp_path, FULL).machines
    words = convert_arguments(db)
    assert words[:2] == (f"{tmp_path}/exports/db1-root.vmdk", "/srv/db1-data.vmdk")
    assert {"--output=/srv/kvm", "--name=db1", "--format=raw", "--key=all:env:DB1", "--map=DMZ=user"} <= set(words)
    assert "--verify" not in words
    assert "--verify" in convert_arguments(read(tmp_path, FULL).machines[0])


def test_all_mistakes_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """\
schema: 2
defalts: {}
budget: {copies: none}
defaults:
  verfy: boot
machines:
- name: a
  source: a.img
  target: out
  memory: 7
- name: b b
  source: []
  target: out
  window: 25:00-26:00
- source: c.img
- name: a
  source: d.img
  target: out
  compress: lzma
"""
    found = {(each.line, each.where) for each in mistakes(tmp_path, text)}
    assert found == {
        (1, "schema"),
        (2, "defalts"),
        (3, "budget.copies"),
        (5, "defaults.verfy"),
        (10, "machine a.memory"),
        (11, "machine b b.name"),
        (12, "machine b b.source"),
        (14, "machine b b.window"),
        (15, "machines[3].name"),
        (15, "machines[3].target"),
        (16, "machine a"),
        (19, "machine a.compress"),
    }
    lines = [each.line for each in mistakes(tmp_path, text)]
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "machines"),
        ("- a\n- b\n", 1, "machines"),
        ("schema: 1\nmachines: []\n", 2, "machines"),
        ("schema: 1\nmachines: {name: a}\n", 2, "list"),
        ("schema: 1\nmachines:\n- a\n", 3, "mapping"),
        ("schema: 1\nmachines: [\n", 3, "YAML"),
        ("schema: 1\n\tx: y\n", 2, "YAML"),
        ("a: &x 1\nb: *x\n", 2, "alias"),
        ("a: !!python/object/apply:os.system [true]\n", 1, "tag"),
        ("schema: 1\n---\nschema: 1\n", 2, "second document"),
        ("? [a]\n: b\n", 1, "key"),
        ("a: [[[[[[[[[[1]]]]]]]]]]\n", 1, "deep"),
        ("a: 1\nb: \x01\n", 2, "control character"),
    ],
)
def test_what_is_no_manifest_says_where(tmp_path: Path, text: str, line: int, says: str) -> None:
    first = mistakes(tmp_path, text)[0]
    assert first.line == line
    assert says in f"{first.where} {first.message}"


def test_a_manifest_without_a_machine_is_called_empty_and_no_other_kind_of_thing(tmp_path: Path) -> None:
    assert [mistakes(tmp_path, text)[0].message for text in ("", "# later\n")] == ["is empty: there are no `machines`"] * 2
    (none,) = mistakes(tmp_path, "schema: 1\nmachines: []\n")
    assert (none.where, none.message) == ("machines", "there are none")


@pytest.mark.parametrize("text", ["a: 1\n\tb: 1\n", "a:\n\t- b\n", "a:\n  \t- b\n", "a:\n-\t{b: c}\n"])
def test_a_tab_is_named_for_nobody_sees_it(tmp_path: Path, text: str) -> None:
    assert "there is a tab here" in mistakes(tmp_path, text)[0].message


def test_what_is_no_tab_is_not_called_one(tmp_path: Path) -> None:
    (wrong,) = mistakes(tmp_path, "a:\n- {b: @c}\t\n")
    assert (wrong.line, "tab" in wrong.message) == (2, False)


def test_what_is_no_text_says_where(tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_bytes(b"schema: 1\nstore: \xff\n")
    with pytest.raises(BadManifest) as caught:
        read_batch(tmp_path / "jobs.yaml")
    assert caught.value.mistakes[0].line == 2


@pytest.mark.parametrize("name", ["jobs.yaml", "jobs.csv"])
def test_who_saved_it_as_utf_16_is_told_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("name,source,target\na,b,c\n", "utf-16")
    with pytest.raises(BadManifest, match="save it as UTF-8"):
        read_batch(tmp_path / name)


def test_a_pipe_and_a_device_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ReadFailed, match="is no file"):
            read_batch(path)


def test_a_folder_is_no_manifest_and_says_what_would_be(tmp_path: Path) -> None:
    with pytest.raises(Usage) as raised:
        read_batch(tmp_path)
    assert "p2v batch init" in raised.value.hint()


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("name: a-very.long_name+1", True),
        ("name: .a", False),
        ("name: a/b", False),
        ("name: [a]", False),
        (f"name: {'a' * 64}", False),
        ("source: ~/a.img", False),
        ("source: {a: b}", False),
        ("source: [a.img, b.img]", True),
        ("source: [a.img, ./a.img]", False),
        ('source: "a\\nb"', False),
        ("wave: 1.5", False),
        ("wave: -1", False),
        ("priority: -1", True),
        ("attempts: 0", False),
        ("window: 7:05-19:00", True),
        ("window: 24:00-01:00", False),
        ("window: 22:00-22:00", False),
        ("window: 22-5", False),
        ("before: a b", False),
        ("before: []", False),
        ("before: {seconds: 3}", False),
        ("before: {command: [a], second: 3}", False),
        ("before: {command: [a], seconds: 0}", False),
        ("before: {command: [a], seconds: 0.5}", True),
        ("verify: boots", False),
        ("keys: /etc/secret", False),
        ("keys: 'env:A B'", False),
        ("keys: env:A", True),
        ("keys: [all:file:x, uuid:env:Y]", True),
        ("memory: 15M", False),
        ("memory: 2147483648", True),
        ("memory: huge", False),
        ("limit: 20M/s", True),
        ("limit: 20M per second", False),
        ("cluster-size: 3M", False),
        ("compress: true", True),
        ("compress: deflate", True),
        ("map: [a]", False),
        ("map: {a: }", False),
        ("map: {a: ether:0}", False),
        ("map: {a: user, a: user}", False),
        ("map: {a: network:b}", True),
        ("live: maybe", False),
        ("freeze-limit: 1e9", False),
        ("cpus: 0", False),
        ("ionice: best-effort:8", False),
        ("threads: 65", False),
        ("in-place: true", False),
        ("output: x", False),
        ("Memory: 2G", False),
        ("to-device: [1=/dev/a, 2=/dev/b]", True),
    ],
)
def test_each_value_is_checked(tmp_path: Path, value: str, right: bool) -> None:
    key = value.partition(":")[0]
    rest = "".join(
        f"  {line}\n" for line in ("name: a", "source: a.img", "target: out") if not line.startswith(f"{key}:")
    )
    found = mistakes(tmp_path, f"schema: 1\nmachines:\n- {value}\n{rest}")
    assert (not found) is right
    assert {each.line for each in found} <= {3}


def test_a_key_that_stands_there_twice_is_told_with_both_lines(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, SMALL + "  wave: 1\n  wave: 2\n")
    assert found.line == 7
    assert "line 6" in found.message


def test_a_machine_may_do_without_the_mapping_of_all(tmp_path: Path) -> None:
    text = "schema: 1\ndefaults: {target: o, map: {lan: user}}\nmachines:\n- {name: a, source: a.img, map: ~}\n"
    assert read(tmp_path, text).machines[0].options == ()


def test_what_no_two_machines_have_the_same_is_no_default(tmp_path: Path) -> None:
    for key in ("name", "source", "mac", "to-device", "system"):
        found = mistakes(
            tmp_path, f"schema: 1\ndefaults: {{target: o, {key}: x}}\nmachines:\n- {{name: a, source: b}}\n"
        )
        assert [each.where for each in found] == [f"defaults.{key}"]


def test_a_passphrase_in_a_manifest_is_refused_and_not_repeated(tmp_path: Path) -> None:
    for key in ("key:hunter2", "all:key:hunter2", "hunter2", "sda:hunter2", "all:env:hunter 2"):
        (found,) = mistakes(tmp_path, SMALL + f"  keys: '{key}'\n")
        assert found.line == 6
        assert "hunter" not in found.sentence()
        assert ("no place in a manifest" in found.message) is ("key:" in key)


def test_a_near_name_is_proposed(tmp_path: Path) -> None:
    for wrong, right in (("virtio_win", "virtio-win"), ("--memory", "memory"), ("verfiy", "verify"), ("in_place", "")):
        (found,) = mistakes(tmp_path, SMALL + f"  {wrong}: x\n")
        assert (f"did you mean {right}?" in found.message) is bool(right)


def test_hostile_texts_make_short_plain_lines(tmp_path: Path) -> None:
    found = mistakes(tmp_path, SMALL + '  "\\e[31mred": x\n  verify: ' + "y" * 100_000 + "\n")
    assert len(found) == 2
    for each in found:
        assert each.sentence().isprintable()
        assert len(each.sentence()) < 400


def test_a_bomb_is_refused_quickly(tmp_path: Path) -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    assert "alias" in mistakes(tmp_path, bomb)[0].message


def test_a_thousand_machines_are_read_in_a_moment_with_the_right_lines(tmp_path: Path) -> None:
    text = "schema: 1\ndefaults: {target: out}\nmachines:\n"
    text += "".join(f"- name: m{n}\n  source: m{n}.vmx\n  wave: {n // 100}\n" for n in range(1000))
    batch = read(tmp_path, text)
    assert [each.line for each in batch.machines] == [4 + 3 * n for n in range(1000)]
    assert batch.machines[999].wave == 9


def test_an_error_crosses_processes_with_all_of_its_mistakes(tmp_path: Path) -> None:
    with pytest.raises(BadManifest) as caught:
        read(tmp_path, SMALL + "  x: y\n  z: w\n")
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.mistakes == caught.value.mistakes
    assert again.exit_code == 64
    assert len(str(again).splitlines()) == 3


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoSource):
        read_batch(tmp_path / "none.yaml")


def test_a_relative_manifest_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, SMALL)
    monkeypatch.chdir(tmp_path)
    batch = read_batch(Path("jobs.yaml"))
    assert batch.machines[0].sources == (tmp_path / "a.img",)
    assert batch.manifest == tmp_path / "jobs.yaml"


def test_whatever_stands_there_is_read_or_told_of(tmp_path: Path) -> None:
    """Half of the texts are broken in a place or two, the others have lines in another order, or cut."""
    chance = random.Random(10)
    outcomes = set()
    for _ in range(400):
        text = _broken(chance)
        (tmp_path / "jobs.yaml").write_bytes(text)
        found: tuple[Mistake, ...] = ()
        batch: Batch | None = None
        try:
            batch = read_batch(tmp_path / "jobs.yaml")
        except BadManifest as error:
            found = error.mistakes
        outcomes.add(batch is None)
        assert (batch is None) is bool(found)
        assert all(0 <= each.line <= text.count(b"\n") + 2 and each.sentence().isprintable() for each in found)
        assert batch is None or all(each.sources and each.folder.is_absolute() for each in batch.machines)
    assert outcomes == {True, False}


def _broken(chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        lines = FULL.splitlines()
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(lines))
            lines[at : at + chance.randrange(2)] = [chance.choice(lines) for _ in range(chance.randrange(2))]
        return "\n".join(lines).encode()
    raw = bytearray(FULL.encode())
    for _ in range(chance.randrange(1, 3)):
        raw[chance.randrange(len(raw))] = chance.choice(b"-:[]{}#&*!|>'\"%@`,?~\n \t0z\xc3\x85\x00")
    return bytes(raw)
