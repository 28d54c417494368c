"""CustomResourceDefinitions from the types: structural OpenAPI v3 schemas with CEL rules.

``make generate`` writes them to ``crds/``; a check fails when the committed ones are stale.
"""

from __future__ import annotations

import math
from typing import Any, Final

from green_api import GROUP, VERSION
from green_api.base import Model
from green_api.job import GreenTrainingJob
from green_api.zone import GridZone

Schema = dict[str, Any]

_DROPPED: Final = frozenset(
    {"title", "propertyNames", "$defs", "const", "anyOf", "additionalProperties"}
)

_JOB_COLUMNS: Final = (
    ("State", ".status.state", 0),
    ("Planned-Start", ".status.plannedStart", 0),
    ("Deadline", ".status.deadline", 0),
    ("Difference", ".status.difference", 0),
    ("Zone", ".status.plan.zone", 0),
    ("Energy", ".status.energy.joules", 1),
    ("Intensity", ".status.plan.intensityGramsPerKilowattHour", 1),
    ("Message", ".status.message", 1),
)
_ZONE_COLUMNS: Final = (
    ("Default", ".spec.default", 0),
    ("Source", ".status.source", 0),
    ("Ready", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Message", '.status.conditions[?(@.type=="Ready")].message', 1),
)
_COLUMN_TYPES: Final = {"Energy": "integer", "Intensity": "integer", "Default": "boolean"}


def job_crd() -> Schema:
    """The definition of ``GreenTrainingJob``."""
    schema = structural_schema(GreenTrainingJob)
    schema["properties"]["status"] = _without_defaults(schema["properties"]["status"])
    return _definition(
        kind="GreenTrainingJob",
        plural="greentrainingjobs",
        short_name="gtj",
        scope="Namespaced",
        schema=schema,
        columns=_JOB_COLUMNS,
        subresources={"status": {}},
    )


def zone_crd() -> Schema:
    """The definition of ``GridZone``."""
    schema = structural_schema(GridZone)
    schema["properties"]["status"] = _without_defaults(schema["properties"]["status"])
    return _definition(
        kind="GridZone",
        plural="gridzones",
        short_name="gz",
        scope="Cluster",
        schema=schema,
        columns=_ZONE_COLUMNS,
        subresources={"status": {}},
    )


def structural_schema(model: type[Model]) -> Schema:
    """The model's schema as the API server accepts it: no references, no unions.

    ``metadata`` is narrowed to its name, the only field that the server lets a schema bound.
    """
    source = model.model_json_schema(by_alias=True, mode="validation")
    schema = _structural(source, source.get("$defs", {}))
    properties = schema["properties"]
    for typed in ("apiVersion", "kind"):
        properties[typed] = {"type": "string", "maxLength": 253}
    properties["metadata"] = {"type": "object"}
    schema["required"] = [name for name in schema["required"] if name == "spec"]
    return schema


def _structural(node: Schema, definitions: dict[str, Schema]) -> Schema:
    node = _inlined(node, definitions)
    result = {key: value for key, value in node.items() if key not in _DROPPED}
    if node.get("additionalProperties") is False and "properties" not in node:
        result["properties"] = {}
    if "properties" in node:
        result["properties"] = {
            name: _structural(child, definitions) for name, child in node["properties"].items()
        }
    if isinstance(node.get("additionalProperties"), dict):
        values = _structural(node["additionalProperties"], definitions)
        # A rule sees no map of values without a type, but it sees an object with unknown fields.
        result |= {"additionalProperties": values} if "type" in values else values
    if "items" in node:
        result["items"] = _structural(node["items"], definitions)
        _drop_costly_rules(result["items"])
    for bound in ("Minimum", "Maximum"):
        # OpenAPI 3.0 has the bound and a flag, JSON Schema the bound alone.
        if f"exclusive{bound}" in result:
            result[bound.lower()] = result[f"exclusive{bound}"]
            result[f"exclusive{bound}"] = True
    _widen_fractions(result)
    if "default" in result:
        result["default"] = _without_nulls(result["default"])
    if "type" not in result and "x-kubernetes-int-or-string" not in result:
        result["x-kubernetes-preserve-unknown-fields"] = True
    return result


def _drop_costly_rules(node: Schema) -> None:
    """Leave quantities in lists to their pattern.

    Kubernetes 1.31 reckons with a text as long as a request in each element, whatever the bound of
    its length, and refuses the definition for what its rules might cost.
    """
    if "x-kubernetes-int-or-string" in node:
        node.pop("x-kubernetes-validations", None)
    for child in node.get("properties", {}).values():
        _drop_costly_rules(child)


def _widen_fractions(node: Schema) -> None:
    """Move a bound that is no whole number into a rule: the server cuts it off in its message."""
    for bound, sign, words, widened in (
        ("minimum", ">=", "greater than or equal to", math.floor),
        ("maximum", "<=", "less than or equal to", math.ceil),
    ):
        value = node.get(bound)
        if isinstance(value, float) and not value.is_integer():
            node[bound] = widened(value)
            rule = {"rule": f"self {sign} {value}", "message": f"should be {words} {value}"}
            node.setdefault("x-kubernetes-validations", []).append(rule)


def _inlined(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Follow references and unwrap ``X or null``; what stands beside them wins."""
    while "$ref" in node or "anyOf" in node:
        beside = {key: value for key, value in node.items() if key not in {"$ref", "anyOf"}}
        if "$ref" in node:
            target = definitions[node["$ref"].rpartition("/")[2]]
        else:
            (target,) = [option for option in node["anyOf"] if option.get("type") != "null"]
        if beside.get("default", ...) is None:
            del beside["default"]
        node = target | beside
    return node


def _without_nulls(default: Any) -> Any:  # noqa: ANN401 - a JSON value
    """The server takes no null for an absent field."""
    if isinstance(default, dict):
        return {key: _without_nulls(value) for key, value in default.items() if value is not None}
    return default


def _without_defaults(node: Any) -> Any:  # noqa: ANN401 - a JSON value
    """The operator writes whole statuses; the server must not fill them in."""
    if isinstance(node, dict):
        return {
            key: _without_defaults(value)
            for key, value in node.items()
            if key != "default" or (isinstance(value, dict) and "type" in value)
        }
    if isinstance(node, list):
        return [_without_defaults(item) for item in node]
    return node


def _definition(
    *,
    kind: str,
    plural: str,
    short_name: str,
    scope: str,
    schema: Schema,
    columns: tuple[tuple[str, str, int], ...],
    subresources: Schema,
) -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short_name],
                "categories": ["green"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "additionalPrinterColumns": [
                        {
                            "name": name,
                            "type": _COLUMN_TYPES.get(name, "string"),
                            "jsonPath": path,
                            "priority": priority,
                        }
                        for name, path, priority in columns
                    ]
                    + [
                        {
                            "name": "Age",
                            "type": "date",
                            "jsonPath": ".metadata.creationTimestamp",
                            "priority": 0,
                        }
                    ],
                    "subresources": subresources,
                }
            ],
        },
    }
