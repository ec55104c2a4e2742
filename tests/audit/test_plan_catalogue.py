"""Every finding that planning and the sources can make is a rule of the catalogue, and every such rule can fire."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from p2v.audit.catalogue_file import Rule, catalogue
from p2v.audit.evidence import pointed_at
from p2v.audit.findings import Severity
from tests.audit import plan_ids
from tests.audit.plan_ids import ROOT

_TABLES = ("test_plan_catalogue.py", "plan_ids.py", "test_planned.py", "test_evidence_*.py")
"""Tests in which findings are made by hand."""


def catalogued() -> frozenset[str]:
    """The ids in the catalogue's files of plan findings."""
    folder = resources.files("p2v.audit").joinpath("catalogue")
    files = [each for each in folder.iterdir() if each.name.startswith("plan-")]
    return frozenset(id_ for file in files for id_ in tomllib.loads(file.read_text("utf-8")))


def rules() -> list[Rule]:
    ids = catalogued()
    return [rule for id_, rule in catalogue().items() if id_ in ids]


def test_every_finding_that_can_be_made_is_catalogued() -> None:
    assert sorted(plan_ids.produced() - catalogued()) == []


def test_no_rule_is_catalogued_that_nothing_can_make_fire() -> None:
    assert sorted(catalogued() - plan_ids.produced()) == []


def test_every_id_is_made_to_fire_by_a_test() -> None:
    """By the literal id in a test: in this project's tests ids are written to say that a finding is there."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if not any(path.match(table) for table in _TABLES)]
    told = set(
        re.findall(
            r'"((?:linux|windows|driver|guest|other|hardware|machine|source)\.[a-z0-9.-]+)"', "".join(map(_text, files))
        )
    )
    assert sorted(catalogued() - told) == []


def _text(path: Path) -> str:
    return path.read_text("utf-8")


def test_nothing_is_pointed_at_for_findings_that_there_are_not() -> None:
    assert sorted(pointed_at() - catalogued()) == []


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule.id))
def test_rules_say_what_it_means_and_what_to_do(rule: Rule) -> None:
    for text in (rule.title, rule.meaning, rule.evidence, rule.remedy):
        assert text
        assert text == text.strip()
        assert text.isprintable()
    assert not rule.title.endswith(".")
    assert rule.meaning.endswith(".")
    assert rule.remedy.endswith((".", "?"))
    assert len(re.findall(r"[.!?](?:\s|$)", rule.meaning)) >= 2, "a meaning has two sentences"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule.id))
def test_what_the_conversion_sets_right_is_no_reason_to_wait(rule: Rule) -> None:
    assert not (rule.fixed_by_conversion and rule.severity is not Severity.INFORMATION)
