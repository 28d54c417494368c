"""What a federated run is made of: a Job per role, a Service, a Secret per role."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from green_api.config import OperatorConfig, PodDefaults
from green_api.contract import Federation, TaskDocument
from green_api.errors import UserError
from green_api.job import GreenTrainingJob
from green_operator.account.power import DEFAULT_POWER
from green_operator.objects.credentials import make_credentials
from green_operator.objects.federation import run_secrets, run_service, server_hosts
from green_operator.objects.names import TASK_ANNOTATION
from green_operator.objects.observed import run_record
from green_operator.objects.run import node_selector, run_job

from tests.unit.factories import T0, manifest

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "federated.yaml"
UID = "0f8fad5b-d9cb-469f-a165-70867728950e"
TOKEN = "9f1c2ab47e"
SITES = [
    {"name": "north", "claimName": "data-north", "zone": "gb"},
    {"name": "south", "claimName": "data-south", "resources": {"gpus": 1, "cpu": 3}},
]


def job(name: str = "ward", pod: dict[str, Any] | None = None, **federate: Any) -> GreenTrainingJob:
    task = {"model": {"builtin": "digits-cnn"}, "data": {"builtin": "digits"}, "rounds": 2}
    body = manifest(task={"federate": {**task, **({"sites": SITES} | federate)}}, pod=pod or {})
    body["metadata"] = {
        "name": name, "namespace": "team-a", "uid": UID,
        "creationTimestamp": "2026-06-01T00:00:00Z", "generation": 1,
    }  # fmt: skip
    return GreenTrainingJob.parse(body, "test")


def role_job(role: str, made: GreenTrainingJob | None = None, number: int = 1) -> dict[str, Any]:
    return run_job(made or job(), number, OperatorConfig(), DEFAULT_POWER, role, TOKEN)


def bundles() -> dict[str, dict[str, bytes]]:
    return {role: {"ca.pem": b"CA", "secret": role.encode()} for role in job().spec.task.roles}


def test_a_federated_run_as_it_is_made() -> None:
    made = [
        *run_secrets(job(), 1, TOKEN, bundles()),
        run_service(job(), 1),
        *(role_job(role) for role in job().spec.task.roles),
    ]
    text = yaml.safe_dump_all(made, sort_keys=False)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "UPDATE_GOLDEN=1 takes the new one"


def test_the_sites_find_the_server_by_a_name_that_its_certificate_has() -> None:
    service = run_service(job(), 3)
    hosts = server_hosts(job(), 3)
    assert hosts == (f"{service['metadata']['name']}.team-a.svc", "127.0.0.1")
    text = role_job("north", number=3)["spec"]["template"]["metadata"]["annotations"]
    told = TaskDocument.model_validate_json(text[TASK_ANNOTATION]).federation
    assert told is not None
    (port,) = service["spec"]["ports"]
    assert told.server == f"{hosts[0]}:{port['port']}"
    server = role_job("server", number=3)["spec"]["template"]
    assert service["spec"]["selector"].items() <= server["metadata"]["labels"].items()
    site = role_job("north", number=3)["spec"]["template"]
    assert not service["spec"]["selector"].items() <= site["metadata"]["labels"].items()
    made = make_credentials(["north"], hosts, T0, lambda count: bytes(range(1, count + 1)))
    certificate = x509.load_pem_x509_certificate(made["server"]["server.pem"])
    names = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    assert names.value.get_values_for_type(x509.DNSName) == [hosts[0]]  # type: ignore[attr-defined]


def test_the_server_knows_when_the_job_must_have_ended() -> None:
    text = role_job("server")["spec"]["template"]["metadata"]["annotations"][TASK_ANNOTATION]
    told = TaskDocument.model_validate_json(text).federation
    assert isinstance(told, Federation)
    assert told.deadline is not None
    assert told.deadline.isoformat() == "2026-06-02T00:00:00+00:00"


def test_a_simulated_site_works_on_the_jobs_own_claim() -> None:
    trial = job(sites=None, partition={"sites": 2})
    spec = role_job("site-1", trial)["spec"]["template"]["spec"]
    claims = [v["persistentVolumeClaim"] for v in spec["volumes"] if "persistentVolumeClaim" in v]
    assert claims == [{"claimName": "models"}]


def test_a_site_may_want_nodes_of_its_own() -> None:
    """Its labels go over those of all pods, and give way to those of the zone and the administrator."""
    sites = [
        {**SITES[0], "nodeSelector": {"ward": "north", "disk": "ssd", "pool": "mine"}},
        SITES[1],
    ]
    made = job(sites=sites, pod={"nodeSelector": {"disk": "hdd"}})
    defaults = PodDefaults.model_validate({"nodeSelector": {"pool": "green"}})
    labels = {
        role: node_selector(made, defaults, role, {"region": "gb"}) for role in made.spec.task.roles
    }
    common = {"region": "gb", "pool": "green"}
    assert labels == {
        "server": {"disk": "hdd", **common},
        "north": {"ward": "north", "disk": "ssd", **common},
        "south": {"disk": "hdd", **common},
    }
    spec = role_job("north", made)["spec"]["template"]["spec"]
    assert spec["nodeSelector"]["ward"] == "north"


def test_a_job_of_a_role_is_told_from_another_one() -> None:
    body = role_job("north")
    body["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    record = run_record(body)
    assert (record.role, record.number, record.credentials) == ("north", 1, TOKEN)
    assert record.is_run_of("ward", UID)
    body["metadata"]["labels"]["greentraining.io/role"] = "south"
    assert not run_record(body).is_run_of("ward", UID)


@pytest.mark.parametrize(
    ("name", "federate", "message"),
    [
        ("w" * 46, {}, "names a Service"),
        ("2wards", {}, "names a Service"),
        ("ward.one", {}, "names a Service"),
        ("w" * 45, {"sites": [*SITES, {"name": "s" * 8, "claimName": "c"}]}, "52 characters"),
    ],
)
def test_names_that_would_not_fit_are_refused(
    name: str, federate: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        job(name, **federate)


def test_the_longest_names_fit() -> None:
    longest = job("w" * 20, sites=[*SITES, {"name": "s" * 32, "claimName": "c"}])
    trial = job("w" * 45, sites=None, partition={"sites": 32})
    for made in (longest, trial):
        for role in made.spec.task.roles:
            assert len(role_job(role, made, 999)["metadata"]["name"]) <= 63
        assert len(run_service(made, 999)["metadata"]["name"]) <= 63
