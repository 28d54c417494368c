"""Handwritten digits: the test part of UCI's optdigits (Alpaydin, Kaynak 1998, CC BY 4.0)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from green_api.errors import TaskConfigError

_FILE: Final = "datasets/data/digits.csv.gz"

Array = npt.NDArray[np.integer[Any]]


def load(field: str = "data") -> tuple[Array, Array]:
    """Images (1797, 8, 8) of values 0 to 16 and labels (1797,), as scikit-learn ships them.

    ``field`` is the data's path in the manifest, for messages.
    Its file is read without importing scikit-learn, which would take seconds of CPU time.

    Raises:
        TaskConfigError: scikit-learn is not installed.

    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        msg = (
            f"{field}.builtin: 'digits': the images come with scikit-learn; "
            "install the extra green-training[jobs]"
        )
        raise TaskConfigError(msg)
    file = Path(spec.submodule_search_locations[0]) / _FILE
    rows = np.loadtxt(file, delimiter=",", dtype=np.int64)
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1]
