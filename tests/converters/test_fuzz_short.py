"""Mutated images of every fuzzing target for a moment, and the harness itself; the long run is ``make fuzz``."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.formats import FORMATS
from converters.image import open_disk
from p2v.core.errors import P2vError
from tests.converters.images import VARIANTS
from tests.fuzz import checksums, exercise
from tests.fuzz.exercise import Exerciser, prepared
from tests.fuzz.mutate import mutated, mutated_words, set_field
from tests.fuzz.sparse import Sparse, decoded, from_file
from tests.fuzz.targets import Target, targets

EXAMPLES = 60
TARGETS = targets()
# Each open of these starts a program; `make fuzz` runs them all the same.
SLOW_FORMATS = ("qcow", "qed", "parallels")
SHORT = tuple(target for target in TARGETS if target.format not in SLOW_FORMATS)

EDITS = st.lists(
    st.tuples(
        st.integers(0, 40), st.integers(0, 4096), st.sampled_from((1, 2, 4, 8)),
        st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1))),
        st.booleans(),
    ),
    max_size=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Exerciser, list[bytes]]]]:
    """Of each target: what runs inputs, and its seeds, encoded."""

    def make(target: Target) -> tuple[Exerciser, list[bytes]]:
        beside, seeds = prepared(target, tmp_path_factory.mktemp(target.id))
        return Exerciser(target, beside), [from_file(seed).encoded() for seed in seeds]

    found = {target.id: make(target) for target in SHORT}
    yield found
    for exerciser, _ in found.values():
        exerciser.close()


@pytest.mark.parametrize("target", SHORT, ids=lambda target: target.id)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=EDITS, more=st.integers(0, 1 << 32), seed=st.integers(0, 100), grown=st.sampled_from((0, 0, 0, -512, 512, -1)))
def test_mutated_images_end_in_success_or_an_error_of_ours(
    target: Target, made: dict[str, tuple[Exerciser, list[bytes]]], edits: list[tuple[int, int, int, int, bool]], more: int,
    seed: int, grown: int,
) -> None:  # fmt: skip
    exerciser, seeds = made[target.id]
    file = decoded(seeds[seed % len(seeds)])
    for chunk, at, width, value, big in edits:
        set_field(file, chunk, at, width, value, big=big)
    if more % 3 == 0 or target.is_text:
        file = (mutated_words if target.is_text else mutated)(file, random.Random(more))
    file.size = max(0, file.size + grown)
    if target.fix is not None and more % 2:
        target.fix(file)
    outcome = exerciser.run_file(file, more)
    assert not outcome.finding, outcome.finding


@pytest.mark.parametrize("target", SHORT, ids=lambda target: target.id)
def test_seeds_are_read_and_survive_their_encoding(target: Target, made: dict[str, tuple[Exerciser, list[bytes]]]) -> None:
    exerciser, seeds = made[target.id]
    assert seeds
    for seed in seeds:
        assert decoded(seed).encoded() == seed
        assert exerciser.run(seed).text == "read"
        assert len(seed) < 64 * 1024


def test_every_format_that_qemu_makes_has_a_target() -> None:
    assert {f.id for f in FORMATS} & {variant.format for variant in VARIANTS} <= {target.format for target in TARGETS}


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_a_file(raw: bytes) -> None:
    file = decoded(raw)
    assert decoded(file.encoded()).encoded() == file.encoded()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sparse")


@given(
    size=st.integers(1, 5000),
    pieces=st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=300)), max_size=5),
    ask=st.tuples(st.integers(0, 5000), st.integers(0, 2000)),
)
def test_a_sparse_file_reads_as_the_file_it_was_made_from(
    size: int, pieces: list[tuple[int, bytes]], ask: tuple[int, int], folder: Path
) -> None:
    raw = bytearray(size)
    for at, new in pieces:
        raw[at : at + len(new)] = new
    path = folder / "file"
    path.write_bytes(raw)
    file = decoded(from_file(path).encoded())
    expected = bytes(raw)[ask[0] : ask[0] + ask[1]]
    assert file.read(*ask)[: len(expected)] == expected
    with (folder / "out").open("wb") as out:
        file.put(out.fileno())
    assert (folder / "out").read_bytes() == raw


@pytest.mark.parametrize("format_id", ["vhd", "vhdx"])
def test_checksums_made_right_let_a_change_through(format_id: str, tmp_path: Path) -> None:
    target = next(each for each in TARGETS if each.id == format_id)
    beside, seeds = prepared(target, tmp_path)
    file = from_file(next(seed for seed in seeds if "dynamic" in seed.name))
    # a field that says nothing about the disk: the VHD's time stamp, the VHDX's data write GUID
    at = {"vhd": file.size - 512 + 24, "vhdx": 65536 + 32}[format_id]
    for place in {"vhd": (at, 24), "vhdx": (at, at + 65536)}[format_id]:
        file.write(place, b"\x12\x34\x56\x78")
    path = beside / "changed"
    with closing(path.open("wb")) as out:
        file.put(out.fileno())
    assert is_refused_or_dirty(path)
    (checksums.vhd if format_id == "vhd" else checksums.vhdx)(file)
    with closing(path.open("wb")) as out:
        file.put(out.fileno())
    assert not is_refused_or_dirty(path)


@pytest.mark.parametrize("target_id", ["tar", "gzip"])
def test_checksums_of_archives_made_right_let_a_change_through(target_id: str, tmp_path: Path) -> None:
    target = next(each for each in TARGETS if each.id == target_id)
    assert target.fix is not None
    beside, seeds = prepared(target, tmp_path)
    seed = next(seed for seed in seeds if seed.name in ("raw.tar", "plain.gz"))
    file = from_file(seed)
    # an owner in the first header; the checksum itself
    file.write({"tar": 108, "gzip": file.size - 8}[target_id], b"1234")
    path = beside / "changed"
    with closing(path.open("wb")) as out:
        file.put(out.fileno())
    with pytest.raises(P2vError):
        open_disk(path)
    target.fix(file)
    with closing(path.open("wb")) as out:
        file.put(out.fileno())
    open_disk(path).close()


def is_refused_or_dirty(path: Path) -> bool:
    try:
        with open_disk(path) as disk:
            return bool(disk.facts.dirty)
    except P2vError:
        return True


@pytest.mark.parametrize("wrong", ["exception", "contradiction", "hang", "memory"])
def test_what_must_not_happen_is_a_finding(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, input_format: str, chosen: int) -> None:
        if wrong == "exception":
            raise ZeroDivisionError
        if wrong == "contradiction":
            raise exercise.Contradiction("two answers")
        if wrong == "memory":
            # more than this process ever had: other tests in it may have taken much
            bytearray(b"\1") * (exercise.peak_rss() + (300 << 20))
        while wrong == "hang":
            pass

    monkeypatch.setattr(exercise, "exercise", broken)
    monkeypatch.setattr(exercise, "SECONDS", 0.2)
    with closing(Exerciser(TARGETS[0], tmp_path)) as exerciser:
        outcome = exerciser.run_file(Sparse(512), 0)
    assert outcome.finding
    assert outcome.text.startswith("FINDING")


def test_the_runner_counts_inputs_and_writes_its_figures(tmp_path: Path) -> None:
    words = ["--runs", "300", "--workers", "1", "--formats", "vhd-child", "--blind"]
    places = ["--findings", str(tmp_path / "findings"), "--out", str(tmp_path / "out.json")]
    done = subprocess.run([sys.executable, "-m", "tests.fuzz", *words, *places], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert (row["target"], row["runs"], row["findings"]) == ("vhd-child", 300, [])
    assert row["read"] > 0
    assert row["unique_outcomes"] > 3
