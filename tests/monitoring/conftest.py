"""The month is simulated once for all that look at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.monitoring.seeded import Seeded


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    month = Seeded(tmp_path_factory.mktemp("month"))
    yield month
    month.prometheus.stop()
