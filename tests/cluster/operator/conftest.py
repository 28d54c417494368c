"""A world for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import ControlPlanes
from tests.cluster.harness.client import NAMESPACES
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.kubelet import FakeKubelet
from tests.cluster.harness.operator import ACCOUNT
from tests.cluster.operator.world import World


@pytest.fixture(scope="session", autouse=True)
def _no_operator_was_refused(control_planes: ControlPlanes) -> Iterator[None]:
    """Over the whole session no operator asked for what it may not do."""
    yield
    refused = [
        event
        for plane in control_planes.started.values()
        for event in plane.audit.events()
        if event.user.endswith(f":{ACCOUNT}")
        and event.resource
        and event.forbidden
        and plane.was_ready(event.time)
    ]
    assert refused == []


@pytest.fixture
def world(
    control_plane: ControlPlane, namespace: str, kubelet: FakeKubelet, tmp_path: Path
) -> Iterator[World]:
    made = World(control_plane, namespace, kubelet, tmp_path)
    made.set_zone()
    yield made
    made.close()


@pytest.fixture
def other(world: World) -> Iterator[str]:
    """Another namespace."""
    name = f"{world.namespace}-other"
    world.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    world.admin.delete(NAMESPACES, name)
