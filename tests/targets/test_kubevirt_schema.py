"""KubeVirt's objects against its published schema (``tests/fixtures/kubevirt``): no field that it has not, none of another type."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from p2v.core.units import GIB
from p2v.machine import Clock, DiskBus, Firmware, Smbios, Topology
from p2v.targets.hardware import TargetHardware
from p2v.targets.kubevirt import manifest
from p2v.targets.storage import Storage
from tests.targets.samples import hardware

SCHEMA = json.loads((Path(__file__).parents[1] / "fixtures/kubevirt/schema.json").read_text("utf-8"))


def strict(schema: Any) -> Any:
    """The schema as the API server's validation of unknown fields takes it: what is not named is not there."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema or schema.get("x-kubernetes-preserve-unknown-fields"):
        return {"type": "object"}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {key: strict(value) for key, value in schema.items() if key not in ("format", "properties")}
    if "properties" in schema:
        made["properties"] = {name: strict(value) for name, value in schema["properties"].items()}
        made.setdefault("additionalProperties", False)
    return made


def check(made: TargetHardware) -> None:
    sizes = [GIB] * len(made.disks)
    plain, placed = (yaml.safe_load_all(manifest(made, sizes, each)) for each in (Storage(), Storage("fast", {1: "slow"})))
    for document in (*plain, *placed):
        jsonschema.validate(document, strict(SCHEMA[document["kind"]]))


MACHINES = {
    "plain": hardware(),
    "two disks on SCSI": hardware(bus=DiskBus.VIRTIO_SCSI, disks=2),
    "SATA": hardware(bus=DiskBus.SATA),
    "everything": dataclasses.replace(
        hardware("Web_1", firmware=Firmware.UEFI, secure_boot=True, tpm=True),
        clock=Clock.LOCAL_TIME, topology=Topology(1, 1, 2), smbios=Smbios(serial="A1", chassis_serial="C1", asset_tag="IT-4711"),
    ),
    "no cards": dataclasses.replace(hardware(), nics=()),
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_the_objects_are_valid(name: str) -> None:
    check(MACHINES[name])


@pytest.mark.parametrize(
    ("path", "value"),
    [(("spec", "template", "spec", "domain", "cpus"), 2), (("spec", "template", "spec", "domain", "cpu", "cores"), "2")],
)
def test_the_schema_notices_what_is_wrong(path: tuple[str, ...], value: Any) -> None:
    document = list(yaml.safe_load_all(manifest(hardware(), [GIB])))[-1]
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, strict(SCHEMA["VirtualMachine"]))
