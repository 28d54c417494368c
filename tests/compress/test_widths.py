"""A pruned net comes back from its widths, its tensors and its factory's fresh module."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from green_api.learning import Network
from green_jobs import widths
from green_jobs.models import Net
from green_jobs.tasks.compress.pruning import prune
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.inner = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.relu(x + self.inner(x)).mean((2, 3)))


class Concatenating(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.left = nn.Conv2d(1, width, 1)
        self.right = nn.Conv2d(1, 2 * width, 3, padding=1)
        self.join = nn.Conv2d(3 * width, width, 1)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x), self.right(x)], dim=1).relu()
        return self.head(self.join(x).mean((2, 3)))


def plain(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3), nn.GroupNorm(1, 2 * width), nn.PReLU(2 * width),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, 5),
    )  # fmt: skip


def depthwise(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 1), nn.ReLU(),
        nn.Conv2d(width, width, 3, groups=width, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5),
    )  # fmt: skip


def grouped(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2 * width, 1), nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, groups=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 5),
    )  # fmt: skip


def layer_norm(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, width), nn.LayerNorm(width), nn.GELU(),
        nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, 5),
    )  # fmt: skip


def upsampling(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.ReLU(), nn.ConvTranspose2d(width, 2 * width, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 5),
    )  # fmt: skip


NETS = [plain, Residual, Concatenating, depthwise, grouped, layer_norm, upsampling]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    factory=st.sampled_from(NETS),
    width=st.sampled_from([4, 6, 9]),
    ratio=st.floats(0.3, 0.9),
    again=st.booleans(),
)
def test_round_trip(factory: type[nn.Module], width: int, ratio: float, *, again: bool) -> None:
    inputs = torch.randn(2, 1, 8, 8)
    if factory is grouped:  # torch-pruning passes over a layer whose groups would lose all
        ratio = min(ratio, 0.7)
    fresh = factory(width)
    pruned = copy.deepcopy(fresh)
    prune(pruned, inputs, ratio, "step")
    if again and min(p.shape[0] for p in pruned.parameters()) > 3:
        prune(pruned, inputs, 0.3, "step")
    net = Net(Network(builtin="digits-cnn"), pruned)

    recorded = json.loads(json.dumps(widths.record(pruned)))
    widths.restore(fresh, recorded, load_tensors(save_tensors(net.tensors())))

    assert torch.equal(fresh.eval()(inputs), pruned.eval()(inputs))
    assert repr(fresh) == repr(pruned)
    assert sum(p.numel() for p in fresh.parameters()) < sum(
        p.numel() for p in factory(width).parameters()
    )


@pytest.mark.parametrize(("width", "ratio", "left"), [(16, 0.5, 8), (10, 0.9, 1), (4, 0.95, 1)])
def test_every_layer_loses_its_share_and_keeps_a_channel(
    width: int, ratio: float, left: int
) -> None:
    net = plain(width)
    prune(net, torch.randn(2, 1, 8, 8), ratio, "step")
    assert net[0].out_channels == left
    assert net[-1].out_features == 5


def test_a_restored_net_trains() -> None:
    fresh, inputs = Residual(8), torch.randn(4, 1, 8, 8)
    pruned = copy.deepcopy(fresh)
    prune(pruned, inputs, 0.5, "step")
    widths.restore(fresh, widths.record(pruned), pruned.state_dict())
    fresh(inputs).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in fresh.parameters())


def test_shared_parameters_stay_shared() -> None:
    def factory() -> nn.Sequential:
        net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        net[2].weight = net[0].weight
        return net

    net, fresh = Net(Network(builtin="digits-cnn"), factory()), factory()
    widths.restore(fresh, widths.record(net.module), load_tensors(save_tensors(net.tensors())))
    assert fresh[2].weight is fresh[0].weight
    assert torch.equal(fresh[0].weight, net.module[0].weight)
    assert Net(net.network, fresh).parameters == net.parameters == 4 * 4 + 8


@pytest.mark.parametrize("change", ["more layers", "fewer tensors", "more tensors"])
def test_what_does_not_belong_to_the_net_is_refused(change: str) -> None:
    net = plain(4)
    recorded, tensors = widths.record(net), dict(net.state_dict())
    if change == "more layers":
        recorded["other"] = {"out_channels": 3}
    elif change == "fewer tensors":
        tensors.pop("0.weight")
    else:
        tensors["other"] = torch.zeros(1)
    with pytest.raises(widths.WidthsError, match=r"other|0\.weight"):
        widths.restore(plain(4), recorded, tensors)
