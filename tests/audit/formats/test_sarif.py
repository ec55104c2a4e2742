"""SARIF 2.1.0: the rules of its structure, from the specification's sections, and what findings become."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from p2v.audit.document import AuditDocument
from p2v.audit.findings import Evidence, EvidenceKind
from p2v.audit.formats import sarif_json
from tests.audit.documents import AS_OF, FSTAB, WEB, finding, fleet, hostile, sample
from tests.pages.hostile import HOSTILE

Json = dict[str, Any]
LEVELS = {"none", "note", "warning", "error"}
KINDS = {"pass", "open", "informational", "notApplicable", "review", "fail"}
RESULT = {
    "ruleId",
    "ruleIndex",
    "kind",
    "level",
    "message",
    "locations",
    "partialFingerprints",
    "suppressions",
    "properties",
}
DESCRIPTOR = {"id", "shortDescription", "fullDescription", "help", "defaultConfiguration", "properties"}
# RFC 3986: what a URI reference is made of
URI = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?#\[\]-]|%[0-9A-F]{2})+")
# 3.11.5 and 3.11.6: a placeholder, and a link that is not escaped
PLACEHOLDER = re.compile(r"(?<!\{)(?:\{\{)*\{\d+\}")
LINK = re.compile(r"(?<!\\)(?:\\\\)*\[(?:[^\\\]\[]|\\.)*\]\(")


def check_log(log: Json) -> Json:
    """Sections 3.13 and 3.14; its one run."""
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"]
    for rule in driver["rules"]:
        assert set(rule) <= DESCRIPTOR
        assert rule["id"]
        assert rule["defaultConfiguration"]["level"] in LEVELS
        for name in ("shortDescription", "fullDescription", "help"):
            check_message(rule[name])
    for base in run["originalUriBaseIds"].values():
        assert "uri" not in base or base["uri"].endswith("/")
    for result in run["results"]:
        check_result(result, run)
    return dict(run)


def check_result(result: Json, run: Json) -> None:
    """Section 3.27."""
    assert set(result) <= RESULT
    assert result["level"] in LEVELS
    kind = result.get("kind", "fail")
    assert kind in KINDS
    assert kind == "fail" or result["level"] == "none", "3.27.10"
    assert kind != "fail" or result["level"] != "none"
    if "ruleIndex" in result:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    check_message(result["message"])
    for location in result["locations"]:
        check_location(location, run)
    for value in result["partialFingerprints"].values():
        assert isinstance(value, str)
    for suppression in result.get("suppressions", ()):
        assert suppression["kind"] in ("inSource", "external")
        assert suppression["status"] in ("accepted", "underReview", "rejected")
        assert suppression["justification"]


def check_message(message: Json) -> None:
    """Section 3.11."""
    assert isinstance(message["text"], str)
    assert not PLACEHOLDER.search(message["text"])
    assert not LINK.search(message["text"])


def check_location(location: Json, run: Json) -> None:
    """Sections 3.28 to 3.30, 3.33."""
    assert set(location) <= {"physicalLocation", "logicalLocations", "message"}
    assert location["logicalLocations"]
    for logical in location["logicalLocations"]:
        assert set(logical) == {"name", "fullyQualifiedName", "kind"}
    if "physicalLocation" not in location:
        return
    artifact = location["physicalLocation"]["artifactLocation"]
    assert URI.fullmatch(artifact["uri"])
    if "uriBaseId" in artifact:
        assert artifact["uriBaseId"] in run["originalUriBaseIds"]
        assert not artifact["uri"].startswith("/"), "3.4.4: relative to its base"
        assert ".." not in artifact["uri"].split("/")
    region = location["physicalLocation"].get("region")
    if region is not None:
        assert ("startLine" in region) != ("byteOffset" in region), "3.30: a text region or a binary one"
        assert region.get("startLine", 1) >= 1
        assert region.get("byteOffset", 0) >= 0


@pytest.mark.parametrize(
    "document", [sample(), hostile(), fleet(5), AuditDocument(AS_OF, ())], ids=["sample", "hostile", "fleet", "empty"]
)
def test_the_structure_is_sarifs(document: AuditDocument) -> None:
    run = check_log(json.loads(sarif_json(document)))
    assert len(run["results"]) == len(document.fleet) + sum(len(each.findings) for each in document.machines)


def results(document: AuditDocument) -> dict[str, Json]:
    """Of each rule, the last one."""
    return {each["ruleId"]: each for each in check_log(json.loads(sarif_json(document)))["results"]}


def test_severities_are_levels_and_what_could_not_be_seen_is_open() -> None:
    found = results(sample())
    assert found["fstab-by-path"]["level"] == "error"
    assert found["agent-of-old-host"]["level"] == "warning"
    assert found["snapshot-present"]["level"] == "note"
    assert (found["volume-encrypted"]["kind"], found["volume-encrypted"]["level"]) == ("open", "none")
    assert found["virtio-driver-missing"]["level"] == "note", "the conversion sets it right"


def test_a_file_of_the_guest_is_below_the_guests_root() -> None:
    found = results(sample())
    place = found["fstab-by-path"]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "etc/fstab", "uriBaseId": "GUEST1"}
    assert place["region"]["startLine"] == 7
    windows = found["agent-of-old-host"]["locations"][0]["physicalLocation"]
    assert windows["artifactLocation"] == {"uri": "C%3A/Program%20Files/Backup/agent.ini", "uriBaseId": "GUEST2"}


def test_bytes_of_a_disk_are_a_binary_region_of_its_file() -> None:
    place = results(sample())["volume-encrypted"]["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "file:///srv/vault.raw"}, "region": {"byteOffset": 1_048_576}}


def test_a_registry_value_is_a_logical_location() -> None:
    (location,) = results(sample())["virtio-driver-missing"]["locations"]
    assert "physicalLocation" not in location
    value, machine = location["logicalLocations"]
    assert value == {
        "name": "Start",
        "fullyQualifiedName": "dc-2012\\SYSTEM\\ControlSet001\\Services\\vioscsi\\Start",
        "kind": "registry",
    }
    assert machine["name"] == "dc-2012"


def test_a_suppression_has_its_reason() -> None:
    run = check_log(json.loads(sarif_json(sample())))
    suppressed = [each["suppressions"] for each in run["results"] if "suppressions" in each]
    assert suppressed == [
        [{"kind": "external", "status": "accepted", "justification": "removed by our own tooling, ticket 4711"}]
    ]


def test_no_name_from_a_guest_leads_out_of_it_or_becomes_a_link() -> None:
    evidence = Evidence(EvidenceKind.FILE, "/var/../../../etc/a b\udc80%?#\n", 1)
    message = "[click](https://example.org) {0} \\[x](1)"
    machine = replace(WEB, findings=(finding(FSTAB, message, evidence),))
    found = results(AuditDocument(AS_OF, (machine,)))[FSTAB.id]
    artifact = found["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact["uri"] == "etc/a%20b%80%25%3F%23%0A"
    assert found["message"]["text"] == "web01: \\[click\\](https://example.org) {{0}} \\\\\\[x\\](1)"


def test_a_finding_without_evidence_is_at_its_machine() -> None:
    machine = replace(WEB, findings=(finding(FSTAB, "x"),))
    assert results(AuditDocument(AS_OF, (machine,)))[FSTAB.id]["locations"] == [
        {"logicalLocations": [{"name": "web01", "fullyQualifiedName": "web01", "kind": "machine"}]}
    ]


def test_the_same_finding_has_the_same_fingerprint_and_others_have_others() -> None:
    one, two = (finding(FSTAB, text) for text in ("x", "y"))
    run = check_log(
        json.loads(
            sarif_json(
                AuditDocument(AS_OF, (replace(WEB, findings=(one, two)), replace(WEB, name="web02", findings=(one,))))
            )
        )
    )
    prints = [each["partialFingerprints"]["finding/v1"] for each in run["results"]]
    assert len(set(prints)) == 3
    again = results(AuditDocument(AS_OF, (replace(WEB, findings=(one,), cpus=99),)))[FSTAB.id]
    assert again["partialFingerprints"]["finding/v1"] == prints[0]


def test_the_file_is_ascii() -> None:
    assert sarif_json(hostile()).isascii()
    assert len(json.loads(sarif_json(hostile()))["runs"][0]["originalUriBaseIds"]) == len(HOSTILE)
