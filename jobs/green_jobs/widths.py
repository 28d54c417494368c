"""The widths of a net as JSON, and a fresh net given those widths.

Pruning changes how wide layers are, never which layers there are. A pruned net is therefore its
factory's fresh module with other widths and tensors; no pickled class is needed to bring it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from green_api.errors import GreenError
from torch import Tensor, nn

Widths = dict[str, dict[str, int | list[int]]]
"""Per module (dotted name): its width attributes."""

# What layers of torch.nn call their widths; a module of the user's may use the same names.
_ATTRIBUTES: Final = (
    "in_channels", "out_channels", "groups",
    "in_features", "out_features",
    "num_features", "num_channels", "normalized_shape", "num_parameters",
    "embedding_dim", "embed_dim", "kdim", "vdim", "head_dim", "num_heads",
)  # fmt: skip


class WidthsError(GreenError):
    """Recorded widths or tensors that do not belong to the net."""


def record(module: nn.Module) -> Widths:
    """The widths of all layers."""
    own = {name: _of_layer(layer) for name, layer in module.named_modules()}
    return {name: widths for name, widths in own.items() if widths}


def _of_layer(layer: nn.Module) -> dict[str, int | list[int]]:
    values = {name: vars(layer).get(name) for name in _ATTRIBUTES}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if isinstance(value, (int, tuple))
    }


def restore(module: nn.Module, widths: Widths, tensors: Mapping[str, Tensor]) -> None:
    """Give a fresh module recorded widths and its state dict's tensors, in place.

    Tensors are taken over, not copied; shared parameters stay shared.

    Raises:
        WidthsError: a layer or tensor is missing or too many; the module is then of no use.

    """
    layers = dict(module.named_modules())
    targets = module.state_dict(keep_vars=True)
    for kind, ours, theirs in (("layer", layers, widths), ("tensor", targets, tensors)):
        unknown = sorted(set(theirs) - set(ours))
        missing = sorted(set(ours) - set(theirs)) if kind == "tensor" else []
        if unknown or missing:
            msg = f"{kind}s do not match the net: unknown {unknown[:3]}, missing {missing[:3]}"
            raise WidthsError(msg)
    for name, own in widths.items():
        for attribute, value in own.items():
            setattr(layers[name], attribute, tuple(value) if isinstance(value, list) else value)
    for name, target in targets.items():
        target.data = tensors[name]
