"""Both versions of Helm, and a cluster without the project's definitions: the chart brings them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.get_helm import LAYERS
from scripts.get_helm import UnavailableError as NoHelmError
from tests.chart.helm import Helm, find_helm
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.programs import UnavailableError, find_programs
from tests.needs import unavailable


@pytest.fixture(scope="session", params=sorted(LAYERS), ids="helm{}".format)
def helm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Each version in turn."""
    try:
        return find_helm(request.param, tmp_path_factory.mktemp(f"helm{request.param}"))
    except NoHelmError as error:
        unavailable(str(error))


@pytest.fixture(scope="session")
def helm4(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The newest alone, for what both do alike."""
    try:
        return find_helm(max(LAYERS), tmp_path_factory.mktemp("helm"))
    except NoHelmError as error:
        unavailable(str(error))


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real API server; no node, so nobody waits for pods."""
    try:
        programs = find_programs()
    except UnavailableError as error:
        unavailable(str(error))
    plane = ControlPlane(programs, tmp_path_factory.mktemp("kubernetes"))
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()
