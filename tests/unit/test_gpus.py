"""The GPUs of one machine go to one role each."""

from __future__ import annotations

from pathlib import Path

import pytest
from green_api.errors import UserError
from green_operator.local.gpus import allot, visible_gpus


def test_every_role_has_its_own() -> None:
    wanted = {("a", "server"): 0, ("a", "site-0"): 1, ("a", "site-1"): 1, ("b", ""): 2}
    allotted = allot(wanted, ["0", "1", "2", "3", "4"])
    assert allotted == {("a", "site-0"): "0", ("a", "site-1"): "1", ("b", ""): "2,3"}


def test_too_few_are_refused_with_the_fix() -> None:
    with pytest.raises(UserError, match=r"spec.resources.gpus: a, b: 3 GPUs .* shows 2; .* fewer"):
        allot({("a", ""): 1, ("b", ""): 2}, ["0", "1"])


def test_where_none_is_seen_the_role_itself_says_what_it_lacks() -> None:
    assert allot({("a", ""): 1}, []) == {}


def test_what_is_visible(tmp_path: Path) -> None:
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert visible_gpus({}, tmp_path) == ["2", "10"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "GPU-1f, GPU-2a"}, tmp_path) == [
        "GPU-1f",
        "GPU-2a",
    ]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []
