"""The published schema says what records really are: no field more, no field less, every field described."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from p2v.record import load_record, record_json
from p2v.record.proof import PROOF_SCHEMA, ProofDocument, proof_json
from tests.record.filling import Filler
from tests.record.making import filled_record
from tests.record.schema import FOLDER, SCHEMAS, objects, undescribed

GOLDEN = Path(__file__).parent / "records"
RECORD, PROOF = SCHEMAS


def published(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / name).read_text()))


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(published(name))


@pytest.mark.parametrize("name", SCHEMAS)
def test_published_schema_has_the_fields_of_the_dataclasses_and_no_others(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(published(name))
    assert undescribed(published(name)) == SCHEMAS[name](), (
        "run python -m tests.record.schema, and describe what is new"
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_is_described(name: str) -> None:
    schema = published(name)
    assert schema["title"]
    for place, found in objects(schema):
        for field, inner in found["properties"].items():
            assert inner["description"].endswith("."), f"{place}.{field}"


def test_records_fit_the_schema() -> None:
    proof = replace(Filler().value(ProofDocument), schema=PROOF_SCHEMA)
    assert list(validator(RECORD).iter_errors(json.loads(record_json(filled_record())))) == []
    assert list(validator(RECORD).iter_errors(json.loads((GOLDEN / "schema-2.json").read_text()))) == []
    assert list(validator(PROOF).iter_errors(json.loads(proof_json(proof)))) == []


def test_records_of_earlier_versions_are_read() -> None:
    old, new = (load_record(GOLDEN / f"schema-{number}.json") for number in (1, 2))
    assert (old.schema, new.schema) == (1, 2)
    assert old.document.machine.name == new.document.machine.name == "vmguest"
    assert old.host is None
    assert new.host is not None


EDITS: tuple[Callable[[Any], object], ...] = (
    lambda d: d.pop("boot"),
    lambda d: d.update(more=1),
    lambda d: d.update(schema=1),
    lambda d: d["copy"]["disks"][0].pop("result"),
    lambda d: d["copy"]["disks"][0].update(read_bytes="many"),
    lambda d: d["copy"]["disks"][0]["changed"][0].update(more=1),
    lambda d: d["plan"]["changes"][0].update(type="Other"),
    lambda d: d["plan"]["changes"][0].pop("type"),
    lambda d: d["making"]["timeline"][0].update(kind="slept"),
    lambda d: d["chain"][0].pop("digest"),
)


@pytest.mark.parametrize("edit", EDITS)
def test_what_is_no_record_does_not_fit_the_schema(edit: Callable[[Any], object]) -> None:
    data = copy.deepcopy(json.loads(record_json(filled_record())))
    edit(data)
    assert not validator(RECORD).is_valid(data)
