"""What a pod reserves."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from green_api.base import Model, Quantity, parse_quantity


class Resources(Model):
    """What one pod reserves."""

    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    """Whole GPUs; of the tasks compress and federate one at most, for they use one."""
    cpu: Quantity = "1"
    """CPU cores."""
    memory: Quantity = "2Gi"
    """Memory."""

    @property
    def cores(self) -> float:
        """CPU cores as a number."""
        return parse_quantity(self.cpu)
