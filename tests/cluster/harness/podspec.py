"""What a scheduler and a kubelet read in a pod's spec. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final, Protocol, TypeVar

from green_api.contract import ATTEMPT_ENV, TASK_FILE_ENV, TaskDocument
from green_api.task import Task, Train

Object = dict[str, Any]
_GPU: Final = "nvidia.com/gpu"


class DocumentError(Exception):
    """The pod's template does not give the wrapper what the contract says."""


class Node(Protocol):
    """What a pod is placed by."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def gpus(self) -> int | None: ...


N = TypeVar("N", bound=Node)


def find_node(spec: Object, nodes: Sequence[N], gpus_in_use: Mapping[str, int]) -> N | None:
    """The first node that the pod's selector, required affinity and GPUs fit."""
    wanted = gpus_of(spec)
    for node in nodes:
        has_room = node.gpus is None or gpus_in_use.get(node.name, 0) + wanted <= node.gpus
        if has_room and _selects(spec, {"kubernetes.io/hostname": node.name, **node.labels}):
            return node
    return None


def gpus_of(spec: Object) -> int:
    """GPUs that the pod reserves."""
    limits = (c.get("resources", {}).get("limits", {}) for c in spec["containers"])
    return sum(int(limit.get(_GPU, 0)) for limit in limits)


def environment(spec: Object) -> dict[str, str]:
    """The first container's variables that have a value of their own."""
    return {e["name"]: e.get("value", "") for e in spec["containers"][0].get("env", [])}


def read_document(pod: Object, job: str) -> TaskDocument:
    """The document that the wrapper would read; one made up where the pod is none of the operator's.

    Raises:
        DocumentError: the wrapper would not find it, or not know its own UID.

    """
    spec, meta = pod["spec"], pod["metadata"]
    env = {e["name"]: e for e in spec["containers"][0].get("env", [])}
    if TASK_FILE_ENV not in env:
        return TaskDocument(
            namespace=meta["namespace"],
            name=job,
            folder=job,
            task=Task(train=Train(command=["true"])),
            cores=1,
            gpu_watts=400,
            core_watts=4,
            journal_interval_seconds=1,
        )
    if _field_of(env.get(ATTEMPT_ENV, {}).get("valueFrom", {})) != "metadata.uid":
        msg = f"{ATTEMPT_ENV} is not the pod's UID"
        raise DocumentError(msg)
    annotation = _annotation_behind(spec, PurePosixPath(env[TASK_FILE_ENV].get("value", "")))
    text = meta.get("annotations", {}).get(annotation)
    if text is None:
        msg = f"there is no annotation {annotation!r} for {TASK_FILE_ENV}"
        raise DocumentError(msg)
    try:
        return TaskDocument.model_validate_json(text)
    except ValueError as error:
        msg = f"annotation {annotation}: {error}"
        raise DocumentError(msg) from error


def _annotation_behind(spec: Object, path: PurePosixPath) -> str:
    """The annotation that a downward-API volume shows at a path."""
    volumes = {v["name"]: v for v in spec.get("volumes", [])}
    for mount in spec["containers"][0].get("volumeMounts", []):
        root = PurePosixPath(mount["mountPath"])
        if not path.is_relative_to(root):
            continue
        for item in volumes[mount["name"]].get("downwardAPI", {}).get("items", []):
            if path == root / item["path"]:
                return _field_of(item).removeprefix("metadata.annotations['").removesuffix("']")
    msg = f"no downward-API volume shows a file at {TASK_FILE_ENV}={path}"
    raise DocumentError(msg)


def _field_of(source: Mapping[str, Any]) -> str:
    return str(source.get("fieldRef", {}).get("fieldPath", ""))


def _selects(spec: Object, labels: Mapping[str, str]) -> bool:
    selector = spec.get("nodeSelector", {})
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get(
        "nodeSelectorTerms"
    )
    return all(labels.get(key) == value for key, value in selector.items()) and (
        terms is None
        or any(all(_matches(e, labels) for e in t.get("matchExpressions", [])) for t in terms)
    )


def _matches(expression: Object, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", [])
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[expression["operator"]]
