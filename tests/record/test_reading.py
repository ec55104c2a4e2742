"""A record's file: nothing is lost on the way, and whatever was done to the file is found and named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2v.core import jsontext
from p2v.core.errors import NoSource
from p2v.record import (
    FLAT_SCHEMA,
    RECORD_SCHEMA,
    BadRecord,
    ConversionRecord,
    load_record,
    open_record,
    record_digest,
    record_json,
)
from p2v.record.parts import PARTS
from tests.record.filling import Filler
from tests.record.making import filled_record, written

Json = dict[str, Any]


def problems(path: Path) -> str:
    with pytest.raises(BadRecord) as caught:
        load_record(path)
    return "; ".join(caught.value.problems)


def edited(path: Path, edit: Callable[[Json], object]) -> Path:
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))
    return path


def leaves(data: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all plain values below the parts."""
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from leaves(value, (*place, key))
    else:
        yield place


def altered(value: Any) -> Any:
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else f"{value}x"


def rechained(data: Json) -> None:
    """As somebody does who knows how digests are made."""
    previous = None
    for link in data["chain"]:
        link["content"] = jsontext.digest(data[link["part"]])
        link["previous"] = previous
        link["digest"] = jsontext.digest({"part": link["part"], "previous": previous, "content": link["content"]})
        previous = link["digest"]
    data["digest"] = jsontext.digest({name: value for name, value in data.items() if name != "digest"})


def test_every_field_comes_back_as_it_was(tmp_path: Path) -> None:
    record = filled_record()
    assert load_record(written(tmp_path, record)) == record


def test_record_names_its_parts_in_the_order_of_what_rests_on_what(tmp_path: Path) -> None:
    data = json.loads(written(tmp_path).read_text())
    assert list(data) == ["schema", "digest", "chain", *PARTS]
    assert [link["part"] for link in data["chain"]] == list(PARTS)
    assert data["chain"][0]["previous"] is None
    assert [link["previous"] for link in data["chain"][1:]] == [link["digest"] for link in data["chain"][:-1]]
    assert record_digest(filled_record()) == data["digest"]


def test_any_value_that_is_changed_names_its_part_and_no_other(tmp_path: Path) -> None:
    whole = json.loads(written(tmp_path).read_text())
    seen = set()
    for part in PARTS:
        for place in leaves(whole[part], (part,)):
            data = copy.deepcopy(whole)
            holder = data
            for key in place[:-1]:
                holder = holder[key]
            holder[place[-1]] = altered(holder[place[-1]])
            (tmp_path / "vm.json").write_text(json.dumps(data))
            found = [p for p in open_record(tmp_path / "vm.json").problems if p.startswith("part ") and "contents" in p]
            assert [p.split(":")[0] for p in found] == [f"part {part}"], place
            seen.add(part)
    assert seen == set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_part_of_another_record_is_named(tmp_path: Path, part: str) -> None:
    other = json.loads(record_json(Filler("Other").value(ConversionRecord)))
    path = edited(written(tmp_path), lambda data: data.update({part: other[part]}))
    assert f"part {part}: its contents do not fit" in problems(path)


@pytest.mark.parametrize("part", PARTS)
def test_part_of_another_record_with_its_link_does_not_fit_its_neighbours(tmp_path: Path, part: str) -> None:
    other = json.loads(record_json(Filler("Other").value(ConversionRecord)))
    number = PARTS.index(part)

    def exchange(data: Json) -> None:
        data[part], data["chain"][number] = other[part], other["chain"][number]
        data["digest"] = jsontext.digest({name: value for name, value in data.items() if name != "digest"})

    found = problems(edited(written(tmp_path), exchange))
    assert "does not name the digest of the part before it" in found
    assert "contents do not fit" not in found


def test_each_field_of_each_link_that_is_changed_names_the_part(tmp_path: Path) -> None:
    for number, part in enumerate(PARTS):
        for name in ("previous", "content", "digest"):
            path = edited(written(tmp_path), lambda d, n=number, f=name: d["chain"][n].update({f: "0" * 64}))  # type: ignore[misc]
            assert f"part {part}:" in problems(path) or f"part {PARTS[number + 1]}:" in problems(path)


