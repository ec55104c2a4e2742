"""What `p2v batch` tells programs is published: schemas and the page are what the code says, and every number has its unit."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import jsonschema
import pytest

from p2v.batch.planned import CopyTime
from tests.batch.output_schemas import OUTPUTS, PAGE, Output, output, page_of
from tests.record.schema import FOLDER, Json, objects


@pytest.mark.parametrize("each", OUTPUTS, ids=lambda each: each.name)
def test_the_published_schema_is_what_the_code_says(each: Output) -> None:
    jsonschema.Draft202012Validator.check_schema(each.published())
    assert each.published() == each.schema(), "run python -m tests.batch.schema"


def test_every_schema_of_a_batch_is_published_by_somebody() -> None:
    files = {path.name for path in FOLDER.glob("batch-*.schema.json")}
    assert files - {each.file for each in OUTPUTS} == {"batch-1.schema.json"}


def test_the_page_has_every_field_and_names_every_schema() -> None:
    text = PAGE.read_text("utf-8")
    assert page_of(text) == text, "run python -m tests.batch.schema"
    by_hand = text.partition("<!-- fields")[0]
    for each in OUTPUTS:
        assert f"](schema/{each.file})" in by_hand
        for _, found in objects(each.published()):
            assert all(f"| `{name}` |" in text for name in found["properties"])


@dataclass(frozen=True, slots=True)
class Stray:
    """A part of a document."""

    told: int
    """Something."""
    stray: int


def test_a_field_that_the_code_says_nothing_of_is_refused() -> None:
    plan = output("batch-plan")
    with pytest.raises(KeyError, match=r"PlanHead or BatchPlan or Stray\.stray"):
        replace(plan, roots=(*plan.roots, Stray)).schema()


def test_a_field_that_is_added_or_changed_makes_another_schema() -> None:
    plan = output("batch-plan")
    changed = replace(plan, roots=(*plan.roots, CopyTime)).schema()
    assert set(changed["properties"]) - set(plan.published()["properties"]) == {"seconds", "why"}
    assert changed != plan.published()


@pytest.mark.parametrize("each", OUTPUTS, ids=lambda each: each.name)
def test_sizes_and_times_say_their_unit(each: Output) -> None:
    for place, found in objects(each.published()):
        for name, inner in found["properties"].items():
            assert inner["description"].endswith("."), f"{place}.{name}"
            for unit in {"bytes", "seconds"} & set(name.split("_")) if _types(inner) & {"integer", "number"} else ():
                assert re.search(rf"\b{unit}\b", inner["description"], re.IGNORECASE), f"{place}.{name}"


def _types(schema: Json) -> set[Any]:
    inner = [each for name in ("anyOf", "oneOf") for each in schema.get(name, ())]
    return {schema.get("type")} | {each for one in inner for each in _types(one)}


@pytest.mark.parametrize("name, page", [("batch-hook", "batch-manifest.md"), ("batch-end-hook", "batch.md")])
def test_the_page_about_a_hook_names_every_field_of_what_it_gets(name: str, page: str) -> None:
    text = (PAGE.parent / page).read_text("utf-8")
    _, _, after = text.partition("batch-json.md#what-")
    table = after.partition("\n\n")[2].partition("\n\n")[0] if page == "batch-manifest.md" else after
    assert [field for field in output(name).published()["properties"] if f"`{field}`" not in table] == []


def test_links_to_the_page_lead_to_its_headings() -> None:
    headings = {_anchor(line.lstrip("# ")) for line in PAGE.read_text("utf-8").splitlines() if line.startswith("#")}
    found = set[str]()
    for path in (*PAGE.parent.glob("*.md"), PAGE.parent.parent / "README.md"):
        found |= set(re.findall(r"batch-json\.md#([\w-]+)", path.read_text("utf-8")))
    assert found
    assert found <= headings
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE.read_text("utf-8"))) <= headings


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
