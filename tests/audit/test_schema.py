"""The published schema of audits says what documents really are, and every field is described."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from p2v.audit.document import AUDIT_SCHEMA, AuditDocument
from p2v.audit.formats import audit_json
from tests.audit.documents import fleet, hostile, sample
from tests.audit.schema import audit_schema, published, text_of
from tests.record.filling import Filler
from tests.record.schema import objects


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(published(), format_checker=jsonschema.FormatChecker())


def test_the_published_schema_is_what_the_dataclasses_say() -> None:
    jsonschema.Draft202012Validator.check_schema(published())
    assert text_of(audit_schema(published())) == text_of(published()), "run python -m tests.audit.schema"


def test_every_field_is_described() -> None:
    for place, found in objects(published()):
        for name, inner in found["properties"].items():
            assert inner["description"].endswith("."), f"{place}.{name}"


def filled() -> AuditDocument:
    return replace(Filler().value(AuditDocument), schema=AUDIT_SCHEMA)


@pytest.mark.parametrize(
    "make", [sample, hostile, filled, lambda: fleet(3)], ids=["sample", "hostile", "filled", "fleet"]
)
def test_documents_fit_the_schema(make: Callable[[], AuditDocument]) -> None:
    text = audit_json(make())
    assert text.isascii()
    assert list(validator().iter_errors(json.loads(text))) == []


EDITS: tuple[Callable[[Any], object], ...] = (
    lambda d: d.pop("machines"),
    lambda d: d.update(more=1),
    lambda d: d.update(schema=AUDIT_SCHEMA + 1),
    lambda d: d.update(as_of="26.11.2026"),
    lambda d: d["machines"][0].update(verdict="fine"),
    lambda d: d["machines"][0]["findings"][0].pop("rule"),
    lambda d: d["machines"][0]["findings"][0].update(severity="fatal"),
    lambda d: d["machines"][0]["findings"][0]["evidence"][0].update(line="7"),
    lambda d: d["machines"][0]["disks"][0].update(virtual_bytes="much"),
    lambda d: d["rules"][0].update(area="elsewhere"),
)


@pytest.mark.parametrize("edit", EDITS)
def test_what_is_no_audit_does_not_fit_the_schema(edit: Callable[[Any], object]) -> None:
    data = copy.deepcopy(json.loads(audit_json(sample())))
    edit(data)
    assert not validator().is_valid(data)
