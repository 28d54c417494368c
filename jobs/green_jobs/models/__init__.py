"""Nets: built from a manifest's ``Network``, saved as safetensors plus JSON, and loaded again.

    from green_jobs import models

    model = models.load(Path("output"))    # an nn.Module in evaluation mode, pruned widths and all

``model.safetensors`` holds the state dict, ``model.json`` a ``NetRecord``; nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from green_api.base import Model
from green_api.errors import TaskConfigError
from green_api.learning import BuiltinModel, Network
from pydantic import JsonValue
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from green_jobs import entrypoints, widths
from green_jobs.models.builtin import digits_cnn, fashion_cnn

WEIGHTS_FILE: Final = "model.safetensors"
RECORD_FILE: Final = "model.json"
_BUILTIN: Final = {
    BuiltinModel.FASHION_CNN: fashion_cnn,
    BuiltinModel.DIGITS_CNN: digits_cnn,
}


class NetRecord(Model):
    """What, beside the tensors, brings a net back."""

    network: Network
    """The architecture: whose fresh module to start from."""
    widths: dict[str, dict[str, int | list[int]]]
    """Per layer, how wide it is."""

    def to_json(self) -> bytes:
        """The content of ``model.json``."""
        return self.model_dump_json(by_alias=True, exclude_none=True, indent=1).encode()


@dataclass
class Net:
    """A module and the network that it was built from."""

    network: Network
    module: nn.Module

    @classmethod
    def build(cls, network: Network, field: str = "model") -> Self:
        """A fresh net.

        Args:
            network: the architecture.
            field: its path in the manifest, for messages.

        Raises:
            TaskConfigError: the entrypoint gives no net.

        """
        plain = Network(builtin=network.builtin, entrypoint=network.entrypoint, args=network.args)
        return cls(plain, _module(plain, field))

    @classmethod
    def rebuild(cls, record: NetRecord, tensors: Mapping[str, Tensor]) -> Self:
        """The recorded net; takes the tensors over.

        Raises:
            TaskConfigError: the entrypoint gives no net.
            WidthsError: record and tensors do not belong to it.

        """
        net = cls.build(record.network)
        widths.restore(net.module, record.widths, tensors)
        return net

    def record(self) -> NetRecord:
        """What brings the net back, with its tensors."""
        return NetRecord(network=self.network, widths=widths.record(self.module))

    def tensors(self) -> dict[str, Tensor]:
        """A copy of parameters and buffers on the CPU; shared ones appear under each name."""
        state = self.module.state_dict()
        return {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}

    @property
    def parameters(self) -> int:
        """Number of parameters, shared ones counted once."""
        return sum(parameter.numel() for parameter in self.module.parameters())


def load(folder: Path) -> nn.Module:
    """The exported model of a job's output folder, float, on the CPU, in evaluation mode.

    The code of an entrypoint must be importable.

    Raises:
        OSError: a file cannot be read.
        pydantic.ValidationError: ``model.json`` is no record of a net.
        safetensors.SafetensorError: ``model.safetensors`` is no safetensors file.
        TaskConfigError: the entrypoint gives no net.
        WidthsError: record and tensors do not belong together.

    """
    record = NetRecord.model_validate_json((folder / RECORD_FILE).read_bytes())
    tensors = load_tensors((folder / WEIGHTS_FILE).read_bytes())
    return Net.rebuild(record, tensors).module.eval()


def _module(network: Network, field: str) -> nn.Module:
    if network.builtin is not None:
        return _BUILTIN[network.builtin]()
    entrypoint: str = network.entrypoint or ""
    arguments: dict[str, JsonValue] | None = network.args
    module = entrypoints.call(entrypoint, arguments, field)
    if not isinstance(module, nn.Module):
        msg = (
            f"{field}.entrypoint: {entrypoint!r}: returned {type(module).__name__}; "
            "return a torch.nn.Module"
        )
        raise TaskConfigError(msg)
    return module
