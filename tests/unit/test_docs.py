"""A reader copies the manifests of the documentation: they are sound as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from green_api.config import OperatorConfig
from green_api.contract import CLAIM_ENV
from green_api.job import GreenTrainingJob
from green_api.zone import GridZone

from tests.chart.pods import pod_specs, violations

ROOT = Path(__file__).resolve().parents[2]
OWN = {"GreenTrainingJob": GreenTrainingJob, "GridZone": GridZone}


def manifests() -> list[Any]:
    return [
        pytest.param(document, id=f"{page.name}-{document['metadata']['name']}")
        for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
        for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
        for document in yaml.safe_load_all(block)
        if "apiVersion" in document
    ]


@pytest.mark.parametrize("document", manifests())
def test_a_manifest_is_sound(document: dict[str, Any]) -> None:
    if kind := OWN.get(document["kind"]):
        kind.parse(document, "page")
    else:
        for version in ("1.31", "1.34"):
            kubernetes_validate.validate(document, version, strict=True)


def test_the_pod_that_fetches_data_may_run_where_jobs_do() -> None:
    """In a namespace of the level restricted, with the image of jobs."""
    (fetching,) = pod_specs(p.values[0] for p in manifests() if p.values[0]["kind"] == "Job")
    assert violations(fetching) == []
    (container,) = fetching["containers"]
    assert container["image"] == OperatorConfig().jobs.image
    (mount,) = container["volumeMounts"]
    assert {"name": CLAIM_ENV, "value": mount["mountPath"]} in container["env"]