def test_reordered_shortened_and_lengthened_chains_are_named(tmp_path: Path) -> None:
    edits: tuple[Callable[[Json], object], ...] = (
        lambda data: data["chain"].reverse(),
        lambda data: data["chain"].pop(),
        lambda data: data["chain"].append(data["chain"][0]),
        lambda data: data["chain"].__setitem__(slice(1, 3), data["chain"][2:0:-1]),
    )
    for edit in edits:
        assert "the chain has the parts" in problems(edited(written(tmp_path), edit))
    assert "not one of links" in problems(edited(written(tmp_path), lambda data: data.update(chain="none")))


def test_digest_of_the_whole_is_looked_at(tmp_path: Path) -> None:
    path = edited(written(tmp_path), lambda data: data.update(digest="0" * 64))
    assert problems(path) == "the digest of the whole record does not fit it"


def test_plan_that_is_exchanged_with_all_digests_made_anew_does_not_fit_its_own_digest(tmp_path: Path) -> None:
    def edit(data: Json) -> None:
        data["plan"]["changes"] = []
        rechained(data)

    assert "part plan: its digest" in problems(edited(written(tmp_path), edit))


def test_field_in_the_part_of_another_is_refused_although_the_digests_fit(tmp_path: Path) -> None:
    def edit(data: Json) -> None:
        data["changes"]["disks"] = []
        rechained(data)

    assert "do not stand in the parts they belong to" in problems(edited(written(tmp_path), edit))


def test_missing_and_unknown_parts_are_named(tmp_path: Path) -> None:
    assert problems(edited(written(tmp_path), lambda data: data.pop("boot"))) == "boot is missing"
    found = problems(edited(written(tmp_path), lambda data: data.update(more=1, copy=[])))
    assert "more stands in no record" in found
    assert "the part copy is no object" in found


def test_unknown_field_is_refused_although_the_digests_fit(tmp_path: Path) -> None:
    def edit(data: Json) -> None:
        data["outputs"]["files"][0]["more"] = 1
        rechained(data)

    assert "more" in problems(edited(written(tmp_path), edit))


def test_record_cut_anywhere_is_no_record(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    for length in {0, 1, *range(100, len(data), len(data) // 40), len(data) - 3}:
        path.write_bytes(data[:length])
        assert problems(path)


def test_json_with_two_readings_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    text = path.read_text()
    path.write_text(text.replace('"schema": 2,', '"schema": 2, "schema": 2,', 1))
    assert "'schema' stands in one object twice" in problems(path)
    path.write_text('{"schema": NaN}')
    assert "NaN is no number" in problems(path)
    path.write_text("[" * 100_000)
    assert problems(path)


def test_what_is_no_record_says_so(tmp_path: Path) -> None:
    path = tmp_path / "vm.json"
    for text in ("[]", "{}", '{"schema": 3}', '{"schema": "2"}'):
        path.write_text(text)
        assert "not a conversion record" in problems(path)
    with pytest.raises(NoSource):
        load_record(tmp_path / "none.json")
    with pytest.raises(NoSource):
        load_record(tmp_path)


def test_record_of_other_numbers_of_disks_in_its_parts_is_refused(tmp_path: Path) -> None:
    record = filled_record()
    assert "different numbers of disks" in problems(written(tmp_path, replace(record, disks=record.disks * 2)))
    assert "different numbers of disks" in problems(written(tmp_path, replace(record, schema=FLAT_SCHEMA, disks=())))


def test_record_of_schema_1_is_read_and_its_digest_is_looked_at(tmp_path: Path) -> None:
    record = replace(filled_record(), schema=FLAT_SCHEMA)
    path = written(tmp_path, record)
    assert "chain" not in json.loads(path.read_text())
    opened = open_record(path)
    assert (opened.record, opened.problems, opened.is_chained) == (record, (), False)
    assert "its digest does not fit" in problems(edited(path, lambda data: data.update(accelerator="kvm")))


def test_record_is_of_this_schema_unless_it_says_otherwise() -> None:
    assert json.loads(record_json(filled_record()))["schema"] == RECORD_SCHEMA == 2
