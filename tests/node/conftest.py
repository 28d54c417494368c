"""One cluster with one node and the chart for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from scripts.get_helm import UnavailableError as NoHelmError
from tests.chart.helm import find_helm
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.programs import UnavailableError
from tests.needs import unavailable
from tests.node.harness.cluster import Cluster, static
from tests.node.harness.images import build_images
from tests.node.harness.node import Node
from tests.node.harness.programs import HELM, find_node_programs
from tests.node.harness.prometheus import Prometheus
from tests.node.harness.room import Room


@pytest.fixture(scope="session")
def bare_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A node that runs containers, and a namespace that enforces the level restricted."""
    with ExitStack() as stack:
        try:
            programs, coredns = find_node_programs()
            images = build_images()
            helm = find_helm(HELM, tmp_path_factory.mktemp("helm"))
            room = Room()
        except (UnavailableError, NoHelmError) as error:
            unavailable(str(error))
        stack.callback(room.close)
        folder = tmp_path_factory.mktemp("kubernetes")
        plane = ControlPlane(programs, folder, address=room.addresses.machine)
        stack.callback(plane.stop)
        plane.start()
        node = Node(plane, room, coredns)
        stack.callback(node.stop)
        node.start(images.base)
        node.load(images.operator)
        node.load(images.jobs)
        cluster = Cluster(plane, room, node, helm)
        cluster.add_namespaces()
        cluster.add_torch()
        yield cluster


@pytest.fixture(scope="session")
def cluster(bare_cluster: Cluster) -> Cluster:
    """With the chart, its operator ready, and a zone in which a job runs at once."""
    bare_cluster.install()
    bare_cluster.set_grid(static(100))
    return bare_cluster


@pytest.fixture(scope="session")
def prometheus(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scrapes from before the first job on."""
    pods = {p["metadata"]["name"]: p["status"]["podIP"] for p in cluster.operator_pods()}
    try:
        prometheus = Prometheus(pods, tmp_path_factory.mktemp("prometheus"))
    except UnavailableError as error:
        unavailable(str(error))
    prometheus.start()
    yield prometheus
    prometheus.process.kill()
