"""What the images weigh."""

from __future__ import annotations

from tests.cluster.harness.programs import UnavailableError
from tests.needs import unavailable
from tests.node.harness.images import added_bytes, build_images


def test_the_operators_image_adds_little_to_its_base() -> None:
    try:
        images = build_images()
    except UnavailableError as error:
        unavailable(str(error))
    added = added_bytes(images.operator, images.base)
    assert 50e6 < added < 180e6, f"{added / 1e6:.0f} MB"
