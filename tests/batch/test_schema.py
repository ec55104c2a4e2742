"""The published schema of manifests is what the reader reads; every option of a conversion is in it, or left out on purpose."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from p2v.batch.manifest_keys import BUDGET_KEYS, MACHINE_KEYS, OPTION_KEYS, Kind, by_name
from p2v.cli import convert
from tests.batch.manifests import FULL, mistakes, read
from tests.batch.schema import FILE, PAGE, batch_schema, page_of, text_of
from tests.record.schema import objects

# what the batch itself says, what makes no sense in one, and what is for other purposes than a fleet's
_NOT_A_KEY = {
    "output", "name", "plan", "format", "share", "verify", "key", "progress", "json", "fresh", "help", "map-if", "fence",
    "in-place", "undo-journal", "force", "dry-run", "support-bundle",
}  # fmt: skip


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(FILE.read_text()))


def options() -> dict[str, argparse.Action]:
    parser = argparse.ArgumentParser()
    convert.configure(parser)
    return {
        option[2:]: action for action in parser._actions for option in action.option_strings if option.startswith("--")
    }


def test_the_published_schema_is_what_the_table_says() -> None:
    jsonschema.Draft202012Validator.check_schema(batch_schema())
    assert text_of(batch_schema()) == FILE.read_text(), "run python -m tests.batch.schema"


def test_the_page_has_every_key() -> None:
    assert page_of(PAGE.read_text()) == PAGE.read_text(), "run python -m tests.batch.schema"
    for key in (*MACHINE_KEYS, *OPTION_KEYS):
        assert f"| `{key.name}`" in PAGE.read_text()


def test_what_is_said_of_defaults_is_so(tmp_path: Path) -> None:
    batch = read(tmp_path, MACHINE)
    told = {key.name: key.text.partition("; ")[2].removesuffix(" otherwise.") for key in (*MACHINE_KEYS, *BUDGET_KEYS)}
    (made,), budget = batch.machines, batch.budget
    assert (told["format"], told["verify"]) == (made.disk_format, made.verify.value)
    assert (told["wave"], told["attempts"]) == (str(made.wave), str(made.attempts))
    known = [getattr(budget, name) for name in ("copies", "appliances", "boots", "jobs")]
    assert [told[name] for name in ("copies", "appliances", "boots", "jobs")] == list(map(str, known))


@pytest.mark.parametrize("language", ["yaml", "csv"])
def test_the_pages_example_is_a_manifest(language: str, tmp_path: Path) -> None:
    _, _, rest = PAGE.read_text().partition(f"```{language}\n")
    batch = read(tmp_path, rest.partition("```")[0], f"jobs.{language}")
    assert [each.name for each in batch.machines] == ["web1", "db1"]
    assert len(batch.machines[1].sources) == 2


def test_every_key_is_described() -> None:
    for place, found in objects(batch_schema()):
        for name, inner in found["properties"].items():
            assert inner["description"].rstrip(")").endswith("."), f"{place}.{name}"


def test_every_option_of_a_conversion_is_a_key_or_left_out_on_purpose() -> None:
    assert set(by_name(OPTION_KEYS)) == set(options()) - _NOT_A_KEY
    assert not set(by_name(OPTION_KEYS)) & set(by_name(MACHINE_KEYS))


def test_each_key_is_what_its_option_takes() -> None:
    known = options()
    for key in OPTION_KEYS:
        action = known[key.name]
        takes_none = action.nargs == 0
        assert takes_none is (key.kind is Kind.FLAG), key.name
        repeats = isinstance(action, argparse._AppendAction)
        assert repeats is (key.kind in (Kind.TEXTS, Kind.PATHS, Kind.MAP)), key.name
        if key.choices:
            assert set(key.choices) == set(action.choices or ()), key.name


def test_a_full_manifest_fits() -> None:
    assert list(validator().iter_errors(_as_data(FULL))) == []


MACHINE = "schema: 1\nmachines:\n- name: a\n  source: a.img\n  target: out\n"
WRONG = (
    "machines:\n- {name: a, source: b, target: c}\n",
    "schema: 2\nmachines:\n- {name: a, source: b, target: c}\n",
    "schema: 1\nmachines: []\n",
    "schema: 1\nmachines:\n- {source: b, target: c}\n",
    MACHINE + "  name2: x\n",
    MACHINE + "  wave: -1\n",
    MACHINE + "  verify: booted\n",
    MACHINE + "  keys: key:secret\n",
    MACHINE + "  keys: all:key:secret\n",
    MACHINE + "  window: 25:00-26:00\n",
    MACHINE + "  before: a command\n",
    MACHINE + "  before: {seconds: 3}\n",
    MACHINE + "  map: {a: ether:0}\n",
    MACHINE + "  memory: much\n",
    MACHINE + "  live: perhaps\n",
    MACHINE + "  parent: ~/x\n",
    MACHINE + "budget: {copies: 0}\n",
    MACHINE + "defaults: {name: x}\n",
    MACHINE + "more: 1\n",
)


@pytest.mark.parametrize("text", WRONG)
def test_what_does_not_fit_is_no_manifest_either(text: str, tmp_path: Path) -> None:
    assert not validator().is_valid(_as_data(text))
    assert mistakes(tmp_path, text)


@pytest.mark.parametrize("text", [FULL, MACHINE, MACHINE + "budget:\ndefaults:\nstore: ~\n"])
def test_what_fits_is_one(text: str, tmp_path: Path) -> None:
    assert validator().is_valid(_as_data(text))
    assert not mistakes(tmp_path, text)


def _as_data(text: str) -> Any:
    """As an editor reads it."""
    return yaml.safe_load(text)
