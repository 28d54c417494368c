"""A control plane for the session, a fresh namespace for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from tests.cluster.harness.client import CRDS, GREEN_JOBS, NAMESPACES, SERVICE_ACCOUNTS, Client
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.kubelet import FakeKubelet
from tests.cluster.harness.programs import NEWEST, OLDEST, ROOT, UnavailableError, find_programs
from tests.cluster.harness.proxy import ApiProxy
from tests.cluster.harness.waiting import wait_for
from tests.cluster.manifests import Manifest
from tests.conftest import WHOLE
from tests.needs import unavailable


class ControlPlanes:
    """A control plane for each version that is asked for, with the project's definitions."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self.started: dict[str, ControlPlane] = {}

    def of(self, version: str) -> ControlPlane:
        if version not in self.started:
            try:
                programs = find_programs(version)
            except UnavailableError as error:
                unavailable(str(error))
            plane = ControlPlane(programs, self._folders.mktemp(f"kubernetes-{version}"))
            self.started[version] = plane
            plane.start()
            install_definitions(plane.admin)
        return self.started[version]


@pytest.fixture(scope="session")
def control_planes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlanes]:
    """They end with the session."""
    planes = ControlPlanes(tmp_path_factory)
    yield planes
    for plane in planes.started.values():
        plane.stop()


def install_definitions(client: Client) -> None:
    """Apply the generated definitions and wait until the server serves them."""
    names = []
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        names.append(client.apply(yaml.safe_load(file.read_text()))["metadata"]["name"])
    assert names, "no definitions in crds/: run make generate"
    for name in names:
        wait_for(
            lambda name=name: _is_established(client, name),
            what=f"{name} is Established",
            seen=lambda name=name: client.get(CRDS, name).get("status"),
        )
    # Established is said before all of the server knows them; kubectl explains by this document.
    wait_for(
        lambda: all(name.partition(".")[0] in _served_paths(client) for name in names),
        what="the definitions are served",
    )


def _served_paths(client: Client) -> str:
    document = client.request("GET", "/openapi/v3/apis/greentraining.io/v1alpha1")
    return " ".join(document["paths"])


def _is_established(client: Client, name: str) -> bool:
    conditions = client.get(CRDS, name).get("status", {}).get("conditions", [])
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


@pytest.fixture(scope="session")
def control_plane(control_planes: ControlPlanes) -> ControlPlane:
    """The newest version, with the Job controller."""
    return control_planes.of(NEWEST)


@pytest.fixture(scope="session", params=[NEWEST, OLDEST] if WHOLE else [NEWEST])
def supported(request: pytest.FixtureRequest, control_planes: ControlPlanes) -> ControlPlane:
    """The newest version, and where matrices run whole the oldest."""
    return control_planes.of(request.param)


@pytest.fixture
def server(supported: ControlPlane) -> Client:
    """An administrator's client of each version that is asked for."""
    return supported.admin


@pytest.fixture
def admin(control_plane: ControlPlane) -> Client:
    """Who may do everything."""
    return control_plane.admin


@pytest.fixture
def namespace(admin: Client) -> Iterator[str]:
    """A fresh namespace in which pods can be created; deleted without waiting for its end."""
    name = f"test-{uuid4().hex[:8]}"
    meta = {"name": name}
    admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    wait_for(
        lambda: admin.find(SERVICE_ACCOUNTS, "default", name),
        what=f"the default service account of {name}",
    )
    yield name
    admin.delete(NAMESPACES, name)


@pytest.fixture
def kubelet(admin: Client, namespace: str, tmp_path: Path) -> Iterator[FakeKubelet]:
    """Runs the pods of the test's namespace."""
    fake = FakeKubelet(admin, tmp_path / "claims", namespaces=(namespace,))
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[ApiProxy]:
    """Between one client and the API server: `kubeconfig_for(..., server=proxy.url)`."""
    between = ApiProxy(control_plane.server, control_plane.authority)
    between.start()
    yield between
    between.stop()


@pytest.fixture
def created(server: Client) -> Iterator[Callable[[Manifest], Manifest]]:
    """Creates jobs that are deleted after the test."""
    names: list[str] = []

    def create(document: Manifest) -> Manifest:
        document["metadata"]["name"] = f"job-{uuid4().hex[:8]}"
        made = server.create(document, "default")
        names.append(made["metadata"]["name"])
        return made

    yield create
    for name in names:
        server.delete(GREEN_JOBS, name, "default")
