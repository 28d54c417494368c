"""A world for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.kubelet import FakeKubelet
from tests.cluster.operator.world import World


@pytest.fixture
def world(
    control_plane: ControlPlane, namespace: str, kubelet: FakeKubelet, tmp_path: Path
) -> Iterator[World]:
    made = World(control_plane, namespace, kubelet, tmp_path)
    made.set_zone()
    yield made
    made.close()
