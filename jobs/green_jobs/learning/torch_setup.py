"""Torch as a task's document wants it: threads, device, the same result every time."""

from __future__ import annotations

import os

import torch
from green_api.contract import TaskDocument
from green_api.errors import TaskConfigError


def prepare_torch(document: TaskDocument) -> torch.device:
    """Set torch up; the device to train on.

    Sums depend on the number of threads, so it follows from the reserved cores, not from the
    machine, unless that has fewer.

    Raises:
        TaskConfigError: a GPU is reserved and torch sees none.

    """
    torch.set_num_threads(max(1, min(int(document.cores), _usable_cores())))
    # Read by CUDA's library when it starts; without it some products are not reproducible.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As use_deterministic_algorithms(True, warn_only=True), which imports the compiler: seconds.
    torch.set_deterministic_debug_mode("warn")
    # A debugging aid that comes with the above and costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    if document.gpus == 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        msg = (
            f"spec.resources.gpus: {document.gpus}: torch sees no GPU; use an image whose CUDA "
            "fits the node's driver, or reserve none"
        )
        raise TaskConfigError(msg)
    return torch.device("cuda")


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
