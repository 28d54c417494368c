"""The generated definitions: valid, bounded and described, so that a server takes them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from green_api.crd import job_crd, zone_crd
from green_api.status import JobStatus

ROOT = Path(__file__).resolve().parents[2]
CRDS = [job_crd(), zone_crd()]


def schema(crd: dict[str, Any]) -> dict[str, Any]:
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], f"{path}{{}}")


def all_nodes() -> list[Any]:
    return [
        pytest.param(node, id=f"{crd['spec']['names']['kind']}{path}")
        for crd in CRDS
        for path, node in nodes(schema(crd))
    ]


@pytest.mark.parametrize("crd", CRDS, ids=lambda c: c["spec"]["names"]["kind"])
@pytest.mark.parametrize("version", ["1.31", "1.34"])
def test_the_definition_is_valid_kubernetes(crd: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(crd, version, strict=True)


@pytest.mark.parametrize("node", all_nodes())
def test_every_size_is_bounded(node: dict[str, Any]) -> None:
    """Unbounded sizes make the cost of rules unbounded, which the API server refuses."""
    kind = node.get("type")
    if kind == "array":
        assert "maxItems" in node
    if kind == "string":
        assert {"maxLength", "enum"} & set(node)
    if "additionalProperties" in node:
        assert "maxProperties" in node


def longest(node: dict[str, Any], name: str = "") -> Any:
    """What a schema lets in that has the most bytes; free text is taken to be four bytes a letter."""
    if "enum" in node:
        return max(node["enum"], key=len)
    match node["type"]:
        case "object" if "properties" in node:
            return {key: longest(child, key) for key, child in node["properties"].items()}
        case "object":
            value = longest(node["additionalProperties"])
            return {f"{i:063}": value for i in range(node["maxProperties"])}
        case "array":
            return [longest(node["items"])] * node["maxItems"]
        case "string" if name.lower().endswith(("time", "start", "until", "deadline", "end")):
            return "2026-06-01T18:00:00.123456Z"
        case "string":
            return ("a" if "pattern" in node else "\U0001f331") * node["maxLength"]
        case "integer":
            return node.get("maximum", 2**53)
        case "boolean":
            return False
        case _:
            return 0.12345678901234567


def in_bytes(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def test_no_status_is_too_large_to_be_stored() -> None:
    """Whatever a job does: the API server's store takes 1.5 MiB."""
    whole = longest(schema(job_crd())["properties"]["status"])
    JobStatus.model_validate(whole)
    assert in_bytes(whole) < 600_000
    of_roles = {"accounts", "roles"}
    single = {key: value for key, value in whole.items() if key not in of_roles}
    del single["result"]["rounds"]
    assert in_bytes(single) < 120_000


def test_every_field_is_described() -> None:
    silent = [
        f"{crd['spec']['names']['kind']}{path}"
        for crd in CRDS
        for path, node in nodes(schema(crd))
        if path and not path.endswith(("[]", "{}")) and not node.get("description")
        and path not in {".apiVersion", ".kind", ".metadata"}
    ]  # fmt: skip
    assert silent == []


def test_the_schema_is_structural() -> None:
    for crd in CRDS:
        for path, node in nodes(schema(crd)):
            assert not {"$ref", "anyOf", "oneOf", "allOf", "title", "const"} & set(node), path
            if "properties" in node:
                assert "additionalProperties" not in node, path


def test_what_does_not_work_yet_is_not_accepted() -> None:
    fields = {path for path, _ in nodes(schema(job_crd()))}
    tasks = {path for path in fields if path.count(".") == 3 and path.startswith(".spec.task.")}
    assert tasks == {".spec.task.compress", ".spec.task.federate", ".spec.task.train"}
    sources = schema(zone_crd())["properties"]["spec"]["properties"]["sources"]["items"]
    assert set(sources["properties"]) == {"electricityMaps", "static", "trace", "ukNeso"}


def test_defaults_fit_their_own_patterns() -> None:
    """The API server refuses a definition whose default it would refuse."""
    for crd in CRDS:
        for path, node in nodes(schema(crd)):
            default = node.get("default")
            if isinstance(default, str) and "pattern" in node:
                assert re.search(node["pattern"], default), path


def test_kubectl_get_shows_the_columns() -> None:
    columns = job_crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = [c["name"] for c in columns if c["priority"] == 0]
    assert shown == ["State", "Planned-Start", "Deadline", "Difference", "Zone", "Age"]
    wide = [c["name"] for c in columns if c["priority"] == 1]
    assert wide == ["Energy", "Intensity", "Message"]


def test_every_column_and_rule_names_a_field_that_exists() -> None:
    for crd in CRDS:
        fields = {path for path, _ in nodes(schema(crd))} | {".metadata.creationTimestamp"}
        for column in crd["spec"]["versions"][0]["additionalPrinterColumns"]:
            # A filter chooses an item of a list.
            assert re.sub(r"\[\?[^]]*\]", "[]", column["jsonPath"]) in fields
        for path, node in nodes(schema(crd)):
            for rule in node.get("x-kubernetes-validations", []):
                if "fieldPath" in rule:
                    assert f"{path}{rule['fieldPath']}" in fields


def test_the_committed_files_are_up_to_date() -> None:
    checked = subprocess.run(
        [sys.executable, "scripts/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
