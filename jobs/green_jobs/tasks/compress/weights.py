"""Given weights of the original: a safetensors file on the claim."""

from __future__ import annotations

from green_api.errors import TaskConfigError
from safetensors import SafetensorError
from safetensors.torch import load_file

from green_jobs.models import Net
from green_jobs.tasks.compress.attempt import FIELD, Attempt


def load_weights(net: Net, attempt: Attempt) -> None:
    """Fill the net with the weights that the task names, if it names any.

    Raises:
        TaskConfigError: the file is not there, no safetensors file or of another net.

    """
    value = attempt.task.model.weights
    if value is None:
        return
    where = f"{FIELD}.model.weights: {value!r}"
    try:
        tensors = load_file(attempt.claim / value)
        net.module.load_state_dict(tensors)
    except (OSError, SafetensorError) as error:
        msg = f"{where}: {error}; give the path of a safetensors file on the claim"
        raise TaskConfigError(msg) from error
    except RuntimeError as error:
        problem = " ".join(str(error).split())[:300]
        msg = f"{where}: does not fit the model: {problem}"
        raise TaskConfigError(msg) from error
